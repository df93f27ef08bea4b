//! Several processes share one login. Each refresh token is sent once, and all processes use the
//! new access token. Each source simulates a process.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::time::{advance, sleep, timeout};
use tower_auth::oauth2::{Client, LoginLock, RefreshToken, RefreshTokenStore, SavedLogin};
use tower_auth::{BoxError, Error, Reason, Token, TokenSource};
use tower_auth_test::{RecordedRequest, ScriptedResponse, ScriptedServer, run_until_idle};
use tracing::Level;

use crate::support::log::listen;
use crate::support::paused;
use crate::support::refresh_store::{LockingStore, Store, StoreFault};
use crate::support::token_server::{ID, SECRET, URL, all_text_of};

const HOUR: Duration = Duration::from_secs(3600);

/// A server that accepts each refresh token once, and then issues the next one: `refresh-0`,
/// `refresh-1`, …. A reused refresh token ends the login.
#[derive(Clone)]
pub(super) struct Rotating {
    inner: Arc<Mutex<Rotation>>,
}

pub(super) struct Rotation {
    next: usize,
    sent: Vec<String>,
    has_ended: bool,
    lifetime: u64,
    pub(super) delay: Duration,
    pub(super) rotates: bool,
}

impl Default for Rotating {
    fn default() -> Self {
        Self {
            inner: Arc::new(Mutex::new(Rotation {
                next: 0,
                sent: Vec::new(),
                has_ended: false,
                lifetime: 3600,
                delay: Duration::from_secs(1),
                rotates: true,
            })),
        }
    }
}

impl Rotating {
    pub(super) fn with(change: impl FnOnce(&mut Rotation)) -> Self {
        let server = Self::default();
        change(&mut server.inner.lock().unwrap());
        server
    }

    pub(super) fn client(&self, id: &str) -> Client {
        let server = self.clone();
        let transport = ScriptedServer::new(move |request| server.respond(request));
        Client::new(URL, id, SECRET).unwrap().transport(transport)
    }

    /// Starts a process that shares the login in `store`.
    fn process(&self, store: &LockingStore) -> RefreshToken {
        RefreshToken::stored(self.client(ID), store.clone())
    }

