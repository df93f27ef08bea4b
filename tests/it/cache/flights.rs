//! One token, one flight, one result: the cache without Tower.

use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready, task};
use tower_auth::{Error, Reason, Token, TokenCache};

use crate::support::{Counting, paused, runtime, settle, source};

#[tokio::test]
async fn ten_thousand_callers_on_an_empty_cache_are_one_fetch() {
    let (source, mut fetches) = source();
    let cache = TokenCache::new(source);
    let callers: Vec<_> = (0..10_000)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.token().await })
        })
        .collect();

    let fetch = fetches.next().await;
    assert_eq!(fetch.reason, Reason::First);
    fetches.none().await;
    fetch.issue("only-one");

    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap().secret(), "only-one");
    }
    fetches.none().await;
}

#[tokio::test]
async fn a_token_in_hand_is_served_at_once() {
    let (source, mut fetches) = source();
    let cache = TokenCache::new(source);
    let mut first = task::spawn(cache.token());
    assert_pending!(first.poll());
    fetches.next().await.issue("in-hand");
    first.await.unwrap();

    let mut second = task::spawn(cache.token());
    assert_eq!(assert_ready!(second.poll()).unwrap().secret(), "in-hand");
}

#[tokio::test]
async fn nothing_is_fetched_until_the_future_is_polled() {
    let (source, mut fetches) = source();
    let cache = TokenCache::new(source);
    let unpolled = cache.token();
    fetches.none().await;
    drop(unpolled);
    fetches.none().await;
}

#[tokio::test]
async fn every_waiter_sees_the_same_error_of_the_one_failing_fetch() {
    let (source, mut fetches) = source();
    let cache = TokenCache::new(source);
    let callers: Vec<_> = (0..1_000).map(|_| tokio::spawn(cache.token())).collect();

    fetches.next().await.fail("the vault is sealed");

    for caller in callers {
        let error = caller.await.unwrap().unwrap_err();
        assert!(error.is_source());
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "the vault is sealed");
    }
    // Not one after the other: nobody who waited started another.
    fetches.none().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_the_error_is_told_again_for_a_second_and_then_fetched_anew() {
    let (source, mut fetches) = source();
    let cache = paused(source).build();
    let caller = tokio::spawn(cache.token());
    fetches.next().await.fail("down");
    caller.await.unwrap().unwrap_err();

    advance(Duration::from_millis(999)).await;
    assert!(cache.token().await.unwrap_err().is_source());
    fetches.none().await;

    advance(Duration::from_millis(1)).await;
    let caller = tokio::spawn(cache.token());
    fetches.next().await.issue("up-again");
    assert_eq!(caller.await.unwrap().unwrap().secret(), "up-again");
}

#[tokio::test]
async fn dropping_the_first_the_middle_or_the_last_waiter_harms_no_other() {
    for dropped in 0..3 {
        let (source, mut fetches) = source();
        let cache = TokenCache::new(source);
        let mut waiters: Vec<_> = (0..3).map(|_| task::spawn(cache.token())).collect();
        for waiter in &mut waiters {
            assert_pending!(waiter.poll());
        }
        let fetch = fetches.next().await;

        drop(waiters.remove(dropped));
        fetch.issue("survives");
        settle().await;

        for mut waiter in waiters {
            assert!(waiter.is_woken());
            assert_eq!(assert_ready!(waiter.poll()).unwrap().secret(), "survives");
        }
        fetches.none().await;
    }
}

#[tokio::test]
async fn a_fetch_outlives_all_who_waited_for_it() {
    let (source, mut fetches) = source();
    let cache = TokenCache::new(source);
    let mut waiter = task::spawn(cache.token());
    assert_pending!(waiter.poll());
    let fetch = fetches.next().await;

    drop(waiter);
    fetch.issue("not-in-vain");
    settle().await;

    let mut next = task::spawn(cache.token());
    assert_eq!(assert_ready!(next.poll()).unwrap().secret(), "not-in-vain");
    fetches.none().await;
}

