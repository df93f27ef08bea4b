//! A store in Redis: what it keeps, what a server in trouble makes of it, and how it finds back.
#![cfg(feature = "redis")]

use std::error::Error as StdError;
use std::fmt::Debug;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower_auth::{BoxError, Lease, RedisStore, TokenStore};

use crate::support::redis_server::{RedisServer, eventually};

const KEY: &str = "a-key_of-43-letters";
const TOKEN: &str = "tower-auth:{a-key_of-43-letters}:token";
const LEASE: &str = "tower-auth:{a-key_of-43-letters}:lease";
const LONG: Duration = Duration::from_secs(3600);

fn store(server: &RedisServer) -> RedisStore {
    RedisStore::open(server.url()).unwrap()
}

async fn lease(store: &RedisStore) -> Lease {
    let lease = store.lease(KEY, LONG).await.unwrap();
    lease.expect("nobody else is there")
}

async fn load(store: &RedisStore) -> Option<Vec<u8>> {
    store.load(KEY).await.unwrap()
}

/// Microseconds since 1970, as this machine has them, which is Redis' too.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

/// An error with all that is behind it, as a log may have it.
fn whole(error: &(dyn StdError + 'static)) -> String {
    let mut text = format!("{error} {error:?}");
    let mut next = error.source();
    while let Some(error) = next {
        text += &format!(" {error} {error:?}");
        next = error.source();
    }
    text
}

fn text<T>(result: Result<T, BoxError>) -> String
where
    T: Debug,
{
    let error = result.unwrap_err();
    whole(error.as_ref())
}

#[tokio::test]
async fn both_keys_of_a_token_end_by_themselves() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server).prefix("reports");
    let held = lease(&store).await;
    assert!(store.save(KEY, b"sealed", LONG, &held).await.unwrap());
    let mut keys: Vec<String> = server.ask(&["KEYS", "*"]).await.unwrap();
    keys.sort();
    assert_eq!(
        keys,
        [TOKEN, LEASE]
            .map(|key| key.replace("tower-auth", "reports"))
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
    );
    for key in keys {
        let left: i64 = server.ask(&["TTL", &key]).await.unwrap();
        assert!((3_590..=3_600).contains(&left), "{key}: {left}");
    }
}

#[tokio::test]
async fn a_fencing_token_is_the_time_and_comes_after_that_of_what_is_kept() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    let start = now();
    let held = lease(&store).await;
    assert!((start..=now()).contains(&held.fence()));
    assert!(store.release(KEY, held).await.unwrap());

    // As after a clock that was set back by an hour.
    let ahead = now() + 3_600_000_000;
    server
        .tell(&["SET", TOKEN, &format!("{ahead}sealed")])
        .await;
    let held = lease(&store).await;
    assert_eq!(held.fence(), ahead + 1);
    assert!(store.save(KEY, b"next", LONG, &held).await.unwrap());
    assert!(
        !store
            .save(KEY, b"late", LONG, &Lease::new(ahead))
            .await
            .unwrap()
    );
    assert_eq!(load(&store).await.as_deref(), Some(&b"next"[..]));
}

#[tokio::test]
async fn what_somebody_else_has_put_there_is_handed_on_and_overwritten() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    for foreign in ["", "short", "no-fence-at-the-beginning", "000000000000000x"] {
        server.tell(&["SET", TOKEN, foreign]).await;
        assert_eq!(load(&store).await.as_deref(), Some(foreign.as_bytes()));
        let start = now();
        let held = lease(&store).await;
        assert!((start..=now()).contains(&held.fence()));
        assert!(store.save(KEY, b"sealed", LONG, &held).await.unwrap());
        assert_eq!(load(&store).await.as_deref(), Some(&b"sealed"[..]));
        assert!(store.release(KEY, held).await.unwrap());
    }
    // Beyond what scripts can count: it would be kept for ever.
    for foreign in ["9999999999999999", "9007199254740991"] {
        server.tell(&["SET", TOKEN, foreign]).await;
        let start = now();
        let held = lease(&store).await;
        assert!((start..=now()).contains(&held.fence()));
        assert!(store.save(KEY, b"sealed", LONG, &held).await.unwrap());
        assert!(store.release(KEY, held).await.unwrap());
    }
}

#[tokio::test]
async fn a_lease_without_an_end_is_nobodys() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    server
        .tell(&["SET", LEASE, "restored from somewhere"])
        .await;
    let held = lease(&store).await;
    assert!(store.release(KEY, held).await.unwrap());
}

