//! `tower_http::decompression`, inside and outside. A compressed refusal is still a refusal, and
//! its body is decompressed.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_auth::BoxError;
use tower_auth_test::ScriptedSource;
use tower_http::compression::CompressionLayer;
use tower_http::decompression::DecompressionLayer;
use tower_service::Service;

use crate::support::request;

/// Returns a text long enough for a server to compress.
fn text(status: StatusCode) -> String {
    format!("{status} ").repeat(100)
}

/// Serves compressed responses, including refusals, and accepts only `token-2`.
fn compressing() -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<impl http_body::Body<Data = Bytes, Error: Into<BoxError>>>,
    Error = Infallible,
    Future: Send,
> + Clone {
    ServiceBuilder::new()
        .layer(CompressionLayer::new())
        .service(service_fn(|request: Request<Full<Bytes>>| async move {
            assert!(request.headers().contains_key(ACCEPT_ENCODING));
            let accepted = request
                .headers()
                .get(AUTHORIZATION)
                .map(HeaderValue::as_bytes)
                == Some(b"Bearer token-2");
            let status = if accepted {
                StatusCode::OK
            } else {
                StatusCode::UNAUTHORIZED
            };
            let response = Response::builder().status(status);
            Ok::<_, Infallible>(response.body(Full::<Bytes>::from(text(status))).unwrap())
        }))
}

/// Returns the status and the body as text.
async fn response_of<S, B>(client: S) -> (StatusCode, String)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let response = client.oneshot(request("")).await.unwrap();
    let status = response.status();
    assert!(!response.headers().contains_key(CONTENT_ENCODING));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_compressed_refusal_is_replayed_for_and_the_response_is_readable_in_both_orders() {
    let layer = crate::support::layer(ScriptedSource::default());
    let outside = ServiceBuilder::new()
        .layer(DecompressionLayer::new())
        .layer(layer);
    let layer = crate::support::layer(ScriptedSource::default());
    let inside = ServiceBuilder::new()
        .layer(layer)
        .layer(DecompressionLayer::new());
    let expected = (StatusCode::OK, text(StatusCode::OK));
    assert_eq!(response_of(outside.service(compressing())).await, expected);
    assert_eq!(response_of(inside.service(compressing())).await, expected);
}

#[tokio::test]
async fn a_refusal_that_is_not_replayed_is_readable_in_both_orders_too() {
    let layer = crate::support::layer(ScriptedSource::default()).retry(false);
    let outside = ServiceBuilder::new()
        .layer(DecompressionLayer::new())
        .layer(layer.clone());
    let expected = (StatusCode::UNAUTHORIZED, text(StatusCode::UNAUTHORIZED));
    assert_eq!(response_of(outside.service(compressing())).await, expected);
    let layer = crate::support::layer(ScriptedSource::default()).retry(false);
    let inside = ServiceBuilder::new()
        .layer(layer)
        .layer(DecompressionLayer::new());
    assert_eq!(response_of(inside.service(compressing())).await, expected);
}
