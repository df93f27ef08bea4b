//! Sources that stand below others: a cache, and a bearer token that somebody else sees to.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use tower::{Layer, ServiceExt};
use tower_auth::{ApiKey, AuthLayer, Place, Reason, SecretSource, TokenCache, TokenSource};

use crate::support::token_server::expiry;
use crate::support::{Answering, Api, Counting, Hands, paused, request, settle, source};

#[tokio::test]
async fn a_cache_is_the_source_of_its_token_and_of_a_newer_one_if_that_was_refused() {
    let cache = TokenCache::new(Counting::default());
    for (reason, token) in [
        (Reason::First, "token-1"),
        (Reason::Stale, "token-1"),
        (Reason::Expired, "token-1"),
        (Reason::Refused, "token-2"),
        (Reason::First, "token-2"),
        (Reason::Forced, "token-3"),
    ] {
        let fetched = cache.fetch(reason).await.unwrap();
        assert_eq!(fetched.secret(), token, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_out_of_a_cache_lasts_no_longer_for_being_taken_late() {
    let inner = paused(Counting::lasting(Duration::from_secs(3600))).build();
    inner.token().await.unwrap();
    let outer = paused(inner.clone()).build();
    tokio::time::advance(Duration::from_secs(3000)).await;
    assert_eq!(outer.token().await.unwrap().secret(), "token-1");
    // At its end, the margin before, both have it no more.
    tokio::time::advance(Duration::from_secs(580)).await;
    assert_eq!(outer.token().await.unwrap().secret(), "token-2");
    assert_eq!(inner.token().await.unwrap().secret(), "token-2");
}

#[tokio::test]
async fn a_token_without_an_end_has_none_out_of_a_cache_either() {
    let cache = TokenCache::new(Counting::default());
    let token = cache.fetch(Reason::First).await.unwrap();
    assert_eq!(expiry(&token), "Never");
}

#[tokio::test]
async fn a_refused_token_is_replaced_through_both_caches() {
    let inner = TokenCache::new(Counting::default());
    let api = Api::accepting(["token-2"]);
    let client = AuthLayer::new(inner.clone()).layer(api.clone());
    let response = client.oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(inner.token().await.unwrap().secret(), "token-2");
}

#[tokio::test]
async fn two_who_ask_a_cache_at_once_share_its_fetch() {
    let (source, mut fetches) = source();
    let cache = TokenCache::new(source);
    let asking: Vec<_> = (0..10)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.fetch(Reason::Refused).await })
        })
        .collect();
    let fetch = fetches.next().await;
    settle().await;
    fetch.issue("shared");
    for asked in asking {
        assert_eq!(asked.await.unwrap().unwrap().secret(), "shared");
    }
    fetches.none().await;
}

#[tokio::test]
async fn the_place_of_a_cache_is_that_of_its_source() {
    let cache = TokenCache::new(ApiKey::new("key").query("api_key").unwrap());
    assert_eq!(TokenSource::place(&cache), Place::Query("api_key".into()));
    let failing = TokenCache::new(Answering::new(|_| Err(tower_auth::Error::other("no"))));
    assert!(failing.fetch(Reason::First).await.unwrap_err().is_source());
}

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
    let client = AuthLayer::new(fixed).layer(api.clone());
    let response = client.oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn one_that_is_refused_is_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "old\n").unwrap();
    let api = Api::accepting(["old"]);
    let client = AuthLayer::new(SecretSource::file(&file)).layer(api.clone());
    client.clone().oneshot(request("")).await.unwrap();

    fs::write(&file, "new\n").unwrap();
    api.revoke("old");
    api.accept("new");
    let response = client.oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(api.credentials().last().unwrap(), "Bearer new");
}

#[tokio::test]
async fn one_that_may_be_replaced_is_read_anew_once_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "old").unwrap();
    let hands = Hands::default();
    let cache = hands.cache(SecretSource::file(&file)).build();
    assert_eq!(cache.token().await.unwrap().secret(), "old");
    fs::write(&file, "new").unwrap();
    hands.pass(Duration::from_secs(59));
    assert_eq!(cache.token().await.unwrap().secret(), "old");
    hands.pass(Duration::from_secs(2));
    // This one is served on, and the next is read behind it.
    let mut changes = cache.subscribe();
    assert_eq!(cache.token().await.unwrap().secret(), "old");
    let landed = changes.wait_for(|status| status.fetching().is_none());
    landed.await.unwrap();
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
    // Left behind by whoever should have replaced it: it isn't sent.
    let cache = TokenCache::new(SecretSource::from(jwt(now.as_secs() - 1)));
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
