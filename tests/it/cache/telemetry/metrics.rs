//! The metrics that a recorder of the `metrics` facade gets.

use std::time::Duration;

use tokio::time::advance;
use tower::{Layer, ServiceExt};
use tower_auth::{Error, Token};
use tower_auth_test::{Api, ScriptedSource, controlled_source, run_until_idle};

use crate::support::recorder::{Metrics, Recorded, recorded};
use crate::support::scenarios::{REFUSALS, errors, orders, refuse_without_replay};
use crate::support::{call, issued, paused, request, token_server};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Returns the metrics whose names have this prefix.
fn only(recorded: &Recorded, name: &str) -> Vec<(String, Vec<f64>)> {
    let all = recorded.iter().filter(|(of, _)| of.starts_with(name));
    all.map(|(of, values)| (of.clone(), values.clone()))
        .collect()
}

/// Returns the value of the metric with this name. There must be exactly one value.
#[track_caller]
fn value(recorded: &Recorded, name: &str) -> f64 {
    match &only(recorded, name)[..] {
        [(_, values)] if values.len() == 1 => values[0],
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn a_fetch_is_counted_and_timed_with_those_who_waited_for_it() {
    recorded(|metrics| async move {
        let (source, mut fetches) = controlled_source();
        let cache = orders(source);
        let callers = [cache.token(), cache.token(), cache.token()].map(tokio::spawn);
        let fetch = fetches.next().await;
        run_until_idle().await;
        advance(Duration::from_millis(1250)).await;
        fetch.issue_for("token", HOUR);
        for caller in callers {
            caller.await.unwrap().unwrap();
        }
        let expected = [
            ("tower_auth.fetch.duration{cache=orders,reason=first}", 1.25),
            ("tower_auth.fetch.waiters{cache=orders,reason=first}", 3.0),
            (
                "tower_auth.fetches{cache=orders,outcome=ok,reason=first}",
                1.0,
            ),
            ("tower_auth.token.age{cache=orders}", 1.25),
            ("tower_auth.token.remaining{cache=orders}", 3598.75),
        ];
        let expected = expected.map(|(name, value)| (String::from(name), vec![value]));
        assert_eq!(metrics.take(), Recorded::from(expected));
    });
}

#[test]
fn fetches_are_counted_by_reason_and_outcome() {
    recorded(|metrics| async move {
        let (source, mut fetches) = controlled_source();
        let cache = orders(source);
        issued(&mut fetches, &cache, "first", HOUR).await;
        advance(HOUR - 300 * SECOND).await;
        cache.token().await.unwrap();
        fetches.next().await.fail("down");
        run_until_idle().await;
        advance(HOUR).await;
        let denied = token_server::fetch(400, r#"{"error":"invalid_scope"}"#).await;
        let caller = tokio::spawn(cache.token());
        fetches.next().await.complete(denied);
        caller.await.unwrap().unwrap_err();
        let forced = tokio::spawn(cache.refresh_now());
        fetches.next().await.issue_for("second", HOUR);
        forced.await.unwrap().unwrap();
        cache.reject(&cache.token().await.unwrap());
        issued(&mut fetches, &cache, "third", HOUR).await;

        let counts = [
            ("invalid_scope", "expired"),
            ("ok", "first"),
            ("ok", "forced"),
            ("ok", "refused"),
            ("source", "stale"),
        ]
        .map(|(outcome, reason)| {
            let labels = format!("cache=orders,outcome={outcome},reason={reason}");
            (format!("tower_auth.fetches{{{labels}}}"), vec![1.0])
        });
        assert_eq!(only(&metrics.take(), "tower_auth.fetches{"), counts);
    });
}

#[test]
fn the_outcome_of_a_fetch_is_the_type_of_its_error() {
    recorded(|metrics| async move {
        let errors = errors().await;
        metrics.take();
        for (error, word) in errors {
            let source = ScriptedSource::from_fn(move |_| error.clone());
            let cache = paused(source).fetch_attempts(1).build();
            cache.token().await.unwrap_err();
            let labels = format!("cache=default,outcome={word},reason=first");
            let count = (format!("tower_auth.fetches{{{labels}}}"), vec![1.0]);
            assert_eq!(only(&metrics.take(), "tower_auth.fetches"), [count]);
        }
    });
}

#[test]
fn only_the_duration_of_a_failed_fetch_has_a_type_of_error() {
    recorded(|metrics| async move {
        let source = ScriptedSource::from_fn(|attempt| match attempt {
            1 => Err(Error::other("down")),
            _ => Token::bearer("token"),
        });
        let cache = orders(source);
        cache.token().await.unwrap_err();
        cache.refresh_now().await.unwrap();
        let durations = [
            "cache=orders,error.type=source,reason=first",
            "cache=orders,reason=forced",
        ]
        .map(|labels| format!("tower_auth.fetch.duration{{{labels}}}"));
        let recorded = only(&metrics.take(), "tower_auth.fetch.duration").into_iter();
        let recorded: Vec<String> = recorded.map(|(name, _)| name).collect();
        assert_eq!(recorded, durations);
    });
}

#[test]
fn attempts_that_another_follows_are_counted_apart_and_their_pauses_are_in_the_duration() {
    recorded(|metrics| async move {
        let wait = 7 * SECOND;
        let source = ScriptedSource::from_fn(move |attempt| match attempt {
            1 | 2 => Err(Error::transient("busy").with_retry_after(wait)),
            _ => Token::bearer("token"),
        });
        orders(source).token().await.unwrap();
        let recorded = metrics.take();
        let labels = "cache=orders,error.type=source,reason=first";
        let failed = format!("tower_auth.fetch.attempts.failed{{{labels}}}");
        assert_eq!(
            only(&recorded, "tower_auth.fetch.attempts"),
            [(failed, vec![2.0])]
        );
        assert_eq!(value(&recorded, "tower_auth.fetch.duration"), 14.0);
        // Both failed attempts belong to one fetch, which got a token in the end.
        assert_eq!(value(&recorded, "tower_auth.fetches"), 1.0);
    });
}

/// Returns the token's age and remaining lifetime. Returns `None` if neither was set since the last
/// call.
fn gauges(metrics: &Metrics) -> Option<[f64; 2]> {
    let recorded = metrics.take();
    let names = ["tower_auth.token.age", "tower_auth.token.remaining"];
    let is_set = names.iter().any(|name| !only(&recorded, name).is_empty());
    is_set.then(|| names.map(|name| value(&recorded, name)))
}

#[test]
fn the_gauges_of_the_token_are_as_of_the_last_look_at_the_status() {
    recorded(|metrics| async move {
        let (source, mut fetches) = controlled_source();
        let cache = orders(source);
        issued(&mut fetches, &cache, "token", HOUR).await;
        assert_eq!(gauges(&metrics), Some([0.0, 3600.0]));
        advance(600 * SECOND).await;
        cache.token().await.unwrap();
        assert_eq!(gauges(&metrics), None);
        cache.status();
        assert_eq!(gauges(&metrics), Some([600.0, 3000.0]));
        advance(HOUR).await;
        cache.status();
        assert_eq!(gauges(&metrics), Some([4200.0, 0.0]));
    });
}

#[test]
fn without_a_token_the_gauges_tell_of_none_and_without_an_end_it_is_far() {
    recorded(|metrics| async move {
        let cache = orders(ScriptedSource::default());
        cache.status();
        assert_eq!(gauges(&metrics), Some([0.0, 0.0]));
        let token = cache.token().await.unwrap();
        advance(5 * SECOND).await;
        cache.status();
        assert_eq!(gauges(&metrics), Some([5.0, f64::INFINITY]));
        // The gauges show the rejected token until its successor arrives.
        cache.reject(&token);
        assert_eq!(gauges(&metrics), Some([5.0, f64::INFINITY]));
        cache.token().await.unwrap();
        assert_eq!(gauges(&metrics), Some([0.0, f64::INFINITY]));
        cache.close().await;
        assert_eq!(gauges(&metrics), Some([0.0, 0.0]));
    });
}

#[test]
fn replays_are_counted_as_sent_or_by_why_there_was_none() {
    recorded(|metrics| async move {
        let replays = || only(&metrics.take(), "tower_auth.replays");
        let of = |outcome: &str| {
            let labels = format!("cache=orders,outcome={outcome}");
            (format!("tower_auth.replays{{{labels}}}"), vec![1.0])
        };
        let client = crate::support::layer_from(orders(ScriptedSource::default()))
            .layer(Api::accepting(["token-2"]));
        client.oneshot(request("")).await.unwrap();
        assert_eq!(replays(), [of("sent")]);
        for word in REFUSALS {
            refuse_without_replay(word).await;
            let counted = replays();
            // In some scenarios, other requests or replays come before the refusal that the word
            // names.
            match *word {
                "refusal_budget" => {
                    assert_eq!(counted, [of("again"), of("refusal_budget"), of("sent")]);
                }
                "resource" => {
                    assert_eq!(counted, [of("again"), of("resource"), of("sent")]);
                }
                "again" => assert_eq!(counted, [of("again"), of("sent")]),
                word => assert_eq!(counted, [of(word)]),
            }
        }
    });
}

#[test]
fn a_limit_on_refusals_is_counted_once_per_token() {
    recorded(|metrics| async move {
        let mut client =
            crate::support::layer_from(orders(ScriptedSource::default())).layer(Api::default());
        for wait in [5, 10, 20] {
            for _ in 0..100 {
                call(&mut client, request("")).await.unwrap();
            }
            let limits = only(&metrics.take(), "tower_auth.refusals.limited");
            let counted = (
                String::from("tower_auth.refusals.limited{cache=orders}"),
                vec![1.0],
            );
            assert_eq!(limits, [counted]);
            advance(wait * SECOND).await;
        }
    });
}

#[test]
fn with_a_token_in_hand_nothing_is_recorded() {
    recorded(|metrics| async move {
        let cache = orders(ScriptedSource::expiring(HOUR));
        let mut client =
            crate::support::layer_from(cache.clone()).layer(Api::accepting(["token-1"]));
        call(&mut client, request("")).await.unwrap();
        metrics.take();
        for _ in 0..100 {
            advance(SECOND).await;
            call(&mut client, request("")).await.unwrap();
            client.clone().oneshot(request("")).await.unwrap();
            cache.token().await.unwrap();
            cache.accept(&cache.token().await.unwrap());
        }
        assert_eq!(metrics.take(), Recorded::new());
    });
}
