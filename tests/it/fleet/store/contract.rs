//! The contract of all stores. The same checks run over each store.
#![cfg(feature = "fleet")]

use std::future::Future;
use std::time::Duration;

use tower_auth::fleet::{Lease, MemoryStore, StoreKey, TokenStore};

const LONG: Duration = Duration::from_secs(3600);

/// The lifetime of a lease that lasts for the whole check.
const LONG_LEASE: Duration = Duration::from_secs(100);

/// A lifetime long enough to read a value before it expires.
const SHORT: Duration = Duration::from_millis(150);

/// If what has the lifetime `SHORT` is still there after this many looks, it never ends.
const LOOKS: u32 = 5_000;

fn key(name: &str) -> String {
    StoreKey::new(name).to_text()
}

/// Returns the saved bytes.
async fn load(store: &impl TokenStore, key: &str) -> Option<Vec<u8>> {
    let value = store.load(key).await.unwrap()?;
    Some(value.sealed().unwrap().0.to_vec())
}

async fn lease(store: &impl TokenStore, key: &str) -> Lease {
    let lease = store.lease(key, LONG_LEASE).await.unwrap();
    lease.expect("nobody else is there")
}

/// Looks until there is a result. Time passes between two looks.
async fn eventually<T, W>(passes: impl Fn() -> W, look: impl AsyncFn() -> Option<T>) -> T
where
    W: Future<Output = ()>,
{
    for _ in 0..LOOKS {
        if let Some(found) = look().await {
            return found;
        }
        passes().await;
    }
    panic!("it is never over")
}

/// Checks storing and expiry. `other` is the same store in another process.
async fn is_stored<S, W>(store: &S, other: &S, passes: impl Fn() -> W)
where
    S: TokenStore,
    W: Future<Output = ()>,
{
    let key = key("kept");
    assert_eq!(load(store, &key).await, None);
    let held = lease(store, &key).await;

    // The store returns exactly the bytes that were saved.
    for sealed in [
        &b"first"[..],
        b"second",
        b"",
        &[0, 255, 10, 13],
        b"0123456789012345",
    ] {
        assert!(store.save(&key, sealed, LONG, &held).await.unwrap());
        assert_eq!(load(other, &key).await.as_deref(), Some(sealed));
    }
    let longest = vec![7; 256 * 1024];
    assert!(store.save(&key, &longest, LONG, &held).await.unwrap());
    assert_eq!(load(other, &key).await, Some(longest.clone()));
    let longer = [longest.as_slice(), b"7"].concat();
    let error = store.save(&key, &longer, LONG, &held).await.unwrap_err();
    assert!(error.to_string().contains("256 KiB"), "{error}");
    assert_eq!(load(other, &key).await, Some(longest));

    // Any lifetime can be saved, however long. A value with no lifetime left isn't saved.
    for ever in [Duration::MAX, Duration::from_millis(u64::MAX)] {
        assert!(store.save(&key, b"for ever", ever, &held).await.unwrap());
    }
    assert!(
        !store
            .save(&key, b"over", Duration::ZERO, &held)
            .await
            .unwrap()
    );
    assert_eq!(load(other, &key).await.as_deref(), Some(&b"for ever"[..]));
    assert!(store.save(&key, b"short", SHORT, &held).await.unwrap());
    eventually(passes, async || match load(store, &key).await {
        Some(_) => None,
        None => Some(()),
    })
    .await;
    assert!(store.release(&key, held).await.unwrap());
}

async fn is_leased_to_one<S>(store: &S, other: &S)
where
    S: TokenStore,
{
    let key = key("leased");
    let held = lease(store, &key).await;
    assert!(other.lease(&key, LONG_LEASE).await.unwrap().is_none());
    assert!(store.lease(&key, LONG_LEASE).await.unwrap().is_none());
    // Meanwhile, another key can be leased.
    let elsewhere = self::key("another");
    let another = lease(other, &elsewhere).await;
    assert!(other.release(&elsewhere, another).await.unwrap());

    assert!(store.release(&key, held).await.unwrap());
    let next = lease(other, &key).await;
    assert!(store.lease(&key, LONG_LEASE).await.unwrap().is_none());
    assert!(other.release(&key, next).await.unwrap());
}

