//! A login in the store of a fleet: sealed, with leases as locks.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::{advance, sleep};
use tower_auth::fleet::{Keyring, Lease, MemoryStore, StoreKey, TokenStore};
use tower_auth::oauth2::{Client, LoginLock, RefreshToken, RefreshTokenStore, SharedLogin};
use tower_auth::{BoxError, Reason, TokenSource};
use tower_auth_test::{ScriptedResponse, ScriptedServer, run_until_idle};

use crate::support::breakable_store::{BreakableStore, keyring};
use crate::support::token_server::{ID, SECRET, URL};

const TIME: Duration = Duration::from_secs(13);

fn login() -> StoreKey {
    StoreKey::new("login").with("user", "ada")
}

fn shared(store: &MemoryStore) -> SharedLogin {
    SharedLogin::new(store.clone(), keyring(), &login())
}

async fn lock(login: &SharedLogin) -> Option<LoginLock> {
    login.lock(TIME).await.unwrap()
}

async fn save(login: &SharedLogin, text: &str, lock: &LoginLock) -> Result<(), BoxError> {
    login.save(SecretString::from(text), lock).await
}

async fn load(login: &SharedLogin) -> Option<String> {
    let saved = login.load().await.unwrap()?;
    Some(saved.text().expose_secret().to_owned())
}

#[tokio::test(start_paused = true)]
async fn what_was_saved_is_loaded_with_its_age() {
    let store = MemoryStore::new();
    let one = shared(&store);
    assert!(one.load().await.unwrap().is_none());
    let held = lock(&one).await.unwrap();
    save(&one, "planted", &held).await.unwrap();
    one.unlock(held).await.unwrap();
    advance(Duration::from_secs(100)).await;
    let saved = shared(&store).load().await.unwrap().unwrap();
    assert_eq!(saved.text().expose_secret(), "planted");
    assert_eq!(saved.age(), Some(Duration::from_secs(100)));
    // A year later, the login is still there.
    advance(Duration::from_secs(365 * 24 * 3600)).await;
    assert_eq!(load(&shared(&store)).await.as_deref(), Some("planted"));
    assert!(!format!("{one:?} {one:#?}").contains("planted"));
}

#[tokio::test(start_paused = true)]
async fn one_process_at_a_time_has_the_lock_which_ends_with_a_dead_process() {
    let store = BreakableStore::default();
    let mortal = store.of_another_process();
    let one = SharedLogin::new(mortal.clone(), keyring(), &login());
    let other = SharedLogin::new(store, keyring(), &login());
    let held = lock(&one).await.unwrap();
    assert!(lock(&other).await.is_none());
    one.unlock(held).await.unwrap();
    let held = lock(&other).await.unwrap();
    assert!(lock(&one).await.is_none());
    other.unlock(held).await.unwrap();
    // A process that dies releases nothing.
    for (is_confirmed, end) in [(false, Duration::from_secs(3)), (true, TIME)] {
        let held = lock(&one).await.unwrap();
        if is_confirmed {
            assert!(one.confirm(&held).await.unwrap());
        }
        mortal.kill();
        sleep(end - Duration::from_millis(1)).await;
        assert!(lock(&other).await.is_none());
        sleep(Duration::from_millis(1)).await;
        let next = lock(&other).await.unwrap();
        other.unlock(next).await.unwrap();
        mortal.wakes_up();
        drop(held);
    }
}

