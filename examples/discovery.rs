//! Finds the endpoints of an authorization server by the name of its issuer (RFC 8414). The program
//! knows only the issuer's address. It fetches a token, and finally revokes the token.
//!
//! ```text
//! cargo run --example discovery
//! ```
#![allow(clippy::print_stdout)]

mod support;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use support::{CLIENT_ID, CLIENT_SECRET, Report};
use tokio::net::TcpListener;
use tower_auth::TokenCache;
use tower_auth::oauth2::{Client, ClientCredentials, EndpointUrl};

/// Makes one tenant of an authorization server. The path of the tenant's metadata is the one that
/// OpenID Connect defines.
fn authorization_server(issuer: &str) -> Router {
    let metadata = Json(json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/token"),
        "revocation_endpoint": format!("{issuer}/revoke"),
    }));
    let token =
        Json(json!({"access_token": "a-token", "token_type": "Bearer", "expires_in": 3600}));
    Router::new()
        .route(
            "/acme/.well-known/openid-configuration",
            get(async move || metadata),
        )
        .route("/acme/token", post(async move || token))
        .route("/acme/revoke", post(async || ()))
        .layer(from_fn(print))
}

async fn print(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    println!("{method} {path}: {}", response.status().as_u16());
    response
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let issuer = format!("http://{}/acme", listener.local_addr()?);
    let server = authorization_server(&issuer);
    tokio::spawn(async move { axum::serve(listener, server).await });

    let issuer = EndpointUrl::from_issuer(issuer)?;
    let client = Client::new(issuer.clone(), CLIENT_ID, CLIENT_SECRET)?.revoke_at(issuer)?;
    let cache = TokenCache::new(ClientCredentials::with_client(client));
    cache.token().await?;
    // This refresh uses the cached metadata.
    cache.refresh_now().await?;
    cache.close().await;
    Ok(())
}