#[tokio::test]
async fn a_waiter_that_moved_to_another_task_is_woken_there() {
    let (source, mut fetches) = source();
    let cache = TokenCache::new(source);
    let mut acquire = cache.token();
    let mut first = task::spawn(());
    first.enter(|cx, _| assert!(std::pin::Pin::new(&mut acquire).poll(cx).is_pending()));
    let mut second = task::spawn(acquire);
    assert_pending!(second.poll());

    fetches.next().await.issue("moved");
    settle().await;

    assert!(!first.is_woken());
    assert!(second.is_woken());
    assert_ready!(second.poll()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_is_an_error_for_all_and_the_next_attempt_starts_clean() {
    let (source, mut fetches) = source();
    let cache = paused(source).build();
    let callers: Vec<_> = (0..10).map(|_| tokio::spawn(cache.token())).collect();
    fetches.next().await.panic();
    for caller in callers {
        assert!(caller.await.unwrap().unwrap_err().is_panic());
    }

    advance(Duration::from_secs(1)).await;
    let caller = tokio::spawn(cache.token());
    fetches.next().await.issue("calm");
    assert_eq!(caller.await.unwrap().unwrap().secret(), "calm");
}

#[tokio::test]
async fn a_source_that_panics_before_it_returns_its_future_is_an_error_too() {
    fn boom(_: Reason) -> std::future::Ready<Result<Token, Error>> {
        panic!("as the test wants it")
    }
    let error = TokenCache::new(boom).token().await.unwrap_err();
    assert!(error.is_panic());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_cut_off_after_thirty_seconds() {
    let (source, mut fetches) = source();
    let cache = paused(source).build();
    let caller = tokio::spawn(cache.token());
    let hanging = fetches.next().await;

    advance(Duration::from_millis(29_999)).await;
    settle().await;
    assert!(!caller.is_finished());

    advance(Duration::from_millis(1)).await;
    assert!(caller.await.unwrap().unwrap_err().is_timeout());
    drop(hanging);

    advance(Duration::from_secs(1)).await;
    let caller = tokio::spawn(cache.token());
    fetches.next().await.issue("quick");
    caller.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_fetch_timeout_is_a_setting() {
    let (source, mut fetches) = source();
    let cache = paused(source)
        .fetch_timeout(Duration::from_millis(50))
        .build();
    let caller = tokio::spawn(cache.token());
    let _hanging = fetches.next().await;
    advance(Duration::from_millis(50)).await;
    assert!(caller.await.unwrap().unwrap_err().is_timeout());
}

#[test]
fn when_the_runtime_of_a_flight_is_gone_those_who_wait_and_the_next_start_another() {
    let (source, mut fetches) = source();
    let cache = TokenCache::new(source);
    let mut waiter = task::spawn(cache.token());
    let doomed = runtime();
    {
        let _inside = doomed.enter();
        assert_pending!(waiter.poll());
    }
    let _unanswered = doomed.block_on(fetches.next());
    drop(doomed);
    assert!(waiter.is_woken());

    runtime().block_on(async {
        assert_pending!(waiter.poll());
        let mut late = task::spawn(cache.token());
        assert_pending!(late.poll());
        fetches.next().await.issue("second-runtime");
        assert_eq!(waiter.await.unwrap().secret(), "second-runtime");
        assert_eq!(late.await.unwrap().secret(), "second-runtime");
        fetches.none().await;
    });
}

/// A runtime that lives but is never driven runs no timer, so it can't time its flights out.
#[test]
fn a_flight_on_a_runtime_that_nobody_drives_is_given_up_by_the_next_caller() {
    let (source, mut fetches) = source();
    let other = runtime();
    other.block_on(async {
        tokio::time::pause();
        let cache = paused(source).build();
        let idle = runtime();
        let mut stuck = task::spawn(cache.token());
        // `enter` would nest: the first poll happens on a thread of its own.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _inside = idle.enter();
                assert_pending!(stuck.poll());
            });
        });

        advance(Duration::from_secs(36)).await;
        let next = tokio::spawn(cache.token());
        let fetch = fetches.next().await;
        fetch.issue("driven");
        assert_eq!(next.await.unwrap().unwrap().secret(), "driven");
        assert!(stuck.is_woken());
        assert_eq!(assert_ready!(stuck.poll()).unwrap().secret(), "driven");
        std::thread::spawn(move || drop(idle)).join().unwrap();
        // The flight that was given up ends now, and changes nothing.
        assert_eq!(cache.token().await.unwrap().secret(), "driven");
    });
}

