//! A refused request is sent once more with a new token. Otherwise the caller gets the refusal.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio_test::{assert_pending, task};
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::cache::Clock;
use tower_auth::{NotReplayed, Reason, Token};
use tower_auth_test::{Api, ScriptedResponse, ScriptedSource, controlled_source, run_until_idle};

use super::Clones;
use crate::support::{call, clocked, credentials, request};

#[tokio::test]
async fn a_refused_request_is_sent_once_more_with_the_new_token_and_the_same_body() {
    let bodies = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&bodies);
    let api = service_fn(move |request: Request<Full<Bytes>>| {
        let seen = Arc::clone(&seen);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let credential = parts.headers[AUTHORIZATION].to_str().unwrap().to_owned();
            assert_eq!(parts.headers.get_all(AUTHORIZATION).iter().count(), 1);
            assert_eq!(parts.headers["x-mine"], "kept");
            assert_eq!(parts.extensions.get(), Some(&42_u8));
            assert_eq!(
                (parts.method.as_str(), parts.version),
                ("PUT", http::Version::HTTP_2)
            );
            assert_eq!(parts.uri, "https://api.example.com/things?a=b");
            let accepted = credential == "Bearer token-2";
            seen.lock().unwrap().push((credential, body));
            let status = if accepted { 200 } else { 401 };
            Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap())
        }
    });
    let client = crate::support::layer(ScriptedSource::default()).layer(api);
    let request = Request::put("https://api.example.com/things?a=b")
        .version(http::Version::HTTP_2)
        .header("x-mine", "kept")
        .extension(42_u8)
        .body(Full::from("all of it"))
        .unwrap();
    let response = client.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let expected = ["Bearer token-1", "Bearer token-2"];
    let expected = expected.map(|credential| (credential.to_owned(), Bytes::from("all of it")));
    assert_eq!(*bodies.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_hundred_concurrent_refusals_of_one_token_are_one_fetch_and_a_hundred_replays() {
    let (source, mut fetches) = controlled_source();
    let api = Api::accepting(["new"]);
    // All 100 requests are sent before the first response.
    let barrier = Arc::new(tokio::sync::Barrier::new(100));
    let arriving = {
        let api = api.clone();
        service_fn(move |request: Request<Full<Bytes>>| {
            let (api, barrier) = (api.clone(), Arc::clone(&barrier));
            async move {
                barrier.wait().await;
                api.oneshot(request).await
            }
        })
    };
    let layer = crate::support::layer(source);
    let client = layer.layer(arriving);
    let first = tokio::spawn(layer.cache().token());
    fetches.next().await.issue("old");
    first.await.unwrap().unwrap();

    let callers: Vec<_> = (0..100)
        .map(|_| tokio::spawn(client.clone().oneshot(request("body"))))
        .collect();
    let fetch = fetches.next().await;
    fetches.assert_none().await;
    assert_eq!(credentials(&api), vec!["Bearer old"; 100]);
    fetch.issue("new");

    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    assert_eq!(credentials(&api)[100..], vec!["Bearer new"; 100]);
    fetches.assert_none().await;
}

#[tokio::test]
async fn a_late_refusal_of_an_old_token_is_replayed_with_the_newer_one_without_a_fetch() {
    let (source, mut fetches) = controlled_source();
    let (hold, mut held) = tokio::sync::mpsc::unbounded_channel();
    // The test decides when the first request's refusal arrives.
    let api = service_fn(move |request: Request<Full<Bytes>>| {
        let credential = request.headers()[AUTHORIZATION]
            .to_str()
            .unwrap()
            .to_owned();
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        hold.send(release).unwrap();
        async move {
            released.await.unwrap();
            let status = if credential == "Bearer newer" {
                200
            } else {
                401
            };
            Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap())
        }
    });
    let layer = crate::support::layer(source);
    let client = layer.layer(api);
    let slow = tokio::spawn(client.clone().oneshot(request("")));
    fetches.next().await.issue("old");
    let slow_response = held.recv().await.unwrap();

    // Meanwhile another request is refused and gets a new token.
    let quick = tokio::spawn(client.oneshot(request("")));
    held.recv().await.unwrap().send(()).unwrap();
    fetches.next().await.issue("newer");
    held.recv().await.unwrap().send(()).unwrap();
    assert_eq!(quick.await.unwrap().unwrap().status(), StatusCode::OK);

    slow_response.send(()).unwrap();
    held.recv().await.unwrap().send(()).unwrap();
    assert_eq!(slow.await.unwrap().unwrap().status(), StatusCode::OK);
    fetches.assert_none().await;
}