#[tokio::test]
async fn a_lease_of_another_store_saves_nothing() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    let saved = store
        .save(KEY, b"sealed", LONG, &Lease::new(u64::MAX))
        .await;
    assert!(text(saved).contains("another store"));
    assert_eq!(load(&store).await, None);
    assert!(!store.release(KEY, Lease::new(u64::MAX)).await.unwrap());
}

#[tokio::test]
async fn what_is_too_long_stays_where_it_is() {
    let server = RedisServer::start(&[]).await;
    server.tell(&["SETRANGE", TOKEN, "262160", "!"]).await;
    let before = sent(&server).await;
    let error = text(store(&server).load(KEY).await);
    assert!(
        error.contains("256 KiB") && error.contains(TOKEN),
        "{error}"
    );
    let bytes = sent(&server).await - before;
    assert!(bytes < 100_000, "{bytes}");
}

/// How many bytes the server has sent.
async fn sent(server: &RedisServer) -> u64 {
    number(server, "stats", "total_net_output_bytes").await
}

async fn number(server: &RedisServer, section: &str, name: &str) -> u64 {
    let info: String = server.ask(&["INFO", section]).await.unwrap();
    let value = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_flush_between_lease_and_save_costs_nobody_anything() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    let held = lease(&store).await;
    server.tell(&["FLUSHALL"]).await;
    server.tell(&["SCRIPT", "FLUSH"]).await;
    assert!(store.save(KEY, b"sealed", LONG, &held).await.unwrap());
    assert_eq!(load(&store).await.as_deref(), Some(&b"sealed"[..]));

    server.tell(&["FLUSHALL"]).await;
    let next = lease(&store).await;
    assert!(next.fence() > held.fence());
    // The first one gives back what it has no more.
    assert!(!store.release(KEY, held).await.unwrap());
    assert!(store.lease(KEY, LONG).await.unwrap().is_none());
    assert!(store.release(KEY, next).await.unwrap());
}

