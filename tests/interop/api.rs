//! An API behind a real authorization server. The API verifies JWTs with the server's keys, or asks
//! the server about each token. The API's challenges follow RFC 6750 §3, and its metadata follows
//! RFC 9728.

use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::future::join_all;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};
use tower_auth::{AuthLayer, BoxError, TokenCache};

use crate::servers::{HTTP, Registered, origin_of, text};

/// The API. `GET /read` requires the scope `read`. Other paths work in the same way.
/// `GET /since-4711` requires a login after that time (RFC 9470).
pub(crate) struct Api {
    pub(crate) url: String,
    inner: Arc<Inner>,
}

/// How the API checks a token.
pub(crate) enum Check {
    /// The token is a JWT (RFC 9068), signed with one of these keys.
    Jwt {
        issuer: String,
        jwks: String,
        audience: String,
    },
    /// The server introspects the token (RFC 7662) for a registered client.
    Introspection {
        issuer: String,
        endpoint: String,
        client: Registered,
    },
}

struct Inner {
    url: String,
    check: Check,
    answered: Mutex<Vec<(StatusCode, String)>>,
}

/// The claims of a valid token.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Claims {
    #[serde(default)]
    pub(crate) sub: String,
    #[serde(default)]
    pub(crate) scope: String,
    pub(crate) auth_time: Option<u64>,
    pub(crate) cnf: Option<Value>,
    pub(crate) act: Option<Value>,
}

impl Api {
    /// Starts the API. `check` gets the API's own URL. Some tokens have this URL as their audience.
    pub(crate) async fn start(check: impl FnOnce(&str) -> Check) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Inner {
            check: check(&url),
            url: url.clone(),
            answered: Mutex::default(),
        });
        let router = Router::new()
            .route("/{scope}", get(answer))
            .route(
                "/.well-known/oauth-protected-resource/{scope}",
                get(metadata),
            )
            .with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, inner }
    }

    /// Returns the status of each response so far.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        let answered = self.inner.answered.lock().unwrap();
        answered.iter().map(|(status, _)| status.as_u16()).collect()
    }

    /// Returns the credential of each request so far.
    pub(crate) fn credentials(&self) -> Vec<String> {
        let answered = self.inner.answered.lock().unwrap();
        answered
            .iter()
            .map(|(_, credential)| credential.clone())
            .collect()
    }

    /// Returns the claims of a token if the API accepts it.
    pub(crate) async fn claims(&self, token: &str) -> Option<Claims> {
        self.inner.check(token).await
    }
}

async fn answer(
    State(api): State<Arc<Inner>>,
    Path(wanted): Path<String>,
    headers: HeaderMap,
) -> Response {
    let credential = headers
        .get(AUTHORIZATION)
        .map(|value| value.to_str().unwrap());
    let (status, error) = match credential.and_then(|value| value.strip_prefix("Bearer ")) {
        // A request without a token gets no error code (RFC 6750 §3.1).
        None => (StatusCode::UNAUTHORIZED, ""),
        Some(token) => match api.check(token).await {
            None => (StatusCode::UNAUTHORIZED, r#"error="invalid_token", "#),
            Some(claims) => match wanted.strip_prefix("since-") {
                Some(time) if claims.auth_time <= time.parse().ok() => (
                    StatusCode::UNAUTHORIZED,
                    r#"error="insufficient_user_authentication", max_age="0", "#,
                ),
                None if !claims.scope.split(' ').any(|scope| scope == wanted) => {
                    (StatusCode::FORBIDDEN, r#"error="insufficient_scope", "#)
                }
                _ => (StatusCode::OK, ""),
            },
        },
    };
    let credential = credential.unwrap_or_default().to_owned();
    api.answered.lock().unwrap().push((status, credential));
    if status == StatusCode::OK {
        return "done".into_response();
    }
    let metadata = format!("{}/.well-known/oauth-protected-resource/{wanted}", api.url);
    let challenge = format!(r#"Bearer {error}scope="{wanted}", resource_metadata="{metadata}""#);
    (status, [(WWW_AUTHENTICATE, challenge)]).into_response()
}

async fn metadata(State(api): State<Arc<Inner>>, Path(wanted): Path<String>) -> Json<Value> {
    let (Check::Jwt { issuer, .. } | Check::Introspection { issuer, .. }) = &api.check;
    Json(json!({
        "resource": format!("{}/{wanted}", api.url),
        "authorization_servers": [issuer],
        "bearer_methods_supported": ["header"],
    }))
}

impl Inner {
    async fn check(&self, token: &str) -> Option<Claims> {
        match &self.check {
            Check::Jwt {
                issuer,
                jwks,
                audience,
            } => verify(token, issuer, jwks, audience).await,
            Check::Introspection {
                endpoint, client, ..
            } => introspect(token, endpoint, client).await,
        }
    }
}

async fn verify(token: &str, issuer: &str, jwks: &str, audience: &str) -> Option<Claims> {
    let header = jsonwebtoken::decode_header(token).ok()?;
    if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
        return None;
    }
    // The keys are fetched for each token, because the server may have rotated its keys.
    let keys: JwkSet = serde_json::from_str(&text(HTTP.get(jwks)).await).unwrap();
    let key = DecodingKey::from_jwk(keys.find(&header.kid?)?).ok()?;
    let mut validation = Validation::new(header.alg);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[audience]);
    let token = jsonwebtoken::decode(token, &key, &validation).ok()?;
    Some(token.claims)
}

async fn introspect(token: &str, endpoint: &str, client: &Registered) -> Option<Claims> {
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("token", token)
        .finish();
    let request = HTTP
        .post(endpoint)
        .basic_auth(&client.id, Some(&client.secret))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    let answer: Value = serde_json::from_str(&text(request).await).unwrap();
    let is_active = answer["active"].as_bool().unwrap();
    is_active.then(|| serde_json::from_value(answer).unwrap())
}

/// Sends a request through the layer.
pub(crate) async fn call(cache: &TokenCache, url: &str) -> reqwest::Response {
    try_to_call(cache, url).await.unwrap()
}

pub(crate) async fn try_to_call(
    cache: &TokenCache,
    url: &str,
) -> Result<reqwest::Response, BoxError> {
    let layer = AuthLayer::from(cache.clone()).only_to([origin_of(url)])?;
    let client = layer.layer(HTTP.clone());
    let request = HTTP.get(url).build()?;
    client.oneshot(request).await
}

/// Sends `size` requests at once. Returns their statuses, each run of equal ones only once.
pub(crate) async fn crowd(cache: &TokenCache, url: &str, size: usize) -> Vec<u16> {
    let calls = (0..size).map(|_| call(cache, url));
    let mut statuses: Vec<_> = join_all(calls)
        .await
        .iter()
        .map(|response| response.status().as_u16())
        .collect();
    statuses.dedup();
    statuses
}
