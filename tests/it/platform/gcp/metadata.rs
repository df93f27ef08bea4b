//! Tokens of the metadata server.

use std::time::Duration;

use http::StatusCode;
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::time::Instant;
use tower_auth::platform::gcp::Metadata;
use tower_auth::{Error, Reason, SecretSource, Token, TokenSource};
use tower_auth_test::{ScriptedResponse, ScriptedServer};

use crate::support::google_cloud::{CLOUD_PLATFORM, EMAIL, server};
use crate::support::keys::{RSA_PKCS8, RSA_PUBLIC};
use crate::support::token_server::expiry;
use crate::support::web::line;
use crate::support::{clocked, paused};

const NONE: [(&str, &str); 0] = [];
const BASE: &str =
    "GET http://metadata.google.internal/computeMetadata/v1/instance/service-accounts";

fn google() -> ScriptedServer {
    server(RSA_PKCS8, RSA_PUBLIC)
}

fn source(server: &ScriptedServer) -> Metadata {
    let source = Metadata::from_vars(NONE).unwrap();
    source.transport(server.clone())
}

async fn fetch(source: &Metadata) -> Result<Token, Error> {
    source.fetch(Reason::First).await
}

#[track_caller]
fn only_line(server: &ScriptedServer) -> String {
    let requests = server.requests();
    let [request] = requests.as_slice() else {
        panic!("{requests:?}");
    };
    line(request)
}

fn reply(seconds: u64) -> ScriptedResponse {
    let body = json!({"access_token": "issued", "expires_in": seconds, "token_type": "Bearer"});
    ScriptedResponse::json(200, body).header("metadata-flavor", "Google")
}

#[tokio::test]
async fn an_access_token_has_the_scopes_of_the_machine() {
    let server = google();
    let token = fetch(&source(&server)).await.unwrap();
    assert_eq!(token.secret(), "ya29.machine.cloud-platform");
    assert_eq!(expiry(&token), "In(3599s)");
    assert_eq!(only_line(&server), format!("{BASE}/default/token"));
    let request = &server.requests()[0];
    assert_eq!(request.header("metadata-flavor"), Some("Google"));
    assert!(request.body().is_empty() && request.header("content-type").is_none());
    assert!(source(&server).origins().is_empty());
}

#[tokio::test]
async fn scopes_and_an_account_can_be_chosen() {
    let server = google();
    let source = source(&server).scopes(["https://www.googleapis.com/auth/pubsub", CLOUD_PLATFORM]);
    let source = source.service_account(EMAIL).unwrap();
    let token = fetch(&source).await.unwrap();
    assert_eq!(token.secret(), "ya29.machine.pubsub+cloud-platform");
    let scopes = "https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fpubsub%2C\
                  https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform";
    assert_eq!(
        only_line(&server),
        format!("{BASE}/{EMAIL}/token?scopes={scopes}")
    );
}

#[test]
fn an_account_cannot_lead_to_another_path() {
    let server = google();
    for account in [
        "", "..", "a/b@c", "a@b/c", "a@", "@b", "a@b?x", "a%2f@b", "a@b@c", "other",
    ] {
        let error = source(&server).service_account(account).unwrap_err();
        assert!(error.is_config(), "{account}");
        assert!(error.to_string().contains("service account"), "{error}");
    }
}

#[tokio::test]
async fn an_id_token_is_for_its_audience_and_may_go_there() {
    let server = google();
    let source = source(&server).id_token("https://orders.a.run.app/v1");
    let token = fetch(&source).await.unwrap();
    assert_eq!(token.secret().split('.').count(), 3);
    assert!(expiry(&token).starts_with("In(3"), "{token:?}");
    let query = "audience=https%3A%2F%2Forders.a.run.app%2Fv1&format=full";
    assert_eq!(
        only_line(&server),
        format!("{BASE}/default/identity?{query}")
    );
    let origins = source.origins();
    assert_eq!(origins, ["https://orders.a.run.app".parse().unwrap()]);
    let named = Metadata::from_vars(NONE).unwrap();
    assert!(named.id_token("client.example").origins().is_empty());
}

