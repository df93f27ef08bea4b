//! A fleet during an outage of the authorization server, and after the death of a process.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tower_auth::oauth2::{Client, ClientCredentials};
use tower_auth::{Error, Reason, Token, TokenCache, TokenSource};
use tower_auth_test::{ScriptedSource, controlled_source, run_until_idle};

use super::store_failures::OneTime;
use super::{HOUR, SECOND, secret};
use crate::support::breakable_store::{BreakableStore, Fault, flush_during_a_fetch};
use crate::support::paused;

/// A source whose token endpoint answers after 2 s.
#[derive(Clone)]
struct Outage {
    requests: Arc<AtomicUsize>,
    status: u16,
    retry_after: Option<&'static str>,
}

impl Outage {
    fn of(status: u16) -> Self {
        Self {
            requests: Arc::default(),
            status,
            retry_after: None,
        }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    fn source(&self) -> ClientCredentials {
        let outage = self.clone();
        let endpoint = tower::service_fn(move |_: Request<Full<Bytes>>| {
            let outage = outage.clone();
            async move {
                outage.requests.fetch_add(1, Ordering::Relaxed);
                sleep(2 * SECOND).await;
                let body = r#"{"error":"unavailable","error_description":"we are moving"}"#;
                let mut response = Response::builder().status(outage.status);
                if let Some(wait) = outage.retry_after {
                    response = response.header("retry-after", wait);
                }
                Ok::<_, Infallible>(response.body(Full::<Bytes>::from(body)).unwrap())
            }
        });
        let client = Client::new("https://id.example.com/token", "id", "secret").unwrap();
        ClientCredentials::with_client(client.transport(endpoint))
    }
}

/// Asks all processes for a token at once. Returns the errors and the time of the slowest process.
async fn errors(processes: &[TokenCache]) -> (Vec<Error>, Duration) {
    let start = Instant::now();
    let asked = processes.iter().map(TokenCache::token);
    let errors = join_all(asked).await;
    let errors = errors.into_iter().map(Result::unwrap_err).collect();
    (errors, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn in_an_outage_a_fleet_fails_as_soon_as_a_process_alone_and_with_the_same_error() {
    for status in [500, 502, 503, 429] {
        let alone = Outage::of(status);
        let (expected, time_alone) = errors(&[paused(alone.source()).build()]).await;
        assert_eq!(alone.requests(), 3);

        let store = BreakableStore::default();
        let outage = Outage::of(status);
        let fleet: Vec<_> = (0..8).map(|_| store.process(outage.source())).collect();
        let (errors, time) = errors(&fleet).await;
        assert!(
            time <= time_alone.mul_f32(1.2),
            "{time:?}, alone {time_alone:?}"
        );
        for error in errors {
            assert_eq!(error.to_string(), expected[0].to_string());
            assert_eq!(error.status().unwrap().as_u16(), status);
            assert_eq!(error.code(), Some("unavailable"));
            assert!(error.is_denied() && error.is_transient());
        }
        // Alone, each process would send several requests.
        assert!(outage.requests() <= 4, "{}", outage.requests());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_lasts_fails_a_fleet_after_three_times_the_time_of_one_process() {
    let store = BreakableStore::default();
    let outage = Outage::of(400);
    let fleet: Vec<_> = (0..8).map(|_| store.process(outage.source())).collect();
    let (errors, time) = errors(&fleet).await;
    assert!(time <= 7 * SECOND, "{time:?}");
    for error in errors {
        assert_eq!(error.status().unwrap().as_u16(), 400);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_one_process_is_not_an_error_of_another() {
    let store = BreakableStore::default();
    // This process has an old client secret, for example.
    let wrong = store.process(|_| async {
        sleep(SECOND).await;
        Err::<Token, _>(Error::permanent("the secret is wrong"))
    });
    let source = ScriptedSource::expiring(HOUR);
    let right: Vec<_> = (0..8).map(|_| store.process(source.clone())).collect();
    let refused = tokio::spawn(wrong.token());
    run_until_idle().await;
    for token in join_all(right.iter().map(TokenCache::token)).await {
        assert_eq!(token.unwrap().secret(), "token-1");
    }
    assert!(refused.await.unwrap().unwrap_err().is_permanent());
    assert_eq!(source.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_while_the_server_asks_for_a_pause_sends_no_request() {
    let store = BreakableStore::default();
    let outage = Outage {
        retry_after: Some("60"),
        ..Outage::of(503)
    };
    store.process(outage.source()).token().await.unwrap_err();
    let sent = outage.requests();
    sleep(10 * SECOND).await;
    let late = store.settings(outage.source()).fetch_attempts(1);
    let late = late.fleet(store.fleet()).unwrap().build();
    let error = late.token().await.unwrap_err();
    assert_eq!(outage.requests(), sent);
    let wait = error.retry_after().unwrap();
    assert!(wait > 40 * SECOND && wait <= 50 * SECOND, "{wait:?}");
    sleep(55 * SECOND).await;
    late.token().await.unwrap_err();
    assert_eq!(outage.requests(), sent + 1);
}

/// A person forces a refresh after the cause was fixed. This process's own backoff is ignored, too.
#[tokio::test(start_paused = true)]
async fn a_forced_refresh_ignores_the_pause_that_the_server_asked_another_process_for() {
    let store = BreakableStore::default();
    let outage = Outage {
        retry_after: Some("60"),
        ..Outage::of(503)
    };
    store.process(outage.source()).token().await.unwrap_err();
    let other = store.process(ScriptedSource::expiring(HOUR));
    other.token().await.unwrap_err();
    let token = other.refresh_now().await.unwrap();
    assert_eq!(token.secret(), "token-1");
}

#[tokio::test(start_paused = true)]
async fn an_old_failure_is_no_error_of_a_new_fetch() {
    let store = BreakableStore::default();
    let down = store.process(|_| async { Err::<Token, _>(Error::transient("down")) });
    down.token().await.unwrap_err();
    let source = ScriptedSource::expiring(HOUR);
    assert_eq!(secret(&store.process(source)).await, "token-1");
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_takes_the_token_from_no_process_that_starts() {
    let store = BreakableStore::default();
    let (source, mut fetches) = controlled_source();
    let process = store.settings(source).fetch_attempts(1);
    let process = process.fleet(store.fleet()).unwrap().build();
    let asked = tokio::spawn(process.token());
    fetches.next().await.issue_for("token", HOUR);
    asked.await.unwrap().unwrap();
    sleep(HOUR - 299 * SECOND).await;
    let refreshing = tokio::spawn(process.refresh_now());
    fetches.next().await.fail("down");
    refreshing.await.unwrap().unwrap_err();
    let other = store.process(|_| async { panic!("a second fetch") });
    let token = other.token().await.unwrap();
    assert_eq!(token.secret(), "token");
    let expires_at = other.status().expires_at().unwrap();
    assert_eq!(Some(expires_at), process.status().expires_at());
}

#[tokio::test(start_paused = true)]
async fn when_a_process_dies_during_a_refresh_no_caller_of_the_others_waits() {
    for lifetime in [8, 24, 60, 600].map(Duration::from_secs) {
        let store = BreakableStore::default();
        let mortal = store.of_another_process();
        let first = ScriptedSource::expiring(lifetime);
        let dying = mortal.process(move |reason| {
            let first = first.clone();
            async move {
                match reason {
                    Reason::First => first.fetch(reason).await,
                    _ => std::future::pending().await,
                }
            }
        });
        dying.token().await.unwrap();
        let source = ScriptedSource::expiring(lifetime);
        let others: Vec<_> = (0..7).map(|_| store.process(source.clone())).collect();
        let end = Instant::now() + lifetime * 3;
        while Instant::now() < end {
            drop(tokio::time::timeout(Duration::from_millis(1), dying.token()).await);
            if dying.status().fetching().is_some() {
                // The process dies while it has the lease.
                run_until_idle().await;
                mortal.kill();
            }
            for other in &others {
                let start = Instant::now();
                other.token().await.unwrap();
                assert_eq!(start.elapsed(), Duration::ZERO, "{lifetime:?}");
            }
            sleep(SECOND / 10).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_fetch_keeps_its_lease() {
    let store = BreakableStore::default();
    let slow = store.process(|_| async {
        sleep(8 * SECOND).await;
        Token::bearer("slow")
    });
    let asked = tokio::spawn(slow.token());
    run_until_idle().await;
    let other = store.process(|_| async { panic!("a second fetch") });
    assert_eq!(secret(&other).await, "slow");
    asked.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_source_holds_up_no_other_process() {
    let store = BreakableStore::default();
    let panicking = store.process(|_| async { panic!("planted") });
    let error = panicking.token().await.unwrap_err();
    assert!(error.is_panic(), "{error}");
    let start = Instant::now();
    secret(&store.process(ScriptedSource::default())).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_one_time_grant_is_not_sent_after_its_lease_was_lost() {
    let store = BreakableStore::default();
    store.loses_leases();
    let source = ScriptedSource::expiring(HOUR);
    let process = store.process(OneTime(source.clone()));
    let error = process.token().await.unwrap_err();
    assert!(error.to_string().contains("one-time grant"), "{error}");
    assert_eq!(source.fetches(), 0);

    let store = BreakableStore::default();
    store.breaks("renew", Fault::Fails);
    let process = store.process(OneTime(source.clone()));
    process.token().await.unwrap_err();
    assert_eq!(source.fetches(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_one_time_grant_keeps_its_lease_as_long_as_the_fetch_takes() {
    let store = BreakableStore::default();
    let (source, mut fetches) = controlled_source();
    let slow = store.settings(OneTime(source)).fetch_timeout(60 * SECOND);
    let slow = slow.fleet(store.fleet()).unwrap().build();
    let asked = tokio::spawn(slow.token());
    let fetch = fetches.next().await;
    let second = ScriptedSource::expiring(HOUR);
    let waiting = store.settings(OneTime(second.clone())).fetch_attempts(1);
    let waiting = waiting.fleet(store.fleet()).unwrap().build();
    for _ in 0..3 {
        waiting.token().await.unwrap_err();
        sleep(2 * SECOND).await;
    }
    assert_eq!(second.fetches(), 0);
    fetch.issue_for("token", HOUR);
    asked.await.unwrap().unwrap();
    sleep(2 * SECOND).await;
    assert_eq!(secret(&waiting).await, "token");
}

#[tokio::test(start_paused = true)]
async fn a_flushed_store_is_told_as_such() {
    let (log, _listening) = crate::support::log::listen();
    flush_during_a_fetch().await;
    let told = log
        .all()
        .into_iter()
        .find(|line| line.message.contains("lost the lease"));
    assert!(told.unwrap().message.contains("flushed"));
    assert!(
        !log.all()
            .iter()
            .any(|line| line.message.contains("longer lease time"))
    );
}

/// The lease would have ended when the fetch ends. But the store lost it before.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_flushed_early_in_a_long_fetch_is_told_as_such() {
    let store = BreakableStore::default();
    let (source, mut fetches) = controlled_source();
    let (log, _listening) = crate::support::log::listen();
    let process = store.process(source);
    let asked = tokio::spawn(process.token());
    let fetch = fetches.next().await;
    store.forgets_all();
    sleep(8 * SECOND).await;
    fetch.issue_for("token", HOUR);
    asked.await.unwrap().unwrap();
    let told = log.all().into_iter().map(|line| line.message);
    let told: Vec<_> = told.filter(|message| message.contains("lease")).collect();
    let is_right = |message: &String| message.contains("flushed");
    assert!(!told.is_empty() && told.iter().all(is_right), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_token_is_loaded_by_no_process() {
    let store = BreakableStore::default();
    let source = ScriptedSource::expiring(HOUR);
    let first = store.process(source.clone());
    assert_eq!(secret(&first).await, "token-1");
    first.forget_shared().await.unwrap();
    assert_eq!(secret(&first).await, "token-1");
    assert_eq!(secret(&store.process(source.clone())).await, "token-2");

    for operation in ["lease", "delete"] {
        store.breaks(operation, Fault::Fails);
        let error = first.forget_shared().await.unwrap_err();
        assert!(error.is_transient(), "{operation}: {error}");
        store.works_again();
    }
    let (slow, mut fetches) = controlled_source();
    let slow = store.process(slow);
    let refreshing = tokio::spawn(slow.refresh_now());
    let fetch = fetches.next().await;
    let (error, ()) = tokio::join!(first.forget_shared(), async {
        sleep(SECOND).await;
        fetch.issue_for("slow", HOUR);
    });
    error.unwrap();
    refreshing.await.unwrap().unwrap();
    assert_eq!(secret(&store.process(source)).await, "token-3");
    paused(ScriptedSource::default())
        .build()
        .forget_shared()
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn when_the_time_is_up_the_error_of_the_last_attempt_is_told() {
    let calls = Arc::new(AtomicUsize::new(0));
    let source = move |_: Reason| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        async move {
            match call {
                0 => Err::<Token, _>(Error::transient("the server is down")),
                _ => std::future::pending().await,
            }
        }
    };
    let cache = paused(source).fetch_timeout(3 * SECOND).build();
    let start = Instant::now();
    let error = cache.token().await.unwrap_err();
    assert_eq!(start.elapsed(), 3 * SECOND);
    assert!(error.is_source() && error.is_transient(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_server_asks_for_takes_the_token_from_no_process_that_starts() {
    let store = BreakableStore::default();
    let process = store.settings(|reason| async move {
        match reason {
            Reason::First => Ok(Token::bearer("token")?.expires_in(HOUR)),
            _ => Err(Error::transient("busy").with_retry_after(60 * SECOND)),
        }
    });
    let process = process.fetch_attempts(1).fleet(store.fleet());
    let process = process.unwrap().build();
    process.token().await.unwrap();
    process.refresh_now().await.unwrap_err();
    let other = store.process(|_| async { panic!("a second fetch") });
    assert_eq!(secret(&other).await, "token");
}
