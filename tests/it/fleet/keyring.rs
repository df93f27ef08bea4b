//! The store can't read the values that it contains. A process accepts a value only if a fleet key
//! sealed it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use tower_auth::Token;
use tower_auth::fleet::{Fleet, Keyring};
use tower_auth_test::{ScriptedSource, Step};
use tracing::Level;

use crate::support::breakable_store::{BreakableStore, KEY, key, keyring};
use crate::support::log::listen;

const HOUR: Duration = Duration::from_secs(3600);
const OTHER: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

/// Returns the encodings in which a secret might appear.
fn spellings(secret: &str) -> [String; 3] {
    let hex = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    [secret.to_owned(), STANDARD_NO_PAD.encode(secret), hex]
}

/// Returns a store that contains a token.
async fn stocked() -> BreakableStore {
    let store = BreakableStore::default();
    store
        .process(ScriptedSource::expiring(HOUR))
        .token()
        .await
        .unwrap();
    store
}

/// Returns `Ok` if another process accepts the stored value. Otherwise returns the reasons in the
/// log.
async fn taken(store: &BreakableStore, fleet: Fleet) -> Result<(), Vec<String>> {
    let (log, _listening) = listen();
    let source = ScriptedSource::from_fn(|_| Token::bearer("its own"));
    let token = store.process_of(fleet, source).token().await.unwrap();
    if token.secret() == "token-1" {
        return Ok(());
    }
    assert_eq!(token.secret(), "its own");
    let ignored = log
        .all()
        .into_iter()
        .filter(|line| line.level == Level::WARN);
    Err(ignored
        .flat_map(|line| line.fields)
        .filter(|field| field.contains("ignored"))
        .collect())
}

fn ignored(why: &str) -> Result<(), Vec<String>> {
    let field = format!("tower_auth.store.ignored={why}");
    // The process loads the value before and after it gets the lease, but warns only once.
    Err(vec![field])
}