#[tokio::test]
async fn a_key_of_another_type_is_an_error() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    let held = lease(&store).await;
    for key in [TOKEN, LEASE] {
        server.tell(&["DEL", key]).await;
        server.tell(&["RPUSH", key, "somebody's list"]).await;
    }
    let errors = [
        text(store.load(KEY).await),
        text(store.save(KEY, b"sealed", LONG, &held).await),
        text(store.release(KEY, held).await),
        text(store.lease(KEY, LONG).await),
    ];
    for error in errors {
        assert!(error.contains("WRONGTYPE"), "{error}");
    }
    server.tell(&["DEL", TOKEN]).await;
    assert!(text(store.lease(KEY, LONG).await).contains("WRONGTYPE"));
    assert_eq!(server.ask::<u64>(&["LLEN", LEASE]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_an_error_until_it_does() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    let held = lease(&store).await;
    assert!(store.save(KEY, b"sealed", LONG, &held).await.unwrap());

    // A replica of nobody.
    server.tell(&["REPLICAOF", "127.0.0.1", "1"]).await;
    assert_eq!(load(&store).await.as_deref(), Some(&b"sealed"[..]));
    let error = text(store.save(KEY, b"next", LONG, &held).await);
    assert!(
        error.contains("READONLY") || error.contains("read only"),
        "{error}"
    );
    assert!(store.release(KEY, held).await.is_err());
    // Another may have taken its place and its name, so each failure makes for a new connection.
    let before = number(&server, "stats", "total_connections_received").await;
    assert_eq!(load(&store).await.as_deref(), Some(&b"sealed"[..]));
    let after = number(&server, "stats", "total_connections_received").await;
    assert_eq!(after - before, 2);
    server.tell(&["REPLICAOF", "NO", "ONE"]).await;

    // Full.
    let held = store.lease(KEY, LONG).await.unwrap();
    assert!(held.is_none());
    server.tell(&["DEL", LEASE]).await;
    let held = lease(&store).await;
    server.tell(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert_eq!(load(&store).await.as_deref(), Some(&b"sealed"[..]));
    let error = text(store.save(KEY, b"next", LONG, &held).await);
    assert!(error.contains("OOM"), "{error}");
    assert_eq!(load(&store).await.as_deref(), Some(&b"sealed"[..]));
    server.tell(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert!(store.save(KEY, b"next", LONG, &held).await.unwrap());
    assert!(store.release(KEY, held).await.unwrap());
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_found_once_it_is_there() {
    let mut server = RedisServer::stopped(&[]);
    let store = store(&server);
    for _ in 0..2 {
        let error = text(store.load(KEY).await);
        assert!(error.contains("refused"), "{error}");
    }
    server.run().await;
    assert_eq!(load(&store).await, None);
}

#[test]
fn opening_a_store_takes_no_runtime() {
    let store = RedisStore::open("redis://127.0.0.1:1").unwrap();
    let error = store.load(KEY).now_or_never().unwrap();
    assert!(text(error).contains("runtime"));
}

/// As a server does that closes what is idle: between two tokens there may be a day.
#[tokio::test]
async fn a_server_that_was_restarted_while_nobody_asked_costs_nobody_anything() {
    let mut server = RedisServer::start(&[]).await;
    let store = store(&server);
    assert_eq!(load(&store).await, None);
    server.kill();
    server.run().await;
    assert_eq!(load(&store).await, None);
    server.tell(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    assert_eq!(load(&store).await, None);
}

#[tokio::test]
async fn many_who_ask_at_once_share_a_connection() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    let before = number(&server, "stats", "total_connections_received").await;
    let mut asked = JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        asked.spawn(async move { load(&store).await });
    }
    assert!(asked.join_all().await.iter().all(Option::is_none));
    let held = lease(&store).await;
    assert!(store.save(KEY, b"sealed", LONG, &held).await.unwrap());
    assert!(store.release(KEY, held).await.unwrap());
    // Theirs, and the one that this is asked over.
    let after = number(&server, "stats", "total_connections_received").await;
    assert_eq!(after - before, 2);
}

/// A way to a server, which loses what is sent over the first connection once it is told to.
struct Way {
    url: String,
    falls_silent: Option<oneshot::Sender<()>>,
    begins: Option<oneshot::Sender<()>>,
    connections: tokio::sync::watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

async fn way(server: &RedisServer) -> Way {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let to = server.url().replace("redis://", "");
    let (falls_silent, silent) = oneshot::channel::<()>();
    let (begins, begun) = oneshot::channel::<()>();
    let (count, connections) = tokio::sync::watch::channel(0);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _ = begun.await;
        let mut silent = Some(silent);
        let mut served = JoinSet::new();
        loop {
            let (mut here, _) = listener.accept().await.unwrap();
            count.send_modify(|count| *count += 1);
            let mut there = TcpStream::connect(&to).await.unwrap();
            let silent = silent.take();
            served.spawn(async move {
                let silenced = async {
                    match silent {
                        Some(silent) => drop(silent.await),
                        None => std::future::pending().await,
                    }
                };
                let is_silenced = tokio::select! {
                    _ = copy_bidirectional(&mut here, &mut there) => false,
                    () = silenced => true,
                };
                if is_silenced {
                    // Open, and nothing comes.
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    Way {
        url,
        falls_silent: Some(falls_silent),
        begins: Some(begins),
        connections,
        _tasks: tasks,
    }
}

impl Way {
    fn begin(&mut self) {
        self.begins.take().unwrap().send(()).unwrap();
    }
}

/// Half-open connections are noticed by nobody but who waits.
#[tokio::test]
async fn a_connection_that_nothing_comes_from_is_left_with_the_first_who_waits_in_vain() {
    let server = RedisServer::start(&[]).await;
    let mut way = way(&server).await;
    way.begin();
    let store = RedisStore::open(&way.url).unwrap();
    assert_eq!(load(&store).await, None);
    way.falls_silent.take().unwrap().send(()).unwrap();
    let patience = Duration::from_millis(50);
    eventually(async || timeout(patience, load(&store)).await.is_err()).await;
    assert_eq!(load(&store).await, None);
    assert_eq!(*way.connections.borrow(), 2);
}

#[tokio::test]
async fn a_connection_that_takes_longer_than_who_waits_for_it_is_made_for_the_next() {
    let server = RedisServer::start(&[]).await;
    let mut way = way(&server).await;
    let store = RedisStore::open(&way.url).unwrap();
    for _ in 0..3 {
        let left = timeout(Duration::from_millis(20), load(&store)).await;
        assert!(left.is_err());
    }
    way.begin();
    // Nobody waits for it meanwhile.
    eventually(async || *way.connections.borrow() > 0).await;
    assert_eq!(load(&store).await, None);
    assert_eq!(*way.connections.borrow(), 1);
}

/// It gets as far as to choose the database, which is only done once it is connected.
#[tokio::test]
async fn a_connection_is_made_though_who_wanted_it_has_left() {
    let server = RedisServer::start(&[]).await;
    let store = RedisStore::open(format!("{}/3", server.url())).unwrap();
    assert!(load(&store).now_or_never().is_none());
    eventually(async || {
        let clients: String = server.ask(&["CLIENT", "LIST"]).await.unwrap();
        clients.contains(" db=3 ")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_says_anything_is_given_up_after_five_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = RedisStore::open(format!("redis://{}", listener.local_addr().unwrap())).unwrap();
    for _ in 0..2 {
        let asked = timeout(Duration::from_secs(6), store.load(KEY)).await;
        let error = text(asked.expect("it waits for ever"));
        assert!(error.contains("timed out"), "{error}");
    }
}

const PASSWORD: &str = "planted-password";

#[tokio::test]
async fn a_password_that_is_refused_is_not_shown_and_asked_for_again() {
    let server = RedisServer::start(&["--requirepass", "other"]).await;
    for user in ["", "default", "nobody"] {
        let url = server.url_with(&format!("{user}:{PASSWORD}@"));
        for url in [url.clone(), format!("{url}/?protocol=resp3")] {
            let store = RedisStore::open(url).unwrap();
            let error = text(store.load(KEY).await) + &text(store.lease(KEY, LONG).await);
            assert!(!error.contains(PASSWORD), "{error}");
            assert!(!format!("{store:?}").contains(PASSWORD), "{store:?}");
        }
    }
    let error = text(store(&server).load(KEY).await);
    assert!(error.contains("NOAUTH"), "{error}");

    // Once it is the right one, it works.
    let url = server.url_with(&format!(":{PASSWORD}@"));
    let store = RedisStore::open(url).unwrap();
    assert!(store.load(KEY).await.is_err());
    let url = server.url_with(":other@");
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut set = redis::cmd("CONFIG");
    set.arg(&["SET", "requirepass", PASSWORD]);
    let () = set.query_async(&mut connection).await.unwrap();
    assert_eq!(load(&store).await, None);
}

/// It repeats what it was asked, and that is what the password is in.
#[tokio::test]
async fn a_server_that_does_not_know_how_to_take_a_password_does_not_get_it_into_a_log() {
    let unknown = [
        "--rename-command",
        "HELLO",
        "",
        "--rename-command",
        "AUTH",
        "",
    ];
    let server = RedisServer::start(&unknown).await;
    for protocol in ["resp2", "resp3"] {
        let url = server.url_with(&format!("user:{PASSWORD}@"));
        let store = RedisStore::open(format!("{url}/?protocol={protocol}")).unwrap();
        let error = text(store.load(KEY).await);
        assert!(!error.contains(PASSWORD), "{error}");
    }
    // Without one, what it says may be said.
    let url = format!("{}/?protocol=resp3", server.url());
    let error = text(RedisStore::open(url).unwrap().load(KEY).await);
    assert!(error.contains("unknown command"), "{error}");
}

#[tokio::test]
async fn an_address_that_is_none_or_leads_nowhere_does_not_show_its_password() {
    let addresses = [
        "127.0.0.1:6379",
        "http://:planted-password@127.0.0.1",
        "redis://",
        "redis://:planted-password@",
        "redis://:planted-password@:6379",
        "redis://:planted-password@127.0.0.1:port",
        "redis://:planted-password@127.0.0.1/database",
        "redis://:planted-password@127.0.0.1?protocol=planted-password",
        "redis://:x?protocol=planted-password@127.0.0.1",
        "redis://:%ff@127.0.0.1",
        "redis://:planted-password@0.0.0.0",
    ];
    for address in addresses {
        let error = RedisStore::open(address).unwrap_err();
        assert!(error.is_config(), "{error:?}");
        let error = whole(&error);
        assert!(error.contains("no address of a Redis"), "{error}");
        assert!(!error.contains(PASSWORD), "{error}");
    }
    let store = RedisStore::open(format!("redis://user:{PASSWORD}@127.0.0.1:1")).unwrap();
    let shown = format!("{store:?}");
    assert!(
        shown.contains("127.0.0.1:1") && !shown.contains(PASSWORD),
        "{shown}"
    );
    let error = text(store.load(KEY).await);
    assert!(
        error.contains("refused") && !error.contains(PASSWORD),
        "{error}"
    );
}
