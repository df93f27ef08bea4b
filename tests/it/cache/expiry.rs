//! When a token is refreshed and when it is no longer sent. The test moves the clock.

use std::time::Duration;

use tokio_test::{assert_pending, assert_ready, task};
use tower_auth::cache::{Clock, ManualClock, TokenCacheBuilder};
use tower_auth::{Error, Reason, Token, TokenCache};
use tower_auth_test::{Fetches, ScriptedSource, controlled_source, run_until_idle};

use crate::support::clocked;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Builds a cache whose clock the test moves.
fn set_up(
    settings: impl FnOnce(TokenCacheBuilder) -> TokenCacheBuilder,
) -> (TokenCache, Fetches, ManualClock) {
    let (source, fetches) = controlled_source();
    let clock = Clock::manual();
    let cache = settings(clocked(source, &clock)).build();
    (cache, fetches, clock)
}

async fn first(cache: &TokenCache, fetches: &mut Fetches, issued: Result<Token, Error>) {
    let caller = tokio::spawn(cache.token());
    fetches.next().await.complete(issued);
    caller.await.unwrap().unwrap();
}

fn lasting(secret: &str, lifetime: Duration) -> Result<Token, Error> {
    Token::bearer(secret).map(|token| token.expires_in(lifetime))
}

fn serves(cache: &TokenCache, secret: &str) -> bool {
    let mut asking = task::spawn(cache.token());
    match asking.poll() {
        std::task::Poll::Ready(token) => {
            assert_eq!(token.unwrap().secret(), secret);
            true
        }
        std::task::Poll::Pending => false,
    }
}

/// Lets a token of this lifetime become stale and expire. Asserts when the cache serves the token
/// and when the cache fetches the next token. At `expired`, exactly the margin is left. With this
/// margin, the token is still served, unless the margin is zero.
async fn follow(
    settings: impl Fn(TokenCacheBuilder) -> TokenCacheBuilder,
    lifetime: Duration,
    stale: Duration,
    expired: Duration,
) {
    const NANO: Duration = Duration::from_nanos(1);
    let expired = match expired < lifetime {
        true => expired + NANO,
        false => expired,
    };
    let (cache, mut fetches, clock) = set_up(&settings);
    first(&cache, &mut fetches, lasting("first", lifetime)).await;
    clock.advance(stale - NANO);
    assert!(serves(&cache, "first"), "{lifetime:?}");
    fetches.assert_none().await;
    let mut pending = None;
    if stale < expired {
        clock.advance(NANO);
        assert!(serves(&cache, "first"), "{lifetime:?}");
        let refresh = fetches.next().await;
        assert_eq!(refresh.reason(), Reason::Stale, "{lifetime:?}");
        if stale + NANO < expired {
            // This refresh fails, so that no later call joins it.
            refresh.fail("down");
            run_until_idle().await;
        } else {
            pending = Some(refresh);
        }
        clock.advance(expired - NANO - stale);
    }
    assert!(serves(&cache, "first"), "{lifetime:?}");
    clock.advance(NANO);
    assert!(!serves(&cache, "first"), "{lifetime:?}");
    drop(pending);

    // If no request comes in between, the token goes from fresh straight to expired.
    let (cache, mut fetches, clock) = set_up(&settings);
    first(&cache, &mut fetches, lasting("first", lifetime)).await;
    clock.advance(expired);
    assert!(!serves(&cache, "first"), "{lifetime:?}");
    assert_eq!(
        fetches.next().await.reason(),
        Reason::Expired,
        "{lifetime:?}"
    );
}

#[tokio::test]
async fn the_refresh_and_expiry_times_are_set_by_the_lifetime() {
    let ten_years = 3650 * DAY;
    for (lifetime, stale, expired) in [
        (SECOND, 0.5, 0.75),
        (10 * SECOND, 5.0, 7.5),
        (60 * SECOND, 30.0, 45.0),
        (119 * SECOND, 59.5, 89.25),
        (120 * SECOND, 60.0, 90.0),
        (600 * SECOND, 450.0, 570.0),
        (1199 * SECOND, 899.25, 1169.0),
        (1200 * SECOND, 900.0, 1170.0),
        (HOUR, 3300.0, 3570.0),
        (DAY, 86_100.0, 86_370.0),
        (ten_years, 315_359_700.0, 315_359_970.0),
        (Duration::MAX, 315_359_700.0, 315_359_970.0),
    ] {
        let (stale, expired) = (
            Duration::from_secs_f64(stale),
            Duration::from_secs_f64(expired),
        );
        // With an attempt floor, these times would differ.
        let settings = |cache: TokenCacheBuilder| cache.attempt_floor(Duration::ZERO);
        follow(settings, lifetime, stale, expired).await;
    }
}