#[tokio::test(start_paused = true)]
async fn a_store_sees_no_token() {
    let secret = "a-secret/that+could~be-anywhere";
    let store = BreakableStore::default();
    let source =
        ScriptedSource::from_fn(move |_| Ok(Token::bearer(secret)?.with_scope("reports:read")));
    store.process(source).token().await.unwrap();
    let [stored] = &store.stored()[..] else {
        panic!("one value");
    };
    let text = String::from_utf8_lossy(stored);
    for spelling in spellings(secret) {
        assert!(!text.contains(&spelling), "{text}");
    }
    for word in ["reports", "Bearer", "secret", "authorization"] {
        assert!(!text.contains(word), "{text}");
    }
    assert!(text.starts_with("TA\u{2}S\u{7}2026-11"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn no_two_values_are_sealed_alike() {
    let [one, other] = [stocked().await.stored(), stocked().await.stored()];
    assert_eq!(one[0].len(), other[0].len());
    // After the header, most bytes of the two values differ.
    let differ = one[0][12..]
        .iter()
        .zip(&other[0][12..])
        .filter(|(a, b)| a != b)
        .count();
    assert!(differ > one[0].len() / 2);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_was_changed_or_cut_anywhere_is_as_if_it_was_not_there() {
    let store = stocked().await;
    let good = store.stored().swap_remove(0);
    taken(&store, store.fleet()).await.unwrap();
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        store.put(changed);
        let why = match at {
            2 => "unknown_version",
            3 => "unknown_version",
            // These bytes are the length of the key name, and the name.
            4 => "unknown_key",
            5..12 => "unknown_key",
            _ => "corrupt",
        };
        assert_eq!(
            taken(&store, store.fleet()).await,
            ignored(why),
            "byte {at}"
        );
    }
    for length in 0..good.len() {
        store.put(good[..length].to_vec());
        let why = "corrupt";
        assert_eq!(
            taken(&store, store.fleet()).await,
            ignored(why),
            "{length} bytes"
        );
    }
    store.put([good.as_slice(), b"!"].concat());
    assert_eq!(taken(&store, store.fleet()).await, ignored("corrupt"));
    store.put(b"somebody else's".to_vec());
    assert_eq!(taken(&store, store.fleet()).await, ignored("corrupt"));
    store.put(good);
    taken(&store, store.fleet()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_value_of_one_key_is_none_under_another() {
    let store = stocked().await;
    let other = key().with("audience", "elsewhere");
    store.copies_to(&other);
    let fleet = store.fleet().key(other);
    assert_eq!(taken(&store, fleet).await, ignored("corrupt"));
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_not_sealed_is_none_to_one_who_seals() {
    let store = stocked().await;
    let written = r#"{"kept":60000,"token":{"form":{"header":{"name":"authorization","scheme":"Bearer "}},"secret":"planted","age":0}}"#;
    store.put([b"TA\x02P", key().to_text().as_bytes(), written.as_bytes()].concat());
    assert_eq!(taken(&store, store.fleet()).await, ignored("wrong_kind"));
}

#[tokio::test(start_paused = true)]
async fn keys_rotate_with_no_token_lost() {
    let store = stocked().await;
    let with = |keys: Keyring| Fleet::new(store.clone(), keys).key(key());
    // This process doesn't have the key that sealed the value.
    let stranger = with(Keyring::new("2027-05", OTHER).unwrap());
    assert_eq!(taken(&store, stranger).await, ignored("unknown_key"));

    let store = stocked().await;
    let with = |keys: Keyring| Fleet::new(store.clone(), keys).key(key());
    // Every process knows the next key before any process seals with that key.
    let ready = keyring().also("2027-05", OTHER).unwrap();
    let rotated = Keyring::new("2027-05", OTHER)
        .unwrap()
        .also("2026-11", KEY)
        .unwrap();
    taken(&store, with(ready.clone())).await.unwrap();
    taken(&store, with(rotated.clone())).await.unwrap();

    // `rotated` seals with the new key. `ready` seals with the old key, but can open the value.
    let fresh = BreakableStore::default();
    let with = |keys: Keyring| Fleet::new(fresh.clone(), keys).key(key());
    let rotated = fresh.process_of(with(rotated), ScriptedSource::expiring(HOUR));
    rotated.token().await.unwrap();
    assert!(fresh.stored()[0].starts_with(b"TA\x02S\x072027-05"));
    taken(&fresh, with(ready)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_key_of_the_same_name_opens_nothing() {
    let store = stocked().await;
    let keys = Keyring::new("2026-11", OTHER).unwrap();
    let fleet = Fleet::new(store.clone(), keys).key(key());
    assert_eq!(taken(&store, fleet).await, ignored("corrupt"));
}

#[test]
fn a_key_is_32_bytes_in_any_base64() {
    let bytes: Vec<u8> = (0..32).map(|n| 255 - 3 * n).collect();
    for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
        Keyring::new("key", engine.encode(&bytes) + "\n").unwrap();
    }
    for length in [0, 1, 16, 31, 33, 64] {
        let error = Keyring::new("key", STANDARD.encode(vec![7; length])).unwrap_err();
        assert!(error.is_config());
        assert!(
            error.to_string().contains("`openssl rand -base64 32`"),
            "{error}"
        );
    }
    let secret = "not-base64!but-a-secret";
    let error = Keyring::new("key", secret).unwrap_err();
    assert!(!error.to_string().contains(secret), "{error}");
}

#[test]
fn a_key_has_a_name_of_its_own() {
    for name in ["", &"n".repeat(256)] {
        assert!(Keyring::new(name, KEY).unwrap_err().is_config());
    }
    let error = keyring().also("2026-11", OTHER).unwrap_err();
    assert!(error.to_string().contains("`2026-11`"), "{error}");
    Keyring::new("n".repeat(255), KEY).unwrap();
}

#[test]
fn a_ring_shows_the_names_of_its_keys_alone() {
    let ring = keyring().also("2027-05", OTHER).unwrap();
    let shown = format!(
        "{ring:?} {:?}",
        Fleet::new(BreakableStore::default(), ring.clone())
    );
    assert!(
        shown.contains("2026-11") && shown.contains("2027-05"),
        "{shown}"
    );
    for secret in [KEY, OTHER] {
        for spelling in spellings(secret) {
            assert!(!shown.contains(&spelling), "{shown}");
        }
    }
}

#[cfg(feature = "file")]
mod of_files_that_are_not_sealed {
    use std::fs;

    use tower_auth::fleet::{FileStore, StoreKey};
    use tower_auth::{TokenCache, TokenSource};

    use super::*;

    fn process(folder: &std::path::Path, key: StoreKey, source: impl TokenSource) -> TokenCache {
        let fleet = Fleet::unsealed(FileStore::new(folder)).key(key);
        TokenCache::builder(source).fleet(fleet).unwrap().build()
    }

    #[tokio::test]
    async fn they_hold_the_token_and_are_good_for_their_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("tokens");
        let first = process(&folder, key(), ScriptedSource::expiring(HOUR));
        first.token().await.unwrap();
        let path = |key: &StoreKey| folder.join(format!("{}.token", key.to_text()));
        let stored = fs::read(path(&key())).unwrap();
        assert!(String::from_utf8_lossy(&stored).contains("token-1"));
        let second = process(
            &folder,
            key(),
            ScriptedSource::from_fn(|_| Step::error("it is there")),
        );
        assert_eq!(second.token().await.unwrap().secret(), "token-1");

        let other = key().with("audience", "elsewhere");
        fs::copy(path(&key()), path(&other)).unwrap();
        let other = process(
            &folder,
            other,
            ScriptedSource::from_fn(|_| Token::bearer("its own")),
        );
        assert_eq!(other.token().await.unwrap().secret(), "its own");
    }

    #[tokio::test]
    async fn one_that_is_sealed_is_none_to_who_does_not_seal_and_the_other_way_round() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("tokens");
        let sealed = Fleet::new(FileStore::new(&folder), keyring()).key(key());
        let sealing = |source| {
            TokenCache::builder(source)
                .fleet(sealed.clone())
                .unwrap()
                .build()
        };
        sealing(ScriptedSource::expiring(HOUR))
            .token()
            .await
            .unwrap();
        let plain = process(
            &folder,
            key(),
            ScriptedSource::from_fn(|_| Token::bearer("plain")),
        );
        assert_eq!(plain.token().await.unwrap().secret(), "plain");
        assert_eq!(
            sealing(ScriptedSource::expiring(HOUR))
                .token()
                .await
                .unwrap()
                .secret(),
            "token-1"
        );
    }
}
