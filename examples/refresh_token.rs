//! Keeps a rotating refresh token in a file. So later runs of the program need no login.
//!
//! ```text
//! cargo run --example refresh_token --features file
//! ```
#![allow(clippy::print_stdout)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use support::{Report, serve};
use tower_auth::TokenCache;
use tower_auth::oauth2::{Client, LoginLock, RefreshToken, RefreshTokenFile, RefreshTokenStore};

#[derive(Deserialize)]
struct Refresh {
    refresh_token: String,
}

/// Issues a new refresh token for each request, and revokes the previous refresh token.
async fn token(
    State(issued): State<Arc<AtomicUsize>>,
    Form(form): Form<Refresh>,
) -> (StatusCode, Json<Value>) {
    let used = issued.fetch_add(1, Relaxed);
    if form.refresh_token != format!("refresh-{used}") {
        let refusal = json!({"error": "invalid_grant"});
        return (StatusCode::BAD_REQUEST, Json(refusal));
    }
    let next = used + 1;
    let reply = json!({
        "access_token": format!("access-{next}"),
        "refresh_token": format!("refresh-{next}"),
        "token_type": "Bearer",
        "expires_in": 3600,
    });
    (StatusCode::OK, Json(reply))
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let issued = Arc::new(AtomicUsize::new(0));
    let server = Router::new().route("/token", post(token));
    let url = serve(server.with_state(Arc::clone(&issued))).await? + "/token";

    let folder = tempfile::tempdir()?;
    let file = RefreshTokenFile::new(folder.path().join("refresh-token"));
    // A real program saves the first refresh token after the login.
    let login = SecretString::from("refresh-0");
    let saved = file.save(login, &LoginLock::none()).await;
    saved.map_err(Report::from)?;

    for run in 1..=3 {
        // A new client and a new cache simulate a new run of the program. A later run first uses the
        // access token that the file contains.
        let client = Client::public(&url, "my-app")?;
        let cache = TokenCache::new(RefreshToken::stored(client, file.clone()));
        cache.token().await?;
        cache.refresh_now().await?;
        println!("run {run}: {} tokens issued so far", issued.load(Relaxed));
    }
    // This simulates another program that uses the refresh token.
    issued.fetch_add(1, Relaxed);
    let client = Client::public(&url, "my-app")?;
    let cache = TokenCache::new(RefreshToken::stored(client, file));
    match cache.refresh_now().await {
        Err(error) if error.is_login_required() => println!("{error}"),
        other => return Err(format!("unexpected: {other:?}").into()),
    }
    Ok(())
}
