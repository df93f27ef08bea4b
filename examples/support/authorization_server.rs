//! An authorization server with one client and one grant: client credentials (RFC 6749 §4.4).

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::jwt::Tokens;

/// The server, which runs as long as the process.
#[derive(Clone)]
pub struct AuthorizationServer {
    url: String,
    shared: Arc<Shared>,
}

struct Shared {
    client_id: String,
    client_secret: String,
    tokens: Tokens,
    settings: Mutex<Settings>,
    requests: Mutex<Vec<TokenRequest>>,
}

struct Settings {
    lifetime: Duration,
    /// The scopes that the client may request. `None` means any scope.
    scopes: Option<Vec<String>>,
}

/// A request to the token endpoint.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// How the client sent its secret.
    pub client_auth: ClientAuth,
    /// The parameters without the client's secret.
    pub params: BTreeMap<String, String>,
    /// Whether the server issued a token.
    pub granted: bool,
}

/// How a client sends its secret: in the body as a form (RFC 6749 §2.3.1) or as JSON, or as the
/// password of HTTP's Basic scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    Form,
    Json,
    Basic,
}

impl AuthorizationServer {
    pub async fn start(id: &str, secret: &str, tokens: Tokens) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            client_id: id.to_owned(),
            client_secret: secret.to_owned(),
            tokens,
            settings: Mutex::new(Settings {
                lifetime: Duration::from_secs(3600),
                scopes: None,
            }),
            requests: Mutex::default(),
        });
        let router = Router::new()
            .route("/oauth/token", post(answer))
            .with_state(Arc::clone(&shared));
        let url = super::serve(router).await?;
        Ok(Self { url, shared })
    }

    /// Sets the lifetime of the tokens issued from now on. Default: 1 h.
    pub fn set_lifetime(&self, lifetime: Duration) {
        lock(&self.shared.settings).lifetime = lifetime;
    }

    /// Sets the scopes that the client may request from now on. Default: any.
    pub fn set_scopes(&self, scopes: &str) {
        let scopes = scopes.split(' ').map(str::to_owned).collect();
        lock(&self.shared.settings).scopes = Some(scopes);
    }

    pub fn token_url(&self) -> String {
        format!("{}/oauth/token", self.url)
    }

    pub fn tokens(&self) -> &Tokens {
        &self.shared.tokens
    }

    /// Returns how many tokens were fetched.
    pub fn fetches(&self) -> usize {
        self.requests()
            .iter()
            .filter(|request| request.granted)
            .count()
    }

    /// Returns all requests, in order.
    pub fn requests(&self) -> Vec<TokenRequest> {
        lock(&self.shared.requests).clone()
    }
}

async fn answer(State(server): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let Some((client_auth, mut params)) = read(&headers, &body) else {
        return Refusal::InvalidRequest.into_response();
    };
    let grant = server.grant(&params);
    params.remove("client_secret");
    lock(&server.requests).push(TokenRequest {
        client_auth,
        params,
        granted: grant.is_ok(),
    });
    grant
        .map(Json)
        .map(|json| ([(CACHE_CONTROL, "no-store")], json))
        .into_response()
}

/// Reads the parameters, including the client's id and secret from the body or the header.
fn read(headers: &HeaderMap, body: &[u8]) -> Option<(ClientAuth, BTreeMap<String, String>)> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    if kind.starts_with("application/json") {
        return Some((ClientAuth::Json, serde_json::from_slice(body).ok()?));
    }
    let mut params: BTreeMap<_, _> = form_urlencoded::parse(body).into_owned().collect();
    let Some(basic) = headers.get(AUTHORIZATION) else {
        return Some((ClientAuth::Form, params));
    };
    let basic = STANDARD
        .decode(basic.to_str().ok()?.strip_prefix("Basic ")?)
        .ok()?;
    let (id, secret) = std::str::from_utf8(&basic).ok()?.split_once(':')?;
    params.insert("client_id".to_owned(), form_decode(id));
    params.insert("client_secret".to_owned(), form_decode(secret));
    Some((ClientAuth::Basic, params))
}

/// Decodes the client's id or secret from an `Authorization` header. Clients form-encode both
/// before they join them (RFC 6749 §2.3.1).
fn form_decode(text: &str) -> String {
    let pair = form_urlencoded::parse(text.as_bytes()).next();
    pair.map(|(text, _)| text.into_owned()).unwrap_or_default()
}

impl Shared {
    fn grant(&self, params: &BTreeMap<String, String>) -> Result<serde_json::Value, Refusal> {
        let param = |name| params.get(name).map_or("", String::as_str);
        match params.get("grant_type").map(String::as_str) {
            None => return Err(Refusal::InvalidRequest),
            Some("client_credentials") => {}
            Some(_) => return Err(Refusal::UnsupportedGrantType),
        }
        if (param("client_id"), param("client_secret")) != (&self.client_id, &self.client_secret) {
            return Err(Refusal::InvalidClient);
        }
        let settings = lock(&self.settings);
        let (scope, lifetime) = (param("scope"), settings.lifetime);
        if let Some(allowed) = &settings.scopes
            && !scope
                .split_whitespace()
                .all(|asked| allowed.iter().any(|it| it == asked))
        {
            return Err(Refusal::InvalidScope);
        }
        let token = self
            .tokens
            .issue(param("client_id"), param("audience"), scope, lifetime);
        Ok(json!({
            "access_token": token.map_err(|_| Refusal::InvalidRequest)?,
            "token_type": "Bearer",
            "expires_in": lifetime.as_secs(),
            "scope": scope,
        }))
    }
}

/// The errors of RFC 6749 §5.2 that this server returns.
enum Refusal {
    InvalidRequest,
    InvalidClient,
    InvalidScope,
    UnsupportedGrantType,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = match self {
            Self::InvalidRequest => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client"),
            Self::InvalidScope => (StatusCode::BAD_REQUEST, "invalid_scope"),
            Self::UnsupportedGrantType => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
        };
        let mut response = (status, Json(json!({ "error": code }))).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CACHE_CONTROL,
            axum::http::HeaderValue::from_static("no-store"),
        );
        if status == StatusCode::UNAUTHORIZED {
            let challenge = axum::http::HeaderValue::from_static(r#"Basic realm="oauth""#);
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
