//! Finds the authorization server from an API's refusal, like clients of the Model Context
//! Protocol. The API names the authorization server (RFC 9728). The metadata of the authorization
//! server names the token endpoint (RFC 8414).
//!
//! ```text
//! cargo run --example protected_resource
//! ```
#![allow(clippy::print_stdout)]

mod support;

use axum::extract::{Form, Request};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use support::{CLIENT_ID, CLIENT_SECRET, Report};
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_auth::AuthLayer;
use tower_auth::oauth2::{ClientCredentials, ProtectedResource, Protection};

#[derive(Deserialize)]
struct TokenRequest {
    client_id: String,
    client_secret: String,
    resource: String,
    scope: String,
}

/// Makes an authorization server for one API.
fn authorization_server(issuer: &str, resource: &str) -> Router {
    let metadata = Json(json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/token"),
    }));
    let resource = resource.to_owned();
    let token = async move |Form(asked): Form<TokenRequest>| {
        let is_known = asked.client_id == CLIENT_ID && asked.client_secret == CLIENT_SECRET;
        if !is_known || asked.resource != resource || asked.scope != "notes:read" {
            let refusal = json!({"error": "invalid_request"});
            return (StatusCode::BAD_REQUEST, Json(refusal));
        }
        let token =
            json!({"access_token": "for-notes", "token_type": "Bearer", "expires_in": 3600});
        (StatusCode::OK, Json(token))
    };
    Router::new()
        .route(
            "/.well-known/oauth-authorization-server",
            get(async move || metadata),
        )
        .route("/token", post(token))
        .layer(from_fn(|request, next| {
            print("authorization server", request, next)
        }))
}

/// Makes an API that names its authorization server.
fn api(url: &str, issuer: &str) -> Router {
    let metadata = Json(json!({
        "resource": format!("{url}/mcp"),
        "authorization_servers": [issuer],
        "scopes_supported": ["notes:read", "notes:write"],
    }));
    let challenge = format!(
        r#"Bearer resource_metadata="{url}/.well-known/oauth-protected-resource/mcp", scope="notes:read""#
    );
    let notes = async move |headers: HeaderMap| -> Response {
        match headers.get(AUTHORIZATION) {
            Some(token) if token == "Bearer for-notes" => "notes".into_response(),
            _ => (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)]).into_response(),
        }
    };
    Router::new()
        .route(
            "/.well-known/oauth-protected-resource/mcp",
            get(async move || metadata),
        )
        .route("/mcp", get(notes))
        .layer(from_fn(|request, next| print("API", request, next)))
}

async fn print(server: &str, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    println!("{server}: {method} {path}: {}", response.status().as_u16());
    response
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let id = TcpListener::bind("127.0.0.1:0").await?;
    let notes = TcpListener::bind("127.0.0.1:0").await?;
    let issuer = format!("http://{}", id.local_addr()?);
    let url = format!("http://{}", notes.local_addr()?);
    let resource = format!("{url}/mcp");
    let (server, api) = (authorization_server(&issuer, &resource), api(&url, &issuer));
    tokio::spawn(async move { axum::serve(id, server).await });
    tokio::spawn(async move { axum::serve(notes, api).await });

    let build = |protection: Protection| {
        let endpoint = protection.endpoint();
        let source = ClientCredentials::new(endpoint, CLIENT_ID, CLIENT_SECRET)?;
        Ok(source
            .resource(protection.resource())
            .scope(protection.scope()))
    };
    let source = ProtectedResource::new(&resource, [&issuer], build)?;
    let http = reqwest::Client::new();
    // The source names the resource's origin. No other origin gets the tokens.
    let mut client = ServiceBuilder::new()
        .layer(AuthLayer::new(source))
        .service(http.clone());
    for request in 1..=2 {
        println!("request {request}");
        let get = http.get(&resource).build()?;
        let response = client.ready().await?.call(get).await?;
        println!("  {}", response.error_for_status()?.text().await?);
    }

    // The client contacts only authorization servers that its source lists, whatever the API says.
    // This source doesn't list the API's authorization server.
    let source = ProtectedResource::new(&resource, ["https://id.example.com"], build)?;
    println!("another list");
    let mut client = ServiceBuilder::new()
        .layer(AuthLayer::new(source))
        .service(http.clone());
    let get = http.get(&resource).build()?;
    match client.ready().await?.call(get).await {
        Err(error) => println!("  {error}"),
        Ok(response) => return Err(format!("unexpected: {}", response.status()).into()),
    }
    Ok(())
}
