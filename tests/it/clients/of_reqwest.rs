//! reqwest, with its own requests and bodies.

use std::future::IntoFuture;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use futures_util::stream;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, Version};
use http_body::Frame;
use http_body_util::StreamBody;
use reqwest::redirect::Policy;
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};
use tower_auth::{ApiKey, BoxError, NotReplayed};
use tower_service::Service;

use super::{Api, Scenario, chunks, large, small, streamed, whole};

fn http1() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn http2() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .build()
        .unwrap()
}

fn post(url: String, body: impl Into<reqwest::Body>) -> reqwest::Request {
    http1().post(url).body(body).build().unwrap()
}

/// Converts reqwest's responses to the type that the scenarios check.
fn seen_as_http(
    client: reqwest::Client,
) -> impl Service<reqwest::Request, Response = Response<reqwest::Body>, Error = reqwest::Error> + Clone
{
    client.map_response(Response::from)
}

#[tokio::test]
async fn the_layer_takes_and_returns_reqwests_own_types() {
    let scenario = Scenario::new().await;
    scenario.api.accept_only("token-2");
    let mut client = scenario.layer.layer(http1());
    let request = post(scenario.url("/things"), "hello");
    let response: reqwest::Response = client.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.text().await.unwrap(), "accepted");
}

#[tokio::test]
async fn requests_are_executed_as_by_reqwests_client_and_on_any_task() {
    let scenario = Scenario::new().await;
    scenario.api.accept_only("token-2");
    let client = scenario.layer.layer(http1());
    let executed = client.execute(post(scenario.url("/things"), "hello"));
    let response = tokio::spawn(executed).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.text().await.unwrap(), "accepted");
}

