//! How long the cache waits after a failed fetch before it starts the next.

use std::time::Duration;

use tokio_test::{assert_pending, task};
use tower_auth::cache::ManualClock;
use tower_auth::{Error, Reason, Token, TokenCache};
use tower_auth_test::{Fetches, run_until_idle};

use super::{HOUR, MILLI, SECOND, denied, fails, set_up};
use crate::support::issued;

/// Asserts that the next fetch starts after exactly this wait. Until then callers get the cached
/// error.
async fn silence(cache: &TokenCache, clock: &ManualClock, wait: Duration) {
    clock.advance(wait - MILLI);
    cache.token().await.unwrap_err();
    clock.advance(MILLI);
}

#[tokio::test]
async fn without_a_token_the_wait_after_each_failure_doubles_to_a_minute() {
    let (cache, mut fetches, clock) = set_up();
    for wait in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        fails(&cache, &mut fetches, Error::other("down")).await;
        silence(&cache, &clock, wait * SECOND).await;
    }
    fetches.assert_none().await;
}

#[tokio::test]
async fn a_success_makes_the_next_wait_a_short_one_again() {
    let (cache, mut fetches, clock) = set_up();
    for wait in [1, 2, 4] {
        fails(&cache, &mut fetches, Error::other("down")).await;
        silence(&cache, &clock, wait * SECOND).await;
    }
    issued(&mut fetches, &cache, "between", 10 * SECOND).await;
    clock.advance(10 * SECOND);
    fails(&cache, &mut fetches, Error::other("down again")).await;
    silence(&cache, &clock, SECOND).await;
    issued(&mut fetches, &cache, "after", HOUR).await;
}

#[tokio::test]
async fn a_thousand_who_ask_a_source_that_is_down_are_one_fetch_a_wait() {
    let (cache, mut fetches, clock) = set_up();
    for wait in [1, 2, 4] {
        fails(&cache, &mut fetches, Error::other("down")).await;
        for _ in 0..1_000 {
            cache.token().await.unwrap_err();
        }
        fetches.assert_none().await;
        clock.advance(wait * SECOND);
    }
}

#[tokio::test]
async fn while_a_valid_token_is_in_use_failed_refreshes_back_off_and_nobody_sees_them() {
    let (cache, mut fetches, clock) = set_up();
    issued(&mut fetches, &cache, "valid", HOUR).await;
    clock.advance(HOUR - 300 * SECOND);
    for wait in [1, 2, 4, 8, 16, 32, 60] {
        assert_eq!(cache.token().await.unwrap().secret(), "valid");
        let refresh = fetches.next().await;
        assert_eq!(refresh.reason(), Reason::Stale);
        refresh.fail("down");
        run_until_idle().await;
        clock.advance(wait * SECOND - MILLI);
        for _ in 0..100 {
            assert_eq!(cache.token().await.unwrap().secret(), "valid");
        }
        fetches.assert_none().await;
        clock.advance(MILLI);
    }
}

/// Callers see the failure once the token has expired. So the cache tries again at the expiry.
#[tokio::test]
async fn the_backoff_of_a_refresh_ends_with_the_token() {
    let (cache, mut fetches, clock) = set_up();
    issued(&mut fetches, &cache, "valid", HOUR).await;
    clock.advance(HOUR - 300 * SECOND);
    // The last failure is 27 s before the expiry, so the wait after it isn't a full minute.
    for wait in [1, 2, 4, 8, 16, 32, 60, 60, 60, 27] {
        cache.token().await.unwrap();
        fetches.next().await.fail("down");
        run_until_idle().await;
        clock.advance(wait * SECOND);
    }
    // One millisecond ago, exactly the expiry margin was left, so the token was still served.
    clock.advance(MILLI);
    let mut waiting = task::spawn(cache.token());
    assert_pending!(waiting.poll());
    assert_eq!(fetches.next().await.reason(), Reason::Expired);
}