#[tokio::test]
async fn an_id_token_that_is_no_jwt_is_an_error() {
    for body in ["", "opaque", "e30.e30.c2ln", "<html>", r#"{"error":"x"}"#] {
        let server = google();
        let page = ScriptedResponse::new(200).header("metadata-flavor", "Google");
        server.respond_always(page.body(body));
        let error = fetch(&source(&server).id_token("aud")).await.unwrap_err();
        let is_refusal = body.starts_with('{');
        assert!(
            error.is_reply() || (is_refusal && error.is_denied()),
            "{error}"
        );
        assert!(error.to_string().contains("the metadata server"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_without_googles_header_is_of_something_else() {
    for flavor in [None, Some("google"), Some("")] {
        for audience in [None, Some("aud")] {
            let server = google();
            let body = r#"{"access_token":"stolen","expires_in":3599}"#;
            let page = ScriptedResponse::json(200, body);
            server.respond_always(match flavor {
                Some(flavor) => page.header("metadata-flavor", flavor),
                None => page,
            });
            let source = source(&server);
            let source = match audience {
                Some(audience) => source.id_token(audience),
                None => source,
            };
            let error = fetch(&source).await.unwrap_err();
            assert!(error.is_reply() && !error.is_transient(), "{error:?}");
            let text = error.to_string();
            assert!(text.contains("something else answered"), "{text}");
            assert!(text.contains("GCE_METADATA_HOST"), "{text}");
            assert_eq!(server.requests().len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn in_the_first_seconds_of_a_pod_the_source_tries_again() {
    let server = google();
    for _ in 0..4 {
        server.respond_next(ScriptedResponse::reset());
    }
    let start = Instant::now();
    fetch(&source(&server)).await.unwrap();
    let sent: Vec<u64> = server
        .requests()
        .iter()
        .map(|request| (request.received_at() - start).as_secs())
        .collect();
    assert_eq!(sent, [0, 1, 3, 7, 15]);
}

#[tokio::test(start_paused = true)]
async fn a_try_lasts_3_s_and_a_fetch_has_5_tries() {
    let server = google();
    server.respond_always(ScriptedResponse::stall());
    let start = Instant::now();
    let error = fetch(&source(&server)).await.unwrap_err();
    assert!(error.is_timeout() && error.is_transient(), "{error:?}");
    assert_eq!(error.to_string(), "the metadata server took longer than 3s");
    assert_eq!(start.elapsed().as_secs(), 5 * 3 + 15);
    assert_eq!(server.requests().len(), 5);
    // The cache lets the fetch finish.
    assert_eq!(
        source(&server).fetch_timeout(),
        Some(Duration::from_secs(35))
    );
    let quick = source(&server).timeout(Duration::from_secs(1));
    assert_eq!(quick.fetch_timeout(), None);
}

#[tokio::test(start_paused = true)]
async fn only_errors_that_may_pass_are_tried_again() {
    for (status, tries) in [
        (500, 5),
        (503, 5),
        (429, 5),
        (408, 5),
        (403, 1),
        (404, 1),
        (400, 1),
    ] {
        let server = google();
        server.respond_always(ScriptedResponse::new(status).body("<html>"));
        let error = fetch(&source(&server)).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::from_u16(status).ok());
        assert_eq!(server.requests().len(), tries, "{status}");
        assert_eq!(error.is_transient(), tries > 1);
        assert!(error.to_string().contains("the metadata server"), "{error}");
    }
    let server = google();
    let busy = ScriptedResponse::new(429).header("retry-after", "60");
    server.respond_always(busy);
    let error = fetch(&source(&server)).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn the_address_of_the_server_comes_from_a_variable() {
    for (host, sent) in [
        (
            "metadata.google.internal",
            "http://metadata.google.internal/",
        ),
        ("169.254.169.254", "http://169.254.169.254/"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/"),
        ("http://localhost:8080/", "http://localhost:8080/"),
        (
            "https://metadata.example.com",
            "https://metadata.example.com/",
        ),
        ("[fe80::1]:80", "http://[fe80::1]:80/"),
        // An empty variable counts as missing.
        ("", "http://metadata.google.internal/"),
    ] {
        let server = google();
        server.respond_always(reply(3599));
        let source = Metadata::from_vars([("GCE_METADATA_HOST", host)]).unwrap();
        fetch(&source.transport(server.clone())).await.unwrap();
        let line = only_line(&server);
        assert!(
            line.starts_with(&format!("GET {sent}computeMetadata")),
            "{line}"
        );
    }
}

#[test]
fn another_machine_cannot_be_the_metadata_server_without_tls() {
    for host in [
        "metadata.example.com",
        "10.0.0.1",
        "metadata.google.internal.example.com",
        "http://example.com",
        "[fd00::1]",
        "host/path",
        "127.0.0.1/path",
        "127.0.0.1?x=y",
        "user@127.0.0.1",
        "127.0.0.1:99999",
        "ftp://127.0.0.1",
        "127.0.0.1#@example.com",
        "a b",
    ] {
        let error = Metadata::from_vars([("GCE_METADATA_HOST", host)]).unwrap_err();
        assert!(error.is_config(), "{host}: {error:?}");
        let text = error.to_string();
        assert!(text.contains("`GCE_METADATA_HOST`"), "{host}: {text}");
    }
}

/// The server returns the same token until its last 4 minutes.
#[tokio::test(start_paused = true)]
async fn the_cache_refreshes_when_the_server_has_the_next_token() {
    let start = Instant::now();
    let server = ScriptedServer::new(move |_| {
        let age = start.elapsed().as_secs();
        let (number, left) = match age {
            ..3360 => (1, 3600 - age),
            _ => (2, 3600),
        };
        let body = json!({"access_token": format!("token-{number}"), "expires_in": left});
        ScriptedResponse::json(200, body).header("metadata-flavor", "Google")
    });
    let cache = paused(source(&server)).build();
    assert_eq!(cache.token().await.unwrap().secret(), "token-1");
    // Other tokens are refreshed 300 s before the expiry. The server still has the same token then.
    tokio::time::advance(Duration::from_secs(3350)).await;
    assert_eq!(cache.token().await.unwrap().secret(), "token-1");
    tower_auth_test::run_until_idle().await;
    assert_eq!(server.requests().len(), 1);
    // 225 s before the expiry, the next request starts the refresh.
    tokio::time::advance(Duration::from_secs(26)).await;
    cache.token().await.unwrap();
    server.wait_for_requests(2).await;
    tower_auth_test::run_until_idle().await;
    assert_eq!(cache.token().await.unwrap().secret(), "token-2");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_had_expired_on_arrival_is_requested_again() {
    let server = google();
    server.respond_next(reply(0));
    server.respond_next(reply(3599));
    let cache = clocked(source(&server), tower_auth::cache::Clock::tokio()).build();
    assert_eq!(cache.token().await.unwrap().secret(), "issued");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_secret_can_come_from_the_metadata_server() {
    let server = google();
    let secret = SecretSource::from(source(&server).id_token("vault"));
    let jwt = secret.read().await.unwrap();
    assert_eq!(jwt.expose_secret().split('.').count(), 3);
    server.respond_always(ScriptedResponse::new(404));
    let error = secret.read().await.unwrap_err();
    assert!(error.is_denied() && error.is_permanent(), "{error:?}");
}

#[test]
fn without_a_runtime_the_error_says_so() {
    let source = source(&google());
    let error = futures_util::FutureExt::now_or_never(source.fetch(Reason::First));
    assert!(error.unwrap().unwrap_err().is_runtime());
}
