//! A web app whose users log in at an API with their browsers. Each user's requests carry that user's token.
//!
//! ```text
//! cargo run --example web_app --features authorization-code,fleet,tenants
//! ```
//!
//! The app runs as two processes that share a database. A browser's requests go to the two
//! processes in turn. So one process begins a login, and the other process finishes it. This
//! example also contains the authorization server, the API and the browsers.
#![allow(clippy::print_stdout)]

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use support::{Browser, LoginServer, Report, serve};
use tower::{Layer, ServiceExt};
use tower_auth::fleet::{Fleet, Keyring, MemoryStore, StoreKey};
use tower_auth::oauth2::{
    AuthorizationCode, AuthorizationRequest, Client, LoginLock, RefreshToken, RefreshTokenStore,
    SavedLogin,
};
use tower_auth::tenants::Tenants;
use tower_auth::{AuthLayer, BoxError, Error, NotReplayed, TokenCache};

/// A user's login at the API. Each new login has a new number. So no process uses a token or a
/// cached error of an earlier login.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Login {
    user: Arc<str>,
    number: usize,
}

/// Represents the database that all processes share.
#[derive(Default)]
struct Database {
    next_number: AtomicUsize,
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    /// The user of each session. The key is the session, which the cookie contains.
    users: HashMap<String, Arc<str>>,
    /// The current login of each user who is logged in at the API.
    logins: HashMap<Arc<str>, Login>,
    /// A real database stores the tokens encrypted.
    refresh_tokens: HashMap<Login, SecretString>,
}

impl Database {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a new session. This example doesn't show how the app authenticates its users.
    fn sign_in(&self, user: &str) -> String {
        let letters = std::iter::repeat_with(fastrand::alphanumeric);
        let session: String = letters.take(32).collect();
        self.tables().users.insert(session.clone(), user.into());
        session
    }

    /// Sets the login whose token the user's requests carry. The login's refresh token is already
    /// saved.
    fn remember(&self, login: &Login) {
        let mut tables = self.tables();
        let old = tables.logins.insert(Arc::clone(&login.user), login.clone());
        if let Some(old) = old {
            tables.refresh_tokens.remove(&old);
        }
    }

    fn forget(&self, login: &Login) {
        let mut tables = self.tables();
        tables.refresh_tokens.remove(login);
        if tables.logins.get(&login.user) == Some(login) {
            tables.logins.remove(&login.user);
        }
    }
}

/// The database row of one login. It stores the login's refresh token.
struct Row {
    database: Arc<Database>,
    login: Login,
}

impl RefreshTokenStore for Row {
    /// `SELECT refresh_token FROM logins WHERE user = $1 AND number = $2`
    async fn load(&self) -> Result<Option<SavedLogin>, BoxError> {
        let tables = self.database.tables();
        let login = tables.refresh_tokens.get(&self.login);
        Ok(login.cloned().map(SavedLogin::new))
    }

    /// `INSERT … ON CONFLICT (user, number) DO UPDATE …`. The transaction must commit before `save`
    /// returns, because the server has already revoked the previous token.
    async fn save(&self, login: SecretString, _: &LoginLock) -> Result<(), BoxError> {
        let mut tables = self.database.tables();
        tables.refresh_tokens.insert(self.login.clone(), login);
        Ok(())
    }
}

/// One process of the app.
struct App {
    name: &'static str,
    keys: Keyring,
    client: Client,
    authorize_url: String,
    callback_url: String,
    api_url: String,
    database: Arc<Database>,
    tenants: Tenants<Login>,
    /// The sources of logins that this process has just finished. Each source already has its first
    /// access token.
    finished: Arc<Mutex<HashMap<Login, RefreshToken>>>,
    http: reqwest::Client,
}

/// Settings that all processes share.
struct Settings<'a> {
    server: &'a LoginServer,
    url: &'a str,
    keys: Keyring,
    store: MemoryStore,
    database: Arc<Database>,
}

