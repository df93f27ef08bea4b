//! Tokens that the API server issues for a service account.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tower_auth::platform::kubernetes::TokenRequest;
use tower_auth::{ApiKey, Error, Reason, SecretSource, Token, TokenSource};
use tower_auth_test::{ScriptedResponse, ScriptedServer};

use crate::support::token_server::{all_text_of, expiry};

const API: &str = "https://10.0.0.1:443";

fn issued(status: &Value) -> ScriptedResponse {
    let body = json!({
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": { "name": "reports", "namespace": "prod" },
        "spec": { "audiences": ["a"], "expirationSeconds": 3600, "boundObjectRef": null },
        "status": status,
    });
    ScriptedResponse::json(201, body)
}

fn usual() -> ScriptedResponse {
    issued(&json!({ "token": "issued", "expirationTimestamp": "2030-01-02T03:04:05Z" }))
}

fn server() -> ScriptedServer {
    ScriptedServer::new(|_| usual())
}

fn source(server: &ScriptedServer) -> TokenRequest {
    let credential = SecretSource::from("the-credential");
    let source = TokenRequest::new(API, "prod", "reports", credential);
    source.unwrap().transport(server.clone())
}

async fn fetch(source: &TokenRequest) -> Result<Token, Error> {
    source.fetch(Reason::First).await
}

fn sent(server: &ScriptedServer) -> Value {
    let request = server.requests().pop().unwrap();
    assert_eq!(request.method(), "POST");
    assert_eq!(
        request.path(),
        "/api/v1/namespaces/prod/serviceaccounts/reports/token"
    );
    assert_eq!(
        request.header("authorization"),
        Some("Bearer the-credential")
    );
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("accept"), Some("application/json"));
    serde_json::from_slice(request.body()).unwrap()
}

#[tokio::test]
async fn the_api_server_issues_a_token_for_an_audience() {
    let server = server();
    let source = source(&server)
        .audience("https://a.example.com")
        .audience("b");
    let source = source.lifetime(Duration::from_secs(600)).unwrap();
    let token = fetch(&source).await.unwrap();
    assert_eq!(token.secret(), "issued");
    assert!(expiry(&token).contains("tv_sec: 1893553445"), "{token:?}");
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": { "audiences": ["https://a.example.com", "b"], "expirationSeconds": 600 },
    });
    assert_eq!(sent(&server), body);
    assert!(source.origins().is_empty());
    assert!(!format!("{source:?}").contains("the-credential"));
}

#[tokio::test]
async fn without_an_audience_the_token_is_for_the_api_server() {
    let server = server();
    let source = source(&server);
    fetch(&source).await.unwrap();
    assert_eq!(sent(&server)["spec"], json!({ "expirationSeconds": 3600 }));
    assert_eq!(source.origins()[0].to_string(), API);
}

#[test]
fn the_api_servers_limits_hold_for_the_lifetime() {
    let server = server();
    for (seconds, is_valid) in [
        (0, false),
        (599, false),
        (600, true),
        (1 << 32, true),
        ((1 << 32) + 1, false),
        (u64::MAX, false),
    ] {
        let source = source(&server).lifetime(Duration::from_secs(seconds));
        assert_eq!(source.is_ok(), is_valid, "{seconds}");
    }
}

#[test]
fn an_address_or_a_name_may_be_wrong() {
    let new = |api: &str, namespace: &str, name: &str| {
        TokenRequest::new(api, namespace, name, SecretSource::from("s3cret"))
    };
    assert!(new(API, "prod", "reports").is_ok());
    for (api, namespace, name) in [
        ("http://10.0.0.1", "prod", "reports"),
        ("10.0.0.1", "prod", "reports"),
        (API, "", "reports"),
        (API, "prod", ""),
    ] {
        assert!(new(api, namespace, name).unwrap_err().is_config());
    }
    let half = [("KUBERNETES_SERVICE_PORT", "443")];
    let error = TokenRequest::from_vars(half, "prod", "reports").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`KUBERNETES_SERVICE_HOST` is not set")
    );
}

#[tokio::test]
async fn a_name_cannot_leave_its_part_of_the_path() {
    let server = server();
    let source = TokenRequest::new(API, "../x", "a/b?c#d", SecretSource::from("s"));
    fetch(&source.unwrap().transport(server.clone()))
        .await
        .unwrap();
    assert_eq!(
        server.requests()[0].path(),
        "/api/v1/namespaces/%2E%2E%2Fx/serviceaccounts/a%2Fb%3Fc%23d/token"
    );
}

#[tokio::test]
async fn a_refusal_shows_what_the_api_server_says() {
    let server = ScriptedServer::new(|_| {
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "serviceaccounts \"reports\" is forbidden: the-credential cannot create",
            "reason": "Forbidden", "code": 403,
        });
        ScriptedResponse::json(403, body)
    });
    let error = fetch(&source(&server)).await.unwrap_err();
    assert!(error.is_denied() && error.is_permanent());
    let shown = all_text_of(&error);
    assert!(
        shown.contains("the API server refused to issue a token (status 403"),
        "{shown}"
    );
    assert!(
        shown.contains("is forbidden: [redacted] cannot create"),
        "{shown}"
    );
    assert!(shown.contains("reason: Forbidden"), "{shown}");
    assert!(!shown.contains("the-credential"), "{shown}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_busy_api_server_is_a_transient_error() {
    for status in [429, 500, 503, 504] {
        let server = ScriptedServer::new(move |_| ScriptedResponse::new(status));
        assert!(fetch(&source(&server)).await.unwrap_err().is_transient());
    }
}