#[tokio::test]
async fn a_second_refusal_is_returned_as_it_is_and_says_why() {
    let (source, api) = (ScriptedSource::default(), Api::default());
    api.respond_always(ScriptedResponse::new(401).body("who are you?"));
    let client = crate::support::layer(source.clone()).layer(api.clone());
    let response = client.clone().oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(matches!(
        response.extensions().get(),
        Some(NotReplayed::Again)
    ));
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "who are you?"
    );
    assert_eq!(credentials(&api), ["Bearer token-1", "Bearer token-2"]);
    assert_eq!(source.tokens_issued(), 2);
}

#[tokio::test]
async fn the_same_token_again_is_not_replayed_with() {
    let fetches = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fetches);
    let api = Api::default();
    let client = crate::support::layer(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Token::bearer("always-this") }
    })
    .layer(api.clone());
    let response = client.oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(matches!(
        response.extensions().get(),
        Some(NotReplayed::SameToken)
    ));
    assert_eq!(
        (fetches.load(Ordering::Relaxed), api.requests().len()),
        (2, 1)
    );
}

/// This source keeps its token and returns clones of it.
#[tokio::test]
async fn a_clone_of_the_same_token_is_not_replayed_with_either() {
    let same = Token::bearer("kept").unwrap();
    let api = Api::default();
    let client =
        crate::support::layer(move |_| std::future::ready(Ok(same.clone()))).layer(api.clone());
    let response = client.oneshot(request("")).await.unwrap();
    assert!(matches!(
        response.extensions().get(),
        Some(NotReplayed::SameToken)
    ));
    assert_eq!(api.requests().len(), 1);
}

#[tokio::test]
async fn when_no_new_token_can_be_fetched_the_caller_gets_the_servers_own_refusal() {
    let (source, mut fetches) = controlled_source();
    let api = Api::default();
    api.respond_always(ScriptedResponse::new(401).body("who are you?"));
    let client = crate::support::layer(source).layer(api.clone());
    let caller = tokio::spawn(client.oneshot(request("")));
    fetches.next().await.issue("revoked");
    fetches.next().await.fail("down");
    let response = caller.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let Some(NotReplayed::Fetch(error)) = response.extensions().get() else {
        panic!("{:?}", response.extensions());
    };
    assert!(error.is_source());
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "who are you?"
    );
}

#[tokio::test]
async fn with_retry_off_nothing_is_cloned_and_a_refusal_still_rejects_the_token() {
    for retry in [false, true] {
        let (services, bodies) = (Clones::default(), Clones::default());
        let layer = crate::support::layer(ScriptedSource::default()).retry(retry);
        layer.cache().token().await.unwrap();
        let counted = Clones(Arc::clone(&services.0));
        let mut client = layer.layer(service_fn(move |request: Request<Clones>| {
            let _ = &counted;
            let accepted = request.headers()[AUTHORIZATION] == "Bearer token-2";
            let status = if accepted { 200 } else { 401 };
            let response = Response::builder().status(status).body(()).unwrap();
            ready(Ok::<_, Infallible>(response))
        }));
        let mut call_once = async || {
            let body = Clones(Arc::clone(&bodies.0));
            let request = Request::get("https://api.example.com").body(body).unwrap();
            call(&mut client, request).await.unwrap()
        };
        let response = call_once().await;
        if retry {
            assert_eq!(response.status(), StatusCode::OK);
        } else {
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert!(matches!(
                response.extensions().get(),
                Some(NotReplayed::Off)
            ));
        }
        // If `retry` is off, the refusal has still started a fetch for later requests.
        run_until_idle().await;
        for _ in 0..3 {
            assert_eq!(call_once().await.status(), StatusCode::OK);
        }
        let clones = [services.0, bodies.0].map(|count| count.load(Ordering::Relaxed));
        // With `retry`, each of the four requests is cloned once, and the first once more for its
        // replay.
        assert_eq!(clones, if retry { [5, 5] } else { [0, 0] });
    }
}

