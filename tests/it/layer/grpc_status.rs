//! The status that tonic makes of the error of a call that isn't sent.

use std::error::Error as StdError;
use std::fmt;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Request, Response};
use tokio_test::{assert_pending, task};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::cache::Clock;
use tower_auth::token::{Applied, PerRequestCredential, RequestHead};
use tower_auth::{AuthLayer, BoxError, Error, Place, Token, TokenCache};
use tower_auth_test::ScriptedSource;
use tower_test::mock;

use crate::support::scenarios::errors;
use crate::support::secret_finder::SecretFinder;
use crate::support::{clocked, layer, layer_from, paused};

const MESSAGE: &str =
    "the call was not sent, because it has no credential; the source of this status says why";

/// The types of errors after which another call may succeed.
const PASSING: &[&str] = &[
    "closed",
    "expired",
    "illegal_token",
    "panic",
    "reply",
    "runtime",
    "server_error",
    "slow_down",
    "source",
    "temporarily_unavailable",
    "timeout",
    "transport",
    "use_dpop_nonce",
];

/// Builds a call as tonic's clients do.
fn call() -> Request<Body> {
    Request::post("https://api.example.com/test/Call")
        .header("content-type", "application/grpc")
        .body(Body::empty())
        .unwrap()
}

/// Returns the error of a call that isn't sent.
async fn unsent<B>(layer: &AuthLayer, request: Request<B>) -> BoxError
where
    B: tower_auth::layer::Replay,
{
    let client = layer.layer(service_fn(|_: Request<B>| async {
        Err::<Response<()>, _>(BoxError::from("it was sent"))
    }));
    client.oneshot(request).await.unwrap_err()
}

/// Builds a layer whose source always fails with this error.
fn failing(error: Error) -> AuthLayer {
    let source = move |_| std::future::ready(Err::<Token, _>(error.clone()));
    layer_from(paused(source).build())
}

/// Returns the error and its sources.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |&error| error.source())
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_is_unauthenticated_and_any_other_is_unavailable() {
    for (error, word) in errors().await {
        let expected = match PASSING.contains(&word) {
            true => Code::Unavailable,
            false => Code::Unauthenticated,
        };
        assert_eq!(
            error.is_permanent(),
            expected == Code::Unauthenticated,
            "{word}"
        );

        let layer = failing(error.clone());
        // The first call gets the error of the fetch, and the second gets the cached error.
        for _ in 0..2 {
            let status = Status::from_error(unsent(&layer, call()).await);
            assert_eq!(
                (status.code(), status.message()),
                (expected, MESSAGE),
                "{word}"
            );
            let found = Error::find(&status).unwrap();
            assert_eq!(found.to_string(), error.to_string());
        }
        let status = Status::from(error.clone());
        assert_eq!(
            (status.code(), status.message()),
            (expected, MESSAGE),
            "{word}"
        );
        assert_eq!(Error::find(&status).unwrap().to_string(), error.to_string());
    }
}

#[derive(Debug)]
struct Sealed;

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the vault is sealed")
    }
}

impl StdError for Sealed {}

