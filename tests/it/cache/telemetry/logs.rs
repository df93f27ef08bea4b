//! The tests check each log event with its level and fields, and the span around the source.

use std::time::Duration;

use tokio::time::{advance, sleep};
use tower::{Layer, ServiceExt};
use tower_auth::{Error, Reason, Token, TokenCache, TokenSource};
use tower_auth_test::{Api, Fetches, ScriptedSource, controlled_source, run_until_idle};
use tracing::{Instrument, Level, info_span};

use crate::support::log::{Line, listen};
use crate::support::scenarios::{FailingClose, REFUSALS, errors, orders, refuse_without_replay};
use crate::support::{call, issued, paused, request, token_server};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn set_up() -> (TokenCache, Fetches) {
    let (source, fetches) = controlled_source();
    (orders(source), fetches)
}

#[tokio::test(start_paused = true)]
async fn a_fetch_tells_why_how_long_how_often_for_how_many_and_what_it_brought() {
    let (log, _listening) = listen();
    let (cache, mut fetches) = set_up();
    let callers = [cache.token(), cache.token(), cache.token()].map(tokio::spawn);
    let fetch = fetches.next().await;
    run_until_idle().await;
    advance(2 * SECOND).await;
    fetch.issue_for("token", HOUR);
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    let [completed] = log.events();
    completed.is(
        Level::DEBUG,
        "a token was fetched",
        [
            "tower_auth.cache=orders",
            "tower_auth.fetch.reason=first",
            "tower_auth.fetch.duration=2s",
            "tower_auth.fetch.attempts=1",
            "tower_auth.fetch.waiters=3",
            "tower_auth.token.lifetime=3598s",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_that_never_ends_has_no_lifetime_and_a_cache_without_a_name_is_the_default() {
    let (log, _listening) = listen();
    let cache = paused(ScriptedSource::default()).build();
    cache.token().await.unwrap();
    let [completed] = log.events();
    completed.is(
        Level::DEBUG,
        "a token was fetched",
        [
            "tower_auth.cache=default",
            "tower_auth.fetch.reason=first",
            "tower_auth.fetch.duration=0ns",
            "tower_auth.fetch.attempts=1",
            "tower_auth.fetch.waiters=1",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_fetch_tells_each_reason() {
    let (log, _listening) = listen();
    let (cache, mut fetches) = set_up();
    let mut told = Vec::new();
    let mut tell = |asked: Reason| {
        let [completed] = log.events();
        assert_eq!(completed.value("tower_auth.fetch.reason"), asked.as_str());
        let [span] = log.spans();
        span.is(
            Level::DEBUG,
            "token fetch",
            [
                "tower_auth.cache=orders",
                &*format!("tower_auth.fetch.reason={asked}"),
            ],
        );
        told.push(asked);
    };
    issued(&mut fetches, &cache, "first", HOUR).await;
    tell(Reason::First);
    advance(HOUR - 300 * SECOND).await;
    cache.token().await.unwrap();
    fetches.next().await.issue_for("second", HOUR);
    run_until_idle().await;
    tell(Reason::Stale);
    advance(HOUR).await;
    issued(&mut fetches, &cache, "third", HOUR).await;
    tell(Reason::Expired);
    cache.reject(&cache.token().await.unwrap());
    issued(&mut fetches, &cache, "fourth", HOUR).await;
    tell(Reason::Refused);
    let forced = tokio::spawn(cache.refresh_now());
    fetches.next().await.issue_for("fifth", HOUR);
    forced.await.unwrap().unwrap();
    tell(Reason::Forced);
    assert_eq!(told.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_another_follows_is_logged_and_the_completion_counts_it() {
    let (log, _listening) = listen();
    let busy = token_server::fetch(503, "").await.unwrap_err();
    let said = busy.to_string();
    let source = ScriptedSource::from_fn(move |attempt| match attempt {
        1 => Err(busy.clone()),
        2 => Err(Error::transient("reset").with_retry_after(3 * SECOND)),
        _ => Token::bearer("token"),
    });
    orders(source).token().await.unwrap();
    let [first, second, completed] = log.events();
    first.is(
        Level::DEBUG,
        "could not fetch a token; another attempt follows",
        [
            "tower_auth.cache=orders",
            "tower_auth.fetch.reason=first",
            "tower_auth.fetch.retry_in=200ms",
            "error.type=denied",
            &*format!("error.message={said}"),
            "http.response.status_code=503",
        ],
    );
    second.is(
        Level::DEBUG,
        "could not fetch a token; another attempt follows",
        [
            "tower_auth.cache=orders",
            "tower_auth.fetch.reason=first",
            "tower_auth.fetch.retry_in=3s",
            "error.type=source",
            "error.message=the token source failed",
        ],
    );
    assert_eq!(completed.message, "a token was fetched");
    assert_eq!(completed.value("tower_auth.fetch.attempts"), "3");
    for line in [first, second, completed] {
        assert_eq!(line.within, ["token fetch"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_fails_tells_with_what_and_how_long_there_is_no_other() {
    let (log, _listening) = listen();
    let (cache, mut fetches) = set_up();
    let denied = token_server::fetch(401, r#"{"error":"invalid_client"}"#).await;
    let said = denied.as_ref().unwrap_err().to_string();
    let callers = [cache.token(), cache.token()].map(tokio::spawn);
    let fetch = fetches.next().await;
    run_until_idle().await;
    advance(SECOND).await;
    fetch.complete(denied);
    for caller in callers {
        caller.await.unwrap().unwrap_err();
    }
    let [failed] = log.events();
    failed.is(
        Level::WARN,
        "could not fetch a token",
        [
            "tower_auth.cache=orders",
            "tower_auth.fetch.reason=first",
            "tower_auth.fetch.duration=1s",
            "tower_auth.fetch.attempts=1",
            "tower_auth.fetch.waiters=2",
            "tower_auth.fetch.retry_in=60s",
            "error.type=invalid_client",
            &*format!("error.message={said}"),
            "http.response.status_code=401",
        ],
    );
    // A call that gets the cached error logs nothing.
    cache.token().await.unwrap_err();
    let [] = log.events();
    let [_opened, error_type, status, description] = log.spans();
    let recorded = [error_type, status, description].map(|line| line.fields);
    assert_eq!(
        recorded,
        [
            [String::from("error.type=invalid_client")],
            [String::from("otel.status_code=ERROR")],
            [format!("otel.status_description={said}")],
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn each_error_has_its_type() {
    let errors = errors().await;
    let (log, _listening) = listen();
    for (error, word) in errors {
        let source = ScriptedSource::from_fn(move |_| error.clone());
        let cache = paused(source).fetch_attempts(1).build();
        cache.token().await.unwrap_err();
        let [failed] = log.events();
        assert_eq!(failed.value("error.type"), word);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_told() {
    let (log, _listening) = listen();
    let api = Api::accepting(["token-2"]);
    let client = crate::support::layer_from(orders(ScriptedSource::default())).layer(api);
    let response = client.oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), 200);
    let [_fetched, _fetched_again, replayed] = log.events();
    replayed.is(
        Level::DEBUG,
        "a refused request is sent again",
        ["tower_auth.cache=orders", "http.request.resend_count=1"],
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_not_replayed_is_logged_with_why() {
    let (log, _listening) = listen();
    for word in REFUSALS {
        refuse_without_replay(word).await;
        let told = log.all().pop().unwrap();
        told.is(
            Level::DEBUG,
            "a refused request is not replayed",
            [
                "tower_auth.cache=orders",
                &*format!("tower_auth.not_replayed={word}"),
            ],
        );
    }
}

/// Keeps only events above `DEBUG`.
fn remarkable(mut lines: Vec<Line>) -> Vec<Line> {
    lines.retain(|line| line.level < Level::DEBUG);
    lines
}

#[tokio::test(start_paused = true)]
async fn a_limit_on_refusals_is_logged_once_per_token_and_once_as_it_ends() {
    let (log, _listening) = listen();
    let source = ScriptedSource::from_fn(|attempt| {
        Token::bearer(format!("token-{attempt}")).map(|token| token.with_scope("read"))
    });
    let cache = orders(source.clone());
    let api = Api::default();
    let mut client = crate::support::layer_from(cache).layer(api.clone());
    for (refusals, retry_in) in [("2", 5), ("3", 10), ("4", 20)] {
        for _ in 0..100 {
            call(&mut client, request("")).await.unwrap();
        }
        let told = remarkable(log.all());
        let [limited] = &told[..] else {
            panic!("{told:#?}");
        };
        assert_eq!(limited.level, Level::WARN);
        for word in ["audience", "issuer", "scope"] {
            assert!(limited.message.contains(word), "{limited}");
        }
        assert_eq!(
            limited.fields,
            [
                String::from("tower_auth.cache=orders"),
                format!("tower_auth.refusals.count={refusals}"),
                format!("tower_auth.refusals.retry_in={retry_in}s"),
                String::from("tower_auth.token.scope=read"),
            ]
        );
        advance(retry_in * SECOND).await;
    }
    api.accept("token-4");
    for _ in 0..100 {
        call(&mut client, request("")).await.unwrap();
    }
    assert!(remarkable(log.all()).is_empty());
    advance(60 * SECOND).await;
    call(&mut client, request("")).await.unwrap();
    let told = remarkable(log.all());
    let [cleared] = &told[..] else {
        panic!("{told:#?}");
    };
    cleared.is(
        Level::INFO,
        "no token was refused for a while, so refusals are no longer limited",
        ["tower_auth.cache=orders"],
    );
}

/// A limit ends after 60 s without a refusal. The wait of the budget is longer by then: 80 s.
#[tokio::test(start_paused = true)]
async fn a_limit_on_refusals_does_not_end_while_the_budget_waits() {
    let (log, _listening) = listen();
    let cache = orders(ScriptedSource::default());
    let mut client = crate::support::layer_from(cache).layer(Api::default());
    for wait in [5, 10, 20, 40] {
        call(&mut client, request("")).await.unwrap();
        advance(wait * SECOND).await;
    }
    call(&mut client, request("")).await.unwrap();
    log.all();
    advance(70 * SECOND).await;
    call(&mut client, request("")).await.unwrap();
    let told = remarkable(log.all());
    assert!(told.is_empty(), "{told:#?}");
}

/// The first token was accepted before, so it doesn't count.
#[tokio::test(start_paused = true)]
async fn a_limit_after_a_single_refused_token_is_not_logged() {
    let (log, _listening) = listen();
    let cache = orders(ScriptedSource::default());
    let api = Api::accepting(["token-1"]);
    let mut client = crate::support::layer_from(cache).layer(api.clone());
    call(&mut client, request("")).await.unwrap();
    api.revoke("token-1");
    for _ in 0..10 {
        call(&mut client, request("")).await.unwrap();
    }
    let told = remarkable(log.all());
    assert!(told.is_empty(), "{told:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_acceptance_without_refusals_over_the_budget_is_not_logged() {
    let (log, _listening) = listen();
    let cache = orders(ScriptedSource::default());
    let mut client = crate::support::layer_from(cache.clone()).layer(Api::accepting(["token-2"]));
    // There is only one refusal, and it is within the budget.
    for _ in 0..10 {
        let response = call(&mut client, request("")).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    cache.accept(&cache.token().await.unwrap());
    let [_fetched, _fetched_again, _replayed] = log.events();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_to_close_is_told() {
    let (log, _listening) = listen();
    for (source, word, message) in [
        (FailingClose::Fails, "source", "the token source failed"),
        (FailingClose::Panics, "panic", "the token source panicked"),
        (
            FailingClose::Hangs,
            "timeout",
            "the token source was not closed within 5s",
        ),
    ] {
        orders(source).close().await;
        let [failed] = log.events();
        failed.is(
            Level::WARN,
            "could not close the token source",
            [
                "tower_auth.cache=orders",
                &*format!("error.type={word}"),
                &*format!("error.message={message}"),
            ],
        );
    }
    orders(ScriptedSource::default()).close().await;
    let [] = log.events();
}

#[test]
fn a_source_that_there_is_no_runtime_to_close_on_is_told() {
    let (log, _listening) = listen();
    let cache = TokenCache::builder(ScriptedSource::default()).name("orders");
    let cache = cache.build();
    futures_util::FutureExt::now_or_never(cache.close()).unwrap();
    let [failed] = log.events();
    assert_eq!(failed.value("error.type"), "runtime");
    assert_eq!(failed.message, "could not close the token source");
}

/// A source that logs at the start of each fetch, and again after a pause.
fn logging(lifetime: Duration) -> impl TokenSource {
    move |_| async move {
        tracing::info!("asking the vault");
        tokio::task::yield_now().await;
        tracing::info!("the vault has responded");
        Token::bearer("token").map(|token| token.expires_in(lifetime))
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_source_logs_is_in_the_span_of_the_fetch_in_that_of_the_first_caller() {
    let (log, _listening) = listen();
    let cache = orders(logging(HOUR));
    let client = crate::support::layer_from(cache.clone()).layer(Api::accepting(["token"]));
    let first = client.oneshot(request("")).instrument(info_span!("first"));
    let second = cache.token().instrument(info_span!("second"));
    let (response, token) = tokio::join!(first, second);
    assert_eq!(response.unwrap().status(), 200);
    token.unwrap();
    let [asking, responded, completed] = log.events();
    for line in [asking, responded, completed] {
        assert_eq!(line.within, ["token fetch", "first"], "{line}");
    }
    let [_first, _second, fetch] = log.spans();
    assert_eq!(
        (&*fetch.message, &fetch.within[..]),
        ("token fetch", &["first"][..])
    );

    // A background refresh belongs to the span of the caller that found the token stale.
    advance(HOUR - 300 * SECOND).await;
    let third = cache.token().instrument(info_span!("third"));
    third.await.unwrap();
    run_until_idle().await;
    let [_asking, _responded, completed] = log.events();
    assert_eq!(completed.within, ["token fetch", "third"]);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_nobody_asked_for_is_in_no_callers_span() {
    let (log, _listening) = listen();
    let cache = paused(logging(HOUR)).keep_fresh().build();
    let first = cache.token().instrument(info_span!("first"));
    first.await.unwrap();
    let [_asking, _responded, completed] = log.events();
    assert_eq!(completed.within, ["token fetch", "first"]);
    sleep(HOUR - 299 * SECOND).await;
    let [_asking, _responded, completed] = log.events();
    assert_eq!(completed.within, ["token fetch"]);
    assert_eq!(completed.value("tower_auth.fetch.reason"), "stale");
}

#[tokio::test(start_paused = true)]
async fn with_a_token_in_hand_nothing_is_logged() {
    let (log, _listening) = listen();
    let cache = orders(ScriptedSource::default());
    let mut client = crate::support::layer_from(cache.clone()).layer(Api::accepting(["token-1"]));
    call(&mut client, request("")).await.unwrap();
    log.all();
    for _ in 0..10 {
        call(&mut client, request("")).await.unwrap();
        cache.token().await.unwrap();
    }
    assert!(log.all().is_empty());
}
