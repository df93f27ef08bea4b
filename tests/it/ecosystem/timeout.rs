//! `tower::timeout`. Outside, the timeout limits the caller's whole wait. Inside, the timeout
//! limits one try.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::timeout::error::Elapsed;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_auth::BoxError;
use tower_auth_test::{ScriptedSource, controlled_source, run_until_idle};

use super::Script;
use crate::support::{issued, paused, request};

const LIMIT: Duration = Duration::from_secs(1);

fn ran_out(error: &BoxError) -> bool {
    error.is::<Elapsed>()
}

#[tokio::test(start_paused = true)]
async fn a_timeout_outside_ends_the_wait_for_a_token_and_not_the_fetch() {
    let (source, mut fetches) = controlled_source();
    let api = Script::new([]);
    let client = ServiceBuilder::new()
        .timeout(LIMIT)
        .layer(crate::support::layer_from(paused(source).build()))
        .service(api.clone());
    let error = client.clone().oneshot(request("")).await.unwrap_err();
    assert!(ran_out(&error), "{error}");
    let fetch = fetches.next().await;
    assert!(!fetch.is_dropped(), "the fetch went with its caller");
    fetch.issue("late");
    let response = client.oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(api.seen(), ["Bearer late"]);
    fetches.assert_none().await;
}

#[tokio::test(start_paused = true)]
async fn the_same_where_it_is_waited_for_after_a_refusal() {
    let (source, mut fetches) = controlled_source();
    let api = Script::new([401]);
    let layer = crate::support::layer_from(paused(source).build());
    let cache = layer.cache().clone();
    let client = ServiceBuilder::new()
        .timeout(LIMIT)
        .layer(layer)
        .service(api.clone());
    issued(&mut fetches, &cache, "revoked", Duration::from_secs(3600)).await;
    let error = client.clone().oneshot(request("")).await.unwrap_err();
    assert!(ran_out(&error), "{error}");
    fetches.next().await.issue("late");
    run_until_idle().await;
    client.oneshot(request("")).await.unwrap();
    assert_eq!(api.seen(), ["Bearer revoked", "Bearer late"]);
    fetches.assert_none().await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_inside_is_of_the_try_alone_however_long_the_token_takes() {
    let (source, mut fetches) = controlled_source();
    let client = ServiceBuilder::new()
        .layer(crate::support::layer_from(paused(source).build()))
        .timeout(LIMIT)
        .service(Script::new([401]));
    let waiting = tokio::spawn(client.oneshot(request("")));
    for secret in ["first", "second"] {
        let fetch = fetches.next().await;
        tokio::time::sleep(10 * LIMIT).await;
        fetch.issue(secret);
    }
    assert_eq!(waiting.await.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_try_that_takes_too_long_is_the_callers_error_and_rejects_no_token() {
    let hanging = service_fn(|_: Request<Full<Bytes>>| async {
        pending::<()>().await;
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    let source = ScriptedSource::default();
    let client = ServiceBuilder::new()
        .layer(crate::support::layer_from(paused(source.clone()).build()))
        .timeout(LIMIT)
        .service(hanging);
    for _ in 0..3 {
        let error = client.clone().oneshot(request("")).await.unwrap_err();
        assert!(ran_out(&error), "{error}");
    }
    assert_eq!(source.tokens_issued(), 1);
}