#[tokio::test(start_paused = true)]
async fn the_cause_is_in_the_chain_and_no_text_is_printed_twice() {
    let error = unsent(&failing(Error::other(Sealed)), call()).await;
    assert!(error.downcast_ref::<Error>().is_some_and(Error::is_source));
    assert!(chain(&*error).any(<dyn StdError>::is::<Sealed>));
    let texts: Vec<String> = chain(&*error).map(ToString::to_string).collect();
    let expected = [
        String::from("the token source failed"),
        format!("code: 'The service is currently unavailable', message: \"{MESSAGE}\", source: .."),
        String::from("the underlying error"),
        String::from("the vault is sealed"),
    ];
    assert_eq!(texts, expected);
    // The text of tonic's status contains the cause and the error only once.
    let status = Status::from_error(error).to_string();
    assert_eq!(status.matches("Sealed").count(), 1, "{status}");
    assert_eq!(
        status.matches("the token source failed").count(),
        1,
        "{status}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_without_a_cause_ends_with_the_status() {
    let error = unsent(&failing(Token::bearer("two\nlines").unwrap_err()), call()).await;
    assert_eq!(chain(&*error).count(), 2);
    assert!(chain(&*error).any(<dyn StdError>::is::<Status>));
}

#[tokio::test(start_paused = true)]
async fn callers_of_other_clients_find_the_cause_where_it_is_without_the_feature() {
    let request = || Request::get("https://api.example.com/");
    let layer = failing(Error::other(Sealed));
    let plain = unsent(&layer, request().body(Body::empty()).unwrap()).await;
    let json = request().header("content-type", "application/json");
    let json = unsent(&layer, json.body(String::new()).unwrap()).await;
    // Before the last request, a gRPC call gets the same error from the cache.
    unsent(&layer, call()).await;
    let later = unsent(&layer, request().body(String::new()).unwrap()).await;
    for error in [plain, json, later] {
        assert!(error.source().is_some_and(<dyn StdError>::is::<Sealed>));
    }
}

#[tokio::test]
async fn any_content_type_of_grpc_is_recognized_whatever_the_body_is() {
    for content_type in [
        "application/grpc",
        "application/grpc+proto",
        "Application/gRPC-web",
    ] {
        let request =
            Request::post("https://api.example.com/").header("content-type", content_type);
        let request = request.body("").unwrap();
        let layer = layer(|_| async { Err::<Token, _>(Error::other("down")) });
        let status = Status::try_from_error(unsent(&layer, request).await).unwrap();
        assert_eq!(status.code(), Code::Unavailable, "{content_type}");
    }
}

#[tokio::test]
async fn a_call_that_may_not_have_the_credential_is_unauthenticated() {
    let layer = AuthLayer::new(ScriptedSource::default());
    let layer = layer.only_to(["https://other.example.com"]).unwrap();
    // The first call comes before the cache has a token, and the second after.
    for _ in 0..2 {
        let status = Status::from_error(unsent(&layer, call()).await);
        assert_eq!(status.code(), Code::Unauthenticated);
        layer.cache().token().await.unwrap();
    }
}

/// A credential that fails for every request.
struct Unsignable;

impl PerRequestCredential for Unsignable {
    fn apply(&self, _: &RequestHead, _: &mut HeaderMap) -> Result<Applied, BoxError> {
        Err("there is no such key".into())
    }
}

#[tokio::test]
async fn a_call_that_cannot_be_signed_has_a_status_too() {
    let layer = layer(|_| async {
        let place = Place::Header(HeaderName::from_static("x-signature"));
        Ok(Token::per_request(place, "id", Arc::new(Unsignable)))
    });
    let status = Status::try_from_error(unsent(&layer, call()).await).unwrap();
    assert_eq!(status.code(), Code::Unavailable);
}

/// The token expired while the call waited for the channel, and there is no other token.
#[tokio::test]
async fn a_call_whose_token_expires_before_the_channel_is_ready_has_a_status_too() {
    let clock = Clock::manual();
    let cache = clocked(ScriptedSource::expiring(Duration::from_secs(60)), &clock).build();
    let (channel, mut server) = mock::pair::<Request<Body>, Response<()>>();
    let mut client = layer_from(cache.clone()).layer(channel);
    server.allow(1);
    let ready = client.ready().await.unwrap();
    let mut calling = task::spawn(tower::Service::call(ready, call()));
    server.allow(0);
    assert_pending!(calling.poll());
    cache.token().await.unwrap();
    assert_pending!(calling.poll());
    clock.advance(Duration::from_secs(60));
    cache.close().await;
    server.allow(1);
    let error = calling.await.unwrap_err();
    assert!(error.downcast_ref::<Error>().is_some_and(Error::is_closed));
    assert_eq!(Status::from_error(error).code(), Code::Unavailable);
}

#[cfg(feature = "tenants")]
#[tokio::test]
async fn a_call_without_a_tenant_or_whose_tenant_cannot_be_made_has_a_status_too() {
    use tower_auth::tenants::Tenants;

    let tenants = Tenants::new(|_: &u8| Err(Error::other("the database is down")));
    for (tenant, expected) in [
        (None, Code::Unauthenticated),
        (Some(1_u8), Code::Unavailable),
    ] {
        let mut call = call();
        if let Some(tenant) = tenant {
            call.extensions_mut().insert(tenant);
        }
        let client = service_fn(|_: Request<Body>| async {
            Err::<Response<()>, _>(BoxError::from("it was sent"))
        });
        let client = tenants.by_extension().layer(client);
        let error = client.oneshot(call).await.unwrap_err();
        assert_eq!(Status::from_error(error).code(), expected);
    }
}

/// The error contains what the server said. The status doesn't, because a service may pass the
/// status on to its own callers.
#[tokio::test(start_paused = true)]
async fn nothing_of_the_servers_reply_is_in_the_message_and_no_secret_is_anywhere() {
    let body = r#"{"error":"invalid_client","error_description":"who is planted?"}"#;
    let denied = crate::support::token_server::fetch(401, body)
        .await
        .unwrap_err();
    let finder = SecretFinder::start();
    let cache = TokenCache::new(|_| async { Token::bearer("planted\n") });
    let error = unsent(&layer_from(cache), call()).await;
    finder.print(&error);
    finder.print(&Status::from_error(error));
    finder.end();
    let status = Status::from_error(unsent(&failing(denied), call()).await);
    assert_eq!(status.message(), MESSAGE);
}
