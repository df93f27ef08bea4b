//! When the current token is served, refreshed and replaced.

use std::time::Duration;

use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready, task};
use tower_auth::{Reason, TokenCache};
use tower_auth_test::{controlled_source, run_until_idle};

use crate::support::{issued, paused};

#[tokio::test]
async fn a_token_in_hand_is_served_at_once() {
    let (source, mut fetches) = controlled_source();
    let cache = TokenCache::new(source);
    let mut first = task::spawn(cache.token());
    assert_pending!(first.poll());
    fetches.next().await.issue("in-hand");
    first.await.unwrap();

    let mut second = task::spawn(cache.token());
    assert_eq!(assert_ready!(second.poll()).unwrap().secret(), "in-hand");
}

#[tokio::test]
async fn a_rejected_token_is_replaced_and_the_reason_says_why() {
    let (source, mut fetches) = controlled_source();
    let cache = TokenCache::new(source);
    let caller = tokio::spawn(cache.token());
    fetches.next().await.issue("revoked");
    let revoked = caller.await.unwrap().unwrap();

    cache.reject(&revoked);
    fetches.assert_none().await;
    let caller = tokio::spawn(cache.token());
    let fetch = fetches.next().await;
    assert_eq!(fetch.reason(), Reason::Refused);
    fetch.issue("new");
    assert_eq!(caller.await.unwrap().unwrap().secret(), "new");
}

#[tokio::test]
async fn a_rejected_token_is_served_again_if_the_fetch_of_its_successor_fails() {
    let (source, mut fetches) = controlled_source();
    let cache = TokenCache::new(source);
    let caller = tokio::spawn(cache.token());
    fetches.next().await.issue("rejected");
    let rejected = caller.await.unwrap().unwrap();

    cache.reject(&rejected);
    let mut caller = task::spawn(cache.token());
    assert_pending!(caller.poll());
    fetches.next().await.fail("down");
    assert_eq!(caller.await.unwrap().secret(), "rejected");
    assert_eq!(cache.token().await.unwrap().secret(), "rejected");
}

#[tokio::test]
async fn a_late_rejection_of_an_old_token_picks_up_the_newer_one() {
    let (source, mut fetches) = controlled_source();
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
    fetches.assert_none().await;
}

#[tokio::test(start_paused = true)]
async fn a_stale_token_is_served_while_one_fetch_runs_behind() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    issued(&mut fetches, &cache, "first", Duration::from_secs(3600)).await;

    advance(Duration::from_secs(3600 - 300)).await;
    for _ in 0..100 {
        assert_eq!(cache.token().await.unwrap().secret(), "first");
    }
    let refresh = fetches.next().await;
    assert_eq!(refresh.reason(), Reason::Stale);
    fetches.assert_none().await;
    refresh.issue_for("second", Duration::from_secs(3600));
    run_until_idle().await;
    assert_eq!(cache.token().await.unwrap().secret(), "second");
}

#[tokio::test(start_paused = true)]
async fn one_second_before_the_refresh_time_nothing_is_refreshed() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    issued(&mut fetches, &cache, "first", Duration::from_secs(3600)).await;
    advance(Duration::from_secs(3600 - 301)).await;
    cache.token().await.unwrap();
    fetches.assert_none().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_leaves_the_valid_token_in_use() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    issued(&mut fetches, &cache, "valid", Duration::from_secs(3600)).await;

    advance(Duration::from_secs(3400)).await;
    cache.token().await.unwrap();
    fetches.next().await.fail("down");
    run_until_idle().await;
    assert_eq!(cache.token().await.unwrap().secret(), "valid");
    fetches.assert_none().await;

    advance(Duration::from_secs(1)).await;
    assert_eq!(cache.token().await.unwrap().secret(), "valid");
    fetches.next().await.issue("newer");
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_waited_for_and_joins_the_refresh_in_flight() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    issued(&mut fetches, &cache, "first", Duration::from_secs(3600)).await;

    advance(Duration::from_secs(3600 - 31)).await;
    assert_eq!(cache.token().await.unwrap().secret(), "first");
    let refresh = fetches.next().await;

    advance(Duration::from_secs(2)).await;
    let mut waiter = task::spawn(cache.token());
    assert_pending!(waiter.poll());
    fetches.assert_none().await;
    refresh.issue("second");
    assert_eq!(waiter.await.unwrap().secret(), "second");
}

#[tokio::test(start_paused = true)]
async fn expiry_is_counted_from_when_the_fetch_was_started() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    let caller = tokio::spawn(cache.token());
    let slow = fetches.next().await;
    advance(Duration::from_secs(20)).await;
    slow.issue_for("slow", Duration::from_secs(100));
    caller.await.unwrap().unwrap();

    // The expiry margin is a quarter of 100 s, so the token is served until 75 s after the start.
    advance(Duration::from_secs(54)).await;
    assert_eq!(cache.token().await.unwrap().secret(), "slow");
    fetches.next().await.fail("too late");
    run_until_idle().await;
    advance(Duration::from_secs(2)).await;
    let mut waiter = task::spawn(cache.token());
    assert_pending!(waiter.poll());
    assert_eq!(fetches.next().await.reason(), Reason::Expired);
}