/// Checks fencing, for stores whose leases expire.
async fn is_fenced<S, W>(store: &S, other: &S, passes: impl Fn() -> W)
where
    S: TokenStore,
    W: Future<Output = ()>,
{
    let key = key("fenced");
    let held = store.lease(&key, SHORT).await.unwrap();
    let late = held.expect("nobody else is there");
    let next = async || other.lease(&key, LONG_LEASE).await.unwrap();
    let next = eventually(passes, next).await;
    assert!(next.fence() > late.fence());

    // The late holder may save until the next holder saves. A late value is better than no value.
    assert!(store.save(&key, b"late", LONG, &late).await.unwrap());
    assert!(other.save(&key, b"next", LONG, &next).await.unwrap());
    assert!(!store.save(&key, b"later", LONG, &late).await.unwrap());
    assert!(!store.delete(&key, &late).await.unwrap());
    assert_eq!(load(store, &key).await.as_deref(), Some(&b"next"[..]));

    // Releasing a lost lease doesn't release the current one.
    assert!(!store.release(&key, late).await.unwrap());
    assert!(store.lease(&key, LONG_LEASE).await.unwrap().is_none());
    assert!(other.release(&key, next).await.unwrap());
    assert!(store.lease(&key, LONG_LEASE).await.unwrap().is_some());
}

/// Checks the time that the store still keeps a value.
async fn tells_what_remains<S, W>(store: &S, other: &S, passes: impl Fn() -> W)
where
    S: TokenStore,
    W: Future<Output = ()>,
{
    let key = key("remaining");
    let held = lease(store, &key).await;
    assert!(store.save(&key, b"sealed", LONG, &held).await.unwrap());
    let remaining = async || other.load(&key).await.unwrap().unwrap().sealed().unwrap().1;
    let first = remaining().await;
    assert!(first <= LONG && first > LONG - SHORT * 100, "{first:?}");
    for _ in 0..10 {
        passes().await;
    }
    let later = remaining().await;
    assert!(later < first, "{later:?} after {first:?}");
    assert!(store.release(&key, held).await.unwrap());
}

/// Checks renewal, for all stores.
async fn is_renewed<S>(store: &S, other: &S)
where
    S: TokenStore,
{
    let key = key("renewed");
    let held = lease(store, &key).await;
    assert!(store.renew(&key, &held, LONG_LEASE).await.unwrap());
    assert!(other.lease(&key, LONG_LEASE).await.unwrap().is_none());
    assert!(store.release(&key, held).await.unwrap());
    // A lease that the store didn't grant isn't renewed, whether or not there is another lease.
    assert!(
        !store
            .renew(&key, &Lease::new(u64::MAX), LONG_LEASE)
            .await
            .unwrap()
    );
    let next = lease(other, &key).await;
    assert!(
        !store
            .renew(&key, &Lease::new(u64::MAX), LONG_LEASE)
            .await
            .unwrap()
    );
    assert!(other.release(&key, next).await.unwrap());
}

/// Checks renewal, for stores whose leases expire.
async fn is_renewed_in_time<S, W>(store: &S, other: &S, passes: impl Fn() -> W)
where
    S: TokenStore,
    W: Future<Output = ()>,
{
    let key = key("renewed in time");
    let held = store.lease(&key, SHORT).await.unwrap().unwrap();
    assert!(store.renew(&key, &held, LONG_LEASE).await.unwrap());
    for _ in 0..200 {
        passes().await;
        assert!(other.lease(&key, SHORT).await.unwrap().is_none());
    }
    // A renewal can also shorten the lease. After its end, there is nothing to renew.
    assert!(store.renew(&key, &held, SHORT).await.unwrap());
    let next = async || other.lease(&key, LONG_LEASE).await.unwrap();
    let next = eventually(passes, next).await;
    assert!(!store.renew(&key, &held, LONG_LEASE).await.unwrap());
    assert!(other.release(&key, next).await.unwrap());
    assert!(!store.renew(&key, &held, LONG_LEASE).await.unwrap());
}

