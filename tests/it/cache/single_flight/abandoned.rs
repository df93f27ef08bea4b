//! An abandoned, lost or late fetch must not change the token or disturb a newer fetch.

use std::sync::Barrier;
use std::time::Duration;

use tokio_test::{assert_pending, assert_ready, task};
use tower_auth::cache::{Clock, ManualClock};
use tower_auth::{Reason, Token, TokenCache};
use tower_auth_test::{Fetch, Fetches, ScriptedSource, controlled_source, run_until_idle};

use crate::support::{clocked, runtime};

const HOUR: Duration = Duration::from_secs(3600);
/// The age at which a fetch is abandoned if the timers of its runtime don't run.
const OVERDUE: Duration = Duration::from_secs(35);

fn set_up() -> (TokenCache, Fetches, ManualClock) {
    let (source, fetches) = controlled_source();
    let clock = Clock::manual();
    let cache = clocked(source, &clock).build();
    (cache, fetches, clock)
}

/// Fetches a token, and moves the clock until the token is stale.
async fn stale(cache: &TokenCache, fetches: &mut Fetches, clock: &ManualClock) -> Token {
    let caller = tokio::spawn(cache.token());
    fetches.next().await.issue_for("first", HOUR);
    let token = caller.await.unwrap().unwrap();
    clock.advance(HOUR - Duration::from_secs(300));
    token
}

#[tokio::test]
async fn an_abandoned_fetch_completes_nothing_while_the_next_is_in_flight() {
    for fails in [false, true] {
        let (cache, mut fetches, clock) = set_up();
        let mut before = task::spawn(cache.token());
        assert_pending!(before.poll());
        let late = fetches.next().await;
        clock.advance(OVERDUE);
        let mut after = task::spawn(cache.token());
        assert_pending!(after.poll());
        let next = fetches.next().await;
        assert!(before.is_woken());
        assert_pending!(before.poll());

        end(late, fails);
        run_until_idle().await;
        for waiter in [&mut before, &mut after] {
            assert_pending!(waiter.poll());
        }
        next.issue("in-time");
        for waiter in [before, after] {
            assert_eq!(waiter.await.unwrap().secret(), "in-time");
        }
        fetches.assert_none().await;
    }
}

fn end(late: Fetch, fails: bool) {
    if fails {
        late.fail("late");
    } else {
        late.issue("late");
    }
}

#[tokio::test]
async fn an_abandoned_fetch_displaces_no_token() {
    for fails in [false, true] {
        let (cache, mut fetches, clock) = set_up();
        let before = tokio::spawn(cache.token());
        let late = fetches.next().await;
        clock.advance(OVERDUE);
        let after = tokio::spawn(cache.token());
        fetches.next().await.issue("in-time");
        for caller in [before, after] {
            assert_eq!(caller.await.unwrap().unwrap().secret(), "in-time");
        }
        end(late, fails);
        run_until_idle().await;
        assert_eq!(cache.token().await.unwrap().secret(), "in-time");
        fetches.assert_none().await;
    }
}

#[tokio::test]
async fn an_abandoned_refresh_ends_no_other() {
    for fails in [false, true] {
        let (cache, mut fetches, clock) = set_up();
        stale(&cache, &mut fetches, &clock).await;
        cache.token().await.unwrap();
        let late = fetches.next().await;
        clock.advance(OVERDUE);
        cache.token().await.unwrap();
        let next = fetches.next().await;
        assert_eq!(next.reason(), Reason::Stale);

        end(late, fails);
        run_until_idle().await;
        // If the end of the late fetch had started a backoff, that backoff would be over by now.
        clock.advance(Duration::from_secs(30));
        assert_eq!(cache.token().await.unwrap().secret(), "first");
        fetches.assert_none().await;
        next.issue("second");
        run_until_idle().await;
        assert_eq!(cache.token().await.unwrap().secret(), "second");
    }
}

