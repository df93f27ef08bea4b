//! A program with a managed identity of Azure. Without `RESOURCE`, the example starts an endpoint
//! like that of App Service.
//!
//! ```text
//! cargo run -p tower-auth-examples --example azure
//! RESOURCE=https://management.azure.com cargo run -p tower-auth-examples --example azure
//! ```
#![allow(clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

use std::collections::HashMap;

use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use support::{Report, optional};
use tower_auth::TokenCache;
use tower_auth::platform::azure::ManagedIdentity;

/// Proves that the request comes from the app itself. App Service sets this value for each app.
const HEADER: &str = "for-loopback-only";

async fn token(
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Json<Value>, StatusCode> {
    let is_from_app = headers
        .get("x-identity-header")
        .is_some_and(|it| it == HEADER);
    match query.get("resource") {
        Some(resource) if is_from_app => {
            println!("the endpoint issues a token for {resource}");
            Ok(Json(
                json!({"access_token": "a-token", "expires_on": "4102444800"}),
            ))
        }
        _ => Err(StatusCode::UNAUTHORIZED),
    }
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let identity = match optional("RESOURCE") {
        Some(resource) => ManagedIdentity::from_env(resource)?,
        None => {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            let endpoint = format!("http://{}/msi/token", listener.local_addr()?);
            let server = Router::new().route("/msi/token", get(token));
            tokio::spawn(async move { axum::serve(listener, server).await });
            let vars = [
                ("IDENTITY_ENDPOINT", &*endpoint),
                ("IDENTITY_HEADER", HEADER),
            ];
            ManagedIdentity::from_vars("https://vault.azure.net/.default", vars)?
        }
    };
    let cache = TokenCache::new(identity);
    // The second call finds the token of the first call.
    cache.token().await?;
    cache.token().await?;
    println!("the token is {}", cache.status().phase().as_str());
    Ok(())
}