/// A response body that counts its drops.
struct Body(Arc<AtomicUsize>);

impl Drop for Body {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_refusals_body_is_closed_once_and_before_the_request_is_sent_again() {
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    let api = service_fn(move |request: Request<Full<Bytes>>| {
        let body = Body(Arc::clone(&count));
        let accepted = request.headers()[AUTHORIZATION] == "Bearer token-2";
        assert_eq!(count.load(Ordering::SeqCst), usize::from(accepted));
        let status = if accepted { 200 } else { 401 };
        std::future::ready(Ok::<_, Infallible>(
            Response::builder().status(status).body(body).unwrap(),
        ))
    });
    let response = crate::support::layer(ScriptedSource::default())
        .layer(api)
        .oneshot(request(""))
        .await
        .unwrap();
    assert_eq!(closed.load(Ordering::SeqCst), 1);
    drop(response);
    assert_eq!(closed.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_caller_who_leaves_while_waiting_sending_or_renewing_harms_no_other() {
    let (source, mut fetches) = controlled_source();
    let api = Api::accepting(["new"]);
    let layer = crate::support::layer(source);
    let client = layer.layer(api.clone());
    let mut waiting = task::spawn(client.clone().oneshot(request("")));
    assert_pending!(waiting.poll());
    let fetch = fetches.next().await;
    drop(waiting);
    fetch.issue("old");
    run_until_idle().await;
    assert_eq!(api.requests().len(), 0);

    // The next request is refused, and then dropped while the new token is fetched.
    let mut renewing = task::spawn(client.clone().oneshot(request("")));
    assert_pending!(renewing.poll());
    let fetch = fetches.next().await;
    drop(renewing);
    fetch.issue("new");
    run_until_idle().await;

    let response = client.oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(credentials(&api), ["Bearer old", "Bearer new"]);
    fetches.assert_none().await;
}

/// Many servers issue the same access token until it expires. If this cache counts the token as
/// expired and gets it again, it is still the same token.
#[tokio::test]
async fn a_late_refusal_is_not_replayed_with_the_same_token_issued_again() {
    let (source, mut fetches) = controlled_source();
    let (clock, hour) = (Clock::manual(), Duration::from_secs(3600));
    let cache = clocked(source, &clock).build();
    let (mocked, mut handle) = tower_test::mock::pair::<Request<Full<Bytes>>, Response<()>>();
    handle.allow(2);
    let mut response = task::spawn(
        crate::support::layer_from(cache.clone())
            .layer(mocked)
            .oneshot(request("")),
    );
    assert_pending!(response.poll());
    fetches.next().await.issue_for("same", hour);
    run_until_idle().await;
    assert_pending!(response.poll());
    let (_, send) = handle.next_request().await.unwrap();

    clock.advance(hour);
    let forced = tokio::spawn(cache.token());
    fetches.next().await.issue_for("same", hour);
    forced.await.unwrap().unwrap();
    send.send_response(Response::builder().status(401).body(()).unwrap());
    let response = response.await.unwrap();
    assert!(matches!(
        response.extensions().get(),
        Some(NotReplayed::SameToken)
    ));
}

#[tokio::test]
async fn a_body_that_cannot_be_sent_again_is_not_waited_for_a_token_for() {
    struct Once;
    impl tower_auth::layer::Replay for Once {
        type Copy = Infallible;
        fn record(&mut self, _: usize) -> Option<Infallible> {
            None
        }
        fn replay(copy: Infallible) -> Option<Self> {
            match copy {}
        }
    }
    let (source, mut fetches) = controlled_source();
    let layer = crate::support::layer(source);
    let api = |_| std::future::ready(Response::builder().status(401).body(()));
    let mut client = layer.layer(tower::service_fn(api));
    let request = Request::get("https://api.example.com").body(Once).unwrap();
    let sent = tokio::spawn(async move { call(&mut client, request).await.unwrap() });
    fetches.next().await.issue("revoked");
    let response = sent.await.unwrap();
    assert!(matches!(
        response.extensions().get(),
        Some(NotReplayed::Body)
    ));
    // The refused request can't be replayed, but its refusal starts a fetch for later requests.
    assert_eq!(fetches.next().await.reason(), Reason::Refused);
    fetches.assert_none().await;
}
