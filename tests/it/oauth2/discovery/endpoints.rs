//! The endpoints other than the token endpoint.

use serde_json::json;
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Reason, Token, TokenSource};

use super::{ISSUER, METADATA, TOKEN, client, fetch, issuer, metadata, token, web};
use crate::support::web::{Page, line};

#[tokio::test]
async fn a_token_is_revoked_where_the_metadata_says() {
    let web = web();
    let client = client(&web, issuer()).revoke_at(issuer()).unwrap();
    let source = ClientCredentials::with_client(client);
    let token = source.fetch(Reason::First).await.unwrap();
    source.close(Some(token)).await.unwrap();
    let asked = web.asked();
    let last = asked.last().unwrap();
    assert_eq!(line(last), "POST https://id.example.com/oauth/revoke");
    assert_eq!(last.param("token").unwrap(), "issued");

    web.put(
        "https://id.example.com/oauth/revoke",
        Page::new(302).header("location", TOKEN),
    );
    let error = source
        .close(Some(Token::bearer("x").unwrap()))
        .await
        .unwrap_err();
    assert!(
        error.to_string().starts_with("the revocation endpoint"),
        "{error}"
    );
}

#[tokio::test]
async fn without_a_revocation_endpoint_closing_says_so() {
    let web = web();
    let metadata = json!({"issuer": ISSUER, "token_endpoint": TOKEN});
    web.put(METADATA, Page::json(200, &metadata));
    let client = client(&web, issuer()).revoke_at(issuer()).unwrap();
    let source = ClientCredentials::with_client(client);
    let token = source.fetch(Reason::First).await.unwrap();
    let error = source.close(Some(token)).await.unwrap_err();
    assert!(
        error.to_string().contains("no `revocation_endpoint`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_client_with_a_certificate_prefers_the_endpoints_for_those() {
    let web = web();
    let mut metadata = metadata();
    metadata["mtls_endpoint_aliases"] = json!({"token_endpoint": "https://mtls.example.com/token"});
    web.put(METADATA, Page::json(200, &metadata));
    web.put("https://mtls.example.com/token", token());
    let client = client(&web, issuer().mtls());
    let source = ClientCredentials::with_client(client.revoke_at(issuer().mtls()).unwrap());
    let token = source.fetch(Reason::First).await.unwrap();
    // The revocation endpoint has no alias, so its usual URL is used.
    source.close(Some(token)).await.unwrap();
    assert_eq!(web.times("POST https://mtls.example.com/token"), 1);
    assert_eq!(web.times("POST https://id.example.com/oauth/revoke"), 1);
    // Without `mtls()`, the token endpoint's usual URL is used.
    fetch(&web, issuer()).await.unwrap();
    assert_eq!(web.times(&format!("POST {TOKEN}")), 1);
}
