//! Logs in at an API with a user name and a password. Later tokens come from a refresh token.
//!
//! ```text
//! cargo run --example json_login
//! ```
#![allow(clippy::print_stdout)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use support::{Report, serve};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_auth::AuthLayer;
use tower_auth::login::JsonLogin;

const EMAIL: &str = "me@example.com";
const PASSWORD: &str = "a-password-for-loopback-only";

/// The state of the API. The API's tokens are numbers, and only the latest token is valid.
#[derive(Default)]
struct Seen {
    logins: AtomicUsize,
    refreshes: AtomicUsize,
    latest: AtomicUsize,
}

impl Seen {
    fn issue(&self) -> Json<Value> {
        let latest = self.latest.fetch_add(1, Relaxed) + 1;
        Json(json!({
            "access_token": format!("access-{latest}"),
            "refresh_token": "refresh-for-loopback-only",
            "token_type": "bearer",
            "expires_in": 3600,
        }))
    }
}

async fn login(
    State(seen): State<Arc<Seen>>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    seen.logins.fetch_add(1, Relaxed);
    let is_known = body["email"] == EMAIL && body["password"] == PASSWORD;
    is_known
        .then(|| seen.issue())
        .ok_or(StatusCode::UNAUTHORIZED)
}

async fn refresh(
    State(seen): State<Arc<Seen>>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    seen.refreshes.fetch_add(1, Relaxed);
    let is_known = body["refresh_token"] == "refresh-for-loopback-only";
    is_known
        .then(|| seen.issue())
        .ok_or(StatusCode::UNAUTHORIZED)
}

async fn things(State(seen): State<Arc<Seen>>, headers: HeaderMap) -> StatusCode {
    let good = format!("Bearer access-{}", seen.latest.load(Relaxed));
    match headers.get("authorization") {
        Some(token) if token.as_bytes() == good.as_bytes() => StatusCode::OK,
        _ => StatusCode::UNAUTHORIZED,
    }
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let seen = Arc::new(Seen::default());
    let api = Router::new()
        .route("/v1/auth/login", post(login))
        .route("/v1/auth/refresh", post(refresh))
        .route("/v1/things", get(things));
    let url = serve(api.with_state(Arc::clone(&seen))).await?;

    let source = JsonLogin::new(format!("{url}/v1/auth/login"), EMAIL, PASSWORD)?
        .refresh_at(format!("{url}/v1/auth/refresh"))?;
    let plain = reqwest::Client::new();
    let mut client = ServiceBuilder::new()
        .layer(AuthLayer::new(source).only_to([&url])?)
        .service(plain.clone());

    for _ in 0..3 {
        let request = plain.get(format!("{url}/v1/things")).build()?;
        let response = client.ready().await?.call(request).await?;
        println!("{}", response.error_for_status()?.status());
        // This revokes the current token. The next request still succeeds.
        seen.latest.fetch_add(1, Relaxed);
    }
    let (logins, refreshes) = (seen.logins.load(Relaxed), seen.refreshes.load(Relaxed));
    println!("{logins} login, {refreshes} refreshes");
    Ok(())
}