#[tokio::test]
async fn the_attempt_at_a_tokens_end_lengthens_no_wait() {
    let (cache, mut fetches, clock) = set_up();
    issued(&mut fetches, &cache, "valid", HOUR).await;
    clock.advance(HOUR - 36 * SECOND);
    // The third wait would be 4 s, but the token expires 3 s after the third failure.
    for wait in [1, 2, 3] {
        cache.token().await.unwrap();
        fetches.next().await.fail("down");
        run_until_idle().await;
        clock.advance(wait * SECOND);
    }
    clock.advance(MILLI);
    for wait in [4, 8] {
        fails(&cache, &mut fetches, Error::other("down")).await;
        silence(&cache, &clock, wait * SECOND).await;
    }
}

#[tokio::test]
async fn what_is_permanent_is_told_for_a_minute() {
    let (cache, mut fetches, clock) = set_up();
    let of_a_server = || denied(401, "invalid_client");
    let of_a_source = Error::permanent("no such role");
    for error in [of_a_server().await, of_a_source, of_a_server().await] {
        assert!(error.is_permanent() && !error.is_transient());
        fails(&cache, &mut fetches, error).await;
        silence(&cache, &clock, 60 * SECOND).await;
    }
    issued(&mut fetches, &cache, "mended", HOUR).await;
}

#[tokio::test]
async fn a_retry_after_is_waited_for_and_no_longer_than_five_minutes() {
    for (asked, waited) in [(90, 90), (1, 2), (299, 299), (301, 300), (86_400, 300)] {
        let (cache, mut fetches, clock) = set_up();
        // This failure makes the next backoff 2 s.
        fails(&cache, &mut fetches, Error::other("down")).await;
        clock.advance(SECOND);
        let error = Error::other("busy").with_retry_after(asked * SECOND);
        fails(&cache, &mut fetches, error).await;
        silence(&cache, &clock, waited * SECOND).await;
        issued(&mut fetches, &cache, "rested", HOUR).await;
    }
}

#[tokio::test]
async fn a_retry_after_is_waited_for_though_the_token_ends_before() {
    let (cache, mut fetches, clock) = set_up();
    issued(&mut fetches, &cache, "valid", HOUR).await;
    clock.advance(HOUR - 40 * SECOND);
    cache.token().await.unwrap();
    let busy = Error::other("busy").with_retry_after(100 * SECOND);
    fetches.next().await.complete(Err(busy));
    run_until_idle().await;
    clock.advance(10 * SECOND);
    assert_eq!(cache.token().await.unwrap().secret(), "valid");
    clock.advance(MILLI);
    // The token has expired, so it isn't sent. No fetch starts before the time of the
    // `Retry-After`.
    assert!(cache.token().await.unwrap_err().is_source());
    fetches.assert_none().await;
    clock.advance(90 * SECOND - 2 * MILLI);
    cache.token().await.unwrap_err();
    fetches.assert_none().await;
    clock.advance(MILLI);
    issued(&mut fetches, &cache, "rested", HOUR).await;
}

#[tokio::test]
async fn no_failure_is_for_ever() {
    let (cache, mut fetches, clock) = set_up();
    let permanent = denied(400, "unauthorized_client").await;
    for error in [
        permanent,
        Error::other("down"),
        Error::transient("busy").with_retry_after(Duration::MAX),
    ] {
        for _ in 0..20 {
            let caller = tokio::spawn(cache.token());
            fail_all(&mut fetches, &error, caller).await;
            clock.advance(300 * SECOND);
        }
    }
    issued(&mut fetches, &cache, "at-last", HOUR).await;
}

async fn fail_all(
    fetches: &mut Fetches,
    error: &Error,
    caller: tokio::task::JoinHandle<Result<Token, Error>>,
) {
    fetches.next().await.complete(Err(error.clone()));
    caller.await.unwrap().unwrap_err();
}
