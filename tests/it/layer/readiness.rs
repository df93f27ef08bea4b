//! The readiness of the inner service: which clone is called, and when a permit is held.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_auth::cache::Clock;
use tower_auth::{Error, NotReplayed, Token};
use tower_auth_test::{Api, ScriptedSource, controlled_source, run_until_idle};
use tower_service::Service;
use tower_test::mock;

use crate::support::{call, clocked, credentials, request};

type Mocked = mock::Mock<Request<Full<Bytes>>, Response<&'static str>>;
type Handle = mock::Handle<Request<Full<Bytes>>, Response<&'static str>>;

/// Answers the next request, which must carry this token.
async fn answers(handle: &mut Handle, token: &str) {
    let (request, send) = handle.next_request().await.unwrap();
    assert_eq!(request.headers()[AUTHORIZATION], format!("Bearer {token}"));
    send.send_response(Response::new("done"));
}

/// A `tower_test` mock panics if a call goes to a clone that wasn't polled ready.
#[tokio::test]
async fn the_clone_that_is_ready_is_the_one_that_is_called() {
    let (mocked, mut handle): (Mocked, _) = mock::pair();
    let layer = crate::support::layer(ScriptedSource::default());
    layer.cache().token().await.unwrap();
    let mut client = layer.layer(mocked);
    for _ in 0..3 {
        handle.allow(1);
        let mut response = task::spawn(client.ready().await.unwrap().call(request("")));
        assert_pending!(response.poll());
        answers(&mut handle, "token-1").await;
        assert_eq!(response.await.unwrap().into_body(), "done");
    }
}

#[tokio::test]
async fn a_request_is_sent_by_a_clone_as_soon_as_that_is_ready() {
    let (mocked, mut handle): (Mocked, _) = mock::pair();
    let layer = crate::support::layer(ScriptedSource::default());
    layer.cache().token().await.unwrap();
    handle.allow(0);
    let client = layer.layer(mocked);
    let mut response = task::spawn(client.send(request("")));
    // The response future doesn't borrow the client.
    drop(client);
    assert_pending!(response.poll());
    assert_pending!(handle.poll_request());

    handle.allow(1);
    assert!(response.is_woken());
    assert_pending!(response.poll());
    answers(&mut handle, "token-1").await;
    assert_eq!(response.await.unwrap().into_body(), "done");
}

#[tokio::test]
async fn no_permit_is_held_while_a_token_is_waited_for() {
    let (source, mut fetches) = controlled_source();
    let limited = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(service_fn(|_: Request<Full<Bytes>>| async {
            Ok::<_, Infallible>(Response::new("done"))
        }));
    let mut other = limited.clone();
    let mut client = crate::support::layer(source).layer(limited);
    let mut waiting = task::spawn(client.ready().await.unwrap().call(request("")));
    assert_pending!(waiting.poll());

    // The client was polled ready, but it doesn't hold the only permit.
    let mut ready = task::spawn(async { other.ready().await.map(drop) });
    assert_ready_ok!(ready.poll());
    drop(ready);
    drop(other);
    fetches.next().await.issue("token");
    assert_eq!(waiting.await.unwrap().into_body(), "done");
}

#[tokio::test]
async fn a_replay_is_polled_ready_again() {
    let (mocked, mut handle): (Mocked, _) = mock::pair();
    let layer = crate::support::layer(ScriptedSource::default());
    layer.cache().token().await.unwrap();
    handle.allow(1);
    let client = layer.layer(mocked);
    let mut response = task::spawn(client.oneshot(request("body")));
    assert_pending!(response.poll());
    let (_, send) = handle.next_request().await.unwrap();
    send.send_response(unauthorized());
    assert_pending!(response.poll());
    run_until_idle().await;
    // The new token has arrived, but the service isn't ready for a second call.
    assert_pending!(response.poll());
    assert_pending!(handle.poll_request());

    handle.allow(1);
    assert!(response.is_woken());
    assert_pending!(response.poll());
    answers(&mut handle, "token-2").await;
    assert_eq!(response.await.unwrap().into_body(), "done");
}

#[tokio::test]
async fn a_client_that_breaks_before_the_replay_leaves_the_caller_the_refusal() {
    let (mocked, mut handle): (Mocked, _) = mock::pair();
    let layer = crate::support::layer(ScriptedSource::default());
    layer.cache().token().await.unwrap();
    handle.allow(1);
    let mut response = task::spawn(layer.layer(mocked).oneshot(request("")));
    assert_pending!(response.poll());
    let (_, send) = handle.next_request().await.unwrap();
    handle.send_error("the pool is closed");
    send.send_response(unauthorized());
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let Some(NotReplayed::NotReady(error)) = response.extensions().get() else {
        panic!("{:?}", response.extensions());
    };
    assert_eq!(error.to_string(), "the pool is closed");
}

#[tokio::test]
async fn an_error_of_readiness_reaches_the_caller() {
    let (mocked, mut handle): (Mocked, _) = mock::pair();
    handle.send_error("the pool is closed");
    let mut client = crate::support::layer(ScriptedSource::default()).layer(mocked);
    let error = client.ready().await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), "the pool is closed");
}

