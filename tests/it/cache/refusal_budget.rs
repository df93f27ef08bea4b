//! An API that refuses every token causes only a few fetches, not one per request.

use std::time::Duration;

use http::StatusCode;
use tokio::time::advance;
use tower::{Layer, ServiceExt};
use tower_auth::cache::{Clock, ManualClock, Phase};
use tower_auth::{NotReplayed, Token, TokenCache};
use tower_auth_test::{Api, ScriptedSource, controlled_source, run_until_idle};

use crate::support::{call, clocked, credentials, issued, request};

const SECOND: Duration = Duration::from_secs(1);

fn set_up() -> (TokenCache, ScriptedSource, ManualClock) {
    let source = ScriptedSource::default();
    let clock = Clock::manual();
    let cache = clocked(source.clone(), &clock).build();
    (cache, source, clock)
}

#[tokio::test]
async fn a_thousand_requests_to_an_api_that_refuses_every_token_cost_five_fetches_a_minute() {
    let (cache, source, clock) = set_up();
    let api = Api::default();
    let client = crate::support::layer_from(cache.clone()).layer(api.clone());
    let mut fetches = Vec::new();
    for _ in 0..1_000 {
        let response = client.clone().oneshot(request("")).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.extensions().get::<NotReplayed>().is_some());
        fetches.push(source.tokens_issued());
        clock.advance(60 * SECOND / 1_000);
    }
    // Two fetches start immediately, and one each after 5, 15 and 35 s.
    assert_eq!(fetches[0], 2);
    assert_eq!(fetches[1_000 * 4 / 60], 2);
    assert_eq!(fetches[1_000 * 6 / 60], 3);
    assert_eq!(fetches[999], 5);
    // Each request was sent with a credential, and only four were replayed.
    assert_eq!(api.requests().len(), 1_000 + 4);
    assert!(credentials(&api).iter().all(|credential| credential != "-"));
}

