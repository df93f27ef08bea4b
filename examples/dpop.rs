//! Uses tokens that are bound to a key (DPoP, RFC 9449). The servers check each proof and require a
//! nonce in it.
//!
//! ```text
//! cargo run --example dpop --features dpop
//! ```
#![allow(clippy::print_stdout)]

mod support;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{OriginalUri, Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::ThumbprintHash;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use support::{CLIENT_ID, CLIENT_SECRET, Report, serve};
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::AuthLayer;
use tower_auth::oauth2::{Client, ClientCredentials, DpopKey};

/// The state of both servers: the required nonce, the proofs seen so far, and the key that the
/// token is bound to.
#[derive(Clone, Default)]
struct Servers {
    inner: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    nonce: usize,
    proofs: HashSet<String>,
    bound_to: String,
}

#[derive(Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    nonce: Option<String>,
    ath: Option<String>,
}

const TOKEN: &str = "bound-to-a-key";
const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

impl Servers {
    /// Checks a proof (RFC 9449 §4.3). Returns the key's thumbprint, or the error code.
    fn check(
        &self,
        headers: &HeaderMap,
        method: &Method,
        path: &str,
        token: Option<&str>,
    ) -> Result<String, &'static str> {
        const WRONG: &str = "invalid_dpop_proof";
        let proof = headers.get("dpop").and_then(|proof| proof.to_str().ok());
        let proof = proof.ok_or(WRONG)?;
        let header = jsonwebtoken::decode_header(proof).map_err(|_| WRONG)?;
        let jwk = header.jwk.ok_or(WRONG)?;
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| WRONG)?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_required_spec_claims::<&str>(&[]);
        let claims = jsonwebtoken::decode::<Claims>(proof, &key, &validation);
        let claims = claims.map_err(|_| WRONG)?.claims;
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let here = format!("http://{}{path}", host.ok_or(WRONG)?);
        let hash = token.map(|token| URL_SAFE_NO_PAD.encode(Sha256::digest(token)));
        if claims.htm != method.as_str() || claims.htu != here || claims.ath != hash {
            return Err(WRONG);
        }
        let mut known = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.proofs.insert(claims.jti) {
            return Err(WRONG);
        }
        if claims.nonce != Some(format!("nonce-{}", known.nonce)) {
            return Err("use_dpop_nonce");
        }
        jwk.thumbprint(ThumbprintHash::SHA256).map_err(|_| WRONG)
    }

    fn nonce(&self) -> String {
        let known = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        format!("nonce-{}", known.nonce)
    }

    fn next_nonce(&self) {
        let mut known = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        known.nonce += 1;
    }
}

async fn token(State(servers): State<Servers>, headers: HeaderMap) -> Response {
    match servers.check(&headers, &Method::POST, "/token", None) {
        Ok(thumbprint) => {
            println!("token endpoint: the proof is valid; issuing a token bound to its key");
            let mut known = servers.inner.lock().unwrap_or_else(PoisonError::into_inner);
            known.bound_to = thumbprint;
            let reply = json!({"access_token": TOKEN, "token_type": "DPoP", "expires_in": 3600});
            Json(reply).into_response()
        }
        Err(code) => {
            println!("token endpoint: {code}");
            let nonce = [(NONCE, servers.nonce())];
            (StatusCode::BAD_REQUEST, nonce, Json(json!({"error": code}))).into_response()
        }
    }
}

async fn notes(
    State(servers): State<Servers>,
    OriginalUri(uri): OriginalUri,
    request: Request,
) -> Response {
    let headers = request.headers();
    let credential = headers.get(header::AUTHORIZATION);
    let is_token = credential.is_some_and(|sent| sent == &format!("DPoP {TOKEN}"));
    let proof = servers.check(headers, request.method(), uri.path(), Some(TOKEN));
    let is_bound = |thumbprint: &String| {
        let known = servers.inner.lock().unwrap_or_else(PoisonError::into_inner);
        known.bound_to == *thumbprint
    };
    let code = match proof {
        Ok(thumbprint) if is_token && is_bound(&thumbprint) => {
            println!("api: proof and token are valid");
            return Json(json!({"notes": []})).into_response();
        }
        Ok(_) => "invalid_token",
        Err(code) => code,
    };
    println!("api: {code}");
    let challenge = (header::WWW_AUTHENTICATE, format!(r#"DPoP error="{code}""#));
    let nonce = (NONCE, servers.nonce());
    (StatusCode::UNAUTHORIZED, [challenge, nonce]).into_response()
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let servers = Servers::default();
    let router = Router::new()
        .route("/token", post(token))
        .route("/v1/notes", get(notes));
    let url = serve(router.with_state(servers.clone())).await?;

    let client =
        Client::new(format!("{url}/token"), CLIENT_ID, CLIENT_SECRET)?.dpop(DpopKey::generate()?);
    let layer = AuthLayer::new(ClientCredentials::with_client(client)).only_to([&url])?;
    let client = ServiceBuilder::new()
        .layer(layer)
        .service(reqwest::Client::new());

    for request in 1..=3 {
        if request == 3 {
            println!("-- the servers require another nonce");
            servers.next_nonce();
        }
        let address = format!("{url}/v1/notes?page={request}").parse()?;
        let asked = reqwest::Request::new(reqwest::Method::GET, address);
        let response = client.clone().oneshot(asked).await?;
        println!("request {request}: {}", response.status());
    }
    // A thief who has only the token can't use it.
    let stolen = reqwest::Client::new()
        .get(format!("{url}/v1/notes"))
        .header("authorization", format!("DPoP {TOKEN}"));
    println!("a thief: {}", stolen.send().await?.status());
    Ok(())
}
