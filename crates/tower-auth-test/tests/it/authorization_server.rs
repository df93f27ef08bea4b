//! `AuthorizationServer`: clients, scopes, lifetimes, revocation, quotas.

use std::time::Duration;

use http::Request;
use serde_json::json;
use tower_auth::cache::Clock;
use tower_auth::oauth2::{Client, ClientCredentials};
use tower_auth::{Error, Reason, Token, TokenCache, TokenSource};
use tower_auth_test::{Api, AuthorizationServer, IssuedToken, ScriptedResponse, run_until_idle};

use crate::support::{Body, get_with, panic_message, post, send, text};

const HOUR: Duration = Duration::from_secs(3600);

fn client(server: &AuthorizationServer, id: &str, secret: &str) -> Client {
    let client = Client::new(server.token_url(), id, secret).unwrap();
    client.transport(server.clone())
}

fn source(server: &AuthorizationServer) -> ClientCredentials {
    ClientCredentials::with_client(client(server, "my-service", "a-secret"))
}

async fn fetch(source: &ClientCredentials) -> Result<Token, Error> {
    source.fetch(Reason::First).await
}

/// Returns the status of a request to the API with this token.
async fn status(api: &Api, token: &str) -> u16 {
    let response = send(api, get_with("/notes", token)).await.unwrap();
    response.status().as_u16()
}

#[tokio::test]
async fn a_client_may_send_its_secret_with_basic_in_a_form_or_as_json() {
    let server = AuthorizationServer::new();
    server.add_client("my-service", "a-secret");
    server.add_client("another", "another-secret");
    let with = |client: Client| ClientCredentials::with_client(client);
    let my = || client(&server, "my-service", "a-secret");
    for source in [with(my()), with(my().basic_auth()), with(my().json())] {
        fetch(&source).await.unwrap();
    }
    server.assert_requests([
        "POST /oauth/token - client_credentials -> 200",
        "POST /oauth/token Basic client_credentials -> 200",
        "POST /oauth/token - client_credentials -> 200",
    ]);
    let issued = server.issued();
    assert!(issued.iter().all(|token| token.client_id() == "my-service"));
    assert!(
        issued
            .iter()
            .all(|token| token.grant_type() == "client_credentials")
    );

    for (id, secret) in [("my-service", "another-secret"), ("nobody", "a-secret")] {
        let wrong = || client(&server, id, secret);
        for source in [
            with(wrong()),
            with(wrong().basic_auth()),
            with(wrong().json()),
        ] {
            let error = fetch(&source).await.unwrap_err();
            assert!(error.is_invalid_client());
            assert_eq!(error.status().unwrap(), 401);
        }
    }
    server.assert_tokens_issued(3);
}

#[tokio::test]
async fn a_source_for_the_server_fetches_in_memory() {
    let server = AuthorizationServer::new();
    let source = server.client_credentials().unwrap();
    fetch(&source).await.unwrap();
    server.assert_requests(["POST /oauth/token - client_credentials -> 200"]);

    server.add_client("my-service", "a-secret");
    fetch(&source).await.unwrap();
    assert_eq!(server.issued()[1].client_id(), "my-service");
    server.add_client("my-service", "another-secret");
    assert!(fetch(&source).await.is_err());
    server.assert_tokens_issued(2);
}

#[tokio::test]
async fn a_changed_secret_replaces_the_old_one() {
    let server = AuthorizationServer::new();
    server.add_client("my-service", "old");
    server.add_client("my-service", "a-secret");
    fetch(&source(&server)).await.unwrap();
    let old = ClientCredentials::with_client(client(&server, "my-service", "old"));
    assert!(fetch(&old).await.unwrap_err().is_invalid_client());
}

#[tokio::test]
async fn a_client_with_an_assertion_needs_no_secret_but_has_to_be_known() {
    let server = AuthorizationServer::new();
    server.add_client("my-service", "a-secret");
    for (id, is_known) in [("my-service", true), ("nobody", false)] {
        let client = Client::public(server.token_url(), id).unwrap();
        let client = client.client_assertion("a.b.c").transport(server.clone());
        let source = ClientCredentials::with_client(client);
        assert_eq!(fetch(&source).await.is_ok(), is_known, "{id}");
    }
}

#[tokio::test]
async fn a_scope_that_the_server_does_not_allow_is_refused() {
    let server = AuthorizationServer::new();
    server.set_scopes("read write");
    let token = fetch(&source(&server).scope("read write")).await.unwrap();
    assert_eq!(token.scope(), Some("read write"));
    assert_eq!(server.issued()[0].scope(), "read write");
    let error = fetch(&source(&server).scope("read admin"))
        .await
        .unwrap_err();
    assert!(error.is_invalid_scope());
    assert_eq!(fetch(&source(&server)).await.unwrap().scope(), None);
    server.assert_tokens_issued(2);
}