#[tokio::test]
async fn configured_refresh_and_expiry_times_are_kept_within_half_of_the_lifetime() {
    let seconds = Duration::from_secs;
    for (refresh_before, margin, stale, expired) in [
        (seconds(60), seconds(0), 540, 600),
        (seconds(60), seconds(10), 540, 590),
        // The refresh window is at least twice the expiry margin, and at most half of the lifetime.
        (seconds(60), seconds(50), 500, 550),
        (seconds(0), seconds(0), 600, 600),
        (seconds(0), seconds(1), 598, 599),
        (Duration::MAX, seconds(0), 300, 600),
        (seconds(60), seconds(200), 300, 400),
        (Duration::MAX, Duration::MAX, 300, 300),
    ] {
        let settings =
            |cache: TokenCacheBuilder| cache.refresh_before(refresh_before).expiry_margin(margin);
        follow(settings, seconds(600), seconds(stale), seconds(expired)).await;
    }
}

/// The margin is 30 s, so a caller who needs the token for 30 s may have it. Go's `oauth2` also
/// serves a token with exactly its `expiryDelta` left.
#[tokio::test]
async fn a_token_with_exactly_its_margin_left_is_served() {
    for dated in [false, true] {
        let (cache, mut fetches, clock) = set_up(|cache| cache);
        let token = Token::bearer("first").map(|token| match dated {
            false => token.expires_in(HOUR),
            true => token.expires_at(clock.now().wall() + HOUR),
        });
        first(&cache, &mut fetches, token).await;
        clock.advance(HOUR - 30 * SECOND);
        assert!(cache.status().is_ready());
        assert!(serves(&cache, "first"));
        assert_eq!(fetches.next().await.reason(), Reason::Stale);
        clock.advance(Duration::from_nanos(1));
        assert!(!cache.status().is_ready());
        assert!(!serves(&cache, "first"));
    }
}

/// A server refuses a token from the moment in `exp` on (RFC 7519 §4.1.4).
#[tokio::test]
async fn a_token_without_a_margin_is_not_served_at_its_expiry() {
    let (cache, mut fetches, clock) = set_up(|cache| cache.expiry_margin(Duration::ZERO));
    first(&cache, &mut fetches, lasting("first", HOUR)).await;
    clock.advance(HOUR - Duration::from_nanos(1));
    assert!(serves(&cache, "first"));
    clock.advance(Duration::from_nanos(1));
    assert!(!serves(&cache, "first"));
}

#[tokio::test]
async fn an_attempt_after_a_failure_is_made_while_exactly_the_margin_is_left() {
    let (cache, mut fetches, clock) = set_up(|cache| cache);
    first(&cache, &mut fetches, lasting("first", HOUR)).await;
    clock.advance(HOUR - 40 * SECOND);
    assert!(serves(&cache, "first"));
    let permanent = Error::permanent("no such client");
    fetches.next().await.complete(Err(permanent));
    run_until_idle().await;
    clock.advance(10 * SECOND - Duration::from_nanos(1));
    assert!(serves(&cache, "first"));
    fetches.assert_none().await;
    // The backoff of 60 s ends here, so this caller doesn't have to wait for the attempt.
    clock.advance(Duration::from_nanos(1));
    assert!(serves(&cache, "first"));
    assert_eq!(fetches.next().await.reason(), Reason::Stale);
}

#[tokio::test]
async fn a_token_without_an_expiry_is_never_refreshed() {
    let (cache, mut fetches, clock) = set_up(|cache| cache);
    first(&cache, &mut fetches, Token::bearer("for-ever")).await;
    clock.advance(36_500 * DAY);
    assert!(serves(&cache, "for-ever"));
    fetches.assert_none().await;
}

#[tokio::test]
async fn a_token_that_has_expired_on_arrival_is_an_error_and_not_fetched_by_each_who_asks() {
    let (cache, mut fetches, clock) = set_up(|cache| cache.fetch_attempts(1));
    let at_its_end = || lasting("over", Duration::ZERO);
    let long_over = || Token::bearer("over").map(|t| t.expires_at(std::time::UNIX_EPOCH));
    let callers: Vec<_> = (0..3).map(|_| tokio::spawn(cache.token())).collect();
    fetches.next().await.complete(at_its_end());
    for caller in callers {
        assert!(caller.await.unwrap().unwrap_err().is_expired());
    }
    assert!(cache.token().await.unwrap_err().is_expired());
    fetches.assert_none().await;

    clock.advance(SECOND);
    let caller = tokio::spawn(cache.token());
    fetches.next().await.complete(long_over());
    assert!(caller.await.unwrap().unwrap_err().is_expired());
    fetches.assert_none().await;

    clock.advance(2 * SECOND);
    first(&cache, &mut fetches, lasting("good", HOUR)).await;
}

