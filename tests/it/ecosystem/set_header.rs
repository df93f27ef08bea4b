//! `tower_http::set_header` and `MapRequest`, on either side of the layer.

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Uri};
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_auth::Error;
use tower_auth_test::ScriptedSource;
use tower_http::set_header::SetRequestHeaderLayer;

use super::Script;
use crate::support::request;

type Set = SetRequestHeaderLayer<HeaderValue>;

fn three_ways() -> [Set; 3] {
    let own = || HeaderValue::from_static("Basic b3du");
    [
        Set::overriding(AUTHORIZATION, own()),
        Set::appending(AUTHORIZATION, own()),
        Set::if_not_present(AUTHORIZATION, own()),
    ]
}

#[tokio::test]
async fn what_is_set_outside_is_the_callers_own_and_wins_without_a_fetch() {
    for set in three_ways() {
        let (api, source) = (Script::new([401]), ScriptedSource::default());
        let client = ServiceBuilder::new()
            .layer(set)
            .layer(crate::support::layer(source.clone()))
            .service(api.clone());
        client.oneshot(request("")).await.unwrap();
        assert_eq!(api.seen(), ["Basic b3du"]);
        assert_eq!(source.tokens_issued(), 0);
    }
}

#[tokio::test]
async fn what_is_set_inside_comes_after_the_credential_and_does_as_it_is_called() {
    let expected = [
        "Basic b3du",
        "Bearer token-1 and Basic b3du",
        "Bearer token-1",
    ];
    for (set, expected) in three_ways().into_iter().zip(expected) {
        let api = Script::new([]);
        let client = ServiceBuilder::new()
            .layer(crate::support::layer(ScriptedSource::default()))
            .layer(set)
            .service(api.clone());
        client.oneshot(request("")).await.unwrap();
        assert_eq!(api.seen(), [expected]);
    }
}

#[tokio::test]
async fn a_layer_that_replaces_what_is_there_wins_over_what_is_set_outside() {
    for set in three_ways() {
        let api = Script::new([]);
        let client = ServiceBuilder::new()
            .layer(set)
            .layer(crate::support::layer(ScriptedSource::default()).replace_existing(true))
            .service(api.clone());
        client.oneshot(request("")).await.unwrap();
        assert_eq!(api.seen(), ["Bearer token-1"]);
    }
}

/// Appends the request's path to a base URL.
fn based<B>(mut request: Request<B>) -> Request<B> {
    let path = request.uri().path();
    let address: Uri = format!("https://elsewhere.example{path}").parse().unwrap();
    *request.uri_mut() = address;
    request
}

#[tokio::test]
async fn a_base_address_that_is_put_on_outside_is_checked_and_one_inside_is_not() {
    let path = || Request::get("/things").body(String::new()).unwrap();
    let layer = crate::support::layer(ScriptedSource::default())
        .only_to(["https://api.example.com"])
        .unwrap();
    let api = Script::new([]);
    let outside = ServiceBuilder::new()
        .map_request(based::<String>)
        .layer(layer.clone())
        .service(api.clone());
    let error = outside.oneshot(path()).await.unwrap_err();
    assert!(
        error.downcast_ref::<Error>().unwrap().is_origin(),
        "{error}"
    );
    assert!(api.seen().is_empty());

    let below = ServiceBuilder::new()
        .map_request(based::<String>)
        .service(api.clone());
    layer.layer(below).oneshot(path()).await.unwrap();
    assert_eq!(api.seen(), ["Bearer token-1"]);
}
