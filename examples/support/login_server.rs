//! An authorization server where people log in: with a browser (RFC 6749 §4.1, RFC 7636), or on
//! another device (RFC 8628). The server logs everybody in, without asking. The server has a small
//! API too.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Form, Query, State};
use axum::http::header::{AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

type Params = HashMap<String, String>;

/// The server, which runs as long as the process.
#[derive(Clone)]
pub struct LoginServer {
    url: String,
    shared: Arc<Shared>,
}

struct Shared {
    client_id: String,
    known: Mutex<Known>,
    polled: Notify,
}

#[derive(Default)]
struct Known {
    /// Each code is valid for one exchange.
    codes: HashMap<String, Asked>,
    /// The key is the device code. The value says whether the user has entered the user code.
    devices: HashMap<String, bool>,
    /// The valid refresh tokens, with their sessions. Each token is revoked when the next token is
    /// issued.
    refresh_tokens: HashMap<String, Session>,
    /// The access tokens that the API accepts.
    access_tokens: HashMap<String, Session>,
    logins: usize,
    refreshes: usize,
    logouts: usize,
}

/// The authorization request that the server got from a browser.
struct Asked {
    challenge: String,
    redirect_uri: String,
    person: String,
}

/// Identifies a login. All tokens that are issued for the login belong to one session.
#[derive(Clone, Default)]
struct Session {
    id: String,
    person: String,
}

impl Session {
    fn of(person: String) -> Self {
        Self {
            id: random(),
            person,
        }
    }
}

impl LoginServer {
    /// Starts a server that has one client, without a secret.
    pub async fn start(client_id: &str) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            client_id: client_id.to_owned(),
            known: Mutex::default(),
            polled: Notify::new(),
        });
        let router = Router::new()
            .route("/authorize", get(authorize))
            .route("/device", post(device))
            .route("/activate", get(activate))
            .route("/token", post(token))
            .route("/revoke", post(revoke))
            .route("/notes", get(notes))
            .with_state(Arc::clone(&shared));
        let url = super::serve(router).await?;
        Ok(Self { url, shared })
    }

    pub fn authorize_url(&self) -> String {
        format!("{}/authorize", self.url)
    }

    pub fn device_url(&self) -> String {
        format!("{}/device", self.url)
    }

    pub fn token_url(&self) -> String {
        format!("{}/token", self.url)
    }

    pub fn revoke_url(&self) -> String {
        format!("{}/revoke", self.url)
    }

    /// Returns the URL of an API that names the owner of the notes: `GET /notes`.
    pub fn api_url(&self) -> &str {
        &self.url
    }

    /// Returns how often somebody logged in.
    pub fn logins(&self) -> usize {
        self.shared.known().logins
    }

    /// Returns how often a refresh token was used.
    pub fn refreshes(&self) -> usize {
        self.shared.known().refreshes
    }

    /// Returns how often somebody logged out.
    pub fn logouts(&self) -> usize {
        self.shared.known().logouts
    }

    /// Ends all sessions.
    pub fn log_everybody_out(&self) {
        let mut known = self.shared.known();
        known.refresh_tokens.clear();
        known.access_tokens.clear();
    }

    /// Waits until a device has asked whether its user has logged in.
    pub async fn polled(&self) {
        self.shared.polled.notified().await;
    }
}

/// Logs the user in, and redirects the browser back at once.
async fn authorize(State(server): State<Arc<Shared>>, Query(params): Query<Params>) -> Response {
    let param = |name| params.get(name).map_or("", String::as_str);
    let is_good = param("client_id") == server.client_id
        && param("response_type") == "code"
        && param("code_challenge_method") == "S256"
        && param("redirect_uri").starts_with("http://127.0.0.1:");
    if !is_good {
        return (
            StatusCode::BAD_REQUEST,
            "the authorization request is invalid",
        )
            .into_response();
    }
    let code = random();
    let asked = Asked {
        challenge: param("code_challenge").to_owned(),
        redirect_uri: param("redirect_uri").to_owned(),
        person: param("login_hint").to_owned(),
    };
    let pairs = [("code", code.as_str()), ("state", param("state"))];
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish();
    let back = format!("{}?{query}", asked.redirect_uri);
    server.known().codes.insert(code, asked);
    Redirect::to(&back).into_response()
}