#[tokio::test]
async fn a_refused_credential_is_replaced_once() {
    let server = ScriptedServer::new(|request| match request.header("authorization") {
        Some("Bearer credential-2") => usual(),
        _ => ScriptedResponse::json(401, r#"{"kind":"Status","reason":"Unauthorized"}"#),
    });
    let fetches = AtomicUsize::new(0);
    let credential = move |reason: Reason| {
        let number = fetches.fetch_add(1, Ordering::SeqCst) + 1;
        assert_eq!(reason == Reason::Refused, number == 2, "{reason}");
        std::future::ready(Token::bearer(format!("credential-{number}")))
    };
    let source = TokenRequest::new(API, "prod", "reports", credential).unwrap();
    let source = source.transport(server.clone());
    // The refusal concerns the issued token, not the credential.
    let token = source.fetch(Reason::Refused).await;
    assert_eq!(token.unwrap().secret(), "issued");
    assert_eq!(server.requests().len(), 2);
    let same = self::source(&server);
    assert_eq!(fetch(&same).await.unwrap_err().status().unwrap(), 401);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn an_unusable_response_says_what_is_wrong() {
    for (status, says) in [
        (json!({}), "has no `/status/token`"),
        (json!({ "token": "" }), "has an empty `/status/token`"),
        (
            json!({ "token": "s3cret", "expirationTimestamp": "soon" }),
            "`/status/expirationTimestamp` that isn't a time in RFC 3339",
        ),
    ] {
        let server = ScriptedServer::new(move |_| issued(&status));
        let error = fetch(&source(&server)).await.unwrap_err();
        assert!(
            error.is_reply() && error.to_string().contains(says),
            "{error}"
        );
        assert!(!all_text_of(&error).contains("s3cret"));
    }
    // Without a timestamp, the requested lifetime counts.
    for status in [
        json!({ "token": "t" }),
        json!({ "token": "t", "expirationTimestamp": null }),
    ] {
        let server = ScriptedServer::new(move |_| issued(&status));
        let token = fetch(&source(&server)).await.unwrap();
        assert_eq!(expiry(&token), "In(3600s)");
    }
}

#[tokio::test]
async fn the_credential_may_be_in_any_header_but_only_in_a_header() {
    let server = server();
    let with = |credential: ApiKey| {
        let source = TokenRequest::new(API, "prod", "reports", credential);
        source.unwrap().transport(server.clone())
    };
    fetch(&with(ApiKey::new("k"))).await.unwrap();
    let sent = server.requests().pop().unwrap();
    assert_eq!(sent.header("x-api-key"), Some("k"));
    let in_the_query = ApiKey::new("k").query("key").unwrap();
    let error = fetch(&with(in_the_query)).await.unwrap_err();
    assert!(error.is_config(), "{error}");
}

#[cfg(feature = "fleet")]
#[test]
fn the_store_key_names_everything_that_the_token_depends_on() {
    let of = |api: &str, name: &str, audience: &str, seconds: u64| {
        let source = TokenRequest::new(api, "prod", name, SecretSource::from("s"));
        let source = source.unwrap().audience(audience);
        let source = source.lifetime(Duration::from_secs(seconds)).unwrap();
        source.store_key().unwrap()
    };
    let keys = [
        of(API, "reports", "a", 600),
        of("https://10.0.0.2", "reports", "a", 600),
        of(API, "other", "a", 600),
        of(API, "reports", "b", 600),
        of(API, "reports", "a", 601),
    ];
    for (at, key) in keys.iter().enumerate() {
        assert!(!keys[at + 1..].contains(key));
    }
    assert_eq!(keys[0], of(API, "reports", "a", 600));
}

#[test]
fn the_address_of_the_api_server_has_no_query() {
    let credential = SecretSource::from("s3cret");
    let source = TokenRequest::new("https://10.0.0.1?s3cret=", "prod", "reports", credential);
    let message = source.unwrap_err().to_string();
    assert!(message.contains("has a query"), "{message}");
    assert!(!message.contains("s3cret"), "{message}");
}

#[test]
fn an_address_without_encryption_has_no_advice_that_the_caller_cannot_follow() {
    let credential = SecretSource::from("s3cret");
    let source = TokenRequest::new("http://10.0.0.1", "prod", "reports", credential);
    let message = source.unwrap_err().to_string();
    assert!(message.contains("http to `10.0.0.1`"), "{message}");
    assert!(!message.contains("danger_allow_http"), "{message}");
}

#[tokio::test]
async fn the_clock_of_the_api_server_says_when_the_token_expires() {
    let server = ScriptedServer::new(|_| usual().header("date", "Wed, 02 Jan 2030 02:04:05 GMT"));
    let token = fetch(&source(&server)).await.unwrap();
    assert_eq!(expiry(&token), "In(3600s)");
}