    fn respond(&self, request: &RecordedRequest) -> ScriptedResponse {
        let mut server = self.inner.lock().unwrap();
        let Some(token) = request.param("refresh_token") else {
            return ScriptedResponse::json(200, "{}");
        };
        let expected = match server.rotates {
            true => format!("refresh-{}", server.next),
            false => String::from("refresh-0"),
        };
        server.has_ended |= token != expected;
        server.sent.push(token);
        if server.has_ended {
            return ScriptedResponse::json(400, r#"{"error":"invalid_grant"}"#);
        }
        server.next += 1;
        let next = server.next;
        let mut body =
            json!({"access_token": format!("access-{next}"), "expires_in": server.lifetime});
        if server.rotates {
            body["refresh_token"] = json!(format!("refresh-{next}"));
        }
        ScriptedResponse::json(200, body).after(server.delay)
    }

    pub(super) fn sent(&self) -> Vec<String> {
        self.inner.lock().unwrap().sent.clone()
    }
}

pub(super) async fn fetch(source: &RefreshToken, reason: Reason) -> Result<String, Error> {
    let token = source.fetch(reason).await?;
    Ok(token.secret().to_owned())
}

#[tokio::test(start_paused = true)]
async fn processes_that_need_a_token_at_once_make_one_request_and_get_one_token() {
    for hides_age in [false, true] {
        let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
        if hides_age {
            store.hides_age();
        }
        let processes: Vec<_> = (0..8).map(|_| server.process(&store)).collect();
        let fetches = processes.iter().map(|it| fetch(it, Reason::Expired));
        for token in join_all(fetches).await {
            assert_eq!(token.unwrap(), "access-1");
        }
        assert_eq!(server.sent(), ["refresh-0"]);
        assert_eq!(store.saves(), ["refresh-1"]);
        assert!(!store.is_locked());
        // Only one process takes the lock. The others load the login without the lock.
        let unlocks = store.calls().into_iter().filter(|call| *call == "unlock");
        assert_eq!(unlocks.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_saved_just_before_the_lock_was_granted_is_used() {
    let saved = {
        let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
        fetch(&server.process(&store), Reason::First).await.unwrap();
        store.login().unwrap()
    };
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    store.is_saved_before_the_lock(&saved);
    let process = server.process(&store);
    assert_eq!(fetch(&process, Reason::First).await.unwrap(), "access-1");
    assert!(server.sent().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_does_not_rotate_is_shared_too() {
    let server = Rotating::with(|server| server.rotates = false);
    let store = LockingStore::holding("refresh-0");
    let processes = [server.process(&store), server.process(&store)];
    let fetches = processes.iter().map(|it| fetch(it, Reason::First));
    for token in join_all(fetches).await {
        assert_eq!(token.unwrap(), "access-1");
    }
    assert_eq!(server.sent(), ["refresh-0"]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_later_uses_the_saved_token_without_the_lock() {
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    fetch(&server.process(&store), Reason::First).await.unwrap();
    store.calls();
    advance(Duration::from_secs(1000)).await;
    let later = server.process(&store);
    assert_eq!(fetch(&later, Reason::First).await.unwrap(), "access-1");
    assert_eq!(store.calls(), ["load"]);
    assert_eq!(server.sent(), ["refresh-0"]);
    // The lifetime counts from the start of the token request, which took 1 s.
    let token = later.fetch(Reason::First).await.unwrap();
    assert_eq!(lifetime(&token), 2599.0);
}

/// Returns whether a process that fetches for this reason makes a request. The saved token has a
/// lifetime of `lifetime` and was saved `age` ago.
async fn requests(reason: Reason, lifetime: u64, age: u64, is_own: bool) -> bool {
    let server = Rotating::with(|server| {
        server.lifetime = lifetime;
        server.delay = Duration::ZERO;
    });
    let store = LockingStore::holding("refresh-0");
    let (own, other) = (server.process(&store), server.process(&store));
    if is_own {
        fetch(&own, Reason::First).await.unwrap();
    } else {
        fetch(&other, Reason::First).await.unwrap();
    }
    advance(Duration::from_secs(age)).await;
    let token = fetch(&own, reason).await.unwrap();
    assert_eq!(server.sent().len() == 2, token == "access-2");
    token == "access-2"
}

#[tokio::test(start_paused = true)]
async fn a_saved_token_is_used_if_enough_of_its_life_is_left_for_the_reason() {
    for reason in [Reason::First, Reason::Expired, Reason::Refused] {
        assert!(!requests(reason, 3600, 3500, false).await, "{reason}");
        assert!(requests(reason, 3600, 3541, false).await, "{reason}");
        // For a short lifetime, it is enough if half of the lifetime is left.
        assert!(!requests(reason, 20, 9, false).await, "{reason}");
        assert!(requests(reason, 20, 11, false).await, "{reason}");
        assert!(requests(reason, 3600, 4000, false).await, "{reason}");
    }
    assert!(!requests(Reason::Stale, 3600, 1700, false).await);
    assert!(requests(Reason::Stale, 3600, 1900, false).await);
}

#[tokio::test(start_paused = true)]
async fn a_saved_token_that_this_process_has_used_is_no_answer_to_a_refusal_or_a_refresh() {
    assert!(requests(Reason::Refused, 3600, 10, true).await);
    assert!(requests(Reason::Stale, 3600, 10, true).await);
    assert!(requests(Reason::Forced, 3600, 10, true).await);
    assert!(!requests(Reason::First, 3600, 10, true).await);
    assert!(!requests(Reason::Expired, 3600, 10, true).await);
}

/// A forced refresh must return a token that is newer than the saved token.
#[tokio::test(start_paused = true)]
async fn a_forced_refresh_uses_only_a_token_that_was_saved_meanwhile() {
    assert!(requests(Reason::Forced, 3600, 10, false).await);
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    let processes = [server.process(&store), server.process(&store)];
    fetch(&processes[0], Reason::First).await.unwrap();
    let fetches = processes.iter().map(|it| fetch(it, Reason::Forced));
    for token in join_all(fetches).await {
        assert_eq!(token.unwrap(), "access-2");
    }
    assert_eq!(server.sent(), ["refresh-0", "refresh-1"]);
}

/// The source remembers more than the last refused token.
#[tokio::test(start_paused = true)]
async fn a_token_that_was_refused_is_not_used_again() {
    let server = Rotating::with(|server| server.rotates = false);
    let store = LockingStore::holding("refresh-0");
    let process = server.process(&store);
    assert_eq!(fetch(&process, Reason::First).await.unwrap(), "access-1");
    // The next token isn't saved, so the store still has the first one.
    store.breaks("save", StoreFault::Fails);
    assert_eq!(fetch(&process, Reason::Refused).await.unwrap(), "access-2");
    assert_eq!(fetch(&process, Reason::Refused).await.unwrap(), "access-3");
}

/// Without an age, the token may have expired long ago.
#[tokio::test(start_paused = true)]
async fn a_saved_token_of_unknown_age_is_used_only_if_it_was_saved_meanwhile() {
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    store.hides_age();
    fetch(&server.process(&store), Reason::First).await.unwrap();
    let later = server.process(&store);
    assert_eq!(fetch(&later, Reason::First).await.unwrap(), "access-2");
    assert_eq!(server.sent(), ["refresh-0", "refresh-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_requests_something_else_does_not_use_the_token() {
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    let source = || server.process(&store).scope("read write");
    fetch(&source(), Reason::First).await.unwrap();
    // The order of the scope's names makes no difference.
    let same = server.process(&store).scope("write read");
    let token = same.fetch(Reason::First).await.unwrap();
    assert_eq!(
        (token.secret(), token.scope()),
        ("access-1", Some("read write"))
    );
    let others = [
        server.process(&store),
        server.process(&store).scope("read"),
        source().resource("https://api.example.com"),
        source().param("audience", "api").unwrap(),
        RefreshToken::stored(server.client("other"), store.clone()).scope("read write"),
    ];
    for (other, number) in others.into_iter().zip(1..) {
        let saved = fetch(&source(), Reason::Forced).await.unwrap();
        assert_eq!(saved, format!("access-{}", 2 * number));
        let token = fetch(&other, Reason::First).await.unwrap();
        assert_eq!(token, format!("access-{}", 2 * number + 1));
    }
}

/// Returns the lifetime of a token. The cache counts it from the start of the fetch.
fn lifetime(token: &Token) -> f64 {
    let shown = format!("{token:?}");
    let (_, rest) = shown.split_once("In(").unwrap();
    rest.split_once("s)").unwrap().0.parse().unwrap()
}

/// The wait for the lock doesn't shorten the lifetime of the token.
#[tokio::test(start_paused = true)]
async fn the_lifetime_of_a_token_includes_the_wait_for_the_lock() {
    use tower_auth::oauth2::RefreshTokenStore;

    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    let held = store.lock(HOUR).await.unwrap().unwrap();
    let unlocking = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(held);
    };
    let processes = [server.process(&store), server.process(&store)];
    let fetches = join_all(processes.iter().map(|it| it.fetch(Reason::First)));
    let (tokens, ()) = tokio::join!(fetches, unlocking);
    for token in tokens {
        let lifetime = lifetime(&token.unwrap());
        assert!((3604.9..3606.0).contains(&lifetime), "{lifetime}");
    }
    assert_eq!(server.sent(), ["refresh-0"]);
}

/// The cache counts the hint from the start of the fetch too.
#[tokio::test(start_paused = true)]
async fn the_refresh_hint_of_a_token_includes_the_wait_for_the_lock() {
    let server = ScriptedServer::new(|_| {
        let body = json!({"access_token": "access-1", "expires_in": 3600, "refresh_in": 1800});
        ScriptedResponse::json(200, body)
    });
    let store = LockingStore::holding("refresh-0");
    let held = store.lock(HOUR).await.unwrap().unwrap();
    let unlocking = async {
        sleep(Duration::from_secs(5)).await;
        drop(held);
    };
    let process = || {
        let client = Client::new(URL, ID, SECRET).unwrap();
        RefreshToken::stored(client.transport(server.clone()), store.clone())
    };
    let processes = [process(), process()];
    let fetches = join_all(processes.iter().map(|it| it.fetch(Reason::First)));
    let (tokens, ()) = tokio::join!(fetches, unlocking);
    for token in tokens {
        let shown = format!("{:?}", token.unwrap());
        let hint = shown.split_once("After(").unwrap().1;
        let hint: f64 = hint.split_once("s)").unwrap().0.parse().unwrap();
        assert!((1804.9..1806.0).contains(&hint), "{shown}");
    }
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_cache_warns_of_the_missing_scopes_of_a_saved_token() {
    let server = ScriptedServer::new(|_| {
        let body = json!({"access_token": "access-1", "expires_in": 3600, "scope": "read"});
        ScriptedResponse::json(200, body)
    });
    let store = LockingStore::holding("refresh-0");
    let process = || {
        let client = Client::new(URL, ID, SECRET).unwrap();
        let client = client.transport(server.clone());
        RefreshToken::stored(client, store.clone()).scope("read write")
    };
    process().fetch(Reason::First).await.unwrap();
    let (log, _listening) = listen();
    paused(process()).build().token().await.unwrap();
    let lines = log.all();
    let warnings = lines.iter().filter(|line| line.level == Level::WARN);
    let missing = warnings.map(|line| line.value("tower_auth.scope.missing"));
    assert_eq!(missing.collect::<Vec<_>>(), ["write"]);
    assert_eq!(server.requests().len(), 1);
}

#[cfg(feature = "dpop")]
#[tokio::test(start_paused = true)]
async fn a_token_that_is_bound_to_another_key_is_not_used() {
    use tower_auth::oauth2::DpopKey;

    let server = ScriptedServer::new(|request| {
        let number = request.number();
        let body = json!({"access_token": format!("access-{number}"), "token_type": "DPoP", "expires_in": 3600});
        ScriptedResponse::json(200, body)
    });
    let store = LockingStore::holding("refresh-0");
    let process = |key: &DpopKey| {
        let client = Client::new(URL, ID, SECRET).unwrap();
        let client = client.transport(server.clone()).dpop(key.clone());
        RefreshToken::stored(client, store.clone())
    };
    let (one, other) = (DpopKey::generate().unwrap(), DpopKey::generate().unwrap());
    let first = fetch(&process(&one), Reason::First).await.unwrap();
    assert_eq!(fetch(&process(&one), Reason::First).await.unwrap(), first);
    assert_ne!(fetch(&process(&other), Reason::First).await.unwrap(), first);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_the_lock_within_its_time_nothing_is_sent_and_the_error_says_why() {
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    let holder = server.process(&store);
    server.inner.lock().unwrap().delay = Duration::from_secs(8);
    let waiting = server.process(&store).lock_timeout(Duration::from_secs(5));
    let (held, waited) = tokio::join!(
        fetch(&holder, Reason::First),
        timeout(Duration::from_secs(6), waiting.fetch(Reason::First))
    );
    let error = waited.unwrap().unwrap_err();
    assert!(
        error.is_transient() && !error.is_login_required(),
        "{error}"
    );
    assert!(error.to_string().contains("5s (`lock_timeout`)"), "{error}");
    assert_eq!(held.unwrap(), "access-1");
    assert_eq!(server.sent(), ["refresh-0"]);
}

/// The server isn't asked again before a person has logged in.
#[tokio::test(start_paused = true)]
async fn a_new_login_is_noticed_within_5_s() {
    let (server, store) = (Rotating::default(), LockingStore::holding("an old token"));
    let cache = paused(server.process(&store)).build();
    for _ in 0..100 {
        assert!(cache.token().await.unwrap_err().is_login_required());
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(server.sent(), ["an old token"]);
    server.inner.lock().unwrap().has_ended = false;
    store.put("refresh-0");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(cache.token().await.unwrap().secret(), "access-1");
}

#[tokio::test(start_paused = true)]
async fn while_another_process_keeps_the_lock_the_old_token_stays_in_use() {
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    let cache = paused(server.process(&store)).build();
    assert_eq!(cache.token().await.unwrap().secret(), "access-1");
    let _held = {
        use tower_auth::oauth2::RefreshTokenStore;
        store.lock(HOUR).await.unwrap().unwrap()
    };
    for _ in 0..35 {
        advance(Duration::from_secs(100)).await;
        run_until_idle().await;
        assert_eq!(cache.token().await.unwrap().secret(), "access-1");
    }
    advance(Duration::from_secs(100)).await;
    let error = cache.token().await.unwrap_err();
    assert!(!error.is_login_required(), "{error}");
    assert_eq!(server.sent(), ["refresh-0"]);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_lost_before_anything_is_sent_is_taken_again() {
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    store.breaks("confirm", StoreFault::LosesLock);
    let process = server.process(&store);
    assert_eq!(fetch(&process, Reason::First).await.unwrap(), "access-1");
    let expected = [
        "load", "lock", "confirm", "load", "confirm", "save", "unlock",
    ];
    let calls = store.calls();
    assert!(
        calls.iter().filter(|call| **call == "lock").count() == 2,
        "{calls:?}"
    );
    assert!(calls.ends_with(&expected[4..]), "{calls:?}");
    assert_eq!(server.sent(), ["refresh-0"]);
}

/// A process that never keeps a lock waits between its attempts.
#[tokio::test(start_paused = true)]
async fn a_lock_that_is_always_lost_ends_in_an_error() {
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    store.breaks("confirm", StoreFault::AlwaysLosesLock);
    let process = server.process(&store);
    let error = fetch(&process, Reason::First).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(server.sent().is_empty());
    let locks = store.calls().into_iter().filter(|call| *call == "lock");
    assert!((10..200).contains(&locks.count()));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_can_not_lock_or_confirm_sends_nothing() {
    for call in ["lock", "confirm"] {
        let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
        let process = server.process(&store);
        store.breaks(call, StoreFault::Fails);
        let error = fetch(&process, Reason::First).await.unwrap_err();
        assert!(error.is_transient() && error.is_source(), "{error}");
        assert!(
            all_text_of(&error).contains("the store is broken"),
            "{error:?}"
        );
        store.works_again();
        assert!(!store.is_locked(), "{call}");
        assert!(server.sent().is_empty(), "{call}");
        assert_eq!(fetch(&process, Reason::First).await.unwrap(), "access-1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_ends_the_wait_at_the_same_time() {
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    store.breaks("lock", StoreFault::Hangs);
    let process = server.process(&store);
    let fetched = timeout(Duration::from_secs(16), process.fetch(Reason::First)).await;
    let error = fetched.unwrap().unwrap_err();
    assert!(
        error.to_string().contains("15s (`lock_timeout`)"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_while_it_unlocks_delays_the_token_by_a_second() {
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    store.breaks("unlock", StoreFault::Hangs);
    let process = server.process(&store);
    let fetched = timeout(Duration::from_millis(2100), process.fetch(Reason::First)).await;
    assert_eq!(fetched.unwrap().unwrap().secret(), "access-1");
}

/// Without the lock, another process would send the refresh token that the server has just
/// replaced.
#[tokio::test(start_paused = true)]
async fn a_new_refresh_token_that_can_not_be_saved_keeps_the_lock_until_it_is_saved() {
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    let (process, other) = (server.process(&store), server.process(&store));
    store.breaks("save", StoreFault::Fails);
    let error = fetch(&process, Reason::First).await.unwrap_err();
    assert!(error.to_string().contains("could not save"), "{error}");
    assert!(store.is_locked());
    let error = fetch(&other, Reason::First).await.unwrap_err();
    assert!(error.to_string().contains("lock_timeout"), "{error}");
    assert_eq!(server.sent(), ["refresh-0"]);

    store.works_again();
    assert_eq!(fetch(&process, Reason::First).await.unwrap(), "access-2");
    assert!(!store.is_locked());
    assert_eq!(store.saves(), ["refresh-1", "refresh-2"]);
    assert_eq!(fetch(&other, Reason::First).await.unwrap(), "access-2");
    assert_eq!(server.sent(), ["refresh-0", "refresh-1"]);
}

#[tokio::test(start_paused = true)]
async fn an_unsaved_refresh_token_whose_lock_was_lost_is_saved_under_a_new_lock() {
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    let process = server.process(&store);
    store.breaks("save", StoreFault::Fails);
    fetch(&process, Reason::First).await.unwrap_err();
    store.lose_lock();
    store.works_again();
    assert_eq!(fetch(&process, Reason::First).await.unwrap(), "access-2");
    assert_eq!(store.saves(), ["refresh-1", "refresh-2"]);
}

/// A person has logged in again. The lock doesn't prevent this if another program ignores the lock.
#[tokio::test(start_paused = true)]
async fn an_unsaved_refresh_token_does_not_replace_a_new_login() {
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    let process = server.process(&store);
    store.breaks("save", StoreFault::Fails);
    fetch(&process, Reason::First).await.unwrap_err();
    store.works_again();
    server.inner.lock().unwrap().next = 100;
    store.put("refresh-100");
    assert_eq!(fetch(&process, Reason::First).await.unwrap(), "access-101");
    assert_eq!(store.saves(), ["refresh-101"]);
    assert_eq!(server.sent(), ["refresh-0", "refresh-100"]);
}

#[tokio::test(start_paused = true)]
async fn an_access_token_that_can_not_be_saved_is_used_if_the_refresh_token_is_the_old_one() {
    let server = Rotating::with(|server| server.rotates = false);
    let store = LockingStore::holding("refresh-0");
    store.breaks("save", StoreFault::Fails);
    let process = server.process(&store);
    assert_eq!(fetch(&process, Reason::First).await.unwrap(), "access-1");
    assert!(!store.is_locked());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_cancelled_releases_the_lock() {
    for call in ["load", "confirm"] {
        let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
        let process = server.process(&store);
        let mut cancelled = tokio_test::task::spawn(process.fetch(Reason::Forced));
        if call == "load" {
            // The request is under way.
            tokio_test::assert_pending!(cancelled.poll());
        } else {
            store.breaks(call, StoreFault::Hangs);
            tokio_test::assert_pending!(cancelled.poll());
        }
        assert!(store.is_locked(), "{call}");
        drop(cancelled);
        assert!(!store.is_locked(), "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_cancelled_while_it_saves_keeps_the_lock_and_loses_nothing() {
    let server = Rotating::with(|server| server.delay = Duration::ZERO);
    let store = LockingStore::holding("refresh-0");
    let process = server.process(&store);
    store.breaks("save", StoreFault::Hangs);
    let cancelled = timeout(Duration::from_secs(1), process.fetch(Reason::First)).await;
    assert!(cancelled.is_err() && store.is_locked());
    store.works_again();
    assert_eq!(fetch(&process, Reason::First).await.unwrap(), "access-2");
    assert_eq!(store.saves(), ["refresh-1", "refresh-2"]);
    assert!(!store.is_locked());
}

#[tokio::test(start_paused = true)]
async fn a_panic_releases_the_lock_and_loses_nothing() {
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    let process = Arc::new(server.process(&store));
    for (call, is_locked) in [("confirm", false), ("save", true)] {
        store.breaks(call, StoreFault::Panics);
        let source = Arc::clone(&process);
        let panicked = tokio::spawn(async move { source.fetch(Reason::First).await.map(drop) });
        assert!(panicked.await.unwrap_err().is_panic());
        assert_eq!(store.is_locked(), is_locked, "{call}");
        store.works_again();
    }
    assert_eq!(fetch(&process, Reason::First).await.unwrap(), "access-2");
    assert_eq!(store.saves(), ["refresh-1", "refresh-2"]);
}

/// A source that is dropped, such as a tenant that is evicted, must not block the other processes.
#[tokio::test(start_paused = true)]
async fn a_source_that_is_dropped_releases_the_lock() {
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    let process = server.process(&store);
    store.breaks("save", StoreFault::Fails);
    fetch(&process, Reason::First).await.unwrap_err();
    assert!(store.is_locked());
    drop(process);
    assert!(!store.is_locked());
}

/// Without a lock in the store, two processes may send the same refresh token. A lenient server
/// refuses the second request, but doesn't end the login.
#[tokio::test(start_paused = true)]
async fn a_process_that_was_too_late_uses_what_the_other_process_saved() {
    let store = Store::holding("refresh-0");
    let saved = store.clone();
    let server = ScriptedServer::new(move |request| {
        let token = request.param("refresh_token").unwrap();
        if token == "refresh-0" {
            saved.put(r#"{"refresh_token":"refresh-1"}"#);
            return ScriptedResponse::json(400, r#"{"error":"invalid_grant"}"#);
        }
        ScriptedResponse::json(200, r#"{"access_token":"access-2"}"#)
    });
    let client = Client::new(URL, ID, SECRET).unwrap().transport(server);
    let source = RefreshToken::stored(client, store);
    assert_eq!(fetch(&source, Reason::First).await.unwrap(), "access-2");
}

/// The other process has saved an access token too, so a second request isn't necessary.
#[tokio::test(start_paused = true)]
async fn a_process_that_was_too_late_uses_the_access_token_that_the_other_process_saved() {
    let record = {
        let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
        fetch(&server.process(&store), Reason::First).await.unwrap();
        store.login().unwrap()
    };
    let store = LockingStore::holding("refresh-0");
    let saved = store.clone();
    let server = ScriptedServer::new(move |_| {
        saved.put(&record);
        ScriptedResponse::json(400, r#"{"error":"invalid_grant"}"#)
    });
    let transport = server.clone();
    let client = Client::new(URL, ID, SECRET).unwrap().transport(transport);
    let source = RefreshToken::stored(client, store);
    assert_eq!(fetch(&source, Reason::First).await.unwrap(), "access-1");
    assert_eq!(server.requests().len(), 1);
}

/// Returns a source that logs out when it is closed, and the store and the server's requests.
fn logging_out(status: u16) -> (RefreshToken, LockingStore, ScriptedServer) {
    let store = LockingStore::holding("refresh-0");
    let server = ScriptedServer::new(move |_| ScriptedResponse::json(status, "{}"));
    let client = Client::new(URL, ID, SECRET).unwrap();
    let client = client.transport(server.clone());
    let client = client.revoke_at("https://id.example.com/revoke").unwrap();
    let source = RefreshToken::stored(client, store.clone());
    (source.log_out_on_close().unwrap(), store, server)
}

#[tokio::test(start_paused = true)]
async fn a_logout_revokes_the_login_and_deletes_it_under_the_lock() {
    let (source, store, server) = logging_out(200);
    source.close(None).await.unwrap();
    assert_eq!(
        store.calls(),
        ["lock", "load", "confirm", "delete", "unlock"]
    );
    assert_eq!(server.requests()[0].param("token").unwrap(), "refresh-0");
    assert_eq!(store.login(), None);
    assert!(!store.is_locked());
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_login_required(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_logout_that_the_server_refuses_deletes_nothing() {
    let (source, store, _) = logging_out(503);
    source.close(None).await.unwrap_err();
    assert_eq!(store.login().as_deref(), Some("refresh-0"));
    assert!(!store.is_locked());
}

/// A refresh in another process would get a token that the logout doesn't revoke.
#[tokio::test(start_paused = true)]
async fn a_logout_waits_for_the_lock() {
    let (source, store, server) = logging_out(200);
    let held = {
        use tower_auth::oauth2::RefreshTokenStore;
        store.lock(HOUR).await.unwrap().unwrap()
    };
    let mut closing = tokio_test::task::spawn(source.close(None));
    tokio_test::assert_pending!(closing.poll());
    assert!(server.requests().is_empty());
    drop(held);
    closing.await.unwrap();
    assert_eq!(store.login(), None);
}

#[tokio::test(start_paused = true)]
async fn a_login_is_saved_under_the_lock_with_its_access_token() {
    use tower_auth::oauth2::DeviceAuthorization;

    const PROMPT: &str = r#"{"device_code":"d","user_code":"u","expires_in":100,
        "verification_uri":"https://id.example.com/activate"}"#;
    let (server, store) = (Rotating::default(), LockingStore::holding("an old login"));
    let transport = ScriptedServer::new(|_| {
        let body = r#"{"access_token":"access-0","refresh_token":"refresh-0","expires_in":3600}"#;
        ScriptedResponse::json(200, body)
    });
    transport.respond_next(ScriptedResponse::json(200, PROMPT));
    let client = Client::new(URL, ID, SECRET).unwrap().transport(transport);
    let login = DeviceAuthorization::new(client, "https://id.example.com/device").unwrap();
    let login = login.scope("offline_access read").store(store.clone());
    // A refresh continues the login, so it sends none of these.
    let login = login.audience("api").resource("https://api.example.com");
    let prompt = login.begin().await.unwrap();
    login.finish(prompt).await.unwrap();
    assert_eq!(store.calls(), ["lock", "confirm", "save", "unlock"]);
    assert_eq!(store.saves(), ["refresh-0"]);
    // The next run of the program needs no request.
    let next = server.process(&store);
    assert_eq!(fetch(&next, Reason::First).await.unwrap(), "access-0");
    assert!(server.sent().is_empty());
}

/// What the store keeps is JSON like a token response. Its times are durations.
#[tokio::test(start_paused = true)]
async fn the_record_has_what_another_process_needs() {
    let server = ScriptedServer::new(|_| {
        let body = r#"{"access_token":"access-1","refresh_token":"refresh-1","expires_in":3600,
            "refresh_in":1800,"scope":"read"}"#;
        ScriptedResponse::json(200, body).after(Duration::from_secs(2))
    });
    let store = LockingStore::holding("refresh-0");
    let client = Client::new(URL, ID, SECRET).unwrap().transport(server);
    let source = RefreshToken::stored(client, store.clone()).scope("read write");
    source.fetch(Reason::First).await.unwrap();
    let record: Value = serde_json::from_str(&store.login().unwrap()).unwrap();
    let expected = json!({
        "refresh_token": "refresh-1",
        "access_token": "access-1",
        "expires_in_ms": 3_598_000,
        "lifetime_ms": 3_600_000,
        "refresh_in_ms": 1_798_000,
        "scope": "read",
        "missing_scope": "write",
        "extra": {"expires_in": 3600, "refresh_in": 1800},
        "request": record["request"],
    });
    assert_eq!(record, expected);
}

/// A person may paste a refresh token or a whole token response.
#[tokio::test(start_paused = true)]
async fn a_login_that_a_person_pasted_is_read() {
    for login in [
        "refresh-0",
        " refresh-0\n",
        r#"{"refresh_token":"refresh-0"}"#,
        r#"{"access_token":"old","expires_in":3600,"refresh_token":"refresh-0","x":[1]}"#,
    ] {
        let server = Rotating::default();
        let process = server.process(&LockingStore::holding(login));
        assert_eq!(
            fetch(&process, Reason::First).await.unwrap(),
            "access-1",
            "{login}"
        );
    }
    for login in [
        "{",
        r#"{"refresh_token":7}"#,
        r#"{"refresh_token":"planted"#,
    ] {
        let server = Rotating::default();
        let process = server.process(&LockingStore::holding(login));
        let error = fetch(&process, Reason::First).await.unwrap_err();
        assert!(
            !error.is_login_required() && server.sent().is_empty(),
            "{error}"
        );
        assert!(!all_text_of(&error).contains("planted"), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_would_be_too_long_has_only_the_refresh_token() {
    let server = ScriptedServer::new(|_| {
        let token = "a".repeat(63 * 1024);
        let body = json!({"access_token": token, "refresh_token": "refresh-1"});
        ScriptedResponse::json(200, body)
    });
    let store = LockingStore::holding("refresh-0");
    let client = Client::new(URL, ID, SECRET).unwrap().transport(server);
    let source = RefreshToken::stored(client, store.clone());
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(store.login().unwrap(), r#"{"refresh_token":"refresh-1"}"#);
}

#[tokio::test]
async fn nothing_shows_the_saved_login() {
    use tower_auth::oauth2::{LoginLock, SavedLogin};

    let saved = SavedLogin::new("planted").saved_ago(HOUR);
    let lock = LoginLock::holding(String::from("planted"));
    let shown = format!("{saved:?} {lock:?} {saved:#?} {lock:#?}");
    assert!(
        !shown.contains("planted") && shown.contains("3600s"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_fetch_may_take_as_long_as_the_lock_and_the_request() {
    let source = RefreshToken::new(Rotating::default().client(ID), "refresh-0");
    assert_eq!(source.fetch_timeout(), None);
    let source = source.lock_timeout(Duration::from_secs(60));
    assert_eq!(source.fetch_timeout(), Some(Duration::from_secs(75)));
}

/// A fleet without its store must not use a one-time grant, even if two processes share the login.
#[cfg(all(feature = "file", unix, not(tower_auth_portable)))]
#[tokio::test(flavor = "current_thread")]
async fn a_fleet_whose_folder_others_may_use_sends_no_refresh_token_twice() {
    use std::os::unix::fs::PermissionsExt;

    use tower_auth::TokenCache;
    use tower_auth::fleet::{FileStore, Fleet, StoreKey};

    let folder = tempfile::tempdir().unwrap();
    let others = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), others).unwrap();
    let server = Rotating::with(|server| server.delay = Duration::from_millis(20));
    let store = Store::holding("refresh-0");
    let caches = [(); 2].map(|()| {
        let source = RefreshToken::stored(server.client(ID), store.clone());
        let fleet = Fleet::unsealed(FileStore::new(folder.path()));
        let fleet = fleet.key(StoreKey::new("a login"));
        let cache = TokenCache::builder(source).fleet(fleet).unwrap();
        cache.fetch_timeout(Duration::from_secs(1)).build()
    });
    let tokens = join_all(caches.iter().map(tower_auth::TokenCache::token)).await;
    assert!(tokens.iter().all(Result::is_err), "{tokens:?}");
    assert_eq!(server.sent(), Vec::<String>::new());
}

/// The store's access token is still good, but the store's refresh token isn't.
#[tokio::test(start_paused = true)]
async fn an_unsaved_refresh_token_is_saved_before_a_saved_access_token_is_used() {
    let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
    let process = server.process(&store);
    fetch(&process, Reason::First).await.unwrap();
    store.breaks("save", StoreFault::Fails);
    fetch(&process, Reason::Forced).await.unwrap_err();
    store.works_again();
    assert_eq!(fetch(&process, Reason::First).await.unwrap(), "access-3");
    assert_eq!(store.saves(), ["refresh-1", "refresh-2", "refresh-3"]);
}

#[tokio::test(start_paused = true)]
async fn a_logout_whose_lock_was_lost_takes_the_lock_again() {
    let (source, store, server) = logging_out(200);
    store.breaks("confirm", StoreFault::LosesLock);
    source.close(None).await.unwrap();
    let locks = store.calls().into_iter().filter(|call| *call == "lock");
    assert_eq!((locks.count(), server.requests().len()), (2, 1));
    assert_eq!(store.login(), None);
}

/// A code must not be spent if its login can't be saved.
#[tokio::test(start_paused = true)]
async fn a_login_waits_for_the_lock_before_it_sends_the_code() {
    use tower_auth::oauth2::{DeviceAuthorization, RefreshTokenStore};

    const PROMPT: &str = r#"{"device_code":"d","user_code":"u","expires_in":100,
        "verification_uri":"https://id.example.com/activate"}"#;
    let store = LockingStore::holding("an old login");
    let server = ScriptedServer::new(|_| {
        ScriptedResponse::json(400, r#"{"error":"access_denied"}"#).after(Duration::from_secs(1))
    });
    server.respond_next(ScriptedResponse::json(200, PROMPT));
    let client = Client::new(URL, ID, SECRET).unwrap();
    let client = client.transport(server.clone());
    let login = DeviceAuthorization::new(client, "https://id.example.com/device").unwrap();
    let login = login.store(store.clone());
    let prompt = login.begin().await.unwrap();
    let held = store.lock(HOUR).await.unwrap().unwrap();
    let mut finishing = tokio_test::task::spawn(login.finish(prompt));
    assert!(
        timeout(Duration::from_secs(10), &mut finishing)
            .await
            .is_err()
    );
    assert_eq!(server.requests().len(), 1);
    drop(held);
    let error = finishing.await.unwrap_err();
    assert!(error.is_access_denied(), "{error}");
    assert!(store.calls().ends_with(&["unlock"]) && !store.is_locked());
    assert_eq!(store.login().as_deref(), Some("an old login"));
}

/// A refresh returns no ID token. The other processes, and a process that starts later, still have
/// the ID token of the login.
#[tokio::test(start_paused = true)]
async fn the_id_token_and_the_extra_fields_are_in_the_record() {
    let server = ScriptedServer::new(|request| {
        let number = request.number();
        let mut body = json!({
            "access_token": format!("access-{number}"),
            "refresh_token": format!("refresh-{number}"),
            "expires_in": 3600,
            "instance_url": "https://acme.example.com",
        });
        if number == 1 {
            body["id_token"] = json!("planted-id");
        }
        ScriptedResponse::json(200, body)
    });
    let store = LockingStore::holding("refresh-0");
    let process = || {
        let client = Client::new(URL, ID, SECRET).unwrap();
        RefreshToken::stored(client.transport(server.clone()), store.clone())
    };
    process().fetch(Reason::First).await.unwrap();
    for (reason, number) in [(Reason::First, 1), (Reason::Forced, 2), (Reason::First, 2)] {
        let token = process().fetch(reason).await.unwrap();
        assert_eq!(token.secret(), format!("access-{number}"));
        assert_eq!(token.id_token(), Some("planted-id"));
        let url = token.extra("instance_url").and_then(Value::as_str);
        assert_eq!(url, Some("https://acme.example.com"));
    }
    // After another login, the source doesn't return the ID token of the first login.
    store.put("refresh-of-another-login");
    let token = process().fetch(Reason::First).await.unwrap();
    assert_eq!(token.id_token(), None);
}

/// The refresh token must be saved, whatever else the response contains.
#[tokio::test(start_paused = true)]
async fn an_id_token_that_is_too_long_is_left_out_of_the_record() {
    let server = ScriptedServer::new(|_| {
        let id_token = "i".repeat(62 * 1024);
        let body = json!({"access_token": "a", "refresh_token": "refresh-1", "expires_in": 60, "id_token": id_token});
        ScriptedResponse::json(200, body)
    });
    let store = LockingStore::holding("refresh-0");
    let client = Client::new(URL, ID, SECRET).unwrap().transport(server);
    let source = RefreshToken::stored(client, store.clone());
    source.fetch(Reason::First).await.unwrap();
    let record: Value = serde_json::from_str(&store.login().unwrap()).unwrap();
    assert_eq!(record["access_token"], "a");
    assert_eq!(
        (&record["refresh_token"], &record["id_token"]),
        (&json!("refresh-1"), &Value::Null)
    );
}

/// A store whose answers arrive 5 s late.
struct Late(LockingStore);

impl RefreshTokenStore for Late {
    async fn load(&self) -> Result<Option<SavedLogin>, BoxError> {
        let found = self.0.load().await;
        sleep(Duration::from_secs(5)).await;
        found
    }

    async fn save(&self, login: SecretString, lock: &LoginLock) -> Result<(), BoxError> {
        self.0.save(login, lock).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_arrives_late_makes_no_token_younger() {
    let server = Rotating::with(|server| server.lifetime = 20);
    let store = LockingStore::holding("refresh-0");
    let one = paused(server.process(&store)).build();
    one.token().await.unwrap();
    let late = RefreshToken::stored(server.client(ID), Late(store));
    let late = paused(late).build();
    assert_eq!(late.token().await.unwrap().secret(), "access-1");
    let (end, latest) = (late.status().expires_at(), one.status().expires_at());
    assert!(end <= latest, "{end:?}, {latest:?}");
}

/// The next process would send the refresh token that the server has revoked.
#[tokio::test(start_paused = true)]
async fn closing_saves_a_refresh_token_that_could_not_be_saved_before() {
    for loses_lock in [false, true] {
        let (server, store) = (Rotating::default(), LockingStore::holding("refresh-0"));
        let process = server.process(&store);
        store.breaks("save", StoreFault::Fails);
        fetch(&process, Reason::First).await.unwrap_err();
        store.works_again();
        if loses_lock {
            store.lose_lock();
        }
        process.close(None).await.unwrap();
        assert_eq!(store.saves(), ["refresh-1"]);
        assert!(!store.is_locked());
        store.breaks("lock", StoreFault::Hangs);
        process.close(None).await.unwrap();
    }
}
