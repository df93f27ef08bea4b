//! What `status` shows of a cache in each phase.

use std::time::Duration;

use tokio_test::{assert_pending, task};
use tower_auth::cache::{Clock, Phase};
use tower_auth::{Reason, Token};
use tower_auth_test::{ScriptedSource, run_until_idle};

use super::{EMPTY, FRESH, Said, now, set_up};
use crate::support::{clocked, issued, token_server};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn before_anybody_asked_there_is_nothing() {
    let (cache, ..) = set_up();
    assert_eq!(now(&cache), EMPTY);
}

#[tokio::test]
async fn while_the_first_token_is_fetched_it_says_why_and_how_many_wait() {
    let (cache, mut fetches, _clock) = set_up();
    let mut waiting: Vec<_> = (0..3).map(|_| task::spawn(cache.token())).collect();
    for waiting in &mut waiting {
        assert_pending!(waiting.poll());
    }
    let fetching = |waiting| Said {
        phase: Phase::Fetching,
        fetching: Some(Reason::First),
        waiting,
        ..EMPTY
    };
    assert_eq!(now(&cache), fetching(3));
    waiting.pop();
    assert_eq!(now(&cache), fetching(2));
    fetches.next().await.issue("token");
    run_until_idle().await;
    let fresh = Said {
        refresh_at: None,
        expires_at: None,
        ..FRESH
    };
    assert_eq!(now(&cache), fresh);
}

#[tokio::test]
async fn of_a_fresh_token_it_says_its_times_its_scope_and_whether_it_was_accepted() {
    let (cache, mut fetches, clock) = set_up();
    clock.advance(7 * SECOND);
    let caller = tokio::spawn(cache.token());
    let fetch = fetches.next().await;
    // The lifetime counts from the request for the token, 3 s before the response.
    clock.advance(3 * SECOND);
    let token = Token::bearer("token").map(|token| token.expires_in(HOUR).with_scope("read write"));
    fetch.complete(token);
    let token = caller.await.unwrap().unwrap();
    let fresh = |is_accepted| Said {
        requested_at: Some(7),
        refresh_at: Some(3307),
        expires_at: Some(3607),
        scope: Some(String::from("read write")),
        is_accepted,
        ..FRESH
    };
    assert_eq!(now(&cache), fresh(false));
    cache.accept(&token);
    assert_eq!(now(&cache), fresh(true));
}

#[tokio::test]
async fn a_stale_token_is_ready_whether_its_refresh_is_awaited_in_flight_or_postponed() {
    let (cache, mut fetches, clock) = set_up();
    issued(&mut fetches, &cache, "token", HOUR).await;
    assert_eq!(now(&cache), FRESH);
    clock.advance(3300 * SECOND);
    let stale = || Said {
        phase: Phase::Stale,
        ..FRESH
    };
    assert_eq!(now(&cache), stale());

    cache.token().await.unwrap();
    let in_flight = || Said {
        fetching: Some(Reason::Stale),
        ..stale()
    };
    assert_eq!(now(&cache), in_flight());
    let mut forced = task::spawn(cache.refresh_now());
    assert_pending!(forced.poll());
    let awaited = Said {
        waiting: 1,
        ..in_flight()
    };
    assert_eq!(now(&cache), awaited);

    fetches.next().await.fail("down");
    forced.await.unwrap_err();
    let postponed = Said {
        last_error: Some(String::from("the token source failed")),
        failures: 1,
        next_attempt_at: Some(3301),
        ..stale()
    };
    assert_eq!(now(&cache), postponed);
}

#[tokio::test]
async fn an_expired_token_is_not_ready_and_the_fetch_after_it_says_why() {
    let (cache, mut fetches, clock) = set_up();
    issued(&mut fetches, &cache, "token", HOUR).await;
    // The expiry margin is 30 s.
    clock.advance(3570 * SECOND);
    assert_eq!(cache.status().phase(), Phase::Stale);
    clock.advance(Duration::from_nanos(1));
    let expired = Said {
        phase: Phase::Expired,
        is_ready: false,
        ..FRESH
    };
    assert_eq!(now(&cache), expired);
    let mut waiting = task::spawn(cache.token());
    assert_pending!(waiting.poll());
    let fetching = Said {
        phase: Phase::Fetching,
        fetching: Some(Reason::Expired),
        waiting: 1,
        ..EMPTY
    };
    assert_eq!(now(&cache), fetching);
}

