//! axum's router, called in this process.

use http::{Request, StatusCode, Version};

use super::{Scenario, chunks, large, small, streamed, whole};

fn request(path: &str, body: axum::body::Body) -> Request<axum::body::Body> {
    Request::post(path).body(body).unwrap()
}

#[tokio::test]
async fn a_router_in_process_gets_a_stream_again() {
    let scenario = Scenario::new().await;
    let request = || {
        let body = axum::body::Body::from_stream(streamed(small()));
        request("/things", body)
    };
    let router = scenario.api.router();
    scenario
        .a_revoked_token_goes_unnoticed(router, Version::HTTP_11, request, &small())
        .await;
}

#[tokio::test]
async fn a_router_in_process_gets_a_body_in_memory_and_none_again() {
    let scenario = Scenario::new().await;
    for body in [small(), Vec::new()] {
        let request = || request("/things", whole(&body).into());
        let router = scenario.api.router();
        scenario
            .a_revoked_token_goes_unnoticed(router, Version::HTTP_11, request, &body)
            .await;
    }
}

#[tokio::test]
async fn a_stream_over_the_limit_gets_the_refusal() {
    let scenario = Scenario::new().await;
    let body = axum::body::Body::from_stream(streamed(large()));
    let router = scenario.api.router();
    scenario
        .the_refusal_comes_back(router, request("/things", body), &large())
        .await;
}

/// The router has read none of the body, so nothing was recorded. The whole body is replayed,
/// although the body far exceeds the limit.
#[tokio::test]
async fn a_stream_that_was_refused_unread_is_sent_again_whole() {
    let scenario = Scenario::new().await;
    let chunks = chunks(128);
    let body = axum::body::Body::from_stream(streamed(chunks.clone()));
    let router = scenario.api.router();
    let status = scenario
        .a_refusal_of_an_unread_body(router, request("/unread", body), &chunks)
        .await;
    assert_eq!(status, StatusCode::OK);
}