#[tokio::test]
async fn a_refresh_that_has_expired_on_arrival_displaces_no_token() {
    let (cache, mut fetches, clock) = set_up(|cache| cache);
    first(&cache, &mut fetches, lasting("first", HOUR)).await;
    clock.advance(HOUR - 300 * SECOND);
    assert!(serves(&cache, "first"));
    fetches
        .next()
        .await
        .complete(lasting("second", Duration::ZERO));
    run_until_idle().await;
    assert!(serves(&cache, "first"));
}

/// A token may arrive when less than its margin is left. The callers that waited get it, because
/// there is no better token.
#[tokio::test]
async fn a_token_that_arrives_within_its_margin_is_for_those_who_waited() {
    let (cache, mut fetches, clock) = set_up(|cache| cache);
    let mut waiting = task::spawn(cache.token());
    assert_pending!(waiting.poll());
    let fetch = fetches.next().await;
    clock.advance(9 * SECOND);
    fetch.complete(lasting("short", 10 * SECOND));
    run_until_idle().await;
    assert_eq!(assert_ready!(waiting.poll()).unwrap().secret(), "short");
    assert!(!serves(&cache, "short"));
}

#[tokio::test]
async fn a_caller_who_polls_a_completed_fetch_after_the_tokens_end_gets_another() {
    let (cache, mut fetches, clock) = set_up(|cache| cache);
    let mut waiting = task::spawn(cache.token());
    assert_pending!(waiting.poll());
    fetches.next().await.complete(lasting("first", HOUR));
    run_until_idle().await;
    clock.advance(HOUR);
    assert_pending!(waiting.poll());
    fetches.next().await.complete(lasting("second", HOUR));
    assert_eq!(waiting.await.unwrap().secret(), "second");
}

#[tokio::test]
async fn a_time_of_expiry_is_counted_from_the_arrival_and_not_from_the_request() {
    let (cache, mut fetches, clock) = set_up(|cache| cache);
    let caller = tokio::spawn(cache.token());
    let slow = fetches.next().await;
    clock.advance(20 * SECOND);
    let end = clock.now().wall() + HOUR;
    slow.complete(Token::bearer("dated").map(|token| token.expires_at(end)));
    caller.await.unwrap().unwrap();

    clock.advance(HOUR - 301 * SECOND);
    assert!(serves(&cache, "dated"));
    fetches.assert_none().await;
    clock.advance(SECOND);
    assert!(serves(&cache, "dated"));
    assert_eq!(fetches.next().await.reason(), Reason::Stale);
}

#[tokio::test]
async fn a_machine_that_was_suspended_wakes_up_with_its_token_expired() {
    let (cache, mut fetches, clock) = set_up(|cache| cache);
    first(&cache, &mut fetches, lasting("first", HOUR)).await;
    clock.suspend(HOUR);
    assert!(!serves(&cache, "first"));
    assert_eq!(fetches.next().await.reason(), Reason::Expired);
}

/// The machine was suspended during the fetch. The connection is dead, and the timer of the fetch
/// was stopped.
#[tokio::test]
async fn a_fetch_that_a_suspension_cut_off_is_not_waited_for() {
    let (cache, mut fetches, clock) = set_up(|cache| cache);
    let before = tokio::spawn(cache.token());
    let _cut_off = fetches.next().await;
    clock.suspend(HOUR);
    let after = tokio::spawn(cache.token());
    fetches.next().await.complete(lasting("awake", HOUR));
    for caller in [before, after] {
        assert_eq!(caller.await.unwrap().unwrap().secret(), "awake");
    }
}

#[tokio::test]
async fn a_wall_clock_that_is_set_back_lengthens_no_tokens_life() {
    let (cache, mut fetches, clock) = set_up(|cache| cache);
    let end = clock.now().wall() + HOUR;
    for token in [
        lasting("first", HOUR),
        Token::bearer("first").map(|token| token.expires_at(end)),
    ] {
        first(&cache, &mut fetches, token).await;
        clock.set_back(2 * HOUR);
        clock.advance(HOUR - 31 * SECOND);
        assert!(serves(&cache, "first"));
        fetches.next().await.fail("down");
        run_until_idle().await;
        clock.advance(2 * SECOND);
        assert!(!serves(&cache, "first"));
        fetches
            .next()
            .await
            .complete(lasting("between", 60 * SECOND));
        run_until_idle().await;
        clock.advance(60 * SECOND);
        clock.suspend(HOUR - 31 * SECOND);
    }
}

