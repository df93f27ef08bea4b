//! What follows from a fetch that fails: who is told, for how long, and when the next one starts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::advance;
use tokio_test::{assert_pending, task};
use tower_auth::{Error, Phase, Reason, Token, TokenCache};

use crate::support::token_server;
use crate::support::{Answering, Fetches, Hands, paused, settle, source};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn set_up() -> (TokenCache, Fetches, Hands) {
    let (source, fetches) = source();
    let hands = Hands::default();
    let cache = hands.cache(source).build();
    (cache, fetches, hands)
}

async fn fails(cache: &TokenCache, fetches: &mut Fetches, error: Error) {
    let caller = tokio::spawn(cache.token());
    fetches.next().await.answer(Err(error));
    caller.await.unwrap().unwrap_err();
}

/// How long it is until the next fetch, to the millisecond: before it, the error is told again.
async fn silence(cache: &TokenCache, hands: &Hands, wait: Duration) {
    hands.pass(wait - MILLI);
    cache.token().await.unwrap_err();
    hands.pass(MILLI);
}

#[tokio::test]
async fn without_a_token_the_wait_after_each_failure_doubles_to_a_minute() {
    let (cache, mut fetches, hands) = set_up();
    for wait in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        fails(&cache, &mut fetches, Error::other("down")).await;
        silence(&cache, &hands, wait * SECOND).await;
    }
    fetches.none().await;
}

#[tokio::test]
async fn a_success_makes_the_next_wait_a_short_one_again() {
    let (cache, mut fetches, hands) = set_up();
    for wait in [1, 2, 4] {
        fails(&cache, &mut fetches, Error::other("down")).await;
        silence(&cache, &hands, wait * SECOND).await;
    }
    fetches.issued(&cache, "between", 10 * SECOND).await;
    hands.pass(10 * SECOND);
    fails(&cache, &mut fetches, Error::other("down again")).await;
    silence(&cache, &hands, SECOND).await;
    fetches.issued(&cache, "after", HOUR).await;
}

#[tokio::test]
async fn a_thousand_who_ask_a_source_that_is_down_are_one_fetch_a_wait() {
    let (cache, mut fetches, hands) = set_up();
    for wait in [1, 2, 4] {
        fails(&cache, &mut fetches, Error::other("down")).await;
        for _ in 0..1_000 {
            cache.token().await.unwrap_err();
        }
        fetches.none().await;
        hands.pass(wait * SECOND);
    }
}

#[tokio::test]
async fn while_a_valid_token_is_in_use_failed_refreshes_back_off_and_nobody_sees_them() {
    let (cache, mut fetches, hands) = set_up();
    fetches.issued(&cache, "valid", HOUR).await;
    hands.set(HOUR - 300 * SECOND);
    for wait in [1, 2, 4, 8, 16, 32, 60] {
        assert_eq!(cache.token().await.unwrap().secret(), "valid");
        let refresh = fetches.next().await;
        assert_eq!(refresh.reason, Reason::Stale);
        refresh.fail("down");
        settle().await;
        hands.pass(wait * SECOND - MILLI);
        for _ in 0..100 {
            assert_eq!(cache.token().await.unwrap().secret(), "valid");
        }
        fetches.none().await;
        hands.pass(MILLI);
    }
}

/// The failure begins to be seen there, so it is worth an attempt.
#[tokio::test]
async fn the_backoff_of_a_refresh_ends_with_the_token() {
    let (cache, mut fetches, hands) = set_up();
    fetches.issued(&cache, "valid", HOUR).await;
    hands.set(HOUR - 300 * SECOND);
    // The last failure is 27 s before the end, and the next wait would be a minute.
    for wait in [1, 2, 4, 8, 16, 32, 60, 60, 60, 27] {
        cache.token().await.unwrap();
        fetches.next().await.fail("down");
        settle().await;
        hands.pass(wait * SECOND);
    }
    let mut waiting = task::spawn(cache.token());
    assert_pending!(waiting.poll());
    assert_eq!(fetches.next().await.reason, Reason::Expired);
}

