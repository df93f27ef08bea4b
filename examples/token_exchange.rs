//! Exchanges tokens (RFC 8693). A service fetches its own token once. For each service that it
//! calls, it exchanges this token for another token.
//!
//! ```text
//! cargo run --example token_exchange
//! ```
#![allow(clippy::print_stdout)]

mod support;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Form, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use support::{CLIENT_ID, CLIENT_SECRET, Report, serve};
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::oauth2::{Client, ClientCredentials, TokenExchange};
use tower_auth::{AuthLayer, TokenCache};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The valid tokens: the service's own tokens, and the tokens that they were exchanged for.
#[derive(Default)]
struct Issued {
    own: HashSet<String>,
    exchanged: HashSet<String>,
    fetches: usize,
}

type Shared = Arc<Mutex<Issued>>;

async fn token(
    State(issued): State<Shared>,
    Form(form): Form<HashMap<String, String>>,
) -> (StatusCode, Json<Value>) {
    let mut issued = issued.lock().unwrap_or_else(PoisonError::into_inner);
    let param = |name: &str| form.get(name).map_or("", String::as_str);
    if (param("client_id"), param("client_secret")) != (CLIENT_ID, CLIENT_SECRET) {
        let refusal = json!({"error": "invalid_client"});
        return (StatusCode::UNAUTHORIZED, Json(refusal));
    }
    issued.fetches += 1;
    let token = format!("token-{}-for-{}", issued.fetches, param("audience"));
    let mut reply = json!({
        "access_token": &token,
        "token_type": "Bearer",
        "expires_in": 3600,
    });
    if param("grant_type") == "client_credentials" {
        issued.own.insert(token);
    } else if issued.own.contains(param("subject_token")) {
        reply["issued_token_type"] = json!(ACCESS_TOKEN);
        issued.exchanged.insert(token);
    } else {
        // The error that RFC 8693 §2.2.2 requires.
        let refusal = json!({"error": "invalid_request"});
        return (StatusCode::BAD_REQUEST, Json(refusal));
    }
    (StatusCode::OK, Json(reply))
}

/// Serves two services. Each accepts only the tokens issued for it.
async fn things(
    State(issued): State<Shared>,
    Path(service): Path<String>,
    headers: HeaderMap,
) -> StatusCode {
    let issued = issued.lock().unwrap_or_else(PoisonError::into_inner);
    let value = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    match value.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(token) if issued.exchanged.contains(token) && token.ends_with(&service) => {
            StatusCode::OK
        }
        _ => StatusCode::UNAUTHORIZED,
    }
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let issued = Shared::default();
    let server = Router::new()
        .route("/token", post(token))
        .route("/{service}/things", get(things));
    let url = serve(server.with_state(Arc::clone(&issued))).await?;

    let client = Client::new(format!("{url}/token"), CLIENT_ID, CLIENT_SECRET)?;
    let own = TokenCache::new(ClientCredentials::with_client(client.clone()));
    let plain = reqwest::Client::new();
    for service in ["stock", "billing"] {
        let exchange = TokenExchange::new(client.clone(), own.clone()).audience(service);
        let calling = ServiceBuilder::new()
            .layer(AuthLayer::new(exchange).only_to([&url])?)
            .service(plain.clone());
        let request = plain.get(format!("{url}/{service}/things")).build()?;
        println!("{service}: {}", calling.oneshot(request).await?.status());
    }
    let asked = |issued: &Shared| {
        let issued = issued.lock().unwrap_or_else(PoisonError::into_inner);
        (issued.own.len(), issued.exchanged.len())
    };
    println!("own and exchanged tokens: {:?}", asked(&issued));

    // This revokes the service's own token, so the next exchange first fetches a new own token.
    issued
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .own
        .clear();
    let exchange = TokenExchange::new(client, own).audience("stock");
    TokenCache::new(exchange).token().await?;
    println!("after a revocation: {:?}", asked(&issued));
    Ok(())
}
