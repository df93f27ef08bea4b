//! Sources that panic, hang or fail.

use std::time::Duration;

use tokio::time::advance;
use tower_auth::{Error, Reason, Token, TokenCache};
use tower_auth_test::{controlled_source, run_until_idle};

use crate::support::paused;

#[tokio::test(start_paused = true)]
async fn after_a_failure_the_error_is_told_again_for_a_second_and_then_fetched_again() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    let caller = tokio::spawn(cache.token());
    fetches.next().await.fail("down");
    caller.await.unwrap().unwrap_err();

    advance(Duration::from_millis(999)).await;
    assert!(cache.token().await.unwrap_err().is_source());
    fetches.assert_none().await;

    advance(Duration::from_millis(1)).await;
    let caller = tokio::spawn(cache.token());
    fetches.next().await.issue("up-again");
    assert_eq!(caller.await.unwrap().unwrap().secret(), "up-again");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_is_an_error_for_all_and_the_next_attempt_starts_clean() {
    let (source, mut fetches) = controlled_source();
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
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    let caller = tokio::spawn(cache.token());
    let hanging = fetches.next().await;

    advance(Duration::from_millis(29_999)).await;
    run_until_idle().await;
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
    let (source, mut fetches) = controlled_source();
    let cache = paused(source)
        .fetch_timeout(Duration::from_millis(50))
        .build();
    let caller = tokio::spawn(cache.token());
    let _hanging = fetches.next().await;
    advance(Duration::from_millis(50)).await;
    assert!(caller.await.unwrap().unwrap_err().is_timeout());
}
