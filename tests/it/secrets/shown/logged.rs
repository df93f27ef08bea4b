//! What the log and the errors contain after each outcome of a request.

use std::time::Duration;

use tokio_test::task;
use tower::{Layer, ServiceExt};
use tower_auth::{Error, NotReplayed, Reason, Token, TokenCache};
use tower_auth_test::{Api, Fetch, controlled_source, run_until_idle};

use crate::support::secret_finder::{SecretFinder, shows_a_secret};
use crate::support::{paused, request};

#[tokio::test(start_paused = true)]
async fn fetch_refresh_and_replay_leave_no_secret_behind() {
    let finder = SecretFinder::start();
    let (source, mut fetches) = controlled_source();
    let cache = paused(source)
        .fetch_timeout(Duration::from_secs(20))
        .build();
    let api = Api::accepting(["planted-1", "planted-2"]);
    let layer = crate::support::layer_from(cache.clone());
    let client = layer.layer(api.clone());
    let send = || tokio::spawn(client.clone().oneshot(request("planted")));
    let hour = Duration::from_secs(3_600);

    // The next lines log a fetch, and then a background refresh.
    let response = send();
    fetches.next().await.issue_for("planted-1", hour);
    assert_eq!(response.await.unwrap().unwrap().status(), 200);
    tokio::time::advance(hour - Duration::from_secs(200)).await;
    let response = send();
    let refresh = fetches.next().await;
    assert_eq!(refresh.reason(), Reason::Stale);
    finder.print(&layer);
    refresh.fail("the vault is sealed");
    assert_eq!(response.await.unwrap().unwrap().status(), 200);
    run_until_idle().await;
    tokio::time::advance(Duration::from_secs(2)).await;
    let response = send();
    fetches.next().await.issue_for("planted-2", hour);
    assert_eq!(response.await.unwrap().unwrap().status(), 200);
    run_until_idle().await;

    // The next lines log a replay.
    api.revoke("planted-2");
    api.accept("planted-3");
    let response = send();
    let fetch = fetches.next().await;
    assert_eq!(fetch.reason(), Reason::Refused);
    fetch.issue("planted-3");
    let response = response.await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    finder.print(&response);

    fetches.assert_none().await;
    finder.end();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_not_replayed_leaves_no_secret_behind() {
    let finder = SecretFinder::start();
    type Completion = fn(Fetch);
    let completions: [(Completion, &str); 5] = [
        (|fetch| fetch.issue("planted-1"), "SameToken"),
        (|fetch| fetch.issue("planted-2"), "Again"),
        (|fetch| fetch.fail("the vault is sealed"), "Fetch"),
        (|fetch| fetch.complete(Token::bearer("planted\n")), "Fetch"),
        // A dropped fetch hangs until its timeout.
        (drop, "Fetch"),
    ];
    for (complete, expected) in completions {
        let (source, mut fetches) = controlled_source();
        let layer = crate::support::layer_from(paused(source).build());
        let client = layer.layer(Api::default());
        let response = tokio::spawn(client.oneshot(request("planted")));
        fetches.next().await.issue("planted-1");
        complete(fetches.next().await);
        let response = response.await.unwrap().unwrap();
        assert_eq!(response.status(), 401);
        finder.print(&response);
        finder.print(&layer);
        let why = response.extensions().get::<NotReplayed>().unwrap();
        assert!(format!("{why:?}").starts_with(expected), "{why:?}");
        assert!(!shows_a_secret(&why.to_string()));
        if let NotReplayed::Fetch(error) = why {
            finder.print_error(error);
        }
    }
    let log = finder.end();
    let lines = log.matches("a refused request is not replayed").count();
    assert_eq!(lines, completions.len(), "{log}");
}

#[tokio::test]
async fn a_request_that_is_not_sent_is_not_quoted() {
    let finder = SecretFinder::start();
    let layer = crate::support::layer(|_| async { Token::bearer("planted") });
    let only = layer
        .clone()
        .only_to(["https://other.example.com"])
        .unwrap();
    layer.cache().token().await.unwrap();
    for layer in [layer, only] {
        let client = layer.layer(Api::default());
        let mut request = request("planted");
        *request.uri_mut() = "http://id:planted@api.example.com/planted?key=planted"
            .parse()
            .unwrap();
        let error = client.oneshot(request).await.unwrap_err();
        let error = error.downcast_ref::<Error>().unwrap();
        assert!(error.is_origin());
        finder.print_error(error);
    }
    finder.end();
}

#[tokio::test]
async fn what_a_source_says_when_it_panics_is_not_repeated() {
    async fn panicking(_: Reason) -> Result<Token, Error> {
        panic!("planted, on purpose")
    }
    let finder = SecretFinder::start();
    let layer = crate::support::layer(panicking);
    let error = layer.cache().token().await.unwrap_err();
    assert!(error.is_panic());
    finder.print_error(&error);
    let error = layer.layer(Api::default()).oneshot(request("")).await;
    finder.print_error(error.unwrap_err().downcast_ref().unwrap());
    finder.end();
}

#[test]
fn a_cache_without_a_runtime_shows_no_secret() {
    let finder = SecretFinder::start();
    let cache = TokenCache::new(|_| async { Token::bearer("planted") });
    let error = assert_ready_err(task::spawn(cache.token()).poll());
    assert!(error.is_runtime());
    finder.print_error(&error);
    finder.end();
}

fn assert_ready_err(polled: std::task::Poll<Result<Token, Error>>) -> Error {
    match polled {
        std::task::Poll::Ready(Err(error)) => error,
        other => panic!("{other:?}"),
    }
}
