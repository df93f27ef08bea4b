//! What is asked for, and in which words.

use base64::Engine as _;
use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use serde_json::json;
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Place, Reason, TokenSource};

use crate::support::token_server::{ID, SECRET, TokenServer, URL, all_text_of};

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    pairs.iter().map(owned).collect()
}

#[tokio::test]
async fn id_and_secret_go_in_a_form_unless_said_otherwise() {
    let server = TokenServer::issuing();
    let token = server.client().fetch(Reason::First).await.unwrap();
    assert_eq!(*token.place(), Place::Header(AUTHORIZATION));
    assert_eq!(token.header_value().unwrap(), "Bearer issued");

    let (head, body) = server.request();
    assert_eq!(head.method, Method::POST);
    assert_eq!(head.uri, URL);
    assert_eq!(
        head.headers[CONTENT_TYPE],
        "application/x-www-form-urlencoded"
    );
    assert_eq!(head.headers[ACCEPT], "application/json");
    assert!(!head.headers.contains_key(AUTHORIZATION));
    assert_eq!(
        body,
        "grant_type=client_credentials&client_id=the-client\
         &client_secret=s3cr3t%2Fof%2Bthe+client"
    );
}

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
    let (head, body) = server.request();
    assert_eq!(head.headers[CONTENT_TYPE], "application/json");
    let expected = json!({
        "grant_type": "client_credentials",
        "audience": "api",
        "resource": ["urn:a", "urn:\"b"],
        "client_id": ID,
        "client_secret": SECRET,
    });
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&body).unwrap(),
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
    let (_, body) = server.request();
    assert!(body.contains(r#""resource":"urn:a""#), "{body}");
}

#[tokio::test]
async fn basic_authentication_leaves_the_body_without_id_and_secret() {
    for is_json in [false, true] {
        let server = TokenServer::issuing();
        let source = server.client().basic_auth();
        let source = if is_json { source.json() } else { source };
        source.fetch(Reason::First).await.unwrap();
        let (head, body) = server.request();
        assert!(head.headers[AUTHORIZATION].is_sensitive());
        assert!(
            !body.contains("client_id") && !body.contains("client_secret"),
            "{body}"
        );
        let expected = if is_json {
            r#"{"grant_type":"client_credentials"}"#
        } else {
            "grant_type=client_credentials"
        };
        assert_eq!(body, expected);
    }
}

#[tokio::test]
async fn id_and_secret_are_form_encoded_before_they_are_joined() {
    let server = TokenServer::issuing();
    let (id, secret) = ("a:b c", "p%q+r é&=~");
    let source = ClientCredentials::with_transport(URL, id, secret, server.transport()).unwrap();
    source.basic_auth().fetch(Reason::First).await.unwrap();
    let (head, _) = server.request();
    let value = head.headers[AUTHORIZATION]
        .to_str()
        .unwrap()
        .strip_prefix("Basic ")
        .unwrap();
    let pair = base64::engine::general_purpose::STANDARD
        .decode(value)
        .unwrap();
    assert_eq!(
        String::from_utf8(pair).unwrap(),
        "a%3Ab+c:p%25q%2Br+%C3%A9%26%3D%7E"
    );
}

#[tokio::test]
async fn a_public_client_sends_its_id_and_no_secret() {
    let server = TokenServer::issuing();
    let client = || ClientCredentials::public_with_transport(URL, ID, server.transport()).unwrap();
    client().fetch(Reason::First).await.unwrap();
    let expected = [("grant_type", "client_credentials"), ("client_id", ID)];
    assert_eq!(server.form(), pairs(&expected));

    client().basic_auth().fetch(Reason::First).await.unwrap();
    let (head, _) = server.request();
    assert_eq!(
        head.headers[AUTHORIZATION], "Basic dGhlLWNsaWVudDo=",
        "`the-client:`"
    );
}

#[test]
fn an_empty_id_or_secret_is_refused_at_once() {
    let transport = || TokenServer::issuing().transport();
    let no_secret = ClientCredentials::with_transport(URL, ID, "", transport()).unwrap_err();
    assert!(no_secret.is_config() && no_secret.to_string().contains("secret is empty"));
    let no_id = ClientCredentials::public_with_transport(URL, "", transport()).unwrap_err();
    assert!(no_id.is_config() && no_id.to_string().contains("id is empty"));
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
            .contains("set already")
    );
}
