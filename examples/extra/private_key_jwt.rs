//! Clients without a shared secret (RFC 7523 §2.2). One client signs a JWT for each request
//! (`private_key_jwt`). The other client sends the token that its platform puts in a file, as
//! Kubernetes does.
//!
//! ```text
//! cargo run -p tower-auth-examples --example private_key_jwt
//! ```
#![allow(clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use rcgen::KeyPair;
use serde::Deserialize;
use serde_json::{Value, json};
use support::Report;
use tower_auth::oauth2::{Client, ClientCredentials, JwsAlgorithm, SigningKey};
use tower_auth::{SecretSource, TokenCache};

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The state of the server: the issuer and the key for each client id.
struct Known {
    signers: HashMap<&'static str, (&'static str, DecodingKey)>,
    audience: String,
}

#[derive(Deserialize)]
struct Request {
    client_id: String,
    client_assertion_type: String,
    client_assertion: String,
}

impl Known {
    /// Checks the signature, the audience, the expiry, the issuer and the subject (RFC 7523 §3).
    fn is_client(&self, request: &Request) -> bool {
        let Some((issuer, key)) = self.signers.get(request.client_id.as_str()) else {
            return false;
        };
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[&self.audience]);
        validation.set_issuer(&[issuer]);
        validation.sub = Some(request.client_id.clone());
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        let is_signed = decode::<Value>(&request.client_assertion, key, &validation).is_ok();
        is_signed && request.client_assertion_type == JWT_BEARER
    }
}

async fn token(
    State(known): State<Arc<Known>>,
    Form(request): Form<Request>,
) -> (StatusCode, Json<Value>) {
    if known.is_client(&request) {
        let reply = json!({"access_token": "for-loopback-only", "expires_in": 3600});
        (StatusCode::OK, Json(reply))
    } else {
        let refusal = json!({"error": "invalid_client"});
        (StatusCode::UNAUTHORIZED, Json(refusal))
    }
}

/// Writes a token to the file, as the platform does from time to time.
fn rotate(file: &std::path::Path, platform: &KeyPair, audience: &str) -> Result<(), Report> {
    let claims = json!({
        "iss": "https://cluster.example.com",
        "sub": "pod",
        "aud": audience,
        "exp": jsonwebtoken::get_current_timestamp() + 600,
    });
    let key = EncodingKey::from_ec_pem(platform.serialize_pem().as_bytes())?;
    fs::write(file, encode(&Header::new(Algorithm::ES256), &claims, &key)?)?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let (own, platform, strange) = (
        KeyPair::generate()?,
        KeyPair::generate()?,
        KeyPair::generate()?,
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/token", listener.local_addr()?);
    let public = |pair: &KeyPair| DecodingKey::from_ec_pem(pair.public_key_pem().as_bytes());
    let signers = HashMap::from([
        ("job", ("job", public(&own)?)),
        ("pod", ("https://cluster.example.com", public(&platform)?)),
    ]);
    let known = Known {
        signers,
        audience: url.clone(),
    };
    let server = Router::new().route("/token", post(token));
    let server = server.with_state(Arc::new(known));
    tokio::spawn(async move { axum::serve(listener, server).await });

    let key = |pair: &KeyPair| SigningKey::pem(JwsAlgorithm::ES256, pair.serialize_pem());
    let client = Client::public(&url, "job")?.private_key_jwt(key(&own)?)?;
    let cache = TokenCache::new(ClientCredentials::with_client(client));
    cache.token().await?;
    cache.refresh_now().await?;
    println!("signed: two tokens");

    let client = Client::public(&url, "job")?.private_key_jwt(key(&strange)?)?;
    match TokenCache::new(ClientCredentials::with_client(client))
        .token()
        .await
    {
        Err(error) if error.is_invalid_client() => println!("signed with an unknown key: {error}"),
        other => return Err(format!("unexpected: {other:?}").into()),
    }

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("token");
    rotate(&file, &platform, &url)?;
    let client = Client::public(&url, "pod")?.client_assertion(SecretSource::file(&file));
    let cache = TokenCache::new(ClientCredentials::with_client(client));
    cache.token().await?;
    rotate(&file, &platform, &url)?;
    cache.refresh_now().await?;
    println!("from the platform's file: two tokens");
    Ok(())
}