#[tokio::test]
async fn a_request_with_the_callers_own_credential_is_sent_unchanged() {
    let scenario = Scenario::new().await;
    scenario.api.accept_only("callers-own");
    let mut request = post(scenario.url("/things"), "hello");
    let own = HeaderValue::from_static("Bearer callers-own");
    request.headers_mut().insert(AUTHORIZATION, own);
    let client = scenario.layer.layer(http1());
    let response = client.execute(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_body_in_memory_is_sent_again_whatever_its_size() {
    let scenario = Scenario::new().await;
    for body in [small(), large()] {
        let request = || post(scenario.url("/things"), whole(&body));
        let client = seen_as_http(http1());
        scenario
            .a_revoked_token_goes_unnoticed(client, Version::HTTP_11, request, &body)
            .await;
    }
}

#[tokio::test]
async fn a_request_without_a_body_is_sent_again() {
    let scenario = Scenario::new().await;
    let request = || http1().get(scenario.url("/things")).build().unwrap();
    let client = seen_as_http(http1());
    scenario
        .a_revoked_token_goes_unnoticed(client, Version::HTTP_11, request, &[])
        .await;
}

#[tokio::test]
async fn a_stream_within_the_limit_is_sent_again() {
    let scenario = Scenario::new().await;
    let stream = || reqwest::Body::wrap_stream(streamed(small()));
    let body = || {
        let frames = small()
            .into_iter()
            .map(|data| Ok::<_, BoxError>(Frame::data(data)));
        reqwest::Body::wrap(StreamBody::new(stream::iter(frames)))
    };
    for make in [&stream as &dyn Fn() -> reqwest::Body, &body] {
        let request = || post(scenario.url("/things"), make());
        for (client, version) in [(http1(), Version::HTTP_11), (http2(), Version::HTTP_2)] {
            let client = seen_as_http(client);
            scenario
                .a_revoked_token_goes_unnoticed(client, version, request, &small())
                .await;
        }
    }
}

#[tokio::test]
async fn a_stream_over_the_limit_gets_the_refusal() {
    for client in [http1(), http2()] {
        let scenario = Scenario::new().await;
        let body = reqwest::Body::wrap_stream(streamed(large()));
        let request = post(scenario.url("/things"), body);
        let client = seen_as_http(client);
        scenario
            .the_refusal_comes_back(client, request, &large())
            .await;
    }
}

#[tokio::test]
async fn a_stream_that_was_refused_unread_goes_on_where_it_was_over_http1() {
    let scenario = Scenario::new().await;
    let body = chunks(128);
    let rest_when_accepted = scenario.api.streamed_when_accepted(body.clone());
    let request = post(
        scenario.url("/drained"),
        reqwest::Body::wrap_stream(rest_when_accepted),
    );
    let client = seen_as_http(http1());
    let status = scenario
        .a_refusal_of_an_unread_body(client, request, &body)
        .await;
    assert_eq!(status, StatusCode::OK);
    // The request on the first connection must not end as if its body were complete.
    scenario.api.the_unwanted_body().await.unwrap_err();
}

#[tokio::test]
async fn a_stream_that_was_refused_unread_goes_on_where_it_was_over_http2() {
    let scenario = Scenario::new().await;
    let body = chunks(128);
    let rest_when_accepted = scenario.api.streamed_when_accepted(body.clone());
    let request = post(
        scenario.url("/unread"),
        reqwest::Body::wrap_stream(rest_when_accepted),
    );
    let client = seen_as_http(http2());
    let status = scenario
        .a_refusal_of_an_unread_body(client, request, &body)
        .await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_stream_that_was_refused_unread_is_sent_again_whole_or_not_at_all() {
    let scenario = Scenario::new().await;
    let body = chunks(128);
    let stream = reqwest::Body::wrap_stream(streamed(body.clone()));
    let request = post(scenario.url("/unread"), stream);
    let client = seen_as_http(http2());
    scenario
        .a_refusal_of_an_unread_body(client, request, &body)
        .await;
}

#[tokio::test]
async fn a_redirect_of_a_post_is_followed_with_its_body_and_its_credential() {
    let scenario = Scenario::new().await;
    let client = scenario.layer.layer(http1());
    let url = scenario.url(&format!("/moved?{}", scenario.url("/things")));
    for valid in ["token-1", "token-2"] {
        scenario.api.accept_only(valid);
        let request = post(url.clone(), "hello");
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.url().as_str(), scenario.url("/things"));
        let mut seen = scenario.api.take_seen();
        // When the API accepts only `token-2`, it refuses the first try.
        if valid == "token-2" {
            let refused = seen.remove(0);
            assert_eq!(refused.credential, "Bearer token-1");
            assert_eq!(
                (refused.path.as_str(), &refused.body[..]),
                ("/moved", &b"hello"[..])
            );
        }
        for (seen, path) in seen.iter().zip(["/moved", "/things"]) {
            assert_eq!(seen.path, path);
            assert_eq!(seen.credential, format!("Bearer {valid}"));
            assert_eq!(seen.body, "hello");
        }
        assert_eq!(seen.len(), 2);
    }
    assert_eq!(scenario.source.tokens_issued(), 2);
}

#[tokio::test]
async fn a_redirect_to_another_origin_is_followed_without_the_credential() {
    let scenario = Scenario::new().await;
    let other = Api::new();
    // The other origin accepts only requests without a credential.
    *other.shared.accepted.lock().unwrap() = String::from("-");
    let url = scenario.url(&format!("/moved?http://{}/things", other.serve().await));
    let client = scenario.layer.layer(http1());
    // In the second round, the first try is refused, and the replay gets the redirect.
    for valid in ["token-1", "token-2"] {
        scenario.api.accept_only(valid);
        let request = post(url.clone(), "hello");
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let seen = other.take_seen();
        assert_eq!(seen.len(), 1);
        assert_eq!(
            (seen[0].credential.as_str(), &seen[0].body[..]),
            ("-", &b"hello"[..])
        );
    }
}

/// reqwest doesn't recognize a custom header as a credential. The policy is the one in
/// `docs::composing`.
#[tokio::test]
async fn a_key_in_a_header_of_its_own_stays_with_its_origin_under_a_policy_that_does() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let serve = async |moved: String| {
        let seen = Arc::clone(&seen);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/near", get(|| async { Redirect::temporary("/things") }))
            .route("/far", get(|| async move { Redirect::temporary(&moved) }))
            .fallback(move |headers: HeaderMap, uri: Uri| async move {
                let key = headers
                    .get("x-api-key")
                    .map(|key| key.to_str().unwrap().to_owned());
                seen.lock()
                    .unwrap()
                    .push((address, uri.path().to_owned(), key));
            });
        tokio::spawn(axum::serve(listener, router).into_future());
        address
    };
    let other = serve(String::new()).await;
    let own = serve(format!("http://{other}/things")).await;
    let within_its_origin = Policy::custom(|hop| {
        let from = hop.previous().last().map(reqwest::Url::origin);
        match from == Some(hop.url().origin()) {
            true => Policy::default().redirect(hop),
            false => hop.stop(),
        }
    });
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(within_its_origin);
    let key = ApiKey::new("k3y").header("x-api-key").unwrap();
    let client = crate::support::layer(key).layer(http.build().unwrap());
    for (path, status) in [
        ("near", StatusCode::OK),
        ("far", StatusCode::TEMPORARY_REDIRECT),
    ] {
        let request = http1().get(format!("http://{own}/{path}")).build().unwrap();
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
    }
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(
        seen,
        [(own, String::from("/things"), Some(String::from("k3y")))]
    );
}

#[tokio::test]
async fn a_refusal_of_another_origin_that_a_redirect_led_to_costs_no_token() {
    let scenario = Scenario::new().await;
    let other = Api::new();
    other.accept_only("nobody-has-this");
    let url = scenario.url(&format!("/moved?http://{}/things", other.serve().await));
    scenario.api.accept_only("token-1");
    let client = scenario.layer.layer(http1());
    let response = client.oneshot(post(url, "hello")).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let why = response.extensions().get::<NotReplayed>();
    assert!(matches!(why, Some(NotReplayed::Elsewhere)), "{why:?}");
    assert_eq!(other.take_seen().len(), 1);
    scenario.layer.cache().token().await.unwrap();
    assert_eq!(scenario.source.tokens_issued(), 1);
}