#[tokio::test(start_paused = true)]
async fn confirming_the_lock_extends_it_and_shows_that_it_was_lost() {
    let store = MemoryStore::new();
    let (one, other) = (shared(&store), shared(&store));
    let held = lock(&one).await.unwrap();
    for _ in 0..5 {
        assert!(one.confirm(&held).await.unwrap());
        // The process stalls, and renews nothing.
        advance(TIME - Duration::from_secs(1)).await;
    }
    advance(TIME).await;
    assert!(!one.confirm(&held).await.unwrap());
    let next = lock(&other).await.unwrap();
    assert!(!one.confirm(&held).await.unwrap());
    assert!(other.confirm(&next).await.unwrap());
    assert!(!one.confirm(&LoginLock::none()).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_lost_its_lock_does_not_overwrite_or_delete_a_newer_login() {
    let store = MemoryStore::new();
    let (one, other) = (shared(&store), shared(&store));
    let lost = lock(&one).await.unwrap();
    advance(TIME).await;
    let next = lock(&other).await.unwrap();
    save(&other, "newer", &next).await.unwrap();
    let error = save(&one, "planted", &lost).await.unwrap_err().to_string();
    assert!(
        error.contains("newer login") && !error.contains("planted"),
        "{error}"
    );
    one.delete(&lost).await.unwrap();
    assert_eq!(load(&one).await.as_deref(), Some("newer"));
    other.delete(&next).await.unwrap();
    assert_eq!(load(&one).await, None);
    // Without a lock, a process saves nothing.
    save(&one, "planted", &LoginLock::none()).await.unwrap_err();
    assert_eq!(load(&one).await, None);
}

/// A fetch was cancelled.
#[tokio::test(start_paused = true)]
async fn a_lock_that_is_dropped_is_released() {
    let store = MemoryStore::new();
    let (one, other) = (shared(&store), shared(&store));
    drop(lock(&one).await.unwrap());
    run_until_idle().await;
    assert!(lock(&other).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_store_sees_no_login_and_another_key_opens_none() {
    let store = MemoryStore::new();
    let one = shared(&store);
    let held = lock(&one).await.unwrap();
    save(&one, "planted", &held).await.unwrap();

    // The login has another key than the tokens of a fleet with the same store key.
    assert!(store.load(&login().to_text()).await.unwrap().is_none());
    let key = StoreKey::new("shared login").with_key("login", &login());
    let value = store.load(&key.to_text()).await.unwrap().unwrap();
    let sealed = value.sealed().unwrap().0.to_vec();
    assert!(!sealed.windows(7).any(|bytes| bytes == b"planted"));

    let other = Keyring::new("other", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    let other = SharedLogin::new(store.clone(), other.unwrap(), &login());
    let error = other.load().await.unwrap_err().to_string();
    assert!(error.contains("unknown_key"), "{error}");

    // A value of another login doesn't open either.
    let stranger = StoreKey::new("login").with("user", "eve");
    let other = SharedLogin::new(store.clone(), keyring(), &stranger);
    assert_eq!(load(&other).await, None);
    let key = StoreKey::new("shared login").with_key("login", &stranger);
    let lease = Lease::new(1);
    store
        .save(&key.to_text(), &sealed, TIME, &lease)
        .await
        .unwrap();
    let error = other.load().await.unwrap_err().to_string();
    assert!(
        error.contains("corrupt") && !error.contains("planted"),
        "{error}"
    );
}

/// The server ends the login at the first reuse of a refresh token.
#[tokio::test(start_paused = true)]
async fn processes_on_many_machines_share_a_login() {
    let (store, server) = (MemoryStore::new(), {
        ScriptedServer::new(|request| {
            let number = request.number();
            let sent = request.param("refresh_token").unwrap();
            if sent != format!("refresh-{}", number - 1) {
                return ScriptedResponse::json(400, r#"{"error":"invalid_grant"}"#);
            }
            let body = format!(
                r#"{{"access_token":"access-{number}","refresh_token":"refresh-{number}","expires_in":60}}"#
            );
            ScriptedResponse::json(200, body).after(Duration::from_secs(1))
        })
    });
    let first = shared(&store);
    let held = lock(&first).await.unwrap();
    save(&first, "refresh-0", &held).await.unwrap();
    first.unlock(held).await.unwrap();
    let processes: Vec<_> = (0..8)
        .map(|_| {
            let client = Client::new(URL, ID, SECRET).unwrap();
            let client = client.transport(server.clone());
            RefreshToken::stored(client, shared(&store))
        })
        .collect();
    for number in 1..=20 {
        let fetches = processes.iter().map(|it| it.fetch(Reason::Expired));
        for token in futures_util::future::join_all(fetches).await {
            assert_eq!(token.unwrap().secret(), format!("access-{number}"));
        }
        advance(Duration::from_secs(60)).await;
    }
    assert_eq!(server.requests().len(), 20);
}

/// A clock that was set back makes the age unknown. The login must still be there.
#[cfg(all(feature = "file", unix))]
#[tokio::test]
async fn a_login_of_unknown_age_is_not_lost() {
    use tower_auth::fleet::FileStore;

    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path().join("tokens"));
    let one = SharedLogin::new(store, keyring(), &login());
    let held = lock(&one).await.unwrap();
    save(&one, "refresh-0", &held).await.unwrap();
    let files = std::fs::read_dir(folder.path().join("tokens")).unwrap();
    for file in files.map(|file| file.unwrap().path()) {
        let file = std::fs::File::options().write(true).open(file).unwrap();
        let later = std::time::SystemTime::now() + Duration::from_secs(3600);
        file.set_modified(later).unwrap();
    }
    let saved = one.load().await.unwrap().unwrap();
    assert_eq!(
        (saved.text().expose_secret(), saved.age()),
        ("refresh-0", None)
    );
    one.unlock(held).await.unwrap();
}
