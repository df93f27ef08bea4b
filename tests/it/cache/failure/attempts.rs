//! A fetch tries again after a transient error.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::advance;
use tower_auth::cache::Phase;
use tower_auth::{Error, Token};
use tower_auth_test::ScriptedSource;

use super::{SECOND, denied};
use crate::support::paused;

/// Builds a source that first fails `times` times and then issues tokens.
fn failing(times: usize, error: impl Fn() -> Error + Send + Sync + 'static) -> ScriptedSource {
    ScriptedSource::from_fn(move |attempt| match attempt <= times {
        true => Err(error()),
        false => Token::bearer(format!("after-{attempt}")),
    })
}

#[tokio::test(start_paused = true)]
async fn transient_errors_are_tried_three_times_within_one_fetch() {
    let source = failing(2, || Error::transient("reset"));
    let cache = paused(source.clone()).build();
    let callers: Vec<_> = (0..100).map(|_| tokio::spawn(cache.token())).collect();
    let start = tokio::time::Instant::now();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap().secret(), "after-3");
    }
    assert_eq!(source.fetches(), 3);
    // The waits between the three attempts are 200 and 400 ms.
    let took = start.elapsed();
    assert!((600..620).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn after_three_attempts_all_who_wait_get_the_last_ones_error() {
    let source = failing(3, || Error::transient("reset"));
    let cache = paused(source.clone()).build();
    let callers: Vec<_> = (0..10).map(|_| tokio::spawn(cache.token())).collect();
    for caller in callers {
        assert!(caller.await.unwrap().unwrap_err().is_transient());
    }
    assert_eq!(source.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn how_many_attempts_a_fetch_has_is_a_setting_of_one_at_least() {
    for (set, asked) in [(0, 1), (1, 1), (2, 2), (5, 5)] {
        let source = failing(9, || Error::transient("reset"));
        let cache = paused(source.clone()).fetch_attempts(set).build();
        cache.token().await.unwrap_err();
        assert_eq!(source.fetches(), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_is_not_tried_again() {
    let permanent = denied(401, "invalid_client").await;
    for error in [permanent, Error::other("of unknown kind")] {
        let source = failing(9, move || error.clone());
        let cache = paused(source.clone()).build();
        cache.token().await.unwrap_err();
        assert_eq!(source.fetches(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn within_a_fetch_a_retry_after_is_waited_for_if_it_fits_before_the_timeout() {
    for (wait, fits) in [
        (2 * SECOND, true),
        (29 * SECOND, true),
        (30 * SECOND, false),
    ] {
        let source = failing(1, move || Error::transient("busy").with_retry_after(wait));
        let cache = paused(source.clone()).build();
        let start = tokio::time::Instant::now();
        let token = cache.token().await;
        assert_eq!(token.is_ok(), fits, "{wait:?}");
        let waited = start.elapsed();
        assert!(
            if fits {
                waited >= wait
            } else {
                waited < SECOND
            },
            "{wait:?}"
        );
        assert_eq!(source.fetches(), if fits { 2 } else { 1 });
    }
}

#[tokio::test(start_paused = true)]
async fn all_attempts_of_a_fetch_are_under_one_deadline() {
    let source = Arc::new(|_| async {
        tokio::time::sleep(25 * SECOND).await;
        Err::<Token, _>(Error::transient("slow"))
    });
    let cache = paused(source).build();
    let start = tokio::time::Instant::now();
    assert!(cache.token().await.unwrap_err().is_timeout());
    let took = start.elapsed();
    assert!((30..31).contains(&took.as_secs()), "{took:?}");
}

/// The second attempt got the token, so the lifetime counts from that attempt.
#[tokio::test(start_paused = true)]
async fn expiry_is_counted_from_the_attempt_that_brought_the_token() {
    let source = ScriptedSource::from_fn(|attempt| match attempt {
        1 => Err(Error::transient("busy").with_retry_after(20 * SECOND)),
        _ => Token::bearer("second").map(|token| token.expires_in(100 * SECOND)),
    });
    let cache = paused(source).build();
    cache.token().await.unwrap();
    advance(74 * SECOND).await;
    assert_ne!(cache.status().phase(), Phase::Expired);
    advance(2 * SECOND).await;
    assert_eq!(cache.status().phase(), Phase::Expired);
}

#[tokio::test]
async fn statuses_and_codes_say_whether_an_error_may_pass() {
    for (status, code, passes) in [
        (408, "", true),
        (425, "", true),
        (429, "", true),
        (429, "access_denied", true),
        (500, "", true),
        (502, "", true),
        (503, "temporarily_unavailable", true),
        (400, "temporarily_unavailable", true),
        (400, "slow_down", true),
        (400, "", false),
        (401, "", false),
        (403, "access_denied", false),
        (404, "", false),
        (400, "invalid_grant", false),
        (400, "invalid_request", false),
        (400, "invalid_client", false),
        (401, "invalid_client", false),
        (400, "unauthorized_client", false),
        (400, "invalid_scope", false),
        (400, "unsupported_grant_type", false),
        // The error code takes precedence over the status.
        (503, "invalid_client", false),
        (429, "invalid_scope", false),
        (200, "invalid_client", false),
        (200, "server_error", true),
        (200, "something_else", false),
    ] {
        let error = denied(status, code).await;
        assert!(error.is_denied(), "{status} {code}: {error}");
        assert_eq!(error.is_transient(), passes, "{status} {code}: {error}");
        assert_eq!(error.is_permanent(), !passes, "{status} {code}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_expired_on_arrival_is_asked_for_again_within_the_fetch() {
    let source = ScriptedSource::from_fn(|attempt| match attempt {
        1 => Token::bearer("over").map(|token| token.expires_in(Duration::ZERO)),
        2 => Token::bearer("long-over").map(|token| token.expires_at(UNIX_EPOCH)),
        _ => Token::bearer("good").map(|token| token.expires_in(3600 * SECOND)),
    });
    let cache = paused(source.clone()).build();
    let callers: Vec<_> = (0..10).map(|_| tokio::spawn(cache.token())).collect();
    let start = tokio::time::Instant::now();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap().secret(), "good");
    }
    assert_eq!(source.fetches(), 3);
    // A server that rounds down to whole seconds states a lifetime of zero for 1 s. Three attempts
    // take longer.
    let took = start.elapsed();
    assert!((1_000..1_100).contains(&took.as_millis()), "{took:?}");
}

/// The server issues a token for each 10.5 s, and returns the same token until its end.
#[tokio::test(start_paused = true)]
async fn no_caller_sees_an_error_of_a_server_that_returns_the_same_token_until_its_end() {
    for jitter in [0.0, 0.5] {
        let start = tokio::time::Instant::now();
        let source = ScriptedSource::from_fn(move |_| {
            let elapsed = start.elapsed().as_millis();
            let left = 10_500 - elapsed % 10_500;
            let whole_seconds = Duration::from_secs((left / 1_000).try_into().unwrap());
            let secret = format!("t{}", elapsed / 10_500);
            Token::bearer(secret).map(|token| token.expires_in(whole_seconds))
        });
        let cache = paused(source.clone()).jitter(jitter).build();
        while start.elapsed() < 120 * SECOND {
            let token = cache.token().await.unwrap();
            let current = format!("t{}", start.elapsed().as_millis() / 10_500);
            assert_eq!(token.secret(), current);
            tokio::time::sleep(SECOND / 100).await;
        }
        assert!(source.fetches() < 130, "{}", source.fetches());
    }
}
