//! A bearer token that another program keeps up to date. The source reads it from that program's
//! storage.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use tower::{Layer, ServiceExt};
use tower_auth::cache::Clock;
use tower_auth::{Reason, SecretSource, TokenCache, TokenSource};
use tower_auth_test::Api;

use crate::support::token_server::expiry;
use crate::support::{clocked, credentials, request};

fn jwt(exp: u64) -> String {
    let [header, claims] = ["{}".to_owned(), format!(r#"{{"iat":1,"exp":{exp}}}"#)]
        .map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{header}.{claims}.signature")
}

#[tokio::test]
async fn a_secret_is_a_bearer_token() {
    let fixed = SecretSource::from("the-token");
    let token = fixed.fetch(Reason::First).await.unwrap();
    assert_eq!(token.header_value().unwrap(), "Bearer the-token");
    assert_eq!(expiry(&token), "Never");

    let api = Api::accepting(["the-token"]);
    let client = crate::support::layer(fixed).layer(api.clone());
    let response = client.oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn one_that_is_refused_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "old\n").unwrap();
    let api = Api::accepting(["old"]);
    let client = crate::support::layer(SecretSource::file(&file)).layer(api.clone());
    client.clone().oneshot(request("")).await.unwrap();

    fs::write(&file, "new\n").unwrap();
    api.revoke("old");
    api.accept("new");
    let response = client.oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(credentials(&api).last().unwrap(), "Bearer new");
}

#[tokio::test]
async fn one_that_may_be_replaced_is_read_again_once_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "old").unwrap();
    let clock = Clock::manual();
    let cache = clocked(SecretSource::file(&file), &clock).build();
    assert_eq!(cache.token().await.unwrap().secret(), "old");
    fs::write(&file, "new").unwrap();
    clock.advance(Duration::from_secs(59));
    assert_eq!(cache.token().await.unwrap().secret(), "old");
    clock.advance(Duration::from_secs(2));
    // The old token stays in use while the next is read in the background.
    let mut changes = cache.subscribe();
    assert_eq!(cache.token().await.unwrap().secret(), "old");
    let completed = changes.wait_for(|status| status.fetching().is_none());
    completed.await.unwrap();
    assert_eq!(cache.token().await.unwrap().secret(), "new");
}

#[tokio::test]
async fn a_jwt_is_good_until_its_own_end() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let exp = now.as_secs() + 3600;
    for secret in [
        SecretSource::from(jwt(exp)),
        SecretSource::from_fn(move || async move { Ok(jwt(exp).into()) }),
    ] {
        let token = secret.fetch(Reason::First).await.unwrap();
        assert!(expiry(&token).contains(&exp.to_string()), "{token:?}");
    }
    // A token that the other program failed to replace has expired, and isn't sent.
    let expired = SecretSource::from(jwt(now.as_secs() - 1));
    let cache = TokenCache::builder(expired).fetch_attempts(1).build();
    assert!(cache.token().await.unwrap_err().is_expired());
}

#[tokio::test]
async fn what_is_no_token_is_an_error() {
    let illegal = SecretSource::from("two\nlines");
    let error = illegal.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_illegal_token());
    let missing = SecretSource::env("TOWER_AUTH_IS_NOT_SET");
    let error = missing.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_config() && error.to_string().contains("TOWER_AUTH_IS_NOT_SET"));
}