#[tokio::test]
async fn the_audience_or_the_resource_is_recorded() {
    let server = AuthorizationServer::new();
    let form = |name| [("grant_type", "client_credentials"), (name, "https://api")];
    post(&server, "/oauth/token", &form("audience")).await;
    post(&server, "/oauth/token", &form("resource")).await;
    post(&server, "/oauth/token", &form("other")).await;
    let issued = server.issued();
    let audiences: Vec<_> = issued.iter().map(|token| token.audience()).collect();
    assert_eq!(audiences, [Some("https://api"), Some("https://api"), None]);
}

#[tokio::test]
async fn a_request_without_a_grant_is_refused() {
    let server = AuthorizationServer::new();
    let (status, body) = post(&server, "/oauth/token", &[]).await;
    assert_eq!(
        (status.as_u16(), &body["error"]),
        (400, &json!("invalid_request"))
    );
    server.assert_tokens_issued(0);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let server = AuthorizationServer::new();
    for (method, path, expected) in [
        ("GET", "/oauth/token", 405),
        ("PUT", "/oauth/revoke", 405),
        ("POST", "/authorize", 405),
        ("GET", "/elsewhere", 404),
        ("POST", "/.well-known/openid-configuration", 404),
    ] {
        let request = Request::builder().method(method).uri(path);
        let response = send(&server, request.body(Body::default()).unwrap()).await;
        assert_eq!(response.unwrap().status(), expected, "{method} {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_expires_by_tokios_paused_time() {
    let server = AuthorizationServer::new();
    let api = Api::new(&server);
    server.set_lifetime(Duration::from_secs(600));
    let (_, body) = post(&server, "/oauth/token", &[("grant_type", "x")]).await;
    assert_eq!(
        (&body["expires_in"], &body["token_type"]),
        (&json!(600), &json!("Bearer"))
    );
    assert_eq!(status(&api, "token-1").await, 200);
    tokio::time::advance(Duration::from_secs(599)).await;
    assert_eq!(status(&api, "token-1").await, 200);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(status(&api, "token-1").await, 401);
}

#[tokio::test]
async fn a_token_expires_by_a_clock_that_the_test_moves() {
    let clock = Clock::manual();
    let server = AuthorizationServer::with_clock(clock.clone());
    let api = Api::new(&server);
    let token = server.issue();
    clock.advance(HOUR - Duration::from_secs(1));
    assert_eq!(status(&api, &token).await, 200);
    clock.advance(Duration::from_secs(1));
    assert_eq!(status(&api, &token).await, 401);
}

#[tokio::test]
async fn the_longest_lifetime_never_ends() {
    let server = AuthorizationServer::new();
    server.set_lifetime(Duration::MAX);
    server.set_quota(10, Duration::MAX);
    let cache = TokenCache::new(source(&server));
    cache.token().await.unwrap();
    assert_eq!(status(&Api::new(&server), "token-1").await, 200);
}

#[tokio::test]
async fn the_test_revokes_one_token_or_all() {
    let server = AuthorizationServer::new();
    let api = Api::new(&server);
    let (one, other) = (server.issue(), server.issue());
    server.revoke(&one);
    server.revoke("unknown");
    assert_eq!(
        (status(&api, &one).await, status(&api, &other).await),
        (401, 200)
    );
    server.revoke_all();
    assert_eq!(status(&api, &other).await, 401);
    assert!(server.issued().iter().all(IssuedToken::is_revoked));
    assert_eq!(status(&api, &server.issue()).await, 200);
}

#[tokio::test]
async fn a_client_revokes_a_token_at_the_revocation_endpoint() {
    let server = AuthorizationServer::new();
    server.add_client("my-service", "a-secret");
    let api = Api::new(&server);
    let token = server.issue();
    let credentials = [("client_id", "my-service"), ("client_secret", "a-secret")];
    let with = |token| [credentials[0], credentials[1], ("token", token)];

    let (refused, body) = post(&server, "/oauth/revoke", &[("token", &token)]).await;
    assert_eq!(
        (refused.as_u16(), &body["error"]),
        (401, &json!("invalid_client"))
    );
    let (refused, _) = post(&server, "/oauth/revoke", &credentials).await;
    assert_eq!(refused, 400);
    assert_eq!(
        post(&server, "/oauth/revoke", &with("unknown")).await.0,
        200
    );
    assert_eq!(status(&api, &token).await, 200);
    assert_eq!(post(&server, "/oauth/revoke", &with(&token)).await.0, 200);
    assert_eq!(status(&api, &token).await, 401);
}

#[tokio::test(start_paused = true)]
async fn a_quota_refuses_until_its_window_ends() {
    let server = AuthorizationServer::new();
    server.set_quota(2, Duration::from_secs(60));
    let source = source(&server);
    fetch(&source).await.unwrap();
    tokio::time::advance(Duration::from_millis(20_500)).await;
    fetch(&source).await.unwrap();
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.status().unwrap(), 429);
    // The window began with the first request, and seconds are rounded up.
    assert_eq!(error.retry_after(), Some(Duration::from_secs(40)));
    tokio::time::advance(Duration::from_secs(39)).await;
    assert!(fetch(&source).await.is_err());
    tokio::time::advance(Duration::from_millis(500)).await;
    fetch(&source).await.unwrap();
    server.assert_tokens_issued(3);
}

#[tokio::test(start_paused = true)]
async fn a_client_sees_what_is_left_of_the_quota() {
    let server = AuthorizationServer::new();
    server.set_quota(10, Duration::from_secs(60));
    let clock = Clock::tokio();
    let cache = TokenCache::builder(source(&server)).clock(clock).build();
    cache.token().await.unwrap();
    let status = cache.status();
    let quota = &status.quotas()[0];
    assert_eq!(
        (quota.bucket(), quota.limit(), quota.remaining()),
        ("tokens", Some(10), 9)
    );
}

#[tokio::test]
async fn a_refused_client_costs_no_quota() {
    let server = AuthorizationServer::new();
    server.add_client("my-service", "a-secret");
    server.set_quota(1, HOUR);
    let wrong = ClientCredentials::with_client(client(&server, "my-service", "wrong"));
    assert!(fetch(&wrong).await.unwrap_err().is_invalid_client());
    fetch(&source(&server)).await.unwrap();
    assert_eq!(
        fetch(&source(&server)).await.unwrap_err().status().unwrap(),
        429
    );
}

#[tokio::test]
async fn the_message_of_a_failed_count_lists_the_tokens() {
    let server = AuthorizationServer::new();
    server.issue();
    server.issue();
    assert_eq!(
        panic_message(|| server.assert_tokens_issued(1)),
        "the authorization server issued other tokens (- expected, + received):\n  \
         token-1\n\
         + token-2"
    );
    assert_eq!(
        panic_message(|| server.assert_requests(["GET / - -> 200"])),
        "the authorization server received other requests (- expected, + received):\n\
         - GET / - -> 200"
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_ends_as_usual() {
    let server = AuthorizationServer::new();
    let cache = TokenCache::builder(source(&server))
        .clock(Clock::tokio())
        .build();
    cache.token().await.unwrap();
    server.respond_always(ScriptedResponse::new(503));
    tokio::time::advance(HOUR * 97 / 100).await;
    assert_eq!(cache.token().await.unwrap().secret(), "token-1");
    run_until_idle().await;
    assert_eq!(server.requests()[1].status().unwrap(), 503);
    assert_eq!(cache.token().await.unwrap().secret(), "token-1");
    server.respond_as_usual();
    tokio::time::advance(HOUR).await;
    assert_ne!(cache.token().await.unwrap().secret(), "token-1");
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_issues_its_usual_token_late() {
    let server = AuthorizationServer::new();
    server.respond_next(ScriptedResponse::as_usual().after(Duration::from_secs(5)));
    let cache = TokenCache::new(source(&server));
    let caller = tokio::spawn(cache.token());
    server.wait_for_requests(1).await;
    server.assert_requests(["POST /oauth/token - client_credentials -> …"]);
    server.assert_tokens_issued(1);
    assert_eq!(caller.await.unwrap().unwrap().secret(), "token-1");
    server.assert_requests(["POST /oauth/token - client_credentials -> 200"]);
}

#[tokio::test]
async fn broken_json_is_an_error_of_the_fetch() {
    let server = AuthorizationServer::new();
    server.respond_next(ScriptedResponse::json(200, r#"{"access_token":"#));
    assert!(fetch(&source(&server)).await.unwrap_err().is_reply());
}

#[tokio::test]
async fn the_metadata_describes_the_origin_that_was_asked() {
    let server = AuthorizationServer::new();
    let request = Request::get("https://id.example.com/.well-known/oauth-authorization-server");
    let response = send(&server, request.body(Body::default()).unwrap()).await;
    let document: serde_json::Value = serde_json::from_str(&text(response.unwrap()).await).unwrap();
    assert_eq!(document["issuer"], server.issuer());
    assert_eq!(document["token_endpoint"], server.token_url());
    assert_eq!(document["revocation_endpoint"], server.revocation_url());
    assert_eq!(
        document["authorization_endpoint"],
        server.authorization_url()
    );
    let request = Request::get("/.well-known/openid-configuration");
    let response = send(&server, request.body(Body::default()).unwrap()).await;
    assert_eq!(response.unwrap().status(), 400);
}
