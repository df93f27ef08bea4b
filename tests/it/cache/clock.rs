//! The clocks that the crate has for tests: one that the test moves, and one that follows Tokio's
//! time.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::advance;
use tower_auth::TokenCache;
use tower_auth::cache::{Clock, ManualClock};
use tower_auth_test::ScriptedSource;

use crate::support::clocked;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// A token of an hour isn't sent in its last 30 s.
const EXPIRED: Duration = Duration::from_secs(3600 - 29);

/// Returns a cache that has fetched a token of an hour, with its source and its clock.
async fn hourly() -> (TokenCache, ScriptedSource, ManualClock) {
    let (source, clock) = (ScriptedSource::expiring(HOUR), Clock::manual());
    let cache = clocked(source.clone(), &clock).build();
    cache.token().await.unwrap();
    (cache, source, clock)
}

async fn secret(cache: &TokenCache) -> String {
    cache.token().await.unwrap().secret().to_owned()
}

#[tokio::test]
async fn a_manual_clock_that_advances_expires_the_token() {
    let (cache, _, clock) = hourly().await;
    clock.advance(HOUR / 2);
    assert_eq!(secret(&cache).await, "token-1");
    clock.advance(EXPIRED - HOUR / 2);
    assert_eq!(secret(&cache).await, "token-2");
}

#[tokio::test]
async fn with_the_wall_clock_set_back_the_token_expires_by_the_monotonic_clock() {
    let (cache, _, clock) = hourly().await;
    clock.set_back(24 * HOUR);
    assert_eq!(secret(&cache).await, "token-1");
    clock.advance(EXPIRED);
    assert_eq!(secret(&cache).await, "token-2");
}

#[tokio::test]
async fn after_a_suspension_the_token_is_expired_by_the_wall_clock() {
    let (cache, _, clock) = hourly().await;
    clock.suspend(EXPIRED);
    assert_eq!(secret(&cache).await, "token-2");
}

/// The wall clock is back where it was, so only the monotonic clock could expire the token.
#[tokio::test]
async fn a_suspension_does_not_move_the_monotonic_clock() {
    let (cache, source, clock) = hourly().await;
    clock.suspend(EXPIRED);
    clock.set_back(EXPIRED);
    secret(&cache).await;
    assert_eq!(source.tokens_issued(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_manual_clock_does_not_move_by_itself() {
    let (cache, source, clock) = hourly().await;
    let before = clock.now();
    // Neither Tokio's clock nor the system's moves the manual clock.
    advance(24 * HOUR).await;
    let system = SystemTime::now();
    while SystemTime::now() < system + Duration::from_millis(2) {
        thread::yield_now();
    }
    assert_eq!(clock.now(), before);
    secret(&cache).await;
    assert_eq!(source.tokens_issued(), 1);
}

/// Both clocks round down to a millisecond.
#[tokio::test]
async fn both_clocks_start_at_the_wall_time_of_the_system() {
    let before = SystemTime::now() - Duration::from_millis(1);
    let clocks = [Clock::manual().into(), Clock::tokio()];
    for clock in clocks {
        let now = clock.now().wall();
        assert!(now > before && now <= SystemTime::now(), "{now:?}");
    }
}

#[test]
fn all_clones_and_clocks_of_a_manual_clock_share_its_time() {
    let clock = Clock::manual();
    let (clone, lent): (_, Clock) = (clock.clone(), (&clock).into());
    let given: Clock = clock.clone().into();
    clone.advance(HOUR);
    assert_eq!([lent.now(), given.now()], [clock.now(); 2]);
    let other = Clock::manual();
    assert!(clock.now().wall() > other.now().wall() + HOUR / 2);
}

#[test]
fn a_manual_clock_stops_at_the_epoch_and_at_the_end_of_its_range() {
    let clock = Clock::manual();
    clock.set_back(Duration::MAX);
    assert_eq!(clock.now().wall(), UNIX_EPOCH);
    clock.set_back(SECOND);
    assert_eq!(clock.now().wall(), UNIX_EPOCH);
    clock.suspend(Duration::MAX);
    let end = clock.now().wall();
    clock.suspend(SECOND);
    clock.advance(Duration::MAX);
    clock.advance(SECOND);
    assert_eq!(clock.now().wall(), end);
}

/// Each move reads and writes the time under one lock, so no move is lost. No move goes beyond the
/// end of the range.
#[test]
fn threads_move_a_manual_clock_together() {
    let clock = Clock::manual();
    let start = clock.now().wall();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|_| clock.advance(SECOND)));
            scope.spawn(|| (0..1_000).for_each(|_| clock.suspend(2 * SECOND)));
            scope.spawn(|| (0..1_000).for_each(|_| clock.set_back(SECOND)));
        }
    });
    assert_eq!(clock.now().wall(), start + 8_000 * SECOND);
    clock.suspend(Duration::MAX);
    let end = clock.now().wall();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|_| clock.advance(Duration::MAX)));
        }
    });
    assert_eq!(clock.now().wall(), end);
}

#[tokio::test(start_paused = true)]
async fn in_paused_time_the_clock_of_tokio_brings_the_second_fetch() {
    let source = ScriptedSource::expiring(HOUR);
    let cache = clocked(source.clone(), Clock::tokio()).build();
    cache.token().await.unwrap();
    advance(3_599 * SECOND).await;
    assert_eq!(secret(&cache).await, "token-2");
    assert_eq!(source.tokens_issued(), 2);
}

/// The docs of `Clock` begin with this case.
#[tokio::test(start_paused = true)]
async fn in_paused_time_the_default_clock_brings_no_second_fetch() {
    let source = ScriptedSource::expiring(HOUR);
    let cache = TokenCache::builder(source.clone()).build();
    cache.token().await.unwrap();
    advance(3_599 * SECOND).await;
    assert_eq!(secret(&cache).await, "token-1");
    assert_eq!(source.tokens_issued(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_tokio_stands_still_in_paused_time() {
    let clock = Clock::tokio();
    let before = clock.now();
    tokio::task::yield_now().await;
    assert_eq!(clock.now(), before);
    advance(HOUR).await;
    assert_eq!(clock.now().wall(), before.wall() + HOUR);
}

#[test]
fn the_clock_of_tokio_works_outside_of_a_runtime() {
    let clock = Clock::tokio();
    let before = clock.now().wall();
    while clock.now().wall() == before {
        thread::yield_now();
    }
    assert!(clock.now().wall() > before);
    assert!(clock.now().wall() < before + HOUR);
}
