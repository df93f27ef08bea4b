//! `Buffer`, `ConcurrencyLimit`, `RateLimit` and `LoadShed`, on either side of the layer.
//!
//! `layer::readiness` tests `Buffer` over `ConcurrencyLimit` inside the layer. The fetch goes
//! through the same client there.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::{Instant, timeout};
use tokio_test::{assert_pending, task};
use tower::load_shed::error::Overloaded;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_auth::{BoxError, Error, Token, TokenSource};
use tower_auth_test::{ScriptedSource, controlled_source, run_until_idle};
use tower_service::Service;

use super::Script;
use crate::support::request;

type Sent = Request<Full<Bytes>>;

/// A source that fetches through the user's client.
fn through<S>(client: S) -> impl TokenSource
where
    S: Service<Sent, Error: Into<BoxError>, Future: Send> + Clone + Send + Sync + 'static,
{
    move |_| {
        let client = client.clone();
        async move {
            let mut token = request("");
            *token.uri_mut() = "https://api.example.com/token".parse().unwrap();
            client.oneshot(token).await.map_err(Error::other)?;
            Token::bearer("secret")
        }
    }
}

/// Asserts that 50 concurrent callers get their responses.
async fn all_get_through<S>(client: S)
where
    S: Service<Sent, Response = Response<Full<Bytes>>, Error: std::fmt::Debug> + Clone,
{
    let callers = (0..50).map(|_| client.clone().oneshot(request("")));
    let responses = timeout(Duration::from_secs(60), join_all(callers)).await;
    let responses = responses.expect("a deadlock");
    let is_done = |response: &Result<Response<_>, _>| response.as_ref().unwrap().status() == 200;
    assert!(responses.iter().all(is_done));
}

/// The fetch needs the only permit. If the waiting request held the permit, both would wait
/// forever.
#[tokio::test(start_paused = true)]
async fn a_fetch_through_the_one_permit_of_the_same_client_is_no_deadlock() {
    let limited = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(Script::new([]));
    let auth = crate::support::layer(through(limited.clone())).layer(limited);
    all_get_through(auth).await;
}

#[tokio::test(start_paused = true)]
async fn with_a_buffer_outside_as_well_it_is_none_either() {
    let limited = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(Script::new([]));
    let buffered = ServiceBuilder::new()
        .buffer(4)
        .layer(crate::support::layer(through(limited.clone())))
        .service(limited);
    all_get_through(buffered).await;
}

/// With the limit outside, the permit covers the whole request, including the fetch and the replay.
/// The fetch goes through the client below the limit and needs no permit.
#[tokio::test(start_paused = true)]
async fn with_the_limit_outside_the_fetch_goes_through_the_client_below_it() {
    let client = Script::new([]);
    let limited = ServiceBuilder::new()
        .concurrency_limit(1)
        .layer(crate::support::layer(through(client.clone())))
        .service(client);
    all_get_through(limited).await;
}

/// A buffer calls one service for all callers.
#[tokio::test]
async fn who_waits_for_a_token_behind_a_buffer_holds_up_nobody_else() {
    let (source, mut fetches) = controlled_source();
    let client = ServiceBuilder::new()
        .buffer(1)
        .layer(crate::support::layer(source))
        .service(Script::new([]));
    let waiting = tokio::spawn(client.clone().oneshot(request("")));
    let fetch = fetches.next().await;
    let mut own = request("");
    own.headers_mut()
        .insert(AUTHORIZATION, "Basic b3du".parse().unwrap());
    let response = client.oneshot(own).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!waiting.is_finished());
    fetch.issue("token");
    assert_eq!(waiting.await.unwrap().unwrap().status(), StatusCode::OK);
}

/// Returns how long each of two requests takes. The first request is refused once.
async fn taken<S>(client: S) -> [Duration; 2]
where
    S: Service<Sent, Response = Response<Full<Bytes>>, Error: std::fmt::Debug> + Clone,
{
    let mut taken = [Duration::ZERO; 2];
    for taken in &mut taken {
        let start = Instant::now();
        let response = client.clone().oneshot(request("")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        *taken = start.elapsed();
    }
    taken
}

const PERIOD: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_rate_limit_inside_counts_the_replay() {
    let client = ServiceBuilder::new()
        .layer(crate::support::layer(ScriptedSource::default()))
        .buffer(4)
        .rate_limit(2, PERIOD)
        .service(Script::new([401]));
    let [first, second] = taken(client).await;
    assert!(first < PERIOD && second >= PERIOD - first, "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_outside_does_not() {
    let client = ServiceBuilder::new()
        .buffer(4)
        .rate_limit(2, PERIOD)
        .layer(crate::support::layer(ScriptedSource::default()))
        .service(Script::new([401]));
    let taken = taken(client).await;
    assert!(taken.iter().all(|taken| *taken < PERIOD), "{taken:?}");
}

/// An overload error says nothing about the token.
#[tokio::test]
async fn that_the_client_is_overloaded_is_the_callers_error_and_rejects_no_token() {
    let (first, response) = tokio::sync::oneshot::channel::<()>();
    let first = std::sync::Arc::new(tokio::sync::Mutex::new(Some(first)));
    let slow = service_fn(move |_: Sent| {
        let first = std::sync::Arc::clone(&first);
        async move {
            if let Some(mut first) = first.lock().await.take() {
                first.closed().await;
            }
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    let source = ScriptedSource::default();
    let client = ServiceBuilder::new()
        .layer(crate::support::layer(source.clone()))
        .load_shed()
        .concurrency_limit(1)
        .service(slow);
    let mut running = task::spawn(client.clone().oneshot(request("")));
    assert_pending!(running.poll());
    run_until_idle().await;
    assert_pending!(running.poll());
    let error = client.clone().oneshot(request("")).await.unwrap_err();
    assert!(error.is::<Overloaded>(), "{error}");
    drop(response);
    assert_eq!(running.await.unwrap().status(), StatusCode::OK);
    client.oneshot(request("")).await.unwrap();
    assert_eq!(source.tokens_issued(), 1);
}

/// Callers that wait for a token hold no permit, so there is no load to shed.
#[tokio::test]
async fn who_waits_for_a_token_is_no_load() {
    let (source, mut fetches) = controlled_source();
    let client = ServiceBuilder::new()
        .load_shed()
        .layer(crate::support::layer(source))
        .concurrency_limit(1)
        .service(Script::new([]));
    let mut waiting: Vec<_> = (0..10)
        .map(|_| task::spawn(client.clone().oneshot(request(""))))
        .collect();
    for caller in &mut waiting {
        assert_pending!(caller.poll(), "it was shed");
    }
    fetches.next().await.issue("token");
    for response in join_all(waiting).await {
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
}
