//! Gets a token for an API after its 401 (RFC 9728). An allowed authorization server issues the
//! token.

use serde_json::{Value, json};
use tower_auth::oauth2::{Client, ClientCredentials, ProtectedResource, Protection};
use tower_auth::{Error, Reason, Token, TokenSource};

use crate::support::token_server::{ID, SECRET};
use crate::support::web::{Page, Web};

mod allowed_scopes;
mod authorization_servers;
mod caching;
mod hints;
mod metadata_lookup;
mod trailing_slash;
mod unusable_hints;

const API: &str = "https://mcp.example.com/mcp";
const METADATA: &str = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";
const ROOT: &str = "https://mcp.example.com/.well-known/oauth-protected-resource";
const ISSUER: &str = "https://id.example.com";
const TOKEN: &str = "https://id.example.com/oauth/token";

fn metadata() -> Value {
    json!({
        "resource": API,
        "authorization_servers": [ISSUER],
        "scopes_supported": ["notes:read", "notes:write"],
    })
}

/// Returns a 401 with this challenge.
fn refusal(challenge: &str) -> Page {
    Page::new(401)
        .body("who are you?")
        .header("www-authenticate", challenge)
}

/// Serves an API that names the location of its metadata and its authorization server.
fn web() -> Web {
    let web = Web::default();
    let challenge = format!(r#"Bearer realm="mcp", resource_metadata="{METADATA}""#);
    web.put(API, refusal(&challenge));
    web.put(METADATA, Page::json(200, metadata()));
    put_server(&web, ISSUER);
    web
}

fn put_server(web: &Web, issuer: &str) {
    let metadata = json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/oauth/token"),
        "revocation_endpoint": format!("{issuer}/oauth/revoke"),
    });
    let well_known = format!("{issuer}/.well-known/oauth-authorization-server");
    web.put(&well_known, Page::json(200, &metadata));
    let token = json!({"access_token": "issued", "token_type": "Bearer", "expires_in": 3600});
    web.put(&format!("{issuer}/oauth/token"), Page::json(200, &token));
    web.put(&format!("{issuer}/oauth/revoke"), Page::new(200));
}

fn source_of(web: &Web, resource: &str, allowed: &[&str]) -> Result<ProtectedResource, Error> {
    let transport = web.transport();
    let build = move |protection: Protection| {
        let endpoint = protection.endpoint();
        let client = Client::new(endpoint.clone(), ID, SECRET)?.transport(transport.clone());
        let source = ClientCredentials::with_client(client.revoke_at(endpoint)?);
        Ok(source
            .resource(protection.resource())
            .scope(protection.scope()))
    };
    let source = ProtectedResource::new(resource, allowed, build)?;
    Ok(source.transport(web.transport()))
}

fn source(web: &Web) -> ProtectedResource {
    source_of(web, API, &[ISSUER]).unwrap()
}

async fn fetch(source: &ProtectedResource) -> Result<Token, Error> {
    source.fetch(Reason::First).await
}

/// Fetches with this metadata, and returns the result.
async fn fetch_with(metadata: &Value) -> (Web, Result<Token, Error>) {
    let web = web();
    web.put(METADATA, Page::json(200, metadata));
    let fetched = fetch(&source(&web)).await;
    (web, fetched)
}

fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut metadata = metadata();
    change(&mut metadata);
    metadata
}