#[tokio::test]
async fn a_fetch_in_flight_is_joined_until_long_after_its_timeout() {
    let (cache, mut fetches, clock) = set_up();
    let first = tokio::spawn(cache.token());
    let fetch = fetches.next().await;
    clock.advance(OVERDUE - Duration::from_nanos(1));
    let second = tokio::spawn(cache.token());
    fetches.assert_none().await;
    fetch.issue("slow");
    for caller in [first, second] {
        assert_eq!(caller.await.unwrap().unwrap().secret(), "slow");
    }
}

#[test]
fn the_end_of_an_abandoned_fetch_changes_nothing() {
    let (cache, mut fetches, clock) = set_up();
    let dropped_runtime = runtime();
    let before = dropped_runtime.spawn(cache.token());
    let _unanswered = dropped_runtime.block_on(fetches.next());
    clock.advance(OVERDUE);
    runtime().block_on(async {
        let after = tokio::spawn(cache.token());
        let next = fetches.next().await;
        std::thread::spawn(move || drop(dropped_runtime))
            .join()
            .unwrap();
        let third = tokio::spawn(cache.token());
        fetches.assert_none().await;
        next.issue("in-time");
        for caller in [after, third] {
            assert_eq!(caller.await.unwrap().unwrap().secret(), "in-time");
        }
    });
    drop(before);
}

#[test]
fn an_abandoned_refresh_is_started_again_at_once() {
    let (cache, mut fetches, clock) = set_up();
    let dropped_runtime = runtime();
    let _unanswered = dropped_runtime.block_on(async {
        stale(&cache, &mut fetches, &clock).await;
        cache.token().await.unwrap();
        fetches.next().await
    });
    drop(dropped_runtime);
    runtime().block_on(async {
        assert_eq!(cache.token().await.unwrap().secret(), "first");
        assert_eq!(fetches.next().await.reason(), Reason::Stale);
    });
}

#[test]
fn a_refused_token_is_not_served_after_its_fetch_was_abandoned() {
    for is_refreshing in [false, true] {
        let (cache, mut fetches, clock) = set_up();
        let dropped_runtime = runtime();
        let _unanswered = dropped_runtime.block_on(async {
            let token = stale(&cache, &mut fetches, &clock).await;
            if is_refreshing {
                cache.token().await.unwrap();
            }
            cache.reject(&token);
            let _waiting = tokio::spawn(cache.token());
            fetches.next().await
        });
        drop(dropped_runtime);
        runtime().block_on(async {
            let caller = tokio::spawn(cache.token());
            let fetch = fetches.next().await;
            assert_eq!(fetch.reason(), Reason::Refused);
            fetch.issue("second");
            assert_eq!(caller.await.unwrap().unwrap().secret(), "second");
        });
    }
}

#[test]
fn an_abandoned_refresh_is_not_waited_for_when_its_token_has_expired() {
    let (cache, mut fetches, clock) = set_up();
    let dropped_runtime = runtime();
    let _unanswered = dropped_runtime.block_on(async {
        stale(&cache, &mut fetches, &clock).await;
        clock.advance(Duration::from_secs(269));
        cache.token().await.unwrap();
        fetches.next().await
    });
    drop(dropped_runtime);
    // The token has expired, but the fetch is not yet overdue.
    clock.advance(Duration::from_secs(2));
    runtime().block_on(async {
        let caller = tokio::spawn(cache.token());
        fetches.next().await.issue("second");
        assert_eq!(caller.await.unwrap().unwrap().secret(), "second");
    });
}

#[tokio::test]
async fn after_a_failed_refresh_an_expired_token_is_fetched_again() {
    let (cache, mut fetches, clock) = set_up();
    stale(&cache, &mut fetches, &clock).await;
    cache.token().await.unwrap();
    fetches.next().await.fail("down");
    run_until_idle().await;
    clock.advance(Duration::from_secs(300));
    let caller = tokio::spawn(cache.token());
    fetches.next().await.issue("second");
    assert_eq!(caller.await.unwrap().unwrap().secret(), "second");
}

