//! Endpoints found from the issuer's name (RFC 8414, OpenID Connect Discovery).

use serde_json::{Value, json};
use tower_auth::oauth2::{Client, ClientCredentials, EndpointUrl};
use tower_auth::{Error, Reason, Token, TokenSource};

use crate::support::token_server::{ID, SECRET};
use crate::support::web::{Page, Web};

mod caching;
mod endpoints;
mod logins;
mod lookup;
mod trailing_slash;

const ISSUER: &str = "https://id.example.com";
const METADATA: &str = "https://id.example.com/.well-known/oauth-authorization-server";
const TOKEN: &str = "https://id.example.com/oauth/token";

fn metadata() -> Value {
    json!({
        "issuer": ISSUER,
        "token_endpoint": TOKEN,
        "revocation_endpoint": "https://id.example.com/oauth/revoke",
    })
}

fn token() -> Page {
    Page::json(
        200,
        json!({"access_token": "issued", "token_type": "Bearer", "expires_in": 3600}),
    )
}

/// Serves an authorization server with its metadata where RFC 8414 puts it.
fn web() -> Web {
    let web = Web::default();
    web.put(METADATA, Page::json(200, metadata()));
    web.put(TOKEN, token());
    web.put("https://id.example.com/oauth/revoke", Page::new(200));
    web
}

fn issuer() -> EndpointUrl {
    EndpointUrl::from_issuer(ISSUER).unwrap()
}

fn client(web: &Web, url: EndpointUrl) -> Client {
    Client::new(url, ID, SECRET)
        .unwrap()
        .transport(web.transport())
}

fn source(web: &Web, url: EndpointUrl) -> ClientCredentials {
    ClientCredentials::with_client(client(web, url))
}

async fn fetch(web: &Web, url: EndpointUrl) -> Result<Token, Error> {
    source(web, url).fetch(Reason::First).await
}
