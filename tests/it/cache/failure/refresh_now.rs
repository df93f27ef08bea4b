//! A refresh that is forced by a caller or a refusal doesn't wait for the backoff.

use tower_auth::{Error, Reason};
use tower_auth_test::run_until_idle;

use super::{HOUR, SECOND, denied, fails, set_up};
use crate::support::issued;

#[tokio::test]
async fn a_refresh_that_is_asked_for_passes_the_wait_by() {
    let (cache, mut fetches, _clock) = set_up();
    let permanent = denied(401, "invalid_client").await;
    fails(&cache, &mut fetches, permanent).await;
    cache.token().await.unwrap_err();

    let forced = tokio::spawn(cache.refresh_now());
    let fetch = fetches.next().await;
    assert_eq!(fetch.reason(), Reason::Forced);
    fetch.issue("mended");
    assert_eq!(forced.await.unwrap().unwrap().secret(), "mended");
    assert_eq!(cache.token().await.unwrap().secret(), "mended");
}

#[tokio::test]
async fn a_refresh_that_is_asked_for_replaces_a_token_that_is_fresh_and_serves_it_until_then() {
    let (cache, mut fetches, _clock) = set_up();
    issued(&mut fetches, &cache, "old", HOUR).await;
    let forced = [cache.refresh_now(), cache.refresh_now()].map(tokio::spawn);
    let fetch = fetches.next().await;
    assert_eq!(cache.token().await.unwrap().secret(), "old");
    fetches.assert_none().await;
    fetch.issue("new");
    for forced in forced {
        assert_eq!(forced.await.unwrap().unwrap().secret(), "new");
    }
    assert_eq!(cache.token().await.unwrap().secret(), "new");
}

#[tokio::test]
async fn a_refresh_that_is_asked_for_joins_the_one_in_flight() {
    let (cache, mut fetches, clock) = set_up();
    issued(&mut fetches, &cache, "old", HOUR).await;
    clock.advance(HOUR - 300 * SECOND);
    cache.token().await.unwrap();
    let refresh = fetches.next().await;
    let forced = tokio::spawn(cache.refresh_now());
    fetches.assert_none().await;
    refresh.issue("new");
    assert_eq!(forced.await.unwrap().unwrap().secret(), "new");
}

#[tokio::test]
async fn a_refresh_that_is_asked_for_and_fails_displaces_no_token() {
    let (cache, mut fetches, _clock) = set_up();
    issued(&mut fetches, &cache, "valid", HOUR).await;
    let forced = tokio::spawn(cache.refresh_now());
    fetches.next().await.fail("down");
    assert!(forced.await.unwrap().unwrap_err().is_source());
    assert_eq!(cache.token().await.unwrap().secret(), "valid");
}

/// A forced refresh waits for its own fetch, and a valid token doesn't end this wait. So the caller
/// must be woken when the fetch is abandoned.
#[tokio::test]
async fn a_refresh_that_is_asked_for_outlives_the_fetch_it_waited_for() {
    let (cache, mut fetches, clock) = set_up();
    issued(&mut fetches, &cache, "valid", HOUR).await;
    let forced = tokio::spawn(cache.refresh_now());
    let _abandoned = fetches.next().await;
    clock.advance(35 * SECOND);
    let second = tokio::spawn(cache.refresh_now());
    fetches.next().await.issue("new");
    for forced in [forced, second] {
        assert_eq!(forced.await.unwrap().unwrap().secret(), "new");
    }
}

#[tokio::test]
async fn a_refusal_beats_the_backoff_that_protects_a_valid_token() {
    let (cache, mut fetches, clock) = set_up();
    issued(&mut fetches, &cache, "revoked", HOUR).await;
    let token = cache.token().await.unwrap();
    cache.accept(&token);
    clock.advance(HOUR - 300 * SECOND);
    cache.token().await.unwrap();
    let busy = Error::other("busy").with_retry_after(100 * SECOND);
    fetches.next().await.complete(Err(busy));
    run_until_idle().await;

    cache.reject(&token);
    let caller = tokio::spawn(cache.token());
    let fetch = fetches.next().await;
    assert_eq!(fetch.reason(), Reason::Refused);
    fetch.issue("new");
    assert_eq!(caller.await.unwrap().unwrap().secret(), "new");
}