#[tokio::test]
async fn a_token_refused_while_its_refresh_is_in_flight_is_waited_for_there() {
    let (cache, mut fetches, clock) = set_up();
    let token = stale(&cache, &mut fetches, &clock).await;
    cache.token().await.unwrap();
    let refresh = fetches.next().await;
    cache.reject(&token);
    let mut waiting = task::spawn(cache.token());
    assert_pending!(waiting.poll());
    fetches.assert_none().await;
    refresh.issue("second");
    run_until_idle().await;
    assert_eq!(assert_ready!(waiting.poll()).unwrap().secret(), "second");
}

/// After a runtime was shut down, tasks spawned on it are dropped at once, so no fetch can
/// complete.
#[test]
fn on_a_runtime_that_was_shut_down_the_error_says_so() {
    let gone = runtime();
    let handle = gone.handle().clone();
    drop(gone);
    let source = ScriptedSource::default();
    let cache = TokenCache::new(source.clone());
    let _inside = handle.enter();
    let mut asking = task::spawn(cache.token());
    let error = assert_ready!(asking.poll()).unwrap_err();
    assert!(error.is_runtime(), "{error}");
    assert_eq!(source.tokens_issued(), 0);
}

/// Three runtimes are shut down while one caller waits. The caller still gets a token in the end.
#[test]
fn a_waiter_outlives_an_abandoned_fetch_or_two() {
    let (cache, mut fetches, _) = set_up();
    let mut waiting = task::spawn(cache.token());
    for _ in 0..3 {
        let dropped_runtime = runtime();
        {
            let _inside = dropped_runtime.enter();
            assert_pending!(waiting.poll());
        }
        drop(dropped_runtime);
        assert!(waiting.is_woken());
    }
    runtime().block_on(async {
        assert_pending!(waiting.poll());
        fetches.next().await.issue("at-last");
        assert_eq!(waiting.await.unwrap().secret(), "at-last");
    });
}

/// The source issues clones of one token, each with its own lifetime.
#[tokio::test]
async fn the_same_token_issued_for_longer_or_shorter_is_used_as_it_was_issued_last() {
    let (cache, mut fetches, clock) = set_up();
    let same = Token::bearer("kept").unwrap();
    let lasting = |lifetime| Ok(same.clone().expires_in(lifetime));
    let caller = tokio::spawn(cache.token());
    fetches.next().await.complete(lasting(HOUR));
    caller.await.unwrap().unwrap();
    clock.advance(HOUR - Duration::from_secs(300));
    cache.token().await.unwrap();
    fetches
        .next()
        .await
        .complete(lasting(Duration::from_secs(20)));
    run_until_idle().await;

    clock.advance(Duration::from_secs(16));
    let mut waiting = task::spawn(cache.token());
    assert_pending!(waiting.poll());
    fetches.next().await.complete(lasting(HOUR));
    waiting.await.unwrap();
    clock.advance(HOUR / 2);
    cache.token().await.unwrap();
    fetches.assert_none().await;
}

/// Many threads request the same stale token at once.
#[test]
fn callers_on_many_threads_start_one_refresh() {
    for _ in 0..500 {
        let (source, mut fetches) = controlled_source();
        let clock = Clock::manual();
        let cache = clocked(source, &clock).build();
        let (runtime, barrier) = (runtime(), Barrier::new(4));
        runtime.block_on(stale(&cache, &mut fetches, &clock));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let _inside = runtime.enter();
                    let mut asking = task::spawn(cache.token());
                    barrier.wait();
                    assert_ready!(asking.poll()).unwrap();
                });
            }
        });
        runtime.block_on(async {
            let _in_flight = fetches.next().await;
            fetches.assert_none().await;
        });
    }
}