async fn device(
    State(server): State<Arc<Shared>>,
    headers: HeaderMap,
    Form(params): Form<Params>,
) -> Response {
    if params.get("client_id") != Some(&server.client_id) {
        return refuse("invalid_client");
    }
    let device_code = random();
    // The user code is a part of the device code. This is acceptable on loopback only.
    let user_code = device_code[..8].to_uppercase();
    server.known().devices.insert(device_code.clone(), false);
    // The page for the user code is at the address that received this request.
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let page = format!("http://{}/activate", host.unwrap_or("127.0.0.1"));
    Json(json!({
        "device_code": device_code,
        "user_code": user_code,
        "verification_uri": page,
        "verification_uri_complete": format!("{page}?user_code={user_code}"),
        "expires_in": 60,
        "interval": 1,
    }))
    .into_response()
}

/// Confirms the code that a user entered.
async fn activate(State(server): State<Arc<Shared>>, Query(params): Query<Params>) -> StatusCode {
    let typed = params.get("user_code").map_or("", String::as_str);
    let mut known = server.known();
    let mut devices = known.devices.iter_mut();
    match devices.find(|(code, _)| code[..8].to_uppercase() == typed) {
        Some((_, is_done)) => {
            *is_done = true;
            StatusCode::OK
        }
        None => StatusCode::NOT_FOUND,
    }
}

async fn token(State(server): State<Arc<Shared>>, Form(params): Form<Params>) -> Response {
    let param = |name| params.get(name).map_or("", String::as_str);
    if param("client_id") != server.client_id {
        return refuse("invalid_client");
    }
    let mut known = server.known();
    let session = match param("grant_type") {
        "authorization_code" => {
            let asked = known.codes.remove(param("code"));
            let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(param("code_verifier")));
            let asked = asked.filter(|asked| {
                asked.challenge == challenge && asked.redirect_uri == param("redirect_uri")
            });
            let Some(asked) = asked else {
                return refuse("invalid_grant");
            };
            known.logins += 1;
            Session::of(asked.person)
        }
        "urn:ietf:params:oauth:grant-type:device_code" => {
            server.polled.notify_one();
            match known.devices.get(param("device_code")) {
                None => return refuse("expired_token"),
                Some(false) => return refuse("authorization_pending"),
                Some(true) => known.devices.remove(param("device_code")),
            };
            known.logins += 1;
            Session::of(String::new())
        }
        "refresh_token" => {
            let Some(session) = known.refresh_tokens.remove(param("refresh_token")) else {
                return refuse("invalid_grant");
            };
            known.refreshes += 1;
            session
        }
        _ => return refuse("unsupported_grant_type"),
    };
    let (access_token, refresh_token) = (random(), random());
    let of_session = session.clone();
    known.access_tokens.insert(access_token.clone(), of_session);
    known.refresh_tokens.insert(refresh_token.clone(), session);
    Json(json!({
        "access_token": access_token,
        "refresh_token": refresh_token,
        "token_type": "Bearer",
        "expires_in": 3600,
    }))
    .into_response()
}

/// Ends the session of a refresh token (RFC 7009). An unknown token is no error.
async fn revoke(State(server): State<Arc<Shared>>, Form(params): Form<Params>) -> StatusCode {
    let mut known = server.known();
    let token = params.get("token").map_or("", String::as_str);
    if let Some(ended) = known.refresh_tokens.remove(token) {
        known.logouts += 1;
        known
            .access_tokens
            .retain(|_, session| session.id != ended.id);
    }
    StatusCode::OK
}

async fn notes(State(server): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let sent = headers.get(AUTHORIZATION).and_then(|it| it.to_str().ok());
    let token = sent.and_then(|sent| sent.strip_prefix("Bearer "));
    match token.and_then(|token| server.known().access_tokens.get(token).cloned()) {
        Some(session) => format!("the notes of {}", session.person).into_response(),
        None => (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")]).into_response(),
    }
}

fn refuse(code: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": code }))).into_response()
}

/// Makes a secret that is random enough for loopback.
fn random() -> String {
    std::iter::repeat_with(fastrand::alphanumeric)
        .take(32)
        .collect()
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
