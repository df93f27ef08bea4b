//! Client authentication (RFC 6749 §2.3): how the id and the secret are sent.

use base64::Engine as _;
use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use tower_auth::oauth2::{Client, ClientCredentials};
use tower_auth::{Place, Reason, TokenSource};

use crate::support::token_server::{ID, TokenServer, URL, pairs};

#[tokio::test]
async fn id_and_secret_go_in_a_form_unless_said_otherwise() {
    let server = TokenServer::issuing();
    let token = server.client().fetch(Reason::First).await.unwrap();
    assert_eq!(*token.place(), Place::Header(AUTHORIZATION));
    assert_eq!(token.header_value().unwrap(), "Bearer issued");

    let request = server.request();
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.uri(), URL);
    assert_eq!(
        request.headers()[CONTENT_TYPE],
        "application/x-www-form-urlencoded"
    );
    assert_eq!(request.headers()[ACCEPT], "application/json");
    assert!(!request.headers().contains_key(AUTHORIZATION));
    assert_eq!(
        request.text(),
        "grant_type=client_credentials&client_id=the-client\
         &client_secret=s3cr3t%2Fof%2Bthe+client"
    );
}

#[tokio::test]
async fn basic_authentication_leaves_the_body_without_id_and_secret() {
    for is_json in [false, true] {
        let server = TokenServer::issuing();
        let source = server.client().basic_auth();
        let source = if is_json { source.json() } else { source };
        source.fetch(Reason::First).await.unwrap();
        let (request, body) = (server.request(), server.request().text());
        assert!(request.headers()[AUTHORIZATION].is_sensitive());
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
    let source = ClientCredentials::new(URL, id, secret)
        .unwrap()
        .transport(server.transport());
    source.basic_auth().fetch(Reason::First).await.unwrap();
    let request = server.request();
    let value = request.headers()[AUTHORIZATION]
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
    let client = || {
        let client = Client::public(URL, ID).unwrap();
        ClientCredentials::with_client(client.transport(server.transport()))
    };
    client().fetch(Reason::First).await.unwrap();
    let expected = [("grant_type", "client_credentials"), ("client_id", ID)];
    assert_eq!(server.form(), pairs(&expected));

    client().basic_auth().fetch(Reason::First).await.unwrap();
    let request = server.request();
    assert_eq!(
        request.headers()[AUTHORIZATION],
        "Basic dGhlLWNsaWVudDo=",
        "`the-client:`"
    );
}

#[test]
fn an_empty_id_or_secret_is_refused_at_once() {
    let no_secret = ClientCredentials::new(URL, ID, "").unwrap_err();
    assert!(no_secret.is_config() && no_secret.to_string().contains("secret is empty"));
    let no_id = Client::public(URL, "").unwrap_err();
    assert!(no_id.is_config() && no_id.to_string().contains("id is empty"));
}