impl App {
    fn new(name: &'static str, settings: &Settings<'_>) -> Result<Self, Error> {
        let server = settings.server;
        let client =
            Client::public(server.token_url(), "web-app")?.revoke_at(server.revoke_url())?;
        let finished: Arc<Mutex<HashMap<Login, RefreshToken>>> = Arc::default();
        // The processes refresh one at a time, because the server accepts each refresh token once.
        let fleet = Fleet::new(settings.store.clone(), settings.keys.clone());
        let tenants = {
            let (client, finished) = (client.clone(), Arc::clone(&finished));
            let (database, api_url) = (Arc::clone(&settings.database), server.api_url().to_owned());
            Tenants::new(move |login: &Login| {
                let just_finished = lock(&finished).remove(login);
                let source = just_finished.unwrap_or_else(|| {
                    let (database, login) = (Arc::clone(&database), login.clone());
                    RefreshToken::stored(client.clone(), Row { database, login })
                });
                let key = StoreKey::new("web app").with("user", &login.user);
                let key = key.with("number", login.number.to_string());
                let cache = TokenCache::builder(source.log_out_on_close()?);
                let cache = cache.fleet(fleet.clone().key(key))?.build();
                AuthLayer::from(cache).only_to([&api_url])
            })
        };
        Ok(Self {
            name,
            keys: settings.keys.clone(),
            client,
            authorize_url: server.authorize_url(),
            callback_url: format!("{}/callback", settings.url),
            api_url: server.api_url().to_owned(),
            database: Arc::clone(&settings.database),
            tenants,
            finished,
            http: reqwest::Client::new(),
        })
    }

    fn router(self) -> Router {
        Router::new()
            .route("/", get(notes))
            .route("/connect", get(connect))
            .route("/callback", get(callback))
            .route("/disconnect", post(disconnect))
            .with_state(Arc::new(self))
    }

    /// Identifies the user by the session only, not by any other part of the request.
    fn user(&self, headers: &HeaderMap) -> Result<Arc<str>, Failure> {
        let session = cookie(headers, SESSION_COOKIE).unwrap_or_default();
        let user = self.database.tables().users.get(session).cloned();
        user.ok_or(Failure(
            StatusCode::UNAUTHORIZED,
            "sign in to the app first",
        ))
    }

    fn login_of(&self, user: &Arc<str>) -> Option<Login> {
        self.database.tables().logins.get(user).cloned()
    }

    fn authorization_code(&self, user: &str) -> Result<AuthorizationCode, Error> {
        let code = AuthorizationCode::new(self.client.clone(), &self.authorize_url)?;
        Ok(code.scope("offline_access notes").login_hint(user))
    }
}