#[tokio::test]
async fn a_failure_is_told_with_its_number_and_the_time_of_the_next_attempt() {
    let (cache, mut fetches, clock) = set_up();
    for (failures, at, wait) in [(1, 1, 1), (2, 3, 2)] {
        let caller = tokio::spawn(cache.token());
        fetches.next().await.fail("down");
        caller.await.unwrap().unwrap_err();
        let failed = Said {
            phase: Phase::Failed,
            last_error: Some(String::from("the token source failed")),
            failures,
            next_attempt_at: Some(at),
            ..EMPTY
        };
        assert_eq!(now(&cache), failed);
        clock.advance(wait * SECOND);
        assert_eq!(now(&cache), failed);
    }
    // While the next attempt is in flight, the status shows no postponed attempt, but still both
    // failures.
    let caller = tokio::spawn(cache.token());
    let fetch = fetches.next().await;
    let fetching = Said {
        phase: Phase::Fetching,
        fetching: Some(Reason::First),
        waiting: 1,
        failures: 2,
        ..EMPTY
    };
    assert_eq!(now(&cache), fetching);
    fetch.issue_for("token", HOUR);
    caller.await.unwrap().unwrap();
    let fresh = Said {
        requested_at: Some(3),
        refresh_at: Some(3303),
        expires_at: Some(3603),
        ..FRESH
    };
    assert_eq!(now(&cache), fresh);
}

#[tokio::test]
async fn what_a_server_said_is_in_the_last_error() {
    let (cache, mut fetches, _clock) = set_up();
    let denied = token_server::fetch(401, r#"{"error":"invalid_client"}"#).await;
    let caller = tokio::spawn(cache.token());
    fetches.next().await.complete(denied);
    caller.await.unwrap().unwrap_err();
    let status = cache.status();
    assert!(status.last_error().unwrap().is_invalid_client());
    assert_eq!(now(&cache).next_attempt_at, Some(60));
}

#[tokio::test]
async fn a_token_over_the_refusal_budget_is_fresh_and_not_ready_until_the_wait_ends_or_it_is_accepted()
 {
    let (cache, mut fetches, clock) = set_up();
    issued(&mut fetches, &cache, "first", HOUR).await;
    cache.reject(&cache.token().await.unwrap());
    // The rejected token is withdrawn, but stays the current one until its successor arrives.
    let withdrawn = Said {
        is_ready: false,
        ..FRESH
    };
    assert_eq!(now(&cache), withdrawn);
    issued(&mut fetches, &cache, "second", HOUR).await;
    let second = cache.token().await.unwrap();
    cache.reject(&second);
    let limited = Said {
        is_ready: false,
        refusals_limited_until: Some(5),
        ..FRESH
    };
    assert_eq!(now(&cache), limited);
    clock.advance(4 * SECOND);
    assert_eq!(now(&cache), limited);
    cache.accept(&second);
    // The acceptance doesn't end the wait, but it shows that the token is valid.
    let accepted = |refusals_limited_until| Said {
        is_accepted: true,
        refusals_limited_until,
        ..FRESH
    };
    assert_eq!(now(&cache), accepted(Some(5)));
    clock.advance(SECOND);
    assert_eq!(now(&cache), accepted(None));
}

#[tokio::test]
async fn a_cache_that_closes_has_nothing_and_is_closed_when_the_fetch_has_ended_and_the_source_is_closed()
 {
    let (cache, mut fetches, _clock) = set_up();
    let caller = tokio::spawn(cache.token());
    let fetch = fetches.next().await;
    let mut close = task::spawn(cache.close());
    assert_pending!(close.poll());
    let of = |phase| Said { phase, ..EMPTY };
    assert_eq!(now(&cache), of(Phase::Closing));
    fetch.issue_for("last", HOUR);
    close.await;
    assert_eq!(now(&cache), of(Phase::Closed));
    assert_eq!(caller.await.unwrap().unwrap().secret(), "last");
}

#[test]
fn a_phase_is_one_word() {
    for (phase, word) in [
        (Phase::Empty, "empty"),
        (Phase::Fetching, "fetching"),
        (Phase::Fresh, "fresh"),
        (Phase::Stale, "stale"),
        (Phase::Expired, "expired"),
        (Phase::Failed, "failed"),
        (Phase::Closing, "closing"),
        (Phase::Closed, "closed"),
    ] {
        assert_eq!((phase.as_str(), &*phase.to_string()), (word, word));
    }
}

#[tokio::test]
async fn a_token_that_the_source_keeps_may_be_accepted_again() {
    let same = Token::bearer("kept").unwrap();
    let source = ScriptedSource::from_fn(move |_| same.clone());
    let cache = clocked(source, Clock::manual()).build();
    let token = cache.token().await.unwrap();
    cache.accept(&token);
    cache.refresh_now().await.unwrap();
    assert!(!cache.status().is_accepted());
    cache.accept(&token);
    assert!(cache.status().is_accepted());
}