#[tokio::test]
async fn a_thousand_at_once_cost_two() {
    let (cache, source, _clock) = set_up();
    let client = crate::support::layer_from(cache).layer(Api::default());
    let callers: Vec<_> = (0..1_000)
        .map(|_| tokio::spawn(client.clone().oneshot(request(""))))
        .collect();
    for caller in callers {
        let response = caller.await.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(source.tokens_issued(), 2);
}

#[tokio::test]
async fn without_replay_it_costs_no_more() {
    let (cache, source, _clock) = set_up();
    let client = crate::support::layer_from(cache)
        .retry(false)
        .layer(Api::default());
    for _ in 0..1_000 {
        client.clone().oneshot(request("")).await.unwrap();
        run_until_idle().await;
    }
    assert_eq!(source.tokens_issued(), 2);
}

#[tokio::test]
async fn the_delay_doubles_to_five_minutes() {
    let (cache, source, clock) = set_up();
    let client = crate::support::layer_from(cache).layer(Api::default());
    client.clone().oneshot(request("")).await.unwrap();
    let mut issued = 2;
    for delay in [5, 10, 20, 40, 80, 160, 300, 300, 300] {
        clock.advance(delay * SECOND - Duration::from_millis(1));
        client.clone().oneshot(request("")).await.unwrap();
        assert_eq!(source.tokens_issued(), issued, "{delay}");
        clock.advance(Duration::from_millis(1));
        client.clone().oneshot(request("")).await.unwrap();
        issued += 1;
        assert_eq!(source.tokens_issued(), issued, "{delay}");
    }
}

#[tokio::test]
async fn a_refusal_over_the_budget_says_so() {
    let (cache, _, _clock) = set_up();
    let client = crate::support::layer_from(cache.clone()).layer(Api::default());
    client.clone().oneshot(request("")).await.unwrap();
    let status = cache.status();
    assert!(status.refusals_limited_until().is_some() && !status.is_ready());
    assert_eq!(status.phase(), Phase::Fresh);

    let response = client.oneshot(request("")).await.unwrap();
    let why = response.extensions().get::<NotReplayed>();
    assert!(matches!(why, Some(NotReplayed::RefusalBudget)), "{why:?}");
    assert!(why.unwrap().to_string().contains("used up"));
}

#[tokio::test]
async fn an_acceptance_does_not_clear_the_count_of_refusals_and_a_token_that_lasts_does() {
    let (cache, source, clock) = set_up();
    let api = Api::default();
    let mut client = crate::support::layer_from(cache.clone()).layer(api.clone());
    for _ in 0..10 {
        call(&mut client, request("")).await.unwrap();
    }
    assert_eq!(source.tokens_issued(), 2);

    // From here on, the API accepts the current token.
    api.accept("token-2");
    let response = call(&mut client, request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let status = cache.status();
    assert!(status.refusals_limited_until().is_some() && status.is_ready());

    // The API accepts the next token for longer than the 5 s of the current wait. So the budget
    // starts again.
    cache.refresh_now().await.unwrap();
    api.accept("token-3");
    call(&mut client, request("")).await.unwrap();
    clock.advance(5 * SECOND);
    assert_eq!(cache.status().refusals_limited_until(), None);
    api.revoke("token-3");
    for _ in 0..10 {
        call(&mut client, request("")).await.unwrap();
    }
    assert_eq!(source.tokens_issued(), 4);
    let until = cache.status().refusals_limited_until().unwrap();
    let delay = until.duration_since(clock.now().wall());
    assert_eq!(delay.unwrap(), 5 * SECOND);
}

#[tokio::test]
async fn a_token_that_was_accepted_and_is_revoked_again_and_again_is_replaced_each_time() {
    let (cache, source, clock) = set_up();
    let api = Api::default();
    let mut client = crate::support::layer_from(cache).layer(api.clone());
    for generation in 1..=50 {
        api.accept(format!("token-{generation}"));
        let response = call(&mut client, request("")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        api.revoke(&format!("token-{generation}"));
        clock.advance(5 * SECOND);
    }
    assert_eq!(source.tokens_issued(), 50);
}

#[tokio::test]
async fn only_a_success_or_a_redirect_is_an_acceptance() {
    for (status, accepts) in [
        (200, true),
        (204, true),
        (302, true),
        (400, false),
        (403, false),
        (404, false),
        (429, false),
        (500, false),
        (503, false),
    ] {
        let (cache, _, _clock) = set_up();
        let responses = tower::service_fn(move |_: http::Request<http_body_util::Full<_>>| {
            let mut response = http::Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            std::future::ready(Ok::<_, std::convert::Infallible>(response))
        });
        let client = crate::support::layer_from(cache.clone()).layer(responses);
        client.oneshot(request("")).await.unwrap();
        assert_eq!(cache.status().is_accepted(), accepts, "{status}");
    }
}

/// The used-up budget is about the current token, so only an acceptance of that token counts.
#[tokio::test]
async fn the_late_acceptance_of_an_old_token_clears_nothing() {
    let (cache, source, _clock) = set_up();
    let old = cache.token().await.unwrap();
    cache.reject(&old);
    let new = cache.token().await.unwrap();
    cache.reject(&new);
    assert!(cache.status().refusals_limited_until().is_some());
    cache.accept(&old);
    assert!(cache.status().refusals_limited_until().is_some());
    cache.reject(&new);
    cache.token().await.unwrap();
    assert_eq!(source.tokens_issued(), 2);
}

/// The source issues the same token each time, so the server refuses each request.
#[tokio::test]
async fn a_source_that_keeps_its_refused_token_has_the_same_budget() {
    let (clock, same) = (Clock::manual(), Token::bearer("kept").unwrap());
    let source = tower_auth_test::ScriptedSource::from_fn(move |_| same.clone());
    let cache = clocked(source.clone(), &clock).build();
    let client = crate::support::layer_from(cache).layer(Api::default());
    for _ in 0..1_000 {
        client.clone().oneshot(request("")).await.unwrap();
        clock.advance(60 * SECOND / 1_000);
    }
    assert_eq!(source.fetches(), 5);
}

#[tokio::test]
async fn a_refresh_that_is_asked_for_ignores_the_refusal_budget() {
    let (cache, source, _clock) = set_up();
    let client = crate::support::layer_from(cache.clone()).layer(Api::accepting(["token-3"]));
    client.clone().oneshot(request("")).await.unwrap();
    assert!(cache.status().refusals_limited_until().is_some());
    cache.refresh_now().await.unwrap();
    assert_eq!(source.tokens_issued(), 3);
    let response = client.oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

/// A used-up budget doesn't delay a normal refresh, because other resources may accept the token.
#[tokio::test(start_paused = true)]
async fn a_token_over_the_refusal_budget_is_refreshed_as_any_other() {
    let (source, mut fetches) = controlled_source();
    let cache = crate::support::paused(source).build();
    for secret in ["first", "second"] {
        issued(&mut fetches, &cache, secret, Duration::from_secs(3600)).await;
        cache.reject(&cache.token().await.unwrap());
    }
    assert!(cache.status().refusals_limited_until().is_some());
    advance(Duration::from_secs(3300)).await;
    assert_eq!(cache.token().await.unwrap().secret(), "second");
    fetches
        .next()
        .await
        .issue_for("third", Duration::from_secs(3600));
    run_until_idle().await;
    assert_eq!(cache.token().await.unwrap().secret(), "third");
}
