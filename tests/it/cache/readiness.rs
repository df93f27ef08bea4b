//! `ready` waits until there is a token, at startup or in a readiness probe.

use std::time::Duration;

use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
use tower_auth::cache::{Clock, Phase};
use tower_auth::{Error, Reason, Token, TokenCache};
use tower_auth_test::{ScriptedSource, Step, controlled_source, run_until_idle};

use crate::support::{clocked, issued, paused, runtime, token_server};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_probe_fetches_the_first_token_of_an_instance_that_gets_no_requests() {
    let source = ScriptedSource::expiring(HOUR);
    let cache = paused(source.clone()).build();
    assert!(!cache.status().is_ready());
    for _ in 0..3 {
        cache.ready(SECOND).await.unwrap();
        assert!(cache.status().is_ready());
    }
    assert_eq!(source.tokens_issued(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_an_idle_hour_it_fetches_the_next_token() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    issued(&mut fetches, &cache, "first", HOUR).await;
    advance(HOUR).await;
    assert_eq!(cache.status().phase(), Phase::Expired);
    let mut ready = task::spawn(cache.ready(SECOND));
    assert_pending!(ready.poll());
    let fetch = fetches.next().await;
    assert_eq!(fetch.reason(), Reason::Expired);
    fetch.issue_for("second", HOUR);
    run_until_idle().await;
    assert!(ready.is_woken());
    assert_ready_ok!(ready.poll());
    assert!(cache.status().is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_stale_token_is_ready_at_once_and_its_refresh_starts() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    issued(&mut fetches, &cache, "first", HOUR).await;
    advance(3300 * SECOND).await;
    assert_ready_ok!(task::spawn(cache.ready(SECOND)).poll());
    assert_eq!(fetches.next().await.reason(), Reason::Stale);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_takes_longer_goes_on_and_the_next_call_finds_its_token() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    let start = Instant::now();
    let error = cache.ready(2 * SECOND).await.unwrap_err();
    assert_eq!(start.elapsed(), 2 * SECOND);
    assert!(error.is_timeout() && error.is_transient(), "{error}");
    let message = "no token was fetched within 2s, and the fetch continues; \
                   call again, or wait longer: a fetch may take 30s";
    assert_eq!(error.to_string(), message);
    // A timeout of `ready` isn't an error of the fetch, so the cache doesn't keep it.
    assert_eq!(cache.status().phase(), Phase::Fetching);
    assert!(cache.status().last_error().is_none());

    let fetch = fetches.next().await;
    assert!(!fetch.is_dropped());
    fetch.issue("late");
    run_until_idle().await;
    assert_ready_ok!(task::spawn(cache.ready(Duration::ZERO)).poll());
    assert_eq!(cache.token().await.unwrap().secret(), "late");
    fetches.assert_none().await;
}

#[tokio::test(start_paused = true)]
async fn probes_and_requests_share_one_fetch() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    let mut request = task::spawn(cache.token());
    assert_pending!(request.poll());
    let mut probes = [(); 2].map(|()| task::spawn(cache.ready(SECOND)));
    for probe in &mut probes {
        assert_pending!(probe.poll());
    }
    fetches.next().await.issue("token");
    run_until_idle().await;
    for probe in &mut probes {
        assert_ready_ok!(probe.poll());
    }
    assert_ready_ok!(request.poll());
    fetches.assert_none().await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_loses_nothing() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    let mut probe = task::spawn(cache.ready(SECOND));
    assert_pending!(probe.poll());
    drop(probe);
    fetches.next().await.issue("token");
    run_until_idle().await;
    assert_ready_ok!(task::spawn(cache.ready(SECOND)).poll());
}

#[tokio::test(start_paused = true)]
async fn an_error_is_returned_as_the_fetch_ends_and_at_once_until_the_next_attempt() {
    let denied = token_server::fetch(401, r#"{"error":"invalid_client"}"#).await;
    let denied = denied.unwrap_err();
    let source = ScriptedSource::from_fn(move |attempt| match attempt {
        1 => Err(denied.clone()),
        _ => Token::bearer("corrected"),
    });
    let cache = paused(source.clone()).build();
    let start = Instant::now();
    for _ in 0..3 {
        let error = cache.ready(HOUR).await.unwrap_err();
        assert!(error.is_permanent() && !error.is_timeout(), "{error}");
    }
    assert_eq!((start.elapsed(), source.fetches()), (Duration::ZERO, 1));
    // After the backoff, the cached error is no longer returned.
    advance(60 * SECOND).await;
    cache.ready(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn attempts_that_fail_within_the_fetch_are_not_seen() {
    let source = ScriptedSource::new([Step::from(Error::transient("busy"))]);
    paused(source).build().ready(SECOND).await.unwrap();
}

/// A new instance would get the same refusals, so the cache counts as ready.
#[tokio::test]
async fn a_token_that_the_api_refuses_can_be_sent_so_it_is_ready() {
    let (source, mut fetches) = controlled_source();
    let cache = clocked(source, Clock::manual()).build();
    for secret in ["first", "second"] {
        issued(&mut fetches, &cache, secret, HOUR).await;
        cache.reject(&cache.token().await.unwrap());
    }
    assert!(cache.status().refusals_limited_until().is_some());
    assert!(!cache.status().is_ready());
    assert_ready_ok!(task::spawn(cache.ready(SECOND)).poll());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_ended_is_not_ready_until_its_successor_is_here() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    issued(&mut fetches, &cache, "first", HOUR).await;
    cache.reject(&cache.token().await.unwrap());
    let mut ready = task::spawn(cache.ready(SECOND));
    assert_pending!(ready.poll());
    fetches.next().await.issue("second");
    run_until_idle().await;
    assert_ready_ok!(ready.poll());
}

#[tokio::test(start_paused = true)]
async fn a_closed_cache_is_never_ready() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    let mut waiting = task::spawn(cache.ready(HOUR));
    assert_pending!(waiting.poll());
    let _hanging = fetches.next().await;
    cache.close().await;
    assert!(assert_ready!(waiting.poll()).unwrap_err().is_closed());
    let mut later = task::spawn(cache.ready(HOUR));
    assert!(assert_ready!(later.poll()).unwrap_err().is_closed());
    fetches.assert_none().await;
}

/// Without a runtime or a timer, `tokio::time::timeout` would panic.
#[test]
fn without_a_runtime_or_a_timer_it_is_an_error_unless_there_is_a_token() {
    let (source, _fetches) = controlled_source();
    let cache = TokenCache::new(source);
    let mut nowhere = task::spawn(cache.ready(SECOND));
    let error = assert_ready!(nowhere.poll()).unwrap_err();
    assert!(error.is_runtime(), "{error}");

    // The fetch runs on a runtime with a timer, but this caller is outside any runtime.
    let with_timer = runtime();
    with_timer.block_on(async {
        let mut request = task::spawn(cache.token());
        assert_pending!(request.poll());
    });
    let mut outside = task::spawn(cache.ready(SECOND));
    let error = assert_ready!(outside.poll()).unwrap_err();
    assert!(error.is_runtime(), "{error}");

    let cache = TokenCache::new(ScriptedSource::default());
    with_timer.block_on(cache.ready(SECOND)).unwrap();
    assert_ready_ok!(task::spawn(cache.ready(SECOND)).poll());
}