/// If a waiting request held the only permit, the fetch through the same client would never get
/// one.
#[tokio::test(start_paused = true)]
async fn a_buffered_client_with_one_permit_can_be_shared_with_the_token_source() {
    let shared = ServiceBuilder::new()
        .buffer(1)
        .concurrency_limit(1)
        .service(service_fn(|request: Request<Full<Bytes>>| async move {
            tokio::task::yield_now().await;
            let path = request.uri().path().to_owned();
            let authorized = request.headers().contains_key(AUTHORIZATION);
            let status = if path == "/token" || authorized {
                200
            } else {
                401
            };
            Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap())
        }));
    let transport = shared.clone();
    let source = move |_| {
        let transport = transport.clone();
        async move {
            let mut token = request("");
            *token.uri_mut() = "https://api.example.com/token".parse().unwrap();
            transport.oneshot(token).await.map_err(Error::other)?;
            Token::bearer("secret")
        }
    };
    let client = crate::support::layer(source).layer(shared);
    let callers = (0..50).map(|_| {
        let client = client.clone();
        async move { client.oneshot(request("")).await.unwrap().status() }
    });
    let all = futures_util::future::join_all(callers);
    let all = tokio::time::timeout(Duration::from_secs(60), pin!(all)).await;
    assert_eq!(all.expect("a deadlock"), vec![StatusCode::OK; 50]);
}

fn unauthorized() -> Response<&'static str> {
    Response::builder().status(401).body("no").unwrap()
}

type Sent = Request<Full<Bytes>>;

fn is_free<S>(limited: &ConcurrencyLimit<S>) -> bool
where
    S: Service<Sent> + Clone,
{
    let mut limited = limited.clone();
    let mut ready = task::spawn(ServiceExt::<Sent>::ready(&mut limited));
    ready.poll().is_ready()
}

/// The token expires while the request waits for the only permit.
#[tokio::test]
async fn a_token_that_ended_while_the_service_was_not_ready_is_not_sent() {
    let (source, mut fetches) = controlled_source();
    let clock = Clock::manual();
    let cache = clocked(source, &clock).build();
    let api = Api::accepting(["second", "third"]);
    let limited = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(api.clone());
    let hour = Duration::from_secs(3600);

    let other = limited.clone();
    let client = crate::support::layer_from(cache.clone()).layer(limited);
    let mut waiting = task::spawn(client.oneshot(request("")));
    assert_pending!(waiting.poll());
    let fetch = fetches.next().await;
    let mut permit = other.clone();
    ServiceExt::<Sent>::ready(&mut permit).await.unwrap();
    fetch.issue_for("first", hour);
    run_until_idle().await;
    assert_pending!(waiting.poll());

    clock.advance(hour);
    drop(permit);
    assert_pending!(waiting.poll());
    // The request holds no permit while the next token is fetched.
    assert!(is_free(&other));
    fetches.next().await.issue_for("second", hour);
    assert_eq!(waiting.await.unwrap().status(), StatusCode::OK);
    assert_eq!(credentials(&api), ["Bearer second"]);
}

#[tokio::test]
async fn a_token_that_ended_before_the_replay_was_ready_is_not_sent_either() {
    let (source, mut fetches) = controlled_source();
    let clock = Clock::manual();
    let cache = clocked(source, &clock).build();
    let hour = Duration::from_secs(3600);
    let (mocked, mut handle): (Mocked, _) = mock::pair();
    let limited = ConcurrencyLimit::new(mocked, 1);
    let other = limited.clone();
    handle.allow(1);
    let first = tokio::spawn(cache.token());
    fetches.next().await.issue("revoked");
    first.await.unwrap().unwrap();
    let mut response = task::spawn(
        crate::support::layer_from(cache)
            .layer(limited)
            .oneshot(request("")),
    );
    assert_pending!(response.poll());
    let (_, send) = handle.next_request().await.unwrap();
    send.send_response(unauthorized());
    assert_pending!(response.poll());
    fetches.next().await.issue_for("ended", hour);
    run_until_idle().await;
    assert_pending!(response.poll());

    clock.advance(hour);
    handle.allow(1);
    assert_pending!(response.poll());
    assert!(
        is_free(&other),
        "the permit is held while a token is waited for"
    );
    fetches.next().await.issue_for("good", hour);
    run_until_idle().await;
    handle.allow(1);
    assert_pending!(response.poll());
    let (request, send) = handle.next_request().await.unwrap();
    assert_eq!(request.headers()[AUTHORIZATION], "Bearer good");
    send.send_response(Response::new("done"));
    assert_eq!(response.await.unwrap().into_body(), "done");
}

#[tokio::test]
async fn a_request_that_is_not_sent_gives_its_permit_back() {
    let (source, mut fetches) = controlled_source();
    let limited = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(Api::accepting(["token-1"]));
    let other = limited.clone();
    let layer = crate::support::layer(source);
    let mut client = layer.layer(limited);
    let cleartext = || {
        let mut cleartext = request("");
        *cleartext.uri_mut() = "http://api.example.com/".parse().unwrap();
        cleartext
    };

    // The request fails, because its origin isn't allowed.
    call(&mut client, cleartext()).await.unwrap_err();
    assert!(is_free(&other));
    // There is no token, and the backoff prevents an immediate fetch.
    let failing = tokio::spawn(layer.cache().token());
    fetches.next().await.fail("down");
    failing.await.unwrap().unwrap_err();
    call(&mut client, request("")).await.unwrap_err();
    assert!(is_free(&other));

    // The permit is also free with a cached token and a private copy of the header.
    let layer = crate::support::layer(ScriptedSource::default());
    let mut client = layer.layer(other.clone());
    for _ in 0..3 {
        call(&mut client, request("")).await.unwrap();
    }
    call(&mut client, cleartext()).await.unwrap_err();
    assert!(is_free(&other));
}
