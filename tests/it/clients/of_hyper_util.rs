//! hyper-util's legacy client, over HTTP/1 and HTTP/2.

use http::{Request, StatusCode, Version};
use http_body::Body;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::{Scenario, boxed, chunks, large, small, streamed, whole};

fn http1<B>() -> Client<hyper_util::client::legacy::connect::HttpConnector, B>
where
    B: Body<Data: Send> + Send,
{
    Client::builder(TokioExecutor::new()).build_http()
}

fn http2<B>() -> Client<hyper_util::client::legacy::connect::HttpConnector, B>
where
    B: Body<Data: Send> + Send,
{
    Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http()
}

/// Body sizes in chunks, from zero to more than the limit for streams. A body in memory is replayed
/// at any size.
const SIZES: [usize; 3] = [0, 1, 25];

#[tokio::test]
async fn a_body_in_memory_over_http1_is_sent_again() {
    let scenario = Scenario::new().await;
    for body in SIZES.map(chunks) {
        let request = || {
            let request = Request::put(scenario.url("/things"));
            request.body(Full::new(whole(&body))).unwrap()
        };
        scenario
            .a_revoked_token_goes_unnoticed(http1(), Version::HTTP_11, request, &body)
            .await;
    }
}

#[tokio::test]
async fn a_body_in_memory_over_http2_is_sent_again() {
    let scenario = Scenario::new().await;
    for body in SIZES.map(chunks) {
        let request = || {
            let request = Request::put(scenario.url("/things"));
            request.body(Full::new(whole(&body))).unwrap()
        };
        scenario
            .a_revoked_token_goes_unnoticed(http2(), Version::HTTP_2, request, &body)
            .await;
    }
}

#[tokio::test]
async fn a_boxed_stream_within_the_limit_is_sent_again() {
    let scenario = Scenario::new().await;
    let request = || {
        let request = Request::post(scenario.url("/things"));
        request.body(boxed(streamed(small()))).unwrap()
    };
    scenario
        .a_revoked_token_goes_unnoticed(http1(), Version::HTTP_11, request, &small())
        .await;
    scenario
        .a_revoked_token_goes_unnoticed(http2(), Version::HTTP_2, request, &small())
        .await;
}

#[tokio::test]
async fn a_boxed_stream_over_the_limit_gets_the_refusal() {
    for client in [http1(), http2()] {
        let scenario = Scenario::new().await;
        let request = Request::post(scenario.url("/things"));
        let request = request.body(boxed(streamed(large()))).unwrap();
        scenario
            .the_refusal_comes_back(client, request, &large())
            .await;
    }
}

#[tokio::test]
async fn a_boxed_stream_that_was_refused_unread_is_sent_again_whole_or_not_at_all() {
    let scenario = Scenario::new().await;
    let body = chunks(128);
    let request = Request::post(scenario.url("/unread"));
    let request = request.body(boxed(streamed(body.clone()))).unwrap();
    scenario
        .a_refusal_of_an_unread_body(http2(), request, &body)
        .await;
}

/// Over HTTP/1, only closing the connection ends a body early. The connection stays open here, and
/// a boxed body can't be told to stop.
#[tokio::test]
async fn a_boxed_stream_that_is_still_being_sent_over_http1_gets_the_refusal() {
    let scenario = Scenario::new().await;
    let body = chunks(128);
    let rest_when_accepted = scenario.api.streamed_when_accepted(body.clone());
    let request = Request::post(scenario.url("/drained"));
    let request = request.body(boxed(rest_when_accepted)).unwrap();
    let status = scenario
        .a_refusal_of_an_unread_body(http1(), request, &body)
        .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

/// The server closes the connection with its response. The client may or may not have dropped the
/// body when the new token arrives.
#[tokio::test]
async fn a_boxed_stream_whose_connection_was_closed_over_http1_is_sent_again_whole_or_not_at_all() {
    let scenario = Scenario::new().await;
    let body = chunks(128);
    let rest_when_accepted = scenario.api.streamed_when_accepted(body.clone());
    let request = Request::post(scenario.url("/unread"));
    let request = request.body(boxed(rest_when_accepted)).unwrap();
    scenario
        .a_refusal_of_an_unread_body(http1(), request, &body)
        .await;
}

/// Before the refusal, the connection takes as much of the body as possible. This part may be
/// larger than the layer's limit.
#[cfg(feature = "axum")]
#[tokio::test]
async fn axums_body_that_was_refused_unread_over_http1_is_sent_again_whole_or_not_at_all() {
    let scenario = Scenario::new().await;
    let body = chunks(128);
    let request = Request::post(scenario.url("/drained"));
    let request = request
        .body(axum::body::Body::from_stream(streamed(body.clone())))
        .unwrap();
    scenario
        .a_refusal_of_an_unread_body(http1(), request, &body)
        .await;
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn axums_body_that_was_refused_unread_goes_on_where_it_was_over_http1() {
    let scenario = Scenario::new().await;
    let body = chunks(128);
    let rest_when_accepted = scenario.api.streamed_when_accepted(body.clone());
    let request = Request::post(scenario.url("/drained"));
    let request = request
        .body(axum::body::Body::from_stream(rest_when_accepted))
        .unwrap();
    let status = scenario
        .a_refusal_of_an_unread_body(http1(), request, &body)
        .await;
    assert_eq!(status, StatusCode::OK);
    // The request on the first connection must not end as if its body were complete.
    scenario.api.the_unwanted_body().await.unwrap_err();
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn axums_body_that_was_refused_unread_goes_on_where_it_was_over_http2() {
    let scenario = Scenario::new().await;
    let body = chunks(128);
    let rest_when_accepted = scenario.api.streamed_when_accepted(body.clone());
    let request = Request::post(scenario.url("/unread"));
    let request = request
        .body(axum::body::Body::from_stream(rest_when_accepted))
        .unwrap();
    let status = scenario
        .a_refusal_of_an_unread_body(http2(), request, &body)
        .await;
    assert_eq!(status, StatusCode::OK);
}

/// The test acts like a proxy, which passes the body of one connection on to another.
#[cfg(feature = "hyper")]
#[tokio::test]
async fn a_body_that_comes_from_a_connection_is_passed_on_once_and_never_sent_again() {
    use bytes::Bytes;
    use http::header::AUTHORIZATION;
    use tower::{Layer, ServiceExt};

    use super::Api;

    let scenario = Scenario::new().await;
    let upstream = Api::new();
    upstream.accept_only("upstream");
    let upstream = format!("http://{}/", upstream.serve().await);
    let incoming = async || {
        let request = Request::get(&upstream)
            .header(AUTHORIZATION, "Bearer upstream")
            .body(Full::<Bytes>::default())
            .unwrap();
        let response = http1().request(request).await.unwrap();
        let body: hyper::body::Incoming = response.into_body();
        Request::post(scenario.url("/things")).body(body).unwrap()
    };
    let body = [Bytes::from("accepted")];

    scenario.api.accept_only("token-1");
    let client = scenario.layer.layer(http1());
    let response = client.oneshot(incoming().await).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(scenario.api.take_seen()[0].body, body[0]);

    let request = incoming().await;
    scenario
        .the_refusal_comes_back(http1(), request, &body)
        .await;
}
