//! Which responses are refusals, and which requests are replayed.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, service_fn};
use tower_auth::challenge::Challenge;
use tower_auth::{AuthLayer, Error, NotReplayed, Reason, Token, TokenCache, TokenSource};
use tower_auth_test::ScriptedSource;

use crate::support::{call, request};

/// Sends a request to an API that accepts only `token-2`. The API refuses other tokens with
/// `refusal`. Returns the credential of each request, the final response, and the number of issued
/// tokens.
async fn ask(
    layer: impl FnOnce(AuthLayer) -> AuthLayer,
    refusal: impl Fn() -> Response<()> + Clone + 'static,
) -> (Vec<String>, Response<()>, usize) {
    let source = ScriptedSource::default();
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let log = seen.clone();
    let api = service_fn(move |request: Request<Full<Bytes>>| {
        let credential = request.headers()[AUTHORIZATION]
            .to_str()
            .unwrap()
            .to_owned();
        let accepted = credential == "Bearer token-2";
        log.borrow_mut().push(credential);
        let response = if accepted {
            Response::new(())
        } else {
            refusal()
        };
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let layer = layer(crate::support::layer(source.clone()));
    let mut client = layer.layer(api);
    let response = call(&mut client, request("")).await.unwrap();
    layer.cache().token().await.unwrap();
    let seen = seen.borrow().clone();
    (seen, response, source.tokens_issued())
}

fn unauthorized(challenge: &'static str) -> impl Fn() -> Response<()> + Clone {
    move || {
        let response = Response::builder()
            .status(401)
            .header("www-authenticate", challenge);
        response.body(()).unwrap()
    }
}

fn status(status: u16) -> impl Fn() -> Response<()> + Clone {
    move || Response::builder().status(status).body(()).unwrap()
}

#[tokio::test]
async fn a_401_is_replayed_without_a_challenge_and_with_any_but_insufficient_scope() {
    let (seen, response, _) = ask(|layer| layer, status(401)).await;
    assert_eq!((seen.len(), response.status()), (2, StatusCode::OK));
    for challenge in [
        "Bearer",
        r#"Bearer realm="api", DPoP algs="RS256 ES256""#,
        r#"Bearer error="invalid_token""#,
        r#"Bearer error="invalid_request""#,
        r#"Bearer realm="api", error="invalid_token", error_description="'exp' claim timestamp check failed", DPoP algs="RS256""#,
        r#"Basic realm="insufficient_scope""#,
        "\u{1}, not a challenge at all, ,",
    ] {
        if http::HeaderValue::from_str(challenge).is_err() {
            continue;
        }
        let (seen, response, _) = ask(|layer| layer, unauthorized(challenge)).await;
        assert_eq!(
            (seen.len(), response.status()),
            (2, StatusCode::OK),
            "{challenge}"
        );
    }
}

#[tokio::test]
async fn insufficient_scope_is_never_replayed_and_keeps_the_token() {
    let challenge = r#"DPoP algs="ES256", Bearer error="insufficient_scope", scope="write""#;
    let (seen, response, issued) = ask(|layer| layer, unauthorized(challenge)).await;
    assert_eq!((seen.len(), issued), (1, 1));
    assert!(matches!(
        response.extensions().get(),
        Some(NotReplayed::InsufficientScope)
    ));
    let challenges = Challenge::parse(response.headers());
    assert_eq!(challenges[1].scope(), Some("write"));
}

#[tokio::test]
async fn a_403_and_every_other_status_are_none_of_our_business() {
    for code in [200, 204, 301, 400, 403, 404, 407, 419, 429, 500, 503] {
        let (seen, response, issued) = ask(|layer| layer, status(code)).await;
        assert_eq!(
            (seen.len(), issued, response.status().as_u16()),
            (1, 1, code)
        );
        assert!(response.extensions().get::<NotReplayed>().is_none());
    }
}

#[tokio::test]
async fn a_401_without_a_challenge_is_left_alone_if_the_layer_is_told_so() {
    let layer = |layer: AuthLayer| layer.retry_without_challenge(false);
    let (seen, response, issued) = ask(layer, status(401)).await;
    assert_eq!((seen.len(), issued), (1, 1));
    assert!(matches!(
        response.extensions().get(),
        Some(NotReplayed::NoChallenge)
    ));
    let (seen, ..) = ask(layer, unauthorized("Bearer")).await;
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn a_users_own_predicate_counts_besides_the_401() {
    let layer = |layer: AuthLayer| {
        layer.refused_if(|status, headers| status == 419 && headers.contains_key("x-expired"))
    };
    let expired = || {
        Response::builder()
            .status(419)
            .header("x-expired", "1")
            .body(())
            .unwrap()
    };
    assert_eq!(ask(layer, expired).await.0.len(), 2);
    assert_eq!(ask(layer, status(419)).await.0.len(), 1);
    assert_eq!(ask(layer, status(401)).await.0.len(), 2);
}

fn grpc(content_type: &'static str, code: &'static str) -> impl Fn() -> Response<()> + Clone {
    move || {
        let response = Response::builder().header("content-type", content_type);
        response.header("grpc-status", code).body(()).unwrap()
    }
}

#[tokio::test]
async fn grpcs_unauthenticated_in_a_trailers_only_response_is_replayed() {
    for kind in [
        "application/grpc",
        "application/grpc+proto",
        "Application/gRPC-web",
    ] {
        assert_eq!(
            ask(|layer| layer, grpc(kind, "16")).await.0.len(),
            2,
            "{kind}"
        );
    }
}

#[tokio::test]
async fn other_grpc_statuses_and_other_content_types_are_not() {
    for code in ["0", "7", "14", "1", "160", ""] {
        let (seen, ..) = ask(|layer| layer, grpc("application/grpc", code)).await;
        assert_eq!(seen.len(), 1, "{code}");
    }
    for kind in ["application/json", "application/gr", "text/plain"] {
        assert_eq!(
            ask(|layer| layer, grpc(kind, "16")).await.0.len(),
            1,
            "{kind}"
        );
    }
}

/// With `insufficient_scope`, servers send a 403 (RFC 6750 §3.1).
#[tokio::test]
async fn insufficient_scope_is_not_replayed_whatever_the_status_it_comes_with() {
    let layer = |layer: AuthLayer| layer.refused_if(|status, _| status == 403);
    let refusal = |challenge: &'static str| {
        move || {
            let response = Response::builder().status(403);
            let response = response.header("www-authenticate", challenge);
            response.body(()).unwrap()
        }
    };
    let insufficient = r#"Bearer error="insufficient_scope", scope="write""#;
    let (seen, response, issued) = ask(layer, refusal(insufficient)).await;
    assert_eq!((seen.len(), issued), (1, 1));
    assert!(matches!(
        response.extensions().get(),
        Some(NotReplayed::InsufficientScope)
    ));
    let (seen, ..) = ask(layer, refusal("Bearer")).await;
    assert_eq!(seen.len(), 2);
    // With `retry_without_challenge(false)`, only a 401 needs a challenge.
    let strict = |layer: AuthLayer| {
        let layer = layer.refused_if(|status, _| status == 403);
        layer.retry_without_challenge(false)
    };
    assert_eq!(ask(strict, status(403)).await.0.len(), 2);
}

/// The new token is valid, but its scope doesn't suffice.
#[tokio::test]
async fn insufficient_scope_on_the_replay_keeps_the_new_token() {
    let source = ScriptedSource::default();
    let api = service_fn(|request: Request<Full<Bytes>>| async move {
        let response = Response::builder().status(401);
        let response = match request.headers()[AUTHORIZATION].to_str().unwrap() {
            "Bearer token-1" => response,
            _ => response.header("www-authenticate", r#"Bearer error="insufficient_scope""#),
        };
        Ok::<_, Infallible>(response.body(()).unwrap())
    });
    let layer = crate::support::layer(source.clone());
    let response = call(&mut layer.layer(api), request("")).await.unwrap();
    assert!(matches!(
        response.extensions().get(),
        Some(NotReplayed::InsufficientScope)
    ));
    assert_eq!(layer.cache().token().await.unwrap().secret(), "token-2");
    assert_eq!(source.tokens_issued(), 2);
    // A server that answers `insufficient_scope` has accepted the token.
    assert!(layer.cache().status().is_accepted());
}

/// The cache doesn't fetch a third token at once, because the server has refused two tokens in a
/// row.
#[tokio::test]
async fn a_second_refusal_is_one_of_the_second_token() {
    let source = ScriptedSource::default();
    let api = tower_auth_test::Api::default();
    let layer = crate::support::layer(source.clone());
    call(&mut layer.layer(api), request("")).await.unwrap();
    assert!(layer.cache().status().refusals_limited_until().is_some());
    assert_eq!(layer.cache().token().await.unwrap().secret(), "token-2");
    assert_eq!(source.tokens_issued(), 2);
}

#[tokio::test]
async fn grpcs_status_is_looked_at_only_where_grpc_puts_it() {
    let other = || {
        let response = grpc("application/grpc", "16")();
        let (mut parts, body) = response.into_parts();
        parts.status = StatusCode::BAD_GATEWAY;
        Response::from_parts(parts, body)
    };
    assert_eq!(ask(|layer| layer, other).await.0.len(), 1);
}

/// A source that treats this status as a refusal. It issues `token-1`, `token-2`, and so on.
struct RefusedBy(ScriptedSource, StatusCode);

impl TokenSource for RefusedBy {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        self.0.fetch(reason).await
    }

    fn is_refusal(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        assert!(!status.is_success(), "it is asked about failures only");
        status == self.1 && !headers.contains_key("x-not-the-token")
    }
}

/// Sends a request to an API that responds to `token-1` with `refusal`. Returns the number of
/// requests and of issued tokens.
async fn ask_by_source(
    source: impl Fn(RefusedBy) -> AuthLayer,
    refusal: impl Fn() -> Response<()> + Clone + 'static,
) -> (usize, usize) {
    let counting = ScriptedSource::default();
    let asked = std::rc::Rc::new(std::cell::Cell::new(0));
    let counter = asked.clone();
    let api = service_fn(move |request: Request<Full<Bytes>>| {
        counter.set(counter.get() + 1);
        let response = match request.headers()[AUTHORIZATION] == "Bearer token-1" {
            true => refusal(),
            false => Response::new(()),
        };
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let layer = source(RefusedBy(counting.clone(), StatusCode::FORBIDDEN)).any_https();
    call(&mut layer.layer(api), request("")).await.unwrap();
    (asked.get(), counting.tokens_issued())
}

#[tokio::test]
async fn a_source_says_what_else_refuses_its_tokens() {
    let (replayed, once) = ((2, 2), (1, 1));
    assert_eq!(ask_by_source(AuthLayer::new, status(403)).await, replayed);
    assert_eq!(ask_by_source(AuthLayer::new, status(419)).await, once);
    assert_eq!(ask_by_source(AuthLayer::new, status(401)).await, replayed);
    let not_the_token = || {
        let response = Response::builder()
            .status(403)
            .header("x-not-the-token", "1");
        response.body(()).unwrap()
    };
    assert_eq!(ask_by_source(AuthLayer::new, not_the_token).await, once);
    // The source's rule also applies through an `Arc`, and through a cache that is used as a
    // source.
    let shared = |source| AuthLayer::new(std::sync::Arc::new(source));
    assert_eq!(ask_by_source(shared, status(403)).await, replayed);
    let cached = |source| AuthLayer::from(TokenCache::new(TokenCache::new(source)));
    assert_eq!(ask_by_source(cached, status(403)).await, replayed);
}

#[tokio::test]
async fn the_users_rule_replaces_that_of_the_source() {
    let by_user = |source| AuthLayer::new(source).refused_if(|status, _| status == 419);
    assert_eq!(ask_by_source(by_user, status(403)).await, (1, 1));
    assert_eq!(ask_by_source(by_user, status(419)).await, (2, 2));
}
