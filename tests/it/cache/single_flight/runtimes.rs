//! Fetches without a runtime, and on a runtime that was dropped, is stalled or has no timer.

use std::time::Duration;

use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready, task};
use tower_auth::TokenCache;
use tower_auth_test::{ScriptedSource, controlled_source};

use crate::support::{paused, runtime};

#[test]
fn when_the_runtime_of_a_fetch_is_gone_those_who_wait_and_the_next_start_another() {
    let (source, mut fetches) = controlled_source();
    let cache = TokenCache::new(source);
    let mut waiter = task::spawn(cache.token());
    let dropped_runtime = runtime();
    {
        let _inside = dropped_runtime.enter();
        assert_pending!(waiter.poll());
    }
    let _unanswered = dropped_runtime.block_on(fetches.next());
    drop(dropped_runtime);
    assert!(waiter.is_woken());

    runtime().block_on(async {
        assert_pending!(waiter.poll());
        let mut late = task::spawn(cache.token());
        assert_pending!(late.poll());
        fetches.next().await.issue("second-runtime");
        assert_eq!(waiter.await.unwrap().secret(), "second-runtime");
        assert_eq!(late.await.unwrap().secret(), "second-runtime");
        fetches.assert_none().await;
    });
}

/// The timers of a runtime run only while the runtime is driven. So this fetch doesn't time out.
#[test]
fn a_fetch_on_a_runtime_that_nobody_drives_is_abandoned_by_the_next_caller() {
    let (source, mut fetches) = controlled_source();
    let other = runtime();
    other.block_on(async {
        tokio::time::pause();
        let cache = paused(source).build();
        let idle = runtime();
        let mut stuck = task::spawn(cache.token());
        // This thread is already inside a runtime, so another thread enters the idle one.
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
        // The abandoned fetch has ended with its runtime, and has changed nothing.
        assert_eq!(cache.token().await.unwrap().secret(), "driven");
    });
}

#[test]
fn outside_of_a_runtime_the_error_says_so_and_is_not_remembered() {
    let source = ScriptedSource::default();
    let cache = TokenCache::new(source.clone());
    let mut outside = task::spawn(cache.token());
    let error = assert_ready!(outside.poll()).unwrap_err();
    assert!(error.is_runtime(), "{error}");
    assert_eq!(source.tokens_issued(), 0);

    let token = runtime().block_on(cache.token()).unwrap();
    assert_eq!(token.secret(), "token-1");
    // A cached token needs no runtime.
    let mut outside = task::spawn(cache.token());
    assert_ready!(outside.poll()).unwrap();
}

#[test]
fn on_a_runtime_without_a_timer_the_error_says_so() {
    let source = ScriptedSource::default();
    let cache = TokenCache::new(source.clone());
    let timeless = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let error = timeless.block_on(cache.token()).unwrap_err();
    assert!(
        error.is_runtime() && error.to_string().contains("enable_time"),
        "{error}"
    );
    assert_eq!(source.tokens_issued(), 0);
}
