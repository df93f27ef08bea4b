//! A service account like Google's. The client signs a JWT with its own key, and exchanges the JWT
//! for a token (RFC 7523 §2.1). The server accepts each JWT once.
//!
//! ```text
//! cargo run -p tower-auth-examples --example service_account
//! ```
#![allow(clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use rcgen::KeyPair;
use serde::Deserialize;
use serde_json::{Value, json};
use support::Report;
use tower_auth::oauth2::{Client, JwsAlgorithm, JwtBearer, SignedJwt, SigningKey};
use tower_auth::{Reason, SecretSource, TokenCache, TokenSource};

const ACCOUNT: &str = "robot@project.example.com";
const SCOPE: &str = "https://example.com/auth/reports.readonly";

/// The state of the server: the account's public key, the required audience, and the JWTs seen so
/// far.
struct Known {
    key: DecodingKey,
    audience: String,
    seen: Mutex<HashSet<String>>,
}

#[derive(Deserialize)]
struct Grant {
    assertion: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    scope: String,
    jti: String,
}

impl Known {
    fn check(&self, assertion: &str) -> Result<(), &'static str> {
        // `decode` checks the signature, the audience and the expiry.
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[&self.audience]);
        let claims = decode::<Claims>(assertion, &self.key, &validation);
        let claims = claims.map_err(|_| "the JWT is invalid")?.claims;
        if claims.iss != ACCOUNT || claims.scope != SCOPE {
            return Err("the account may not request this scope");
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = seen.insert(claims.jti);
        is_new.then_some(()).ok_or("the JWT was already used")
    }
}

async fn token(
    State(known): State<Arc<Known>>,
    Form(grant): Form<Grant>,
) -> (StatusCode, Json<Value>) {
    match known.check(&grant.assertion) {
        Ok(()) => {
            let reply = json!({"access_token": "for-loopback-only", "expires_in": 3600});
            (StatusCode::OK, Json(reply))
        }
        Err(why) => {
            let refusal = json!({"error": "invalid_grant", "error_description": why});
            (StatusCode::BAD_REQUEST, Json(refusal))
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    // The account's key: the client has the private half, and the server has the public half.
    let pair = KeyPair::generate()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/token", listener.local_addr()?);
    let known = Known {
        key: DecodingKey::from_ec_pem(pair.public_key_pem().as_bytes())?,
        audience: url.clone(),
        seen: Mutex::default(),
    };
    let server = Router::new().route("/token", post(token));
    let server = server.with_state(Arc::new(known));
    tokio::spawn(async move { axum::serve(listener, server).await });

    let key = SigningKey::pem(JwsAlgorithm::ES256, pair.serialize_pem())?.key_id("2026-01");
    let jwt = SignedJwt::new(key)
        .issuer(ACCOUNT)
        .audience(&url)
        .claim("scope", SCOPE)?;
    let cache = TokenCache::new(JwtBearer::new(Client::anonymous(&url)?, jwt.clone()));
    cache.token().await?;
    cache.refresh_now().await?;
    println!("two tokens for two JWTs");

    // One JWT is used twice, as if an attacker had recorded it.
    let recorded = SecretSource::from(jwt).read().await?;
    let source = JwtBearer::new(Client::anonymous(&url)?, recorded);
    source.fetch(Reason::First).await?;
    match source.fetch(Reason::First).await {
        Err(error) if error.is_invalid_grant() => println!("{error}"),
        other => return Err(format!("unexpected: {other:?}").into()),
    }
    Ok(())
}
