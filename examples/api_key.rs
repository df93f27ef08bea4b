//! Rotates an API key while requests are sent; no request fails.
//!
//! ```text
//! cargo run --example api_key
//! ```
#![allow(clippy::print_stdout)]

mod support;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use support::{Report, serve};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_auth::{ApiKey, AuthLayer};

/// The keys that the API accepts.
type Keys = Arc<Mutex<Vec<&'static str>>>;

async fn things(State(keys): State<Keys>, headers: HeaderMap) -> Result<&'static str, StatusCode> {
    let key = headers.get("x-api-key").and_then(|key| key.to_str().ok());
    let keys = keys.lock().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    match key {
        Some(key) if keys.contains(&key) => Ok("things"),
        _ => Err(StatusCode::UNAUTHORIZED),
    }
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let keys = Keys::new(Mutex::new(vec!["the-old-key"]));
    let accept = |accepted| *keys.lock().unwrap_or_else(PoisonError::into_inner) = accepted;
    let api = Router::new().route("/things", get(things));
    let origin = serve(api.with_state(Arc::clone(&keys))).await?;
    let url = format!("{origin}/things");

    let (key, rotation) = ApiKey::rotating("the-old-key");
    let plain = reqwest::Client::new();
    let mut client = ServiceBuilder::new()
        .layer(AuthLayer::new(key).only_to([origin])?)
        .service(plain.clone());
    let mut ask = async |when: &str| -> Result<(), Report> {
        let request = plain.get(&url).build()?;
        let response = client.ready().await?.call(request).await?;
        println!("{when}: {}", response.error_for_status()?.status());
        Ok(())
    };

    ask("with the old key").await?;
    rotation.offer("the-new-key");
    ask("with a new key offered that the API doesn't accept yet").await?;
    accept(vec!["the-old-key", "the-new-key"]);
    ask("with both keys accepted").await?;
    accept(vec!["the-new-key"]);
    ask("with only the new key accepted").await?;
    Ok(())
}