#[tokio::test]
async fn the_attempt_at_a_tokens_end_lengthens_no_wait() {
    let (cache, mut fetches, hands) = set_up();
    fetches.issued(&cache, "valid", HOUR).await;
    hands.set(HOUR - 36 * SECOND);
    // The third wait would be four seconds, and the token ends after three.
    for wait in [1, 2, 3] {
        cache.token().await.unwrap();
        fetches.next().await.fail("down");
        settle().await;
        hands.pass(wait * SECOND);
    }
    for wait in [4, 8] {
        fails(&cache, &mut fetches, Error::other("down")).await;
        silence(&cache, &hands, wait * SECOND).await;
    }
}

#[tokio::test]
async fn what_is_permanent_is_told_for_a_minute() {
    let (cache, mut fetches, hands) = set_up();
    for _ in 0..3 {
        let error = denied(401, "invalid_client").await;
        assert!(error.is_permanent() && !error.is_transient());
        fails(&cache, &mut fetches, error).await;
        silence(&cache, &hands, 60 * SECOND).await;
    }
    fetches.issued(&cache, "mended", HOUR).await;
}

#[tokio::test]
async fn a_retry_after_is_waited_for_and_no_longer_than_five_minutes() {
    for (asked, waited) in [(90, 90), (1, 2), (299, 299), (301, 300), (86_400, 300)] {
        let (cache, mut fetches, hands) = set_up();
        // Once before, so that the backoff is two seconds.
        fails(&cache, &mut fetches, Error::other("down")).await;
        hands.pass(SECOND);
        let error = Error::other("busy").with_retry_after(asked * SECOND);
        fails(&cache, &mut fetches, error).await;
        silence(&cache, &hands, waited * SECOND).await;
        fetches.issued(&cache, "rested", HOUR).await;
    }
}

#[tokio::test]
async fn a_retry_after_is_waited_for_though_the_token_ends_before() {
    let (cache, mut fetches, hands) = set_up();
    fetches.issued(&cache, "valid", HOUR).await;
    hands.set(HOUR - 40 * SECOND);
    cache.token().await.unwrap();
    let busy = Error::other("busy").with_retry_after(100 * SECOND);
    fetches.next().await.answer(Err(busy));
    settle().await;
    hands.pass(10 * SECOND - MILLI);
    assert_eq!(cache.token().await.unwrap().secret(), "valid");
    hands.pass(MILLI);
    // Past its end it isn't sent, and nothing is asked for.
    assert!(cache.token().await.unwrap_err().is_source());
    fetches.none().await;
    hands.pass(90 * SECOND - MILLI);
    cache.token().await.unwrap_err();
    fetches.none().await;
    hands.pass(MILLI);
    fetches.issued(&cache, "rested", HOUR).await;
}

#[tokio::test]
async fn no_failure_is_for_ever() {
    let (cache, mut fetches, hands) = set_up();
    let permanent = denied(400, "unauthorized_client").await;
    for error in [
        permanent,
        Error::other("down"),
        Error::transient("busy").with_retry_after(Duration::MAX),
    ] {
        for _ in 0..20 {
            let caller = tokio::spawn(cache.token());
            answer_all(&mut fetches, &error, caller).await;
            hands.pass(300 * SECOND);
        }
    }
    fetches.issued(&cache, "at-last", HOUR).await;
}

