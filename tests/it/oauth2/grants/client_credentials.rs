//! The client credentials grant (RFC 6749 §4.4): which parameters the request has.

use http::header::CONTENT_TYPE;
use serde_json::json;
use tower_auth::{Reason, TokenSource};

use crate::support::token_server::{ID, SECRET, TokenServer, all_text_of, pairs};

#[tokio::test]
async fn every_setting_is_a_parameter_of_its_own() {
    let server = TokenServer::issuing();
    let source = server
        .client()
        .scopes(["read", "write"])
        .audience("https://api.example.com")
        .resource("https://one.example.com/?a=b&c")
        .resource("https://two.example.com")
        .param("organization", "org_1")
        .unwrap();
    source.fetch(Reason::First).await.unwrap();
    let expected = [
        ("grant_type", "client_credentials"),
        ("scope", "read write"),
        ("audience", "https://api.example.com"),
        ("resource", "https://one.example.com/?a=b&c"),
        ("resource", "https://two.example.com"),
        ("organization", "org_1"),
        ("client_id", ID),
        ("client_secret", SECRET),
    ];
    assert_eq!(server.form(), pairs(&expected));
}

#[tokio::test]
async fn json_holds_the_same_and_several_resources_as_an_array() {
    let server = TokenServer::issuing();
    let source = server
        .client()
        .json()
        .audience("api")
        .resource("urn:a")
        .resource("urn:\"b");
    source.fetch(Reason::First).await.unwrap();
    let request = server.request();
    assert_eq!(request.headers()[CONTENT_TYPE], "application/json");
    let expected = json!({
        "grant_type": "client_credentials",
        "audience": "api",
        "resource": ["urn:a", "urn:\"b"],
        "client_id": ID,
        "client_secret": SECRET,
    });
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(request.body()).unwrap(),
        expected
    );
}

#[tokio::test]
async fn one_resource_in_json_is_a_text() {
    let server = TokenServer::issuing();
    server
        .client()
        .json()
        .resource("urn:a")
        .fetch(Reason::First)
        .await
        .unwrap();
    let body = server.request().text();
    assert!(body.contains(r#""resource":"urn:a""#), "{body}");
}

#[test]
fn a_parameter_that_has_a_method_of_its_own_is_refused() {
    let reserved = [
        "grant_type",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "scope",
        "audience",
        "resource",
        "",
    ];
    for name in reserved {
        let error = TokenServer::issuing()
            .client()
            .param(name, "hidden-value")
            .unwrap_err();
        assert!(error.is_config());
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        assert!(!all_text_of(&error).contains("hidden-value"));
    }
}

#[test]
fn a_parameter_is_refused_the_second_time() {
    let source = TokenServer::issuing()
        .client()
        .param("tenant", "a")
        .unwrap();
    assert!(
        source
            .param("tenant", "b")
            .unwrap_err()
            .to_string()
            .contains("already set")
    );
}
