//! The lease of a login in the store of a fleet. It is short until the refresh token is sent, and is
//! renewed as long as a process needs it. Each source simulates a process.

use std::time::Duration;

use futures_util::future::join_all;
use secrecy::SecretString;
use tokio::time::{Instant, sleep};
use tower_auth::Reason;
use tower_auth::fleet::{StoreKey, TokenStore};
use tower_auth::oauth2::{LoginLock, RefreshToken, RefreshTokenStore, SharedLogin};
use tower_auth_test::run_until_idle;

use super::login_sharing::{Rotating, fetch};
use crate::support::breakable_store::{BreakableStore, Fault, keyring};
use crate::support::slow_store::SlowStore;
use crate::support::token_server::ID;

const SECOND: Duration = Duration::from_secs(1);

/// What a process with the default client asks for: the client's timeout, and 3 s.
const TIME: Duration = Duration::from_secs(13);

/// The default time that a process waits for the lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(15);

fn shared(store: impl TokenStore) -> SharedLogin {
    SharedLogin::new(
        store,
        keyring(),
        &StoreKey::new("login").with("user", "ada"),
    )
}

fn process(server: &Rotating, store: impl TokenStore) -> RefreshToken {
    RefreshToken::stored(server.client(ID), shared(store))
}

async fn lock(login: &SharedLogin) -> Option<LoginLock> {
    login.lock(TIME).await.unwrap()
}

async fn is_locked(store: &BreakableStore) -> bool {
    let other = shared(store.clone());
    match lock(&other).await {
        Some(free) => other.unlock(free).await.map(|()| false).unwrap(),
        None => true,
    }
}

/// Returns a store with the refresh token that the server expects first.
async fn logged_in() -> BreakableStore {
    let store = BreakableStore::default();
    let login = shared(store.clone());
    let held = lock(&login).await.unwrap();
    let text = SecretString::from("refresh-0");
    login.save(text, &held).await.unwrap();
    login.unlock(held).await.unwrap();
    store
}

/// Sends the refresh token of a process, whose store calls can be broken on their own.
async fn sends(server: &Rotating, store: &BreakableStore) -> (BreakableStore, Fetched) {
    let own = store.of_another_process();
    let source = process(server, own.clone());
    let fetched = tokio::spawn(async move { fetch(&source, Reason::First).await });
    run_until_idle().await;
    assert_eq!(server.sent(), ["refresh-0"]);
    (own, fetched)
}

