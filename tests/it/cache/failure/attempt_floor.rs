//! Tokens with a very short lifetime are fetched at most once per second.

use std::time::Duration;

use tower_auth_test::ScriptedSource;

use super::{MILLI, SECOND};
use crate::support::paused;

/// Without the floor, each caller would start another fetch for such a short-lived token.
#[tokio::test(start_paused = true)]
async fn however_short_the_lifetime_there_is_a_fetch_a_second_and_nobody_sees_an_error() {
    for lifetime in [MILLI, 10 * MILLI, 500 * MILLI, SECOND, 1300 * MILLI] {
        let source = ScriptedSource::expiring(lifetime);
        let cache = paused(source.clone()).build();
        let start = tokio::time::Instant::now();
        while start.elapsed() < 20 * SECOND {
            cache.token().await.unwrap();
            tokio::time::sleep(MILLI).await;
        }
        let asked = source.fetches();
        assert!((10..=21).contains(&asked), "{lifetime:?}: {asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_of_no_lifetime_are_errors_that_back_off() {
    let source = ScriptedSource::expiring(Duration::ZERO);
    let cache = paused(source.clone()).build();
    let start = tokio::time::Instant::now();
    while start.elapsed() < 60 * SECOND {
        assert!(cache.token().await.unwrap_err().is_expired());
        tokio::time::sleep(100 * MILLI).await;
    }
    // Six fetches, with waits of 1, 2, 4, 8, 16 and 32 s after them. Each fetch has three attempts.
    assert_eq!(source.fetches(), 18);
}

#[tokio::test(start_paused = true)]
async fn the_floor_is_a_setting_for_tokens_of_milliseconds() {
    let source = ScriptedSource::expiring(200 * MILLI);
    let cache = paused(source.clone()).attempt_floor(10 * MILLI).build();
    let start = tokio::time::Instant::now();
    while start.elapsed() < 10 * SECOND {
        cache.token().await.unwrap();
        tokio::time::sleep(MILLI).await;
    }
    assert!(
        (90..=110).contains(&source.fetches()),
        "{}",
        source.fetches()
    );
}