async fn is_deleted<S>(store: &S, other: &S)
where
    S: TokenStore,
{
    let key = key("deleted");
    let held = lease(store, &key).await;
    assert!(!store.delete(&key, &held).await.unwrap());
    assert!(store.save(&key, b"sealed", LONG, &held).await.unwrap());
    assert!(store.delete(&key, &held).await.unwrap());
    assert_eq!(load(other, &key).await, None);
    assert!(store.save(&key, b"again", LONG, &held).await.unwrap());
    assert_eq!(load(other, &key).await.as_deref(), Some(&b"again"[..]));
    assert!(store.release(&key, held).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn memory_keeps_the_contract() {
    let store = MemoryStore::new();
    let other = store.clone();
    let passes = || tokio::time::advance(Duration::from_millis(1));
    is_stored(&store, &other, passes).await;
    tells_what_remains(&store, &other, passes).await;
    is_leased_to_one(&store, &other).await;
    is_renewed(&store, &other).await;
    is_renewed_in_time(&store, &other, passes).await;
    is_deleted(&store, &other).await;
    is_fenced(&store, &other, passes).await;
}

#[cfg(any(feature = "file", feature = "redis"))]
async fn passes() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

#[cfg(feature = "file")]
#[tokio::test]
async fn a_folder_keeps_the_contract() {
    use tower_auth::fleet::FileStore;

    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path().join("tokens"));
    let other = FileStore::new(folder.path().join("tokens"));
    is_stored(&store, &other, passes).await;
    tells_what_remains(&store, &other, passes).await;
    is_leased_to_one(&store, &other).await;
    is_renewed(&store, &other).await;
    is_deleted(&store, &other).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn redis_keeps_the_contract() {
    use crate::support::redis_server::RedisServer;
    use tower_auth::fleet::RedisStore;

    let server = RedisServer::start(&[]).await;
    let store = RedisStore::open(server.url()).unwrap();
    let other = RedisStore::open(server.url()).unwrap();
    is_stored(&store, &other, passes).await;
    tells_what_remains(&store, &other, passes).await;
    is_leased_to_one(&store, &other).await;
    is_renewed(&store, &other).await;
    is_renewed_in_time(&store, &other, passes).await;
    is_deleted(&store, &other).await;
    is_fenced(&store, &other, passes).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_cluster_keeps_the_contract() {
    use crate::support::redis_server::{RedisServer, eventually};
    use tower_auth::fleet::RedisStore;

    let server = RedisServer::start(&["--cluster-enabled", "yes"]).await;
    server
        .tell(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])
        .await;
    eventually(async || {
        let info: String = server.ask(&["CLUSTER", "INFO"]).await.unwrap();
        info.contains("cluster_state:ok")
    })
    .await;
    let store = RedisStore::open_cluster([server.url()]).unwrap();
    let other = RedisStore::open_cluster([server.url()]).unwrap();
    is_stored(&store, &other, passes).await;
    tells_what_remains(&store, &other, passes).await;
    is_leased_to_one(&store, &other).await;
    is_renewed(&store, &other).await;
    is_renewed_in_time(&store, &other, passes).await;
    is_deleted(&store, &other).await;
    is_fenced(&store, &other, passes).await;
}

#[tokio::test(start_paused = true)]
async fn what_memory_holds_is_not_shown_and_not_longer_held_than_it_is_good() {
    let store = MemoryStore::new();
    let held = store.lease("key", SHORT).await.unwrap().unwrap();
    assert!(store.save("key", b"planted", SHORT, &held).await.unwrap());
    let shown = format!("{store:?} {held:?}");
    assert!(
        shown.contains("values: 1") && !shown.contains("planted"),
        "{shown}"
    );
    tokio::time::advance(SHORT).await;
    let shown = format!("{store:?}");
    assert!(shown.contains("values: 0, leases: 0"), "{shown}");
    let next = store.lease("key", SHORT).await.unwrap().unwrap();
    assert!(next.fence() > held.fence());
}
