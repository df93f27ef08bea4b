//! The error of a call, split by the part that failed. The split also works behind other layers.

use std::error::Error as StdError;
use std::io;
use std::iter;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::timeout::error::Elapsed;
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::layer::CallError;
use tower_auth::{AuthLayer, BoxError, Error, Token, TokenCache};
use tower_auth_test::ScriptedSource;

use crate::support::{layer, request};

type Client = BoxCloneSyncService<Request<Full<Bytes>>, Response<()>, BoxError>;

fn without_token() -> AuthLayer {
    layer(|_| async { Err::<Token, _>(Error::other("down")) })
}

/// A client without a network.
async fn no_route(_: Request<Full<Bytes>>) -> Result<Response<()>, io::Error> {
    Err(io::Error::other("no route"))
}

/// Builds the layer alone, and the layer among those layers of Tower that have errors of their own.
fn stacks(auth: &AuthLayer) -> [Client; 2] {
    let alone = ServiceBuilder::new()
        .layer(auth.clone())
        .service_fn(no_route);
    let among = ServiceBuilder::new()
        .buffer(8)
        .timeout(Duration::from_secs(1))
        .load_shed()
        .concurrency_limit(8)
        .rate_limit(8, Duration::from_secs(1))
        .layer(auth.clone())
        .buffer(8)
        .timeout(Duration::from_secs(1))
        .load_shed()
        .concurrency_limit(8)
        .service_fn(no_route);
    [
        BoxCloneSyncService::new(alone),
        // `RateLimit` isn't `Clone`, but the buffer around it is.
        BoxCloneSyncService::new(among),
    ]
}

/// Splits the error as a service does, with `?`.
async fn split(client: Client) -> Result<Response<()>, CallError<io::Error>> {
    Ok(client.oneshot(request("")).await?)
}

#[tokio::test]
async fn no_layer_of_tower_wraps_the_error_of_a_call() {
    for client in stacks(&without_token()) {
        let Err(CallError::Auth(error)) = split(client).await else {
            panic!("it isn't ours");
        };
        assert!(error.is_source(), "{error}");
    }
    for client in stacks(&layer(ScriptedSource::default())) {
        let Err(CallError::Client(error)) = split(client).await else {
            panic!("it isn't the client's");
        };
        assert_eq!(error.to_string(), "no route");
    }
}

#[tokio::test(start_paused = true)]
async fn the_error_of_another_layer_is_kept_as_it_is() {
    let client = ServiceBuilder::new()
        .timeout(Duration::from_secs(1))
        .layer(layer(|_| std::future::pending()))
        .service_fn(no_route);
    match split(BoxCloneSyncService::new(client)).await {
        Err(CallError::Other(error)) => assert!(error.is::<Elapsed>(), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_function_that_also_asks_the_cache_returns_the_same_type() {
    async fn secret(cache: &TokenCache) -> Result<String, CallError<io::Error>> {
        Ok(cache.token().await?.secret().to_owned())
    }
    let error = secret(without_token().cache()).await.unwrap_err();
    assert!(matches!(error, CallError::Auth(_)), "{error}");
}

#[tokio::test]
async fn the_texts_of_the_chain_are_distinct_and_ours_is_found_in_it() {
    let chain = |error: &CallError<io::Error>| -> Vec<String> {
        let first: &(dyn StdError + 'static) = error;
        let chain = iter::successors(Some(first), |&error| error.source());
        chain.map(ToString::to_string).collect()
    };
    let [client, _] = stacks(&without_token());
    let error = split(client).await.unwrap_err();
    assert!(Error::find(&error).is_some_and(Error::is_source));
    let texts = [
        "the request could not be authenticated",
        "the token source failed",
        "down",
    ];
    assert_eq!(chain(&error), texts);

    let [client, _] = stacks(&layer(ScriptedSource::default()));
    let error = split(client).await.unwrap_err();
    assert!(Error::find(&error).is_none());
    assert_eq!(chain(&error), ["the client failed", "no route"]);

    let error = CallError::Other(BoxError::from("late"));
    assert!(Error::find(&error).is_none());
    assert_eq!(chain(&error), ["a layer around the client failed", "late"]);
}

#[test]
fn an_error_is_found_however_deep_it_is_and_the_outermost_is_the_one() {
    let inner = Error::other("down");
    let outer = Error::transient(CallError::<io::Error>::from(inner));
    let wrapped = CallError::<io::Error>::from(BoxError::from(outer.clone()));
    for error in [&wrapped as &(dyn StdError + 'static), &outer] {
        assert!(Error::find(error).is_some_and(Error::is_transient));
    }
    let cause = outer.source().unwrap();
    assert!(Error::find(cause).is_some_and(|found| !found.is_transient()));
}

#[cfg(feature = "reqwest")]
mod of_reqwest {
    use tower::Layer;
    use tower_auth::Auth;

    use super::*;

    /// An error enum such as a service declares.
    #[derive(Debug)]
    enum ReportError {
        Token(Error),
        Client(reqwest::Error),
        Other(BoxError),
    }

    impl From<BoxError> for ReportError {
        fn from(error: BoxError) -> Self {
            match CallError::from(error) {
                CallError::Auth(error) => Self::Token(error),
                CallError::Client(error) => Self::Client(error),
                CallError::Other(error) => Self::Other(error),
            }
        }
    }

    /// Requests a report from a port that nobody listens on.
    async fn report(client: Auth<reqwest::Client>) -> Result<reqwest::Response, ReportError> {
        let url = "http://127.0.0.1:1/report".parse().unwrap();
        let request = reqwest::Request::new(http::Method::GET, url);
        Ok(client.oneshot(request).await?)
    }

    #[tokio::test]
    async fn the_client_is_reqwest_and_its_errors_are_typed() {
        let error = report(without_token().layer(reqwest::Client::new())).await;
        assert!(matches!(&error, Err(ReportError::Token(error)) if error.is_source()));
        let error = report(layer(ScriptedSource::default()).layer(reqwest::Client::new())).await;
        match error.unwrap_err() {
            ReportError::Client(error) => assert!(error.is_connect(), "{error}"),
            other => panic!("{other:?}"),
        }
        let other = ReportError::from(BoxError::from("late"));
        assert!(matches!(other, ReportError::Other(error) if error.to_string() == "late"));
    }
}
