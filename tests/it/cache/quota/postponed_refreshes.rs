//! While a quota is low, refreshes wait. Callers don't wait for such a refresh.

use std::time::Duration;

use tower_auth::cache::Quota;
use tower_auth::{Error, Reason, Token, TokenCache};
use tower_auth_test::{ScriptedSource, controlled_source, run_until_idle};

use super::{Fixture, HOUR, low_quota};
use crate::support::{clock_start, clocked, manual_clock};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The ages of a one-hour token at three events: it becomes stale, is refreshed despite a low
/// quota, and expires.
const STALE: Duration = Duration::from_secs(55 * 60);
const LATE: Duration = Duration::from_secs(59 * 60);
const EXPIRED: Duration = Duration::from_secs(59 * 60 + 31);

#[tokio::test]
async fn a_refresh_waits_for_the_last_safe_moment_when_a_quota_is_low() {
    let mut fixture = Fixture::with([low_quota()]).await;
    fixture.asked_at(STALE).await;
    fixture.asked_at(LATE - SECOND).await;
    fixture.fetches.assert_none().await;
    fixture.asked_at(LATE).await;
    assert_eq!(fixture.fetches.next().await.reason(), Reason::Stale);
    fixture.fetches.assert_none().await;
}

#[tokio::test]
async fn with_enough_left_or_nothing_said_no_refresh_waits() {
    for quotas in [
        vec![],
        vec![Quota::new("client/per_day", 2).of(10)],
        vec![Quota::new("x", 1)],
    ] {
        let mut fixture = Fixture::with(quotas).await;
        fixture.asked_at(STALE).await;
        assert_eq!(fixture.fetches.next().await.reason(), Reason::Stale);
    }
}

#[tokio::test]
async fn one_low_quota_of_several_is_enough() {
    let mut fixture = Fixture::with([Quota::new("client/per_hour", 10).of(10), low_quota()]).await;
    fixture.asked_at(LATE - SECOND).await;
    fixture.fetches.assert_none().await;
}

#[tokio::test]
async fn the_tokens_own_end_still_rules() {
    let mut fixture = Fixture::with([low_quota()]).await;
    fixture.advance_to(EXPIRED);
    let caller = tokio::spawn(fixture.cache.token());
    let fetch = fixture.fetches.next().await;
    assert_eq!(fetch.reason(), Reason::Expired);
    fetch.issue("second");
    assert_eq!(caller.await.unwrap().unwrap().secret(), "second");
}

#[tokio::test]
async fn a_refresh_waits_no_longer_than_until_the_bucket_is_full_again() {
    let reset = STALE + 2 * MINUTE;
    let mut fixture = Fixture::with([]).await;
    let quota = low_quota().until(fixture.in_(HOUR + reset));
    fixture.advance_to(HOUR);
    fixture.is_issued("first", [quota]).await;
    fixture.asked_at(HOUR + STALE).await;
    fixture.asked_at(HOUR + reset - SECOND).await;
    fixture.fetches.assert_none().await;
    fixture.asked_at(HOUR + reset).await;
    assert_eq!(fixture.fetches.next().await.reason(), Reason::Stale);
}

#[tokio::test]
async fn a_bucket_that_is_full_again_before_the_refresh_puts_nothing_off() {
    let fixture = Fixture::with([]).await;
    let soon = [
        low_quota().until(fixture.in_(STALE - MINUTE)),
        low_quota().until(fixture.in_(30 * SECOND)),
    ];
    for quota in soon {
        let mut fixture = Fixture::with([quota]).await;
        fixture.asked_at(STALE - SECOND).await;
        fixture.fetches.assert_none().await;
        fixture.asked_at(STALE).await;
        assert_eq!(fixture.fetches.next().await.reason(), Reason::Stale);
    }
}

#[tokio::test]
async fn refusals_and_those_who_ask_for_a_new_one_do_not_wait() {
    let mut fixture = Fixture::with([low_quota()]).await;
    let token = fixture.cache.token().await.unwrap();
    fixture.cache.reject(&token);
    fixture.is_issued("first", [low_quota()]).await;
    let forced = tokio::spawn(fixture.cache.refresh_now());
    assert_eq!(fixture.fetches.next().await.reason(), Reason::Forced);
    forced.abort();
}

#[tokio::test]
async fn a_short_lived_token_is_refreshed_before_it_expires_all_the_same() {
    let clock = manual_clock();
    let (source, mut fetches) = controlled_source();
    let cache = clocked(source, &clock).build();
    let token = Token::bearer("token")
        .unwrap()
        .expires_in(20 * SECOND)
        .with_quotas([low_quota()]);
    let caller = tokio::spawn(cache.token());
    fetches.next().await.complete(Ok(token));
    caller.await.unwrap().unwrap();
    let status = cache.status();
    let (refresh, end) = (status.refresh_at().unwrap(), status.expires_at().unwrap());
    // These are the expiry margin of 5 s, and half of the 5 s before it.
    assert_eq!(
        end.duration_since(refresh).unwrap(),
        Duration::from_millis(7500)
    );
}

#[tokio::test]
async fn a_fleet_comes_back_spread_over_what_is_left_when_the_bucket_is_full_again() {
    let mut refreshes = Vec::new();
    for _ in 0..50 {
        let clock = manual_clock();
        let reset = clock_start() + STALE + 2 * MINUTE;
        let token = Token::bearer("token")
            .unwrap()
            .expires_in(HOUR)
            .with_quotas([low_quota().until(reset)]);
        let source = ScriptedSource::from_fn(move |_| token.clone());
        let cache = TokenCache::builder(source).clock(&clock).build();
        cache.token().await.unwrap();
        let at = cache.status().refresh_at().unwrap();
        let after = at.duration_since(reset).unwrap();
        assert!(after <= MINUTE, "{after:?}");
        refreshes.push(after);
    }
    refreshes.sort_unstable();
    assert!(refreshes[45] - refreshes[5] > 10 * SECOND, "{refreshes:?}");
}

/// Failed requests count towards the server's quota too.
#[tokio::test]
async fn a_low_quota_that_comes_with_an_error_postpones_the_next_attempt_as_well() {
    let mut fixture = Fixture::with([]).await;
    fixture.advance_to(STALE);
    fixture.cache.token().await.unwrap();
    let refused = Error::other("too many").with_quotas([low_quota()]);
    fixture.fetches.next().await.complete(Err(refused));
    run_until_idle().await;
    fixture.asked_at(LATE - SECOND).await;
    fixture.fetches.assert_none().await;
    fixture.asked_at(LATE).await;
    assert_eq!(fixture.fetches.next().await.reason(), Reason::Stale);
}

#[tokio::test]
async fn a_fleet_whose_quota_stays_low_does_not_come_all_at_the_last_moment() {
    let mut refreshes = Vec::new();
    for _ in 0..50 {
        let clock = manual_clock();
        let token = Token::bearer("token").unwrap();
        let token = token.expires_in(HOUR).with_quotas([low_quota()]);
        let source = ScriptedSource::from_fn(move |_| token.clone());
        let cache = TokenCache::builder(source).clock(&clock).build();
        cache.token().await.unwrap();
        refreshes.push(
            cache
                .status()
                .refresh_at()
                .unwrap()
                .duration_since(clock_start())
                .unwrap(),
        );
    }
    refreshes.sort_unstable();
    // The last 15 s before the expiry are left for the fetch.
    assert!(
        refreshes[0] >= LATE && refreshes[49] <= EXPIRED - 15 * SECOND,
        "{refreshes:?}"
    );
    assert!(refreshes[45] - refreshes[5] > 2 * SECOND, "{refreshes:?}");
}