type Fetched = tokio::task::JoinHandle<Result<String, tower_auth::Error>>;

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_before_it_sends_the_refresh_token_delays_the_others_by_3_s() {
    let (server, store) = (Rotating::default(), logged_in().await);
    let mortal = store.of_another_process();
    let held = lock(&shared(mortal.clone())).await.unwrap();
    // Until then, the process renews its short lease.
    sleep(20 * SECOND).await;
    assert!(is_locked(&store).await);
    mortal.kill();
    let start = Instant::now();
    let other = process(&server, store);
    assert_eq!(fetch(&other, Reason::First).await.unwrap(), "access-1");
    // The token request takes 1 s.
    let waited = start.elapsed() - SECOND;
    assert!(waited <= 4 * SECOND, "{waited:?}");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_during_its_exchange_delays_the_others_for_less_than_the_lock_timeout()
{
    // The server accepts the refresh token again, so the other process gets a token.
    let server = Rotating::with(|server| {
        server.rotates = false;
        server.delay = 9 * SECOND;
    });
    let store = logged_in().await;
    let (mortal, dead) = sends(&server, &store).await;
    mortal.kill();
    let start = Instant::now();
    let other = process(&server, store);
    assert_eq!(fetch(&other, Reason::First).await.unwrap(), "access-2");
    let waited = start.elapsed() - 9 * SECOND;
    assert!(waited >= TIME && waited < LOCK_TIMEOUT, "{waited:?}");
    dead.abort();
}

/// The process sends nothing to the store until just before the server answers.
#[tokio::test(start_paused = true)]
async fn a_process_that_stalls_during_its_exchange_is_not_overtaken() {
    let server = Rotating::with(|server| server.delay = 9 * SECOND);
    let store = logged_in().await;
    let (stalled, first) = sends(&server, &store).await;
    stalled.kill();
    let other = process(&server, store);
    let second = tokio::spawn(async move { fetch(&other, Reason::First).await });
    sleep(9 * SECOND - Duration::from_millis(1)).await;
    stalled.wakes_up();
    for fetched in [first, second] {
        assert_eq!(fetched.await.unwrap().unwrap(), "access-1");
    }
    assert_eq!(server.sent(), ["refresh-0"]);
}

#[tokio::test(start_paused = true)]
async fn an_exchange_that_takes_longer_than_any_lease_keeps_its_lease() {
    let server = Rotating::with(|server| server.delay = 200 * SECOND);
    let store = logged_in().await;
    let processes = [(); 3].map(|()| {
        let client = server.client(ID).timeout(300 * SECOND);
        let source = RefreshToken::stored(client, shared(store.clone()));
        source.lock_timeout(400 * SECOND)
    });
    let fetches = processes.iter().map(|it| fetch(it, Reason::First));
    for token in join_all(fetches).await {
        assert_eq!(token.unwrap(), "access-1");
    }
    assert_eq!(server.sent(), ["refresh-0"]);
    assert!(!is_locked(&store).await);
}

/// Another process would send the refresh token that the server has replaced.
#[tokio::test(start_paused = true)]
async fn an_idle_process_with_an_unsaved_refresh_token_keeps_its_lease() {
    let (server, store) = (Rotating::default(), logged_in().await);
    let (holder, other) = (
        process(&server, store.clone()),
        process(&server, store.clone()),
    );
    store.breaks("save", Fault::Fails);
    fetch(&holder, Reason::First).await.unwrap_err();
    for _ in 0..10 {
        sleep(60 * SECOND).await;
        let error = fetch(&other, Reason::First).await.unwrap_err();
        assert!(error.to_string().contains("lock_timeout"), "{error}");
    }
    assert_eq!(server.sent(), ["refresh-0"]);
    store.works_again();
    assert_eq!(fetch(&holder, Reason::First).await.unwrap(), "access-2");
    assert_eq!(fetch(&other, Reason::First).await.unwrap(), "access-2");
    assert_eq!(server.sent(), ["refresh-0", "refresh-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_cancelled_releases_its_lease_at_once() {
    let (server, store) = (Rotating::default(), logged_in().await);
    let (_, cancelled) = sends(&server, &store).await;
    assert!(is_locked(&store).await);
    cancelled.abort();
    run_until_idle().await;
    assert!(!is_locked(&store).await);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_dropped_outside_of_its_runtime_is_released() {
    let store = logged_in().await;
    let held = lock(&shared(store.clone())).await.unwrap();
    std::thread::spawn(move || drop(held)).join().unwrap();
    run_until_idle().await;
    assert!(!is_locked(&store).await);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_released_is_renewed_no_more() {
    let store = logged_in().await;
    let login = shared(store.clone());
    for is_dropped in [false, true] {
        let held = lock(&login).await.unwrap();
        sleep(10 * SECOND).await;
        match is_dropped {
            true => drop(held),
            false => login.unlock(held).await.unwrap(),
        }
        run_until_idle().await;
        assert!(store.calls().contains(&"renew"));
        sleep(60 * SECOND).await;
        assert!(store.calls().is_empty());
    }
}

/// A release waits for the running calls of its lease, so it first stops the renewal.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_does_not_delay_or_follow_the_release() {
    let store = logged_in().await;
    let login = shared(store.clone());
    for is_dropped in [false, true] {
        let held = lock(&login).await.unwrap();
        store.breaks("renew", Fault::Hangs);
        sleep(SECOND).await;
        run_until_idle().await;
        assert!(store.calls().ends_with(&["renew"]));
        let start = Instant::now();
        match is_dropped {
            true => drop(held),
            false => login.unlock(held).await.unwrap(),
        }
        run_until_idle().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(store.calls(), ["release"]);
        store.works_again();
        sleep(60 * SECOND).await;
        assert!(store.calls().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_or_hangs_is_followed_by_another_in_time() {
    for fault in [Fault::Fails, Fault::Hangs] {
        let store = logged_in().await;
        let held = lock(&shared(store.clone())).await.unwrap();
        for _ in 0..5 {
            // The next renewal is due within this time.
            store.breaks("renew", fault);
            sleep(SECOND).await;
            store.works_again();
            sleep(3 * SECOND).await;
            assert!(is_locked(&store).await, "{fault:?}");
        }
        drop(held);
    }
}

#[tokio::test(start_paused = true)]
async fn processes_share_a_login_in_a_store_whose_calls_take_5_s() {
    for request in [Duration::ZERO, SECOND * 5 / 2, 5 * SECOND] {
        let (server, store) = (Rotating::default(), logged_in().await);
        let slow = SlowStore::new(store.clone(), request, 5 * SECOND - request);
        let processes = [(); 3].map(|()| {
            let source = process(&server, slow.clone());
            source.lock_timeout(120 * SECOND)
        });
        let fetches = processes.iter().map(|it| fetch(it, Reason::First));
        for token in join_all(fetches).await {
            assert_eq!(token.unwrap(), "access-1", "{request:?}");
        }
        assert_eq!(server.sent(), ["refresh-0"], "{request:?}");
    }
}

/// The TTL of a lease depends on the last load.
#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_though_the_store_has_become_slower() {
    let store = logged_in().await;
    let slow = SlowStore::new(store.clone(), 2 * SECOND, Duration::ZERO);
    let login = shared(slow.clone());
    login.load().await.unwrap();
    slow.delays(SECOND * 5 / 2, Duration::ZERO);
    let held = lock(&login).await.unwrap();
    for _ in 0..20 {
        sleep(SECOND).await;
        assert!(is_locked(&store).await);
    }
    drop(held);
}

/// A short renewal that the store gets after the confirmation would shorten the lease.
#[tokio::test(start_paused = true)]
async fn a_confirmation_waits_for_a_renewal_that_is_under_way() {
    let store = logged_in().await;
    let mortal = store.of_another_process();
    let slow = SlowStore::new(mortal.clone(), Duration::ZERO, Duration::ZERO);
    let login = shared(slow.clone());
    let held = lock(&login).await.unwrap();
    slow.delays(SECOND * 9 / 10, Duration::ZERO);
    sleep(SECOND * 3 / 2).await;
    slow.delays(Duration::ZERO, Duration::ZERO);
    assert!(login.confirm(&held).await.unwrap());
    sleep(SECOND).await;
    mortal.kill();
    sleep(TIME - 2 * SECOND).await;
    assert!(is_locked(&store).await);
    drop(held);
}

/// The lease may have ended before the answer arrived, for example because this process stalled.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_older_than_the_lease_confirms_nothing() {
    let store = logged_in().await;
    let slow = SlowStore::new(store, Duration::ZERO, Duration::ZERO);
    let login = shared(slow.clone());
    let held = lock(&login).await.unwrap();
    assert!(login.confirm(&held).await.unwrap());
    slow.delays(Duration::ZERO, TIME + SECOND);
    assert!(!login.confirm(&held).await.unwrap());
}
