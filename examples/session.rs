//! Uses an API with sessions. The login returns a cookie, and each later response replaces the
//! cookie. Finally the program logs out.
//!
//! ```text
//! cargo run --example session --features cookies
//! ```
#![allow(clippy::print_stdout)]

mod support;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;
use support::{Report, serve};
use tower::{Layer, Service, ServiceExt};
use tower_auth::AuthLayer;
use tower_auth::login::Session;

const EMAIL: &str = "me@example.com";
const PASSWORD: &str = "a-password-for-loopback-only";

/// The state of the API. Each session is a number.
#[derive(Default)]
struct Site {
    logins: usize,
    logouts: usize,
    issued: usize,
    /// The only valid session.
    good: Option<usize>,
}

type Shared = Arc<Mutex<Site>>;

impl Site {
    /// Starts a session, which replaces the previous session.
    fn issue(&mut self) -> AppendHeaders<[(header::HeaderName, String); 1]> {
        self.issued += 1;
        self.good = Some(self.issued);
        let cookie = format!("sid=session-{}; Path=/v1; HttpOnly; Secure", self.issued);
        AppendHeaders([(header::SET_COOKIE, cookie)])
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get(header::COOKIE);
        let cookies = cookies
            .and_then(|line| line.to_str().ok())
            .unwrap_or_default();
        let good = self.good.map(|good| format!("sid=session-{good}"));
        cookies
            .split("; ")
            .any(|pair| good.as_deref() == Some(pair))
    }
}

fn lock(site: &Shared) -> MutexGuard<'_, Site> {
    site.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn login(
    State(site): State<Shared>,
    Json(body): Json<Value>,
) -> Result<impl IntoResponse, StatusCode> {
    if body["email"] != EMAIL || body["password"] != PASSWORD {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let mut site = lock(&site);
    site.logins += 1;
    Ok(site.issue())
}

async fn things(
    State(site): State<Shared>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, StatusCode> {
    let mut site = lock(&site);
    if !site.knows(&headers) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    Ok(site.issue())
}

async fn logout(State(site): State<Shared>, headers: HeaderMap) -> StatusCode {
    let mut site = lock(&site);
    if !site.knows(&headers) {
        return StatusCode::UNAUTHORIZED;
    }
    site.good = None;
    site.logouts += 1;
    StatusCode::NO_CONTENT
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let site = Shared::default();
    let api = Router::new()
        .route("/v1/session/login", post(login))
        .route("/v1/session/logout", post(logout))
        .route("/v1/things", get(things));
    let url = serve(api.with_state(Arc::clone(&site))).await?;

    let source = Session::new(format!("{url}/v1/session/login"), EMAIL, PASSWORD)?
        .session_cookie("sid")?
        .log_out_at(format!("{url}/v1/session/logout"))?;
    // The source names the origin of the login. So the layer sends cookies to no other origin.
    let layer = AuthLayer::new(source);
    let plain = reqwest::Client::new();
    let mut client = layer.layer(plain.clone());

    for what in [
        "after the login",
        "with the renewed session",
        "with the renewed session",
        "after the API ended the session",
    ] {
        if what == "after the API ended the session" {
            lock(&site).good = None;
        }
        // The layer also sends the cookies that the caller sets.
        let request = plain.get(format!("{url}/v1/things"));
        let request = request.header(header::COOKIE, "lang=en").build()?;
        let response = client.ready().await?.call(request).await?;
        println!("{what}: {}", response.error_for_status()?.status());
    }

    // The session cookie is for the path `/v1`, so the layer doesn't send a request for `/v2`.
    let elsewhere = plain.get(format!("{url}/v2/things")).build()?;
    match client.ready().await?.call(elsewhere).await {
        Err(error) => println!("not sent: {error}"),
        Ok(response) => return Err(format!("unexpected: {}", response.status()).into()),
    }

    layer.cache().close().await;
    let site = lock(&site);
    println!("{} logins, {} logout", site.logins, site.logouts);
    Ok(())
}
