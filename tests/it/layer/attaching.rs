//! What the layer attaches to a request, and what it leaves unchanged.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::{NotReplayed, Place, Token, TokenCache};
use tower_auth_test::{Api, ScriptedSource, controlled_source};

use super::Clones;
use crate::support::{call, credentials, request};

#[tokio::test]
async fn a_request_carries_the_token_and_the_response_comes_back_untouched() {
    let api = Api::accepting(["token-1"]);
    let client = crate::support::layer(ScriptedSource::default()).layer(api.clone());
    let response = client.oneshot(request("hello")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(credentials(&api), ["Bearer token-1"]);
    assert!(response.extensions().get::<NotReplayed>().is_none());
}

#[tokio::test]
async fn a_thousand_concurrent_requests_are_one_fetch() {
    let (source, api) = (ScriptedSource::default(), Api::accepting(["token-1"]));
    let client = crate::support::layer(source.clone()).layer(api.clone());
    let responses = (0..1_000).map(|_| client.clone().oneshot(request("")));
    for response in join_all(responses).await {
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
    assert_eq!((source.tokens_issued(), api.requests().len()), (1, 1_000));
}

#[tokio::test]
async fn every_clone_of_the_service_uses_the_new_token_after_a_refusal() {
    let (source, api) = (ScriptedSource::default(), Api::accepting(["token-1"]));
    let mut client = crate::support::layer(source.clone()).layer(api.clone());
    let mut other = client.clone();
    // Each clone has a private copy of the header by its third request.
    for _ in 0..3 {
        call(&mut client, request("")).await.unwrap();
        call(&mut other, request("")).await.unwrap();
    }
    api.revoke("token-1");
    api.accept("token-2");
    call(&mut client, request("")).await.unwrap();
    let seen = api.requests().len();
    call(&mut other, request("")).await.unwrap();
    assert_eq!(credentials(&api)[seen..], ["Bearer token-2"]);
    assert_eq!(source.tokens_issued(), 2);
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_error_is_the_caches() {
    let (source, mut fetches) = controlled_source();
    let api = Api::default();
    let client = crate::support::layer(source).layer(api.clone());
    let caller = tokio::spawn(client.clone().oneshot(request("")));
    fetches.next().await.fail("down");
    let error = caller.await.unwrap().unwrap_err();
    assert!(
        error
            .downcast_ref::<tower_auth::Error>()
            .unwrap()
            .is_source()
    );
    // The next caller gets the same error at once, without a fetch.
    let error = client.oneshot(request("")).await.unwrap_err();
    assert!(error.is::<tower_auth::Error>());
    assert_eq!(api.requests().len(), 0);
    fetches.assert_none().await;
}

#[tokio::test]
async fn an_error_of_the_client_is_passed_on_as_it_is() {
    #[derive(Debug, thiserror::Error)]
    #[error("the wire is cut")]
    struct Cut;
    let client = service_fn(|_: Request<Full<Bytes>>| async { Err::<Response<()>, _>(Cut) });
    let client = crate::support::layer(ScriptedSource::default()).layer(client);
    let error = client.oneshot(request("")).await.unwrap_err();
    assert!(error.is::<Cut>());
}

#[tokio::test]
async fn the_callers_own_authorization_passes_untouched_unretried_and_without_a_fetch() {
    let (source, mut fetches) = controlled_source();
    let api = Api::default();
    let layer = crate::support::layer(source);
    let mut client = layer.layer(api.clone());
    let own = || {
        let mut own = request("");
        own.headers_mut()
            .insert(AUTHORIZATION, "Basic b3du".parse().unwrap());
        // The layer doesn't change a caller's own credential, even over cleartext.
        *own.uri_mut() = "http://api.example.com/".parse().unwrap();
        own
    };
    let response = call(&mut client, own()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(response.extensions().get::<NotReplayed>().is_none());
    fetches.assert_none().await;

    // Even a client with a private copy of its header sends the caller's own credential.
    let token = tokio::spawn(layer.cache().token());
    fetches.next().await.issue("ours");
    token.await.unwrap().unwrap();
    api.accept("ours");
    for _ in 0..3 {
        call(&mut client, request("")).await.unwrap();
    }
    let seen = api.requests().len();
    call(&mut client, own()).await.unwrap();
    assert_eq!(credentials(&api)[seen..], ["Basic b3du"]);
    fetches.assert_none().await;
    assert_eq!(layer.cache().token().await.unwrap().secret(), "ours");
}

#[tokio::test]
async fn the_callers_own_authorization_is_replaced_if_the_layer_is_told_to() {
    let api = Api::accepting(["token-2"]);
    let client = crate::support::layer(ScriptedSource::default())
        .replace_existing(true)
        .layer(api.clone());
    let mut own = request("");
    own.headers_mut()
        .append(AUTHORIZATION, "Basic b3du".parse().unwrap());
    own.headers_mut()
        .append(AUTHORIZATION, "Basic c2Vjb25k".parse().unwrap());
    let response = client.oneshot(own).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(credentials(&api), ["Bearer token-1", "Bearer token-2"]);
}

#[tokio::test]
async fn a_token_in_another_header_leaves_authorization_to_the_caller() {
    let client = service_fn(|request: Request<Full<Bytes>>| async move {
        assert_eq!(request.headers()["x-api-key"], "k3y");
        assert_eq!(request.headers()[AUTHORIZATION], "Basic b3du");
        Ok::<_, Infallible>(Response::new(()))
    });
    struct Key;
    impl tower_auth::TokenSource for Key {
        async fn fetch(&self, _: tower_auth::Reason) -> Result<Token, tower_auth::Error> {
            Token::header(http::HeaderName::from_static("x-api-key"), "k3y")
        }
        fn place(&self) -> Place {
            Place::Header(http::HeaderName::from_static("x-api-key"))
        }
    }
    let mut client = crate::support::layer(Key).layer(client);
    for _ in 0..4 {
        let mut own = request("");
        own.headers_mut()
            .insert(AUTHORIZATION, "Basic b3du".parse().unwrap());
        call(&mut client, own).await.unwrap();
    }
}

#[tokio::test]
async fn layers_over_one_cache_share_its_token() {
    let source = ScriptedSource::default();
    let cache = TokenCache::new(source.clone());
    let api = Api::accepting(["token-1"]);
    for _ in 0..3 {
        let client = crate::support::layer_from(cache.clone()).layer(api.clone());
        client.oneshot(request("")).await.unwrap();
    }
    assert_eq!(source.tokens_issued(), 1);
}

#[tokio::test]
async fn a_request_that_is_full_of_headers_is_an_error_and_no_panic() {
    let api = Api::accepting(["token-1"]);
    let layer = crate::support::layer(ScriptedSource::default());
    layer.cache().token().await.unwrap();
    let mut full = request("");
    let mut n = 0;
    while full
        .headers_mut()
        .try_append(
            http::HeaderName::try_from(format!("x-{n}")).unwrap(),
            "x".parse().unwrap(),
        )
        .is_ok()
    {
        n += 1;
    }
    let error = layer.layer(api.clone()).oneshot(full).await.unwrap_err();
    assert!(
        error
            .downcast_ref::<tower_auth::Error>()
            .unwrap()
            .is_config()
    );
    assert_eq!(api.requests().len(), 0);
}

#[tokio::test]
async fn nothing_is_kept_of_a_request_that_passes_untouched() {
    let bodies = Clones::default();
    let client = service_fn(|_: Request<Clones>| async { Ok::<_, Infallible>(Response::new(())) });
    let mut client = crate::support::layer(ScriptedSource::default()).layer(client);
    for n in 0..6 {
        let body = Clones(Arc::clone(&bodies.0));
        let mut request = Request::get("https://api.example.com").body(body).unwrap();
        if n > 2 {
            let own = "Basic b3du".parse().unwrap();
            request.headers_mut().insert(AUTHORIZATION, own);
        }
        call(&mut client, request).await.unwrap();
    }
    assert_eq!(bodies.0.load(Ordering::Relaxed), 3);
}
