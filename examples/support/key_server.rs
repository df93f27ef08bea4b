//! An API whose clients create and delete their own keys. At most two keys are valid at a time.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde_json::{Value, json};

const MAX_KEYS: usize = 2;

/// The API, which runs as long as the process.
#[derive(Clone)]
pub struct KeyServer {
    url: String,
    state: Arc<Mutex<Keys>>,
}

#[derive(Default)]
struct Keys {
    issued: usize,
    /// The valid keys, by number.
    valid: BTreeMap<usize, String>,
    refusals: usize,
}

impl KeyServer {
    pub async fn start() -> io::Result<Self> {
        let state = Arc::new(Mutex::new(Keys::default()));
        let api = Router::new()
            .route("/things", get(|| async { "things" }))
            .route("/keys", get(list).post(create))
            .route("/keys/{number}", delete(revoke))
            .layer(from_fn_with_state(Arc::clone(&state), check))
            .with_state(Arc::clone(&state));
        let url = super::serve(api).await?;
        Ok(Self { url, state })
    }

    /// Returns the origin: `http://127.0.0.1:…`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Issues the first key, as a person does on the API's website.
    pub fn first_key(&self) -> String {
        let (_, key) = lock(&self.state).issue();
        key
    }

    /// Returns how many requests were refused.
    pub fn refusals(&self) -> usize {
        lock(&self.state).refusals
    }
}

impl Keys {
    fn issue(&mut self) -> (usize, String) {
        self.issued += 1;
        let key = format!("key-{}-for-loopback-only", self.issued);
        self.valid.insert(self.issued, key.clone());
        (self.issued, key)
    }
}

/// Refuses requests without a valid key.
async fn check(
    State(keys): State<Arc<Mutex<Keys>>>,
    request: Request,
    next: Next,
) -> Result<Response, StatusCode> {
    let key = request.headers().get("x-api-key");
    let is_key = |valid: &String| key.is_some_and(|key| key == valid.as_str());
    {
        let mut keys = lock(&keys);
        if !keys.valid.values().any(is_key) {
            keys.refusals += 1;
            return Err(StatusCode::UNAUTHORIZED);
        }
    }
    Ok(next.run(request).await)
}

async fn list(State(keys): State<Arc<Mutex<Keys>>>) -> Json<Value> {
    Json(lock(&keys).valid.keys().copied().collect())
}

async fn create(State(keys): State<Arc<Mutex<Keys>>>) -> Result<Json<Value>, StatusCode> {
    let mut keys = lock(&keys);
    if keys.valid.len() >= MAX_KEYS {
        return Err(StatusCode::CONFLICT);
    }
    let (number, key) = keys.issue();
    Ok(Json(json!({"number": number, "key": key})))
}

async fn revoke(State(keys): State<Arc<Mutex<Keys>>>, Path(number): Path<usize>) -> StatusCode {
    match lock(&keys).valid.remove(&number) {
        Some(_) => StatusCode::NO_CONTENT,
        None => StatusCode::NOT_FOUND,
    }
}

fn lock(keys: &Mutex<Keys>) -> MutexGuard<'_, Keys> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}
