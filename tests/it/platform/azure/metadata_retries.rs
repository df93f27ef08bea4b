//! The retries that Microsoft recommends for the metadata server of virtual machines.

use std::time::Duration;

use tokio::time::Instant;
use tower_auth::platform::azure::ManagedIdentity;
use tower_auth::{Error, Reason, Token, TokenCache, TokenSource};
use tower_auth_test::{RecordedRequest, ScriptedResponse, ScriptedServer};

use crate::support::azure_server as azure;
use crate::support::paused;

fn identity(server: &ScriptedServer) -> ManagedIdentity {
    let vars: [(&str, &str); 0] = [];
    let identity = ManagedIdentity::from_vars(azure::RESOURCE, vars).unwrap();
    identity.transport(server.clone())
}

async fn fetch(server: &ScriptedServer) -> Result<Token, Error> {
    identity(server).fetch(Reason::First).await
}

/// Returns when the server received each request, in seconds after the first.
fn received(server: &ScriptedServer) -> Vec<u64> {
    let times: Vec<Instant> = server
        .requests()
        .iter()
        .map(RecordedRequest::received_at)
        .collect();
    times
        .iter()
        .map(|time| (*time - times[0]).as_secs())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn passing_errors_are_retried_with_doubling_pauses() {
    for status in [404, 410, 429, 500, 503] {
        let server = azure::metadata();
        for _ in 0..5 {
            server.respond_next(ScriptedResponse::new(status));
        }
        fetch(&server).await.unwrap();
        assert_eq!(received(&server), [0, 2, 6, 14, 30, 62], "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_five_retries_the_error_is_returned() {
    for status in [404, 429, 500] {
        let server = azure::metadata();
        server.respond_always(ScriptedResponse::new(status));
        let error = fetch(&server).await.unwrap_err();
        assert_eq!(error.status().unwrap(), status);
        assert!(error.is_transient(), "{error:?}");
        assert_eq!(received(&server), [0, 2, 6, 14, 30, 62]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_gets_one_more_request_after_its_longest_duration() {
    let server = azure::metadata();
    for _ in 0..6 {
        server.respond_next(ScriptedResponse::new(410));
    }
    fetch(&server).await.unwrap();
    assert_eq!(received(&server), [0, 2, 6, 14, 30, 62, 72]);

    let server = azure::metadata();
    server.respond_always(ScriptedResponse::new(410));
    let error = fetch(&server).await.unwrap_err();
    assert!(
        error.is_transient() && error.status().unwrap() == 410,
        "{error:?}"
    );
    assert_eq!(received(&server), [0, 2, 6, 14, 30, 62, 72]);
}

#[tokio::test(start_paused = true)]
async fn other_refusals_are_not_retried() {
    for status in [400, 401, 403, 405] {
        let server = azure::metadata();
        server.respond_always(ScriptedResponse::new(status));
        let error = fetch(&server).await.unwrap_err();
        assert!(error.is_permanent(), "{error:?}");
        assert_eq!(received(&server), [0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_retried() {
    let server = azure::metadata();
    server.respond_next(ScriptedResponse::stall());
    fetch(&server).await.unwrap();
    // The timeout of a request, and the first pause.
    assert_eq!(received(&server), [0, 12]);

    let server = azure::metadata();
    server.respond_always(ScriptedResponse::stall());
    let start = Instant::now();
    let error = fetch(&server).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(received(&server), [0, 12, 26, 44, 70]);
    assert_eq!(start.elapsed().as_secs(), 80);
}

#[tokio::test(start_paused = true)]
async fn the_last_retry_starts_after_72_seconds_at_the_latest() {
    let server = azure::metadata();
    server.respond_always(ScriptedResponse::stall());
    let slow = identity(&server).timeout(Duration::from_secs(12));
    slow.fetch(Reason::First).await.unwrap_err();
    assert_eq!(received(&server), [0, 14, 30, 50, 72]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_as_long_as_the_server_says() {
    let busy = || ScriptedResponse::new(429);
    let server = azure::metadata();
    server.respond_next(busy().header("retry-after", "20"));
    fetch(&server).await.unwrap();
    assert_eq!(received(&server), [0, 20]);

    let server = azure::metadata();
    server.respond_always(busy().header("retry-after", "100"));
    let error = fetch(&server).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(100)));
    assert_eq!(received(&server), [0]);
}

#[tokio::test(start_paused = true)]
async fn the_cache_waits_for_all_retries_and_repeats_none() {
    let server = azure::metadata();
    for _ in 0..6 {
        server.respond_next(ScriptedResponse::new(410));
    }
    TokenCache::new(identity(&server)).token().await.unwrap();
    assert_eq!(server.requests().len(), 7);

    let server = azure::metadata();
    server.respond_always(ScriptedResponse::new(503));
    let cache = paused(identity(&server)).build();
    let error = cache.token().await.unwrap_err();
    assert_eq!(error.status().unwrap(), 503);
    assert_eq!(server.requests().len(), 6);
    // The next fetch waits.
    server.respond_as_usual();
    cache.token().await.unwrap_err();
    tokio::time::advance(Duration::from_secs(61)).await;
    cache.token().await.unwrap();
}

#[test]
fn only_the_metadata_server_needs_a_longer_fetch() {
    let server = azure::metadata();
    let timeout = identity(&server).fetch_timeout();
    assert_eq!(timeout, Some(Duration::from_secs(84)));
    let short = identity(&server).timeout(Duration::from_secs(2));
    assert_eq!(short.fetch_timeout(), Some(Duration::from_secs(76)));
    let app = [
        ("IDENTITY_ENDPOINT", "http://localhost:4141/MSI/token"),
        ("IDENTITY_HEADER", "secret"),
    ];
    let app = ManagedIdentity::from_vars(azure::RESOURCE, app).unwrap();
    assert_eq!(app.fetch_timeout(), None);
}

#[tokio::test(start_paused = true)]
async fn an_app_leaves_the_retries_to_the_cache() {
    let app = [
        ("IDENTITY_ENDPOINT", "http://localhost:4141/MSI/token"),
        ("IDENTITY_HEADER", "secret"),
    ];
    let server = azure::app_service("secret");
    server.respond_always(ScriptedResponse::new(500));
    let app = ManagedIdentity::from_vars(azure::RESOURCE, app).unwrap();
    let error = app.transport(server.clone()).fetch(Reason::First).await;
    assert!(error.unwrap_err().is_transient());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_program_outside_of_azure_learns_it_without_retries() {
    let server = azure::metadata();
    server.respond_always(ScriptedResponse::reset());
    let error = fetch(&server).await.unwrap_err();
    assert!(error.is_transport() && error.is_transient(), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("check that the program runs on Azure"),
        "{error}"
    );
    assert_eq!(received(&server), [0]);
}