#[test]
fn outside_of_a_runtime_the_error_says_so_and_is_not_remembered() {
    let source = Counting::default();
    let cache = TokenCache::new(source.clone());
    let mut outside = task::spawn(cache.token());
    let error = assert_ready!(outside.poll()).unwrap_err();
    assert!(error.is_runtime(), "{error}");
    assert_eq!(source.issued(), 0);

    let token = runtime().block_on(cache.token()).unwrap();
    assert_eq!(token.secret(), "token-1");
    // And a token in hand needs no runtime.
    let mut outside = task::spawn(cache.token());
    assert_ready!(outside.poll()).unwrap();
}

#[test]
fn on_a_runtime_without_a_timer_the_error_says_so() {
    let source = Counting::default();
    let cache = TokenCache::new(source.clone());
    let timeless = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let error = timeless.block_on(cache.token()).unwrap_err();
    assert!(
        error.is_runtime() && error.to_string().contains("enable_time"),
        "{error}"
    );
    assert_eq!(source.issued(), 0);
}

#[tokio::test]
async fn a_rejected_token_is_replaced_and_the_reason_says_why() {
    let (source, mut fetches) = source();
    let cache = TokenCache::new(source);
    let caller = tokio::spawn(cache.token());
    fetches.next().await.issue("revoked");
    let revoked = caller.await.unwrap().unwrap();

    cache.reject(&revoked);
    fetches.none().await;
    let caller = tokio::spawn(cache.token());
    let fetch = fetches.next().await;
    assert_eq!(fetch.reason, Reason::Refused);
    fetch.issue("new");
    assert_eq!(caller.await.unwrap().unwrap().secret(), "new");
}

#[tokio::test]
async fn a_late_rejection_of_an_old_token_picks_up_the_newer_one() {
    let (source, mut fetches) = source();
    let cache = TokenCache::new(source);
    let caller = tokio::spawn(cache.token());
    fetches.next().await.issue("old");
    let old = caller.await.unwrap().unwrap();
    cache.reject(&old);
    let caller = tokio::spawn(cache.token());
    fetches.next().await.issue("newer");
    caller.await.unwrap().unwrap();

    cache.reject(&old);
    assert_eq!(cache.token().await.unwrap().secret(), "newer");
    fetches.none().await;
}

#[tokio::test]
async fn clones_share_one_token() {
    let source = Counting::default();
    let cache = TokenCache::new(source.clone());
    let clone = cache.clone();
    let (one, other) = (cache.token().await.unwrap(), clone.token().await.unwrap());
    assert_eq!(one.secret(), other.secret());
    clone.reject(&one);
    assert_eq!(cache.token().await.unwrap().secret(), "token-2");
    assert_eq!(source.issued(), 2);
}

