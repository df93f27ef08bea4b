//! A cache as the token source of another cache.

use std::time::Duration;

use http::StatusCode;
use tower::{Layer, ServiceExt};
use tower_auth::{ApiKey, Place, Reason, TokenCache, TokenSource};
use tower_auth_test::{Api, ScriptedSource, Step, controlled_source, run_until_idle};

use crate::support::token_server::expiry;
use crate::support::{paused, request};

#[tokio::test]
async fn a_cache_is_the_source_of_its_token_and_of_a_newer_one_if_that_was_refused() {
    let cache = TokenCache::new(ScriptedSource::default());
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
    let inner = paused(ScriptedSource::expiring(Duration::from_secs(3600))).build();
    inner.token().await.unwrap();
    let outer = paused(inner.clone()).build();
    tokio::time::advance(Duration::from_secs(3000)).await;
    assert_eq!(outer.token().await.unwrap().secret(), "token-1");
    // The token has less than its expiry margin left, so neither cache serves it.
    tokio::time::advance(Duration::from_secs(580)).await;
    assert_eq!(outer.token().await.unwrap().secret(), "token-2");
    assert_eq!(inner.token().await.unwrap().secret(), "token-2");
}

#[tokio::test]
async fn a_token_without_an_end_has_none_out_of_a_cache_either() {
    let cache = TokenCache::new(ScriptedSource::default());
    let token = cache.fetch(Reason::First).await.unwrap();
    assert_eq!(expiry(&token), "Never");
}

#[tokio::test]
async fn a_refused_token_is_replaced_through_both_caches() {
    let inner = TokenCache::new(ScriptedSource::default());
    let api = Api::accepting(["token-2"]);
    let client = crate::support::layer(inner.clone()).layer(api.clone());
    let response = client.oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(inner.token().await.unwrap().secret(), "token-2");
}

#[tokio::test]
async fn two_who_ask_a_cache_at_once_share_its_fetch() {
    let (source, mut fetches) = controlled_source();
    let cache = TokenCache::new(source);
    let asking: Vec<_> = (0..10)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.fetch(Reason::Refused).await })
        })
        .collect();
    let fetch = fetches.next().await;
    run_until_idle().await;
    fetch.issue("shared");
    for asked in asking {
        assert_eq!(asked.await.unwrap().unwrap().secret(), "shared");
    }
    fetches.assert_none().await;
}

#[tokio::test]
async fn the_place_of_a_cache_is_that_of_its_source() {
    let cache = TokenCache::new(ApiKey::new("key").query("api_key").unwrap());
    assert_eq!(TokenSource::place(&cache), Place::Query("api_key".into()));
    let failing = TokenCache::new(ScriptedSource::new([Step::error("no")]));
    assert!(failing.fetch(Reason::First).await.unwrap_err().is_source());
}