/// Returns the page with the user's notes, which come from the API.
async fn notes(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Failure> {
    let user = app.user(&headers)?;
    let Some(login) = app.login_of(&user) else {
        return Ok(Redirect::to("/connect").into_response());
    };
    let client = app.tenants.get(&login)?.layer(app.http.clone());
    let request = app.http.get(format!("{}/notes", app.api_url)).build()?;
    let result = client.oneshot(request).await;
    if requires_login(&result) {
        // The other process also stops using the login, because a process looks up the login before
        // it uses the login's token.
        app.database.forget(&login);
        app.tenants.remove(&login);
        return Ok(Redirect::to("/connect").into_response());
    }
    let text = result?.text().await?;
    println!("  {} shows {text}", app.name);
    Ok(text.into_response())
}

/// Returns whether the user has to log in again. This is the case if there is no token to send. It
/// is also the case if the API refused the token and no other token can be fetched.
fn requires_login(result: &Result<reqwest::Response, BoxError>) -> bool {
    let error = match result {
        Ok(response) => match response.extensions().get() {
            Some(NotReplayed::Fetch(error)) => Some(error),
            _ => None,
        },
        Err(error) => error.downcast_ref::<Error>(),
    };
    error.is_some_and(Error::is_login_required)
}

/// Sends the browser to the authorization server. Also sets a cookie, which the browser sends when
/// it comes back to the app.
async fn connect(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Failure> {
    let user = app.user(&headers)?;
    let code = app.authorization_code(&user)?;
    let request = code.begin(&app.callback_url).await?;
    let sealed = request.seal(&app.keys)?;
    println!("  {} begins a login", app.name);
    let cookie = format!("{LOGIN_COOKIE}={sealed}; Max-Age=600; {ATTRIBUTES}");
    Ok(([(SET_COOKIE, cookie)], Redirect::to(request.url())).into_response())
}

/// The prefix `__Host-` means that no other host, not even a subdomain, can set the cookie.
const LOGIN_COOKIE: &str = "__Host-login";
const SESSION_COOKIE: &str = "__Host-session";

/// With `Lax`, the browser sends the cookie when it comes back from the authorization server.
const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Lax";

/// Handles the browser that comes back from the authorization server. Another process may have
/// begun the login.
async fn callback(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Failure> {
    let user = app.user(&headers)?;
    // A browser without the login cookie has begun no login. An attacker may have sent the browser
    // here, with the attacker's own code.
    let sealed = cookie(&headers, LOGIN_COOKIE).ok_or(BEGIN_AGAIN)?;
    let finished = finish(&app, user, sealed, &uri).await;
    let (login, source) = finished.map_err(Failure::of_login)?;
    println!("  {} finishes it", app.name);

    // The login's token becomes the first token in the cache. The other process gets this token
    // from the fleet's store.
    lock(&app.finished).insert(login.clone(), source);
    app.tenants.get(&login)?.cache().token().await?;
    app.database.remember(&login);
    let cookie = format!("{LOGIN_COOKIE}=; Max-Age=0; {ATTRIBUTES}");
    Ok(([(SET_COOKIE, cookie)], Redirect::to("/")).into_response())
}

async fn finish(
    app: &App,
    user: Arc<str>,
    sealed: &str,
    uri: &Uri,
) -> Result<(Login, RefreshToken), Error> {
    let request = AuthorizationRequest::open(&app.keys, sealed)?;
    let response = request.read(&uri.to_string())?;
    let number = app.database.next_number.fetch_add(1, Relaxed);
    let login = Login { user, number };
    let row = Row {
        database: Arc::clone(&app.database),
        login: login.clone(),
    };
    let code = app.authorization_code(&login.user)?.store(row);
    Ok((login, code.finish(request, response).await?))
}

/// Revokes the refresh token, and forgets the login.
async fn disconnect(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Failure> {
    let user = app.user(&headers)?;
    if let Some(login) = app.login_of(&user) {
        // Closing a cache revokes the login's refresh token. If this process has no cache for the
        // login, `get` makes one.
        let layer = app.tenants.get(&login)?;
        app.tenants.remove(&login);
        layer.cache().close().await;
        app.database.forget(&login);
    }
    Ok("disconnected".into_response())
}

/// The response to a browser after a failure: a status and a text, but not the cause.
struct Failure(StatusCode, &'static str);

const BEGIN_AGAIN: Failure = Failure(
    StatusCode::BAD_REQUEST,
    "this login has ended, or isn't yours; begin again at /connect",
);

impl Failure {
    fn of_login(error: Error) -> Self {
        if error.is_access_denied() {
            Self(
                StatusCode::FORBIDDEN,
                "you have not allowed access to your notes",
            )
        } else if error.is_reply() || error.is_invalid_grant() {
            BEGIN_AGAIN
        } else {
            error.into()
        }
    }
}

impl<E> From<E> for Failure
where
    E: Into<BoxError>,
{
    fn from(error: E) -> Self {
        let error: BoxError = error.into();
        eprintln!("{error}");
        Self(
            StatusCode::BAD_GATEWAY,
            "the API can't be reached; try again later",
        )
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter();
    let mut pairs = lines.flat_map(|line| line.to_str().unwrap_or_default().split("; "));
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let server = LoginServer::start("web-app").await?;
    let database = Arc::new(Database::default());
    // A load balancer in front of two processes. The authorization server sends browsers back to
    // the load balancer.
    let processes: Arc<Mutex<Vec<Router>>> = Arc::default();
    let (turn, routers) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&processes));
    let balancer = Router::new().fallback(move |request: Request| {
        let routers = lock(&routers);
        let process = routers[turn.fetch_add(1, Relaxed) % routers.len()].clone();
        process.oneshot(request)
    });
    let url = serve(balancer).await?;
    let key: [u8; 32] = std::array::from_fn(|_| fastrand::u8(..));
    let settings = Settings {
        server: &server,
        url: &url,
        // The app's secret, which all its processes know.
        keys: Keyring::new("2026-11", STANDARD.encode(key))?,
        // Processes on several machines need a `RedisStore` instead.
        store: MemoryStore::new(),
        database: Arc::clone(&database),
    };
    for name in ["process 1", "process 2"] {
        lock(&processes).push(App::new(name, &settings)?.router());
    }

    let browser = |user: &'static str| {
        let session = database.sign_in(user);
        Browser::new(user, &url, (SESSION_COOKIE, &session))
    };
    let (mut alice, mut bob) = (browser("alice")?, browser("bob")?);
    for browser in [&mut alice, &mut bob] {
        browser.visit("/").await?;
        browser.visit("/").await?;
    }
    let (logins, refreshes) = (server.logins(), server.refreshes());
    println!("{logins} logins, {refreshes} refreshes");

    println!("-- the callback of alice's login once more, though its code was used");
    let callback = alice.callback();
    alice.restore_cookie();
    alice.visit(&callback).await?;
    println!("-- a link that has bob use a login of alice's");
    bob.visit(&callback).await?;

    println!("-- the authorization server has ended all sessions");
    server.log_everybody_out();
    alice.visit("/").await?;

    println!("-- alice is done");
    alice.post("/disconnect").await?;
    println!("{} logins, {} logout", server.logins(), server.logouts());
    Ok(())
}