/// Threads that all start at once, on caches that are empty, rejected, or both.
#[test]
fn callers_on_many_threads_are_one_fetch_too() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    for _ in 0..200 {
        let source = Counting::default();
        let cache = TokenCache::builder(source.clone()).build();
        let barrier = Arc::new(Barrier::new(4));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (cache, barrier) = (cache.clone(), Arc::clone(&barrier));
                runtime.spawn_blocking(move || {
                    barrier.wait();
                    tokio::runtime::Handle::current()
                        .block_on(cache.token())
                        .unwrap()
                })
            })
            .collect();
        let tokens = runtime.block_on(join_all(threads));
        for token in tokens {
            assert_eq!(token.unwrap().secret(), "token-1");
        }
        assert_eq!(source.issued(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_token_is_served_while_one_fetch_runs_behind() {
    let (source, mut fetches) = source();
    let cache = paused(source).build();
    fetches
        .issued(&cache, "first", Duration::from_secs(3600))
        .await;

    advance(Duration::from_secs(3600 - 300)).await;
    for _ in 0..100 {
        assert_eq!(cache.token().await.unwrap().secret(), "first");
    }
    let refresh = fetches.next().await;
    assert_eq!(refresh.reason, Reason::Stale);
    fetches.none().await;
    refresh.issue_for("second", Duration::from_secs(3600));
    settle().await;
    assert_eq!(cache.token().await.unwrap().secret(), "second");
}

#[tokio::test(start_paused = true)]
async fn one_second_before_the_window_nothing_is_refreshed() {
    let (source, mut fetches) = source();
    let cache = paused(source).build();
    fetches
        .issued(&cache, "first", Duration::from_secs(3600))
        .await;
    advance(Duration::from_secs(3600 - 301)).await;
    cache.token().await.unwrap();
    fetches.none().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_leaves_the_valid_token_in_use() {
    let (source, mut fetches) = source();
    let cache = paused(source).build();
    fetches
        .issued(&cache, "valid", Duration::from_secs(3600))
        .await;

    advance(Duration::from_secs(3400)).await;
    cache.token().await.unwrap();
    fetches.next().await.fail("down");
    settle().await;
    assert_eq!(cache.token().await.unwrap().secret(), "valid");
    fetches.none().await;

    advance(Duration::from_secs(1)).await;
    assert_eq!(cache.token().await.unwrap().secret(), "valid");
    fetches.next().await.issue("newer");
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_waited_for_and_joins_the_refresh_in_the_air() {
    let (source, mut fetches) = source();
    let cache = paused(source).build();
    fetches
        .issued(&cache, "first", Duration::from_secs(3600))
        .await;

    advance(Duration::from_secs(3600 - 31)).await;
    assert_eq!(cache.token().await.unwrap().secret(), "first");
    let refresh = fetches.next().await;

    advance(Duration::from_secs(1)).await;
    let mut waiter = task::spawn(cache.token());
    assert_pending!(waiter.poll());
    fetches.none().await;
    refresh.issue("second");
    assert_eq!(waiter.await.unwrap().secret(), "second");
}

#[tokio::test(start_paused = true)]
async fn expiry_is_counted_from_when_the_fetch_was_started() {
    let (source, mut fetches) = source();
    let cache = paused(source).build();
    let caller = tokio::spawn(cache.token());
    let slow = fetches.next().await;
    advance(Duration::from_secs(20)).await;
    slow.issue_for("slow", Duration::from_secs(100));
    caller.await.unwrap().unwrap();

    // A quarter of 100 s is the margin: good until the 75th second after the start.
    advance(Duration::from_secs(54)).await;
    assert_eq!(cache.token().await.unwrap().secret(), "slow");
    fetches.next().await.fail("too late");
    settle().await;
    advance(Duration::from_secs(1)).await;
    let mut waiter = task::spawn(cache.token());
    assert_pending!(waiter.poll());
    assert_eq!(fetches.next().await.reason, Reason::Expired);
}

#[tokio::test]
async fn a_token_with_bytes_that_are_illegal_in_a_header_is_an_error() {
    for illegal in ["", "two\nlines", "nul\0", " leading", "trailing ", "\u{7f}"] {
        let (source, mut fetches) = source();
        let cache = TokenCache::new(source);
        let caller = tokio::spawn(cache.token());
        fetches.next().await.issue(illegal);
        let error = caller.await.unwrap().unwrap_err();
        assert!(error.is_illegal_token(), "{illegal:?}: {error}");
    }
}

#[test]
fn header_values_are_sensitive_and_redacted() {
    let token = Token::bearer("s3cret-of-the-test")
        .unwrap()
        .with_scope("read");
    assert!(token.header_value().unwrap().is_sensitive());
    let shown = format!("{token:?} {:?}", token.header_value());
    assert!(!shown.contains("s3cret"), "{shown}");
    assert_eq!(token.secret(), "s3cret-of-the-test");
    assert_eq!(token.scope(), Some("read"));
    let key = Token::header("x-api-key".parse().unwrap(), "k3y").unwrap();
    assert_eq!(
        (key.header_value().unwrap().to_str().unwrap(), key.secret()),
        ("k3y", "k3y")
    );
    assert!(key.header_value().unwrap().is_sensitive());
}

#[tokio::test]
async fn a_poll_after_the_landing_needs_no_waker_of_before() {
    let source = Counting::default();
    let cache = TokenCache::new(source);
    let mut waiter = task::spawn(cache.token());
    assert!(matches!(waiter.poll(), Poll::Pending));
    settle().await;
    assert!(waiter.is_woken());
    assert_ready!(waiter.poll()).unwrap();
}
