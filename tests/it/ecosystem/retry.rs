//! `tower::retry`. A retry layer outside makes each try get a current credential. A retry layer
//! inside sends the same request again.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::retry::{Policy, RetryLayer};
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::{NotReplayed, TokenCache};
use tower_auth_test::ScriptedSource;

use super::Script;
use crate::support::request;

/// Retries a 503, and also a 401 if `refusals_too` is set. Refreshes the token of `meanwhile`
/// before the retry.
#[derive(Clone)]
struct Again {
    left: usize,
    refusals_too: bool,
    meanwhile: Option<TokenCache>,
}

impl Again {
    fn up_to(left: usize) -> Self {
        Self {
            left,
            refusals_too: false,
            meanwhile: None,
        }
    }
}

impl<E> Policy<Request<Full<Bytes>>, Response<Full<Bytes>>, E> for Again {
    type Future = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn retry(
        &mut self,
        _: &mut Request<Full<Bytes>>,
        result: &mut Result<Response<Full<Bytes>>, E>,
    ) -> Option<Self::Future> {
        let status = result.as_ref().ok()?.status();
        let again = status == StatusCode::SERVICE_UNAVAILABLE
            || (status == StatusCode::UNAUTHORIZED && self.refusals_too);
        self.left = self.left.checked_sub(1).filter(|_| again)?;
        let meanwhile = self.meanwhile.clone();
        Some(Box::pin(async move {
            if let Some(cache) = meanwhile {
                cache.refresh_now().await.unwrap();
            }
        }))
    }

    fn clone_request(&mut self, request: &Request<Full<Bytes>>) -> Option<Request<Full<Bytes>>> {
        Some(request.clone())
    }
}

#[tokio::test]
async fn a_retry_outside_carries_the_token_that_came_meanwhile() {
    let api = Script::new([503]);
    let layer = crate::support::layer(ScriptedSource::default());
    let retry = RetryLayer::new(Again {
        meanwhile: Some(layer.cache().clone()),
        ..Again::up_to(3)
    });
    let client = ServiceBuilder::new()
        .layer(retry)
        .layer(layer)
        .service(api.clone());
    let response = client.oneshot(request("body")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(api.seen(), ["Bearer token-1", "Bearer token-2"]);
}

/// A retry layer inside can't get the new token, so it belongs outside.
#[tokio::test]
async fn a_retry_inside_sends_the_token_that_was_replaced_meanwhile() {
    let api = Script::new([503]);
    let layer = crate::support::layer(ScriptedSource::default());
    let retry = RetryLayer::new(Again {
        meanwhile: Some(layer.cache().clone()),
        ..Again::up_to(3)
    });
    let client = ServiceBuilder::new()
        .layer(layer)
        .layer(retry)
        .service(api.clone());
    client.oneshot(request("body")).await.unwrap();
    assert_eq!(api.seen(), ["Bearer token-1", "Bearer token-1"]);
}

/// The auth layer replays the request after the refusal. The retry layer retries the failed replay
/// with the same token.
#[tokio::test]
async fn a_hiccup_of_the_replay_is_retried_without_another_fetch() {
    let api = Script::new([401, 503]);
    let source = ScriptedSource::default();
    let client = ServiceBuilder::new()
        .layer(RetryLayer::new(Again::up_to(3)))
        .layer(crate::support::layer(source.clone()))
        .service(api.clone());
    let response = client.oneshot(request("body")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let tokens = [1, 2, 2].map(|n| format!("Bearer token-{n}"));
    assert_eq!(api.seen(), tokens);
    assert_eq!(source.tokens_issued(), 2);
}

/// The retry layer makes ten tries, and the API refuses every try. The auth layer neither replays
/// every try nor fetches a token for every try.
#[tokio::test]
async fn a_retry_of_refusals_outside_is_not_doubled_by_replays_nor_paid_for_in_tokens() {
    let api = Script::new([401; 100]);
    let source = ScriptedSource::default();
    let client = ServiceBuilder::new()
        .layer(RetryLayer::new(Again {
            refusals_too: true,
            ..Again::up_to(9)
        }))
        .layer(crate::support::layer(source.clone()))
        .service(api.clone());
    let response = client.oneshot(request("body")).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let why = response.extensions().get::<NotReplayed>();
    assert!(matches!(why, Some(NotReplayed::RefusalBudget)), "{why:?}");
    let sent = api.seen().len();
    assert_eq!((sent, source.tokens_issued()), (11, 2), "{:?}", api.seen());
}
