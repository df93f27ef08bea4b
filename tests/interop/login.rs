//! A JSON login and refresh tokens of djangorestframework-simplejwt.

use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use reqwest::{Client, Response};
use serde_json::Value;
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::cache::Clock;
use tower_auth::login::JsonLogin;
use tower_auth::{Auth, AuthLayer, Reason, TokenCache, TokenSource};

use crate::login_server::{Django, PASSWORD, USER};
use crate::servers::{HTTP, origin_of};

const LOGIN: &str = "POST /api/token/ 200";
const REFRESH: &str = "POST /api/token/refresh/ 200";
const NOTES: &str = "POST /api/notes/ 200";
const REFUSED: &str = "POST /api/notes/ 401";

/// Builds a login for simplejwt's endpoints and field names.
fn login(django: &Django, password: &str) -> JsonLogin {
    JsonLogin::new(django.url("/api/token/"), USER, password)
        .and_then(|login| login.refresh_at(django.url("/api/token/refresh/")))
        .and_then(|login| login.user_field("/username"))
        .and_then(|login| login.access_token_field("/access"))
        .and_then(|login| login.refresh_token_field("/refresh"))
        .and_then(|login| login.error_field("/detail"))
        .unwrap()
}

fn client(django: &Django, cache: TokenCache) -> Auth<Client> {
    let origin = origin_of(&django.url("/"));
    ServiceBuilder::new()
        .layer(AuthLayer::from(cache).only_to([origin]).unwrap())
        .service(HTTP.clone())
}

async fn ask(django: &Django, client: &Auth<Client>) -> Response {
    let request = HTTP.post(django.url("/api/notes/"));
    let request = request.header("content-type", "application/json");
    let request = request.body(r#"{"text": "buy milk"}"#).build().unwrap();
    client.clone().oneshot(request).await.unwrap()
}

async fn is_answered(django: &Django, client: &Auth<Client>) {
    let response = ask(django, client).await;
    assert_eq!(response.status(), StatusCode::OK);
    let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(answer["for"], USER);
    assert_eq!(answer["sent"]["text"], "buy milk");
}

/// simplejwt accepts each refresh token once. So each refresh must use the newest.
#[tokio::test]
async fn fifty_callers_are_one_login_and_at_each_expiry_one_refresh_with_the_newest_refresh_token()
{
    let django = Django::start();
    let time = Clock::manual();
    let cache = TokenCache::builder(login(&django, PASSWORD)).clock(&time);
    let client = client(&django, cache.build());
    let mut expected = Vec::new();
    for ask_for_a_token in [LOGIN, REFRESH, REFRESH, REFRESH] {
        join_all((0..50).map(|_| is_answered(&django, &client))).await;
        expected.push(ask_for_a_token);
        expected.extend([NOTES; 50]);
        time.advance(Duration::from_secs(300));
    }
    assert_eq!(django.lines().await, expected);
}

#[tokio::test]
async fn an_access_token_that_was_taken_back_costs_one_refresh_and_each_request_one_replay() {
    let django = Django::start();
    let client = client(&django, TokenCache::new(login(&django, PASSWORD)));
    let all = async || {
        join_all((0..20).map(|_| is_answered(&django, &client))).await;
    };
    all().await;
    django.tell("revoke-access-tokens").await;
    all().await;
    let lines = django.lines().await;
    let count = |line: &str| lines.iter().filter(|seen| *seen == line).count();
    assert_eq!((count(LOGIN), count(REFRESH)), (1, 1), "{lines:?}");
    assert_eq!(count(NOTES), 40);
    // Only requests that started before the new token arrived were refused.
    assert!((1..=20).contains(&count(REFUSED)), "{lines:?}");
    assert_eq!(lines.len(), 1 + 1 + 40 + count(REFUSED));
}

#[tokio::test]
async fn a_refresh_token_that_is_blacklisted_costs_a_login_and_nobody_sees_it() {
    let django = Django::start();
    let client = client(&django, TokenCache::new(login(&django, PASSWORD)));
    is_answered(&django, &client).await;
    django.tell("blacklist-refresh-tokens").await;
    django.tell("revoke-access-tokens").await;
    is_answered(&django, &client).await;
    let refresh_refused = "POST /api/token/refresh/ 401";
    assert_eq!(
        django.lines().await,
        [LOGIN, NOTES, REFUSED, refresh_refused, LOGIN, NOTES]
    );
}

#[tokio::test]
async fn a_wrong_password_is_permanent_and_the_error_has_the_servers_words_and_not_the_password() {
    let django = Django::start();
    let source = login(&django, "not the p4ssword");
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_denied() && error.is_permanent(), "{error:?}");
    assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));
    let said = error.description().unwrap_or_default();
    assert!(said.starts_with("No active account"), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("p4ssword"));
    // All 20 callers share one login request, which the server refuses.
    let cache = TokenCache::new(source);
    let answers = join_all((0..20).map(|_| cache.token())).await;
    assert!(answers.iter().all(Result::is_err));
    assert_eq!(django.lines().await, ["POST /api/token/ 401"; 2]);
}