async fn answer_all(
    fetches: &mut Fetches,
    error: &Error,
    caller: tokio::task::JoinHandle<Result<Token, Error>>,
) {
    fetches.next().await.answer(Err(error.clone()));
    caller.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_refresh_that_is_asked_for_passes_the_wait_by() {
    let (cache, mut fetches, _hands) = set_up();
    let permanent = denied(401, "invalid_client").await;
    fails(&cache, &mut fetches, permanent).await;
    cache.token().await.unwrap_err();

    let forced = tokio::spawn(cache.refresh_now());
    let fetch = fetches.next().await;
    assert_eq!(fetch.reason, Reason::Forced);
    fetch.issue("mended");
    assert_eq!(forced.await.unwrap().unwrap().secret(), "mended");
    assert_eq!(cache.token().await.unwrap().secret(), "mended");
}

#[tokio::test]
async fn a_refresh_that_is_asked_for_replaces_a_token_that_is_fresh_and_serves_it_until_then() {
    let (cache, mut fetches, _hands) = set_up();
    fetches.issued(&cache, "old", HOUR).await;
    let forced = [cache.refresh_now(), cache.refresh_now()].map(tokio::spawn);
    let fetch = fetches.next().await;
    assert_eq!(cache.token().await.unwrap().secret(), "old");
    fetches.none().await;
    fetch.issue("new");
    for forced in forced {
        assert_eq!(forced.await.unwrap().unwrap().secret(), "new");
    }
    assert_eq!(cache.token().await.unwrap().secret(), "new");
}

#[tokio::test]
async fn a_refresh_that_is_asked_for_joins_the_one_in_the_air() {
    let (cache, mut fetches, hands) = set_up();
    fetches.issued(&cache, "old", HOUR).await;
    hands.set(HOUR - 300 * SECOND);
    cache.token().await.unwrap();
    let refresh = fetches.next().await;
    let forced = tokio::spawn(cache.refresh_now());
    fetches.none().await;
    refresh.issue("new");
    assert_eq!(forced.await.unwrap().unwrap().secret(), "new");
}

#[tokio::test]
async fn a_refresh_that_is_asked_for_and_fails_displaces_no_token() {
    let (cache, mut fetches, _hands) = set_up();
    fetches.issued(&cache, "valid", HOUR).await;
    let forced = tokio::spawn(cache.refresh_now());
    fetches.next().await.fail("down");
    assert!(forced.await.unwrap().unwrap_err().is_source());
    assert_eq!(cache.token().await.unwrap().secret(), "valid");
}

/// One who waits for a refresh behind a token that is good waits for it alone: it has to be told
/// when that is given up.
#[tokio::test]
async fn a_refresh_that_is_asked_for_outlives_the_flight_it_waited_for() {
    let (cache, mut fetches, hands) = set_up();
    fetches.issued(&cache, "valid", HOUR).await;
    let forced = tokio::spawn(cache.refresh_now());
    let _abandoned = fetches.next().await;
    hands.pass(35 * SECOND);
    let second = tokio::spawn(cache.refresh_now());
    fetches.next().await.issue("new");
    for forced in [forced, second] {
        assert_eq!(forced.await.unwrap().unwrap().secret(), "new");
    }
}

#[tokio::test]
async fn a_refusal_beats_the_backoff_that_protects_a_valid_token() {
    let (cache, mut fetches, hands) = set_up();
    fetches.issued(&cache, "revoked", HOUR).await;
    let token = cache.token().await.unwrap();
    cache.accept(&token);
    hands.set(HOUR - 300 * SECOND);
    cache.token().await.unwrap();
    let busy = Error::other("busy").with_retry_after(100 * SECOND);
    fetches.next().await.answer(Err(busy));
    settle().await;

    cache.reject(&token);
    let caller = tokio::spawn(cache.token());
    let fetch = fetches.next().await;
    assert_eq!(fetch.reason, Reason::Refused);
    fetch.issue("new");
    assert_eq!(caller.await.unwrap().unwrap().secret(), "new");
}

/// A source that fails so many times, and then issues.
fn failing(times: usize, error: impl Fn() -> Error + Send + Sync + 'static) -> Answering {
    Answering::new(move |attempt| match attempt <= times {
        true => Err(error()),
        false => Token::bearer(format!("after-{attempt}")),
    })
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_three_times_within_one_flight() {
    let source = failing(2, || Error::transient("reset"));
    let cache = paused(source.clone()).build();
    let callers: Vec<_> = (0..100).map(|_| tokio::spawn(cache.token())).collect();
    let start = tokio::time::Instant::now();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap().secret(), "after-3");
    }
    assert_eq!(source.asked(), 3);
    // Paused time goes on when everything waits: 200 ms, and 400.
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
    assert_eq!(source.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn how_many_attempts_a_flight_has_is_a_setting_of_one_at_least() {
    for (set, asked) in [(0, 1), (1, 1), (2, 2), (5, 5)] {
        let source = failing(9, || Error::transient("reset"));
        let cache = paused(source.clone()).fetch_attempts(set).build();
        cache.token().await.unwrap_err();
        assert_eq!(source.asked(), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_is_not_tried_again() {
    let permanent = denied(401, "invalid_client").await;
    for error in [permanent, Error::other("of unknown kind")] {
        let source = failing(9, move || error.clone());
        let cache = paused(source.clone()).build();
        cache.token().await.unwrap_err();
        assert_eq!(source.asked(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn within_a_flight_a_retry_after_is_waited_for_if_it_fits_before_the_timeout() {
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
        assert_eq!(source.asked(), if fits { 2 } else { 1 });
    }
}

#[tokio::test(start_paused = true)]
async fn all_attempts_of_a_flight_are_under_one_deadline() {
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

/// The server can't have issued the token before it was asked the second time.
#[tokio::test(start_paused = true)]
async fn expiry_is_counted_from_the_attempt_that_brought_the_token() {
    let source = Answering::new(|attempt| match attempt {
        1 => Err(Error::transient("busy").with_retry_after(20 * SECOND)),
        _ => Token::bearer("second").map(|token| token.expires_in(100 * SECOND)),
    });
    let cache = paused(source).build();
    cache.token().await.unwrap();
    advance(74 * SECOND).await;
    assert_ne!(cache.status().phase(), Phase::Expired);
    advance(SECOND).await;
    assert_eq!(cache.status().phase(), Phase::Expired);
}

async fn denied(status: u16, code: &str) -> Error {
    let body = match code {
        "" => String::new(),
        code => format!(r#"{{"error":"{code}"}}"#),
    };
    token_server::fetch(status, body).await.unwrap_err()
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
        // The code says more than the status.
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

/// A token of a second would be fetched without a pause otherwise, by each who asks.
#[tokio::test(start_paused = true)]
async fn however_short_the_lifetime_there_is_a_fetch_a_second_and_nobody_sees_an_error() {
    for lifetime in [MILLI, 10 * MILLI, 500 * MILLI, SECOND, 1300 * MILLI] {
        let source = Answering::new(move |attempt| {
            Token::bearer(format!("{attempt}")).map(|token| token.expires_in(lifetime))
        });
        let cache = paused(source.clone()).build();
        let start = tokio::time::Instant::now();
        while start.elapsed() < 20 * SECOND {
            cache.token().await.unwrap();
            tokio::time::sleep(MILLI).await;
        }
        let asked = source.asked();
        assert!((10..=21).contains(&asked), "{lifetime:?}: {asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_of_no_lifetime_are_errors_that_back_off() {
    let source =
        Answering::new(move |_| Token::bearer("over").map(|t| t.expires_in(Duration::ZERO)));
    let cache = paused(source.clone()).build();
    let start = tokio::time::Instant::now();
    while start.elapsed() < 60 * SECOND {
        assert!(cache.token().await.unwrap_err().is_expired());
        tokio::time::sleep(100 * MILLI).await;
    }
    // At 0, 1, 3, 7, 15 and 31 s.
    assert_eq!(source.asked(), 6);
}

#[tokio::test(start_paused = true)]
async fn the_floor_is_a_setting_for_tokens_of_milliseconds() {
    let source = Answering::new(move |attempt| {
        Token::bearer(format!("{attempt}")).map(|token| token.expires_in(200 * MILLI))
    });
    let cache = paused(source.clone()).attempt_floor(10 * MILLI).build();
    let start = tokio::time::Instant::now();
    while start.elapsed() < 10 * SECOND {
        cache.token().await.unwrap();
        tokio::time::sleep(MILLI).await;
    }
    assert!((90..=110).contains(&source.asked()), "{}", source.asked());
}

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
    let (source, mut fetches) = source();
    let hands = Hands::default();
    let cache = hands.cache(source).jitter(1.0).build();
    for _ in 0..100 {
        fails(&cache, &mut fetches, Error::other("down")).await;
        let next = cache.status().next_attempt_at().unwrap();
        let wait = next.duration_since(hands.clock().now().wall()).unwrap();
        assert!(wait <= 60 * SECOND, "{wait:?}");
        hands.pass(wait);
    }
}

/// How long the error of a first failure is told, in milliseconds.
async fn first_wait(jitter: f64, error: &Error) -> u128 {
    let (source, mut fetches) = source();
    let hands = Hands::default();
    let cache = hands.cache(source).jitter(jitter).build();
    fails(&cache, &mut fetches, error.clone()).await;
    let next = cache.status().next_attempt_at().unwrap();
    let wait = next.duration_since(hands.clock().now().wall());
    wait.unwrap().as_millis()
}
