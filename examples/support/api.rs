//! An API that requires a bearer token (RFC 6750) for each path.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;

use super::jwt::{Claims, Tokens};

/// The API, which runs as long as the process.
#[derive(Clone)]
pub struct Api {
    url: String,
    shared: Arc<Shared>,
}

struct Shared {
    audiences: Vec<String>,
    scope: String,
    tokens: Tokens,
    requests: AtomicUsize,
    refusals: AtomicUsize,
}

impl Api {
    /// Starts an API that accepts tokens for any of the audiences, if the tokens grant the scope.
    /// Every token grants the empty scope.
    pub async fn start(
        audiences: impl IntoIterator<Item = &str>,
        scope: &str,
        tokens: Tokens,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            audiences: audiences.into_iter().map(str::to_owned).collect(),
            scope: scope.to_owned(),
            tokens,
            requests: AtomicUsize::new(0),
            refusals: AtomicUsize::new(0),
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let url = super::serve(router).await?;
        Ok(Self { url, shared })
    }

    /// Returns the origin: `http://127.0.0.1:…`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns how many requests arrived.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Returns how many requests were refused.
    pub fn refusals(&self) -> usize {
        self.shared.refusals.load(Ordering::Relaxed)
    }
}

async fn answer(
    State(api): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    api.requests.fetch_add(1, Ordering::Relaxed);
    match api.check(&headers) {
        Ok(claims) => Json(json!({
            "asked": format!("{method} {uri}"),
            "client": claims.sub,
            "received_bytes": body.len(),
        }))
        .into_response(),
        Err((status, challenge)) => {
            api.refusals.fetch_add(1, Ordering::Relaxed);
            (status, [(WWW_AUTHENTICATE, challenge)]).into_response()
        }
    }
}

impl Shared {
    /// Returns the claims of the request's token, or the refusal (RFC 6750 §3.1).
    fn check(&self, headers: &HeaderMap) -> Result<Claims, (StatusCode, String)> {
        let value = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let Some(token) = value.and_then(|value| value.strip_prefix("Bearer ")) else {
            return Err((StatusCode::UNAUTHORIZED, r#"Bearer realm="api""#.to_owned()));
        };
        let claims = self.tokens.check(token, &self.audiences).map_err(|why| {
            let challenge =
                format!(r#"Bearer realm="api", error="invalid_token", error_description="{why}""#);
            (StatusCode::UNAUTHORIZED, challenge)
        })?;
        let needs_none = self.scope.is_empty();
        if needs_none || claims.scope.split(' ').any(|granted| granted == self.scope) {
            return Ok(claims);
        }
        let challenge = format!(
            r#"Bearer realm="api", error="insufficient_scope", scope="{}""#,
            self.scope
        );
        Err((StatusCode::FORBIDDEN, challenge))
    }
}