#[tokio::test]
async fn a_wall_clock_that_is_set_costs_one_fetch_and_not_one_after_the_other() {
    let source = ScriptedSource::expiring(HOUR);
    let clock = Clock::manual();
    let cache = clocked(source.clone(), &clock).build();
    cache.token().await.unwrap();
    for (back, forward, issued) in [
        (0, 1, 2),
        (2, 0, 2),
        (0, 1, 2),
        (0, 1, 2),
        (0, 1, 3),
        (9, 0, 3),
    ] {
        clock.set_back(back * DAY);
        clock.suspend(forward * DAY);
        for _ in 0..100 {
            cache.token().await.unwrap();
            run_until_idle().await;
        }
        assert_eq!(source.tokens_issued(), issued, "{back} {forward}");
    }
    // Only the wall clock was set. By the monotonic clock, the token is refreshed in time.
    clock.advance(HOUR - 300 * SECOND);
    cache.token().await.unwrap();
    run_until_idle().await;
    assert_eq!(source.tokens_issued(), 4);
}

/// A machine without a clock battery sets its clock only after it starts. The first fetch is
/// already running at that time.
#[tokio::test]
async fn a_clock_that_is_set_while_the_token_is_fetched_costs_one_attempt() {
    let (cache, mut fetches, clock) = set_up(|cache| cache.fetch_attempts(1));
    let caller = tokio::spawn(cache.token());
    let fetch = fetches.next().await;
    clock.suspend(20 * 365 * DAY);
    fetch.complete(lasting("first", HOUR));
    assert!(caller.await.unwrap().unwrap_err().is_expired());
    clock.advance(SECOND);
    first(&cache, &mut fetches, lasting("second", HOUR)).await;
    assert!(serves(&cache, "second"));
}

#[tokio::test]
async fn between_the_attempts_to_refresh_is_a_floor_by_the_monotonic_clock() {
    let (cache, mut fetches, clock) = set_up(|cache| cache.attempt_floor(10 * SECOND));
    first(&cache, &mut fetches, lasting("first", HOUR)).await;
    clock.advance(HOUR - 300 * SECOND);
    assert!(serves(&cache, "first"));
    fetches.next().await.fail("down");
    run_until_idle().await;
    clock.suspend(20 * SECOND);
    assert!(serves(&cache, "first"));
    fetches.assert_none().await;
    clock.advance(9 * SECOND);
    assert!(serves(&cache, "first"));
    fetches.assert_none().await;
    clock.advance(SECOND);
    assert!(serves(&cache, "first"));
    assert_eq!(fetches.next().await.reason(), Reason::Stale);
}

#[tokio::test]
async fn a_refresh_begins_within_the_share_of_the_time_that_jitter_has() {
    for (jitter, latest) in [
        (0.0, 0),
        (0.5, 135),
        (1.0, 270),
        (-1.0, 0),
        (9.0, 270),
        (f64::NAN, 0),
    ] {
        let mut begins = Vec::new();
        for _ in 0..200 {
            let (cache, mut fetches, clock) = set_up(|cache| cache.jitter(jitter));
            first(&cache, &mut fetches, lasting("first", HOUR)).await;
            let begin = cache.status().refresh_at().unwrap();
            let after = begin.duration_since(clock.now().wall()).unwrap();
            begins.push(after.as_secs_f64() - 3300.0);
        }
        let latest = f64::from(latest);
        assert!(
            begins.iter().all(|begin| (0.0..=latest).contains(begin)),
            "{jitter}: {begins:?}"
        );
        let late = begins.iter().filter(|begin| **begin > latest / 2.0).count();
        assert!(
            latest == 0.0 || (50..150).contains(&late),
            "{jitter}: {late}"
        );
    }
}

/// The wait ends when the floor is over by either clock.
#[tokio::test(start_paused = true)]
async fn one_who_finds_a_token_of_milliseconds_expired_waits_for_the_floor_and_no_longer() {
    let (source, mut fetches) = controlled_source();
    let cache = crate::support::paused(source).build();
    first(
        &cache,
        &mut fetches,
        lasting("short", Duration::from_millis(400)),
    )
    .await;
    tokio::time::advance(Duration::from_millis(301)).await;
    let start = tokio::time::Instant::now();
    let waiting = tokio::spawn(cache.token());
    let fetch = fetches.next().await;
    assert_eq!(
        (fetch.reason(), start.elapsed()),
        (Reason::Expired, Duration::from_millis(699))
    );
    fetch.issue("next");
    assert_eq!(waiting.await.unwrap().unwrap().secret(), "next");
}
