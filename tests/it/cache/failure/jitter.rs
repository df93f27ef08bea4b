//! Waits are random, so that the processes of a fleet don't all call the server at once.

use tower_auth::Error;
use tower_auth::cache::Clock;
use tower_auth_test::controlled_source;

use super::{SECOND, denied, fails};
use crate::support::clocked;

#[tokio::test]
async fn what_a_fleet_draws_by_lot_is_spread() {
    let permanent = denied(401, "invalid_client").await;
    for (error, shortest, longest) in [
        (Error::other("down"), 1_000, 2_000),
        (permanent, 60_000, 66_000),
        (
            Error::other("busy").with_retry_after(100 * SECOND),
            100_000,
            110_000,
        ),
    ] {
        let mut waits = Vec::new();
        for _ in 0..200 {
            waits.push(first_wait(0.5, &error).await);
        }
        let all = shortest..=longest;
        assert!(waits.iter().all(|wait| all.contains(wait)), "{waits:?}");
        let middle = (shortest + longest) / 2;
        let late = waits.iter().filter(|wait| **wait > middle).count();
        assert!((50..150).contains(&late), "{late}");
        assert_eq!(first_wait(0.0, &error).await, shortest);
    }
}

#[tokio::test]
async fn chance_makes_no_wait_longer_than_a_minute() {
    let (source, mut fetches) = controlled_source();
    let clock = Clock::manual();
    let cache = clocked(source, &clock).jitter(1.0).build();
    for _ in 0..100 {
        fails(&cache, &mut fetches, Error::other("down")).await;
        let next = cache.status().next_attempt_at().unwrap();
        let wait = next.duration_since(clock.now().wall()).unwrap();
        assert!(wait <= 60 * SECOND, "{wait:?}");
        clock.advance(wait);
    }
}

/// Fails once with this error. Returns how long the error is cached, in milliseconds.
async fn first_wait(jitter: f64, error: &Error) -> u128 {
    let (source, mut fetches) = controlled_source();
    let clock = Clock::manual();
    let cache = clocked(source, &clock).jitter(jitter).build();
    fails(&cache, &mut fetches, error.clone()).await;
    let next = cache.status().next_attempt_at().unwrap();
    let wait = next.duration_since(clock.now().wall());
    wait.unwrap().as_millis()
}
