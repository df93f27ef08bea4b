//! The API, as a test uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::access::{Access, ReadToken, Respond, Share};
use super::refusal::Refusal;
#[cfg(feature = "dpop")]
use crate::authorization_server::dpop::DpopState;
use crate::authorization_server::{AuthorizationServer, Expected, Tokens};
use crate::lock::lock;
use crate::server::{RecordedRequest, ScriptedResponse, ScriptedServer, delegate_to_server};

/// A fake API that responds to requests with a valid token, and refuses all others.
///
/// A token is valid if the API's [`AuthorizationServer`] issued it, and it has neither expired nor
/// been revoked. The API also accepts the tokens of [`accept`](Self::accept). It reads the token
/// from the `Authorization` header, with the scheme `Bearer` or `DPoP`.
///
/// | request | response |
/// | --- | --- |
/// | with a valid token | 200, unless [`respond_with`](Self::respond_with) is set |
/// | with an invalid token | 401 with `error="invalid_token"`; its `error_description` says why |
/// | without a token | 401 without an `error` |
/// | with `content-type: application/grpc`, without a valid token | 200 with `grpc-status: 16`; its `grpc-message` says why |
/// | the token lacks the scope of [`require_scope`](Self::require_scope) | 403 with `error="insufficient_scope"` |
///
/// It is a Tower service: the innermost service of a client. To listen on a port, see
/// [`serve`](Self::serve). Clones share everything.
///
/// # Example
///
/// One resource refuses every token. The layer replays the request once, and other resources keep
/// their token:
///
/// ```
/// use http::Request;
/// use http_body_util::Full;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_auth::AuthLayer;
/// use tower_auth_test::{Api, Refusal, ScriptedSource};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
/// let api = Api::accepting(["token-1", "token-2"]);
/// api.refuse("/broken", Refusal::Unauthorized);
/// let client = ServiceBuilder::new()
///     .layer(AuthLayer::new(ScriptedSource::default()).any_https())
///     .service(api.clone());
/// for path in ["broken", "notes"] {
///     let request = Request::get(format!("https://api.example.com/{path}"));
///     client.clone().oneshot(request.body(Full::<bytes::Bytes>::default())?).await?;
/// }
/// api.assert_requests([
///     "GET /broken Bearer token-1 -> 401",
///     "GET /broken Bearer token-2 -> 401",
///     "GET /notes Bearer token-2 -> 200",
/// ]);
/// # Ok(()) }
/// ```
///
/// An API that requires an audience and a scope, and that revokes a token:
///
/// ```
/// use http::Request;
/// use tower::Layer;
/// use tower_auth::AuthLayer;
/// use tower_auth_test::{Api, AuthorizationServer};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
/// let server = AuthorizationServer::new();
/// let api = Api::new(&server);
/// api.require_audience("https://api.example.com");
/// api.require_scope("/notes", "read:notes");
///
/// let source = server.client_credentials()?.scope("read:notes");
/// let layer = AuthLayer::new(source.audience("https://api.example.com")).any_https();
/// let client = layer.layer(api.clone());
/// let request = || Request::get("https://api.example.com/notes").body(String::new());
/// client.send(request()?).await?;
/// api.revoke("token-1");
/// client.send(request()?).await?;
/// api.assert_requests([
///     "GET /notes Bearer token-1 -> 200",
///     "GET /notes Bearer token-1 -> 401",
///     "GET /notes Bearer token-2 -> 200",
/// ]);
/// # Ok(()) }
/// ```
///
/// Two replicas, one of which has lost its keys:
///
/// ```
/// use http::Request;
/// use tower::Layer;
/// use tower_auth::AuthLayer;
/// use tower_auth_test::{Api, Refusal, ScriptedSource};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
/// let api = Api::accepting(["token-1"]);
/// api.accept("token-2");
/// api.refuse_every(2, Refusal::Unauthorized);
/// let client = AuthLayer::new(ScriptedSource::default()).any_https().layer(api.clone());
/// let request = || Request::get("https://api.example.com/notes").body(String::new());
/// client.send(request()?).await?;
/// client.send(request()?).await?;
/// api.stop_refusing();
/// client.send(request()?).await?;
/// api.assert_requests([
///     "GET /notes Bearer token-1 -> 200",
///     "GET /notes Bearer token-1 -> 401",
///     "GET /notes Bearer token-2 -> 200",
///     "GET /notes Bearer token-2 -> 200",
/// ]);
/// # Ok(()) }
/// ```
///
/// An outage, and responses of your own:
///
/// ```
/// use http::Request;
/// use tower::Layer;
/// use tower_auth::AuthLayer;
/// use tower_auth_test::{Api, ScriptedResponse, ScriptedSource};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
/// let api = Api::accepting(["token-1"]);
/// api.respond_with(|request| ScriptedResponse::json(200, format!("{:?}", request.path())));
/// let client = AuthLayer::new(ScriptedSource::default()).any_https().layer(api.clone());
/// let request = || Request::get("https://api.example.com/notes").body(String::new());
/// api.assert_no_requests();
///
/// api.respond_next(ScriptedResponse::new(500));
/// api.respond_always(ScriptedResponse::new(503));
/// for _ in 0..3 {
///     client.send(request()?).await?;
/// }
/// api.wait_for_requests(3).await;
/// api.respond_as_usual();
/// assert_eq!(client.send(request()?).await?.status(), 200);
/// assert_eq!(api.requests().len(), 4);
/// # Ok(()) }
/// ```
///
/// On a port:
///
/// ```
/// use tower_auth_test::Api;
///
/// # #[cfg(feature = "loopback")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
/// let api = Api::accepting(["my-token"]);
/// let running = api.serve().await?;
/// let request = reqwest::Client::new().get(running.url("/notes")).bearer_auth("my-token");
/// assert_eq!(request.send().await?.status(), 200);
/// # Ok(()) }
/// # #[cfg(not(feature = "loopback"))] fn main() {}
/// ```
#[derive(Clone)]
pub struct Api {
    server: ScriptedServer,
    access: Arc<Mutex<Access>>,
}

delegate_to_server!(Api, "API");

impl Api {
    /// Makes an API that accepts the tokens of this server.
    pub fn new(server: &AuthorizationServer) -> Self {
        Self::with(Some(server.tokens.clone()), BTreeSet::new())
    }

    /// Makes an API without an authorization server, which accepts these tokens.
    pub fn accepting<I>(tokens: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        Self::with(None, tokens.into_iter().map(Into::into).collect())
    }

    fn with(tokens: Option<Tokens>, accepted: BTreeSet<String>) -> Self {
        let access = Arc::new(Mutex::new(Access {
            tokens,
            accepted,
            expected: Expected::default(),
            scopes: BTreeMap::new(),
            refusing: BTreeMap::new(),
            share: None,
            read_token: Arc::new(|request| request.token().map(str::to_owned)),
            respond: Arc::new(describe),
            #[cfg(feature = "dpop")]
            dpop: DpopState::default(),
        }));
        let shared = Arc::clone(&access);
        let server = ScriptedServer::new(move |request| respond(&shared, request));
        Self { server, access }
    }

    /// Accepts this token too, though no server has issued it: whatever the audience and the scope.
    pub fn accept(&self, token: impl Into<String>) {
        lock(&self.access).accepted.insert(token.into());
    }

    /// Stops accepting this token. If the API's authorization server issued it, the server revokes
    /// it. An unknown token is ignored.
    pub fn revoke(&self, token: &str) {
        let mut access = lock(&self.access);
        access.accepted.remove(token);
        if let Some(tokens) = &access.tokens {
            tokens.revoke(|issued| issued.secret() == token);
        }
    }

    /// Sets where the API reads the token, for example a header or a parameter of the query.
    /// Default: the `Authorization` header.
    ///
    /// [`RecordedRequest`] displays only the `Authorization` header. So the line of a request with
    /// a key in another header has a `-`, and the test asserts the key itself.
    ///
    /// # Example
    ///
    /// ```
    /// use http::Request;
    /// use tower::Layer;
    /// use tower_auth::{ApiKey, AuthLayer};
    /// use tower_auth_test::Api;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
    /// let api = Api::accepting(["my-key"]);
    /// api.read_token_with(|request| request.header("x-api-key").map(str::to_owned));
    /// let client = AuthLayer::new(ApiKey::new("my-key")).any_https().layer(api.clone());
    ///
    /// let request = Request::get("https://api.example.com/notes").body(String::new())?;
    /// client.send(request).await?;
    /// api.assert_requests(["GET /notes - -> 200"]);
    /// assert_eq!(api.requests()[0].header("x-api-key"), Some("my-key"));
    /// # Ok(()) }
    /// ```
    pub fn read_token_with(
        &self,
        read: impl Fn(&RecordedRequest) -> Option<String> + Send + Sync + 'static,
    ) {
        let read: ReadToken = Arc::new(read);
        // The old closure is dropped without the lock.
        let _old = std::mem::replace(&mut lock(&self.access).read_token, read);
    }

    /// Sets the responses to accepted requests. Default: 200 with a JSON body that contains the
    /// request's method and path, which is also [`ScriptedResponse::as_usual`]. For a client of
    /// gRPC, set a response with its `content-type` and a `grpc-status`.
    pub fn respond_with(
        &self,
        respond: impl Fn(&RecordedRequest) -> ScriptedResponse + Send + Sync + 'static,
    ) {
        let respond: Respond = Arc::new(respond);
        // The old closure is dropped without the lock.
        let _old = std::mem::replace(&mut lock(&self.access).respond, respond);
    }

    /// Refuses every request to this path, whatever its token, until [`stop_refusing`].
    ///
    /// [`stop_refusing`]: Self::stop_refusing
    ///
    /// # Panics
    ///
    /// If the path doesn't start with `/`.
    #[track_caller]
    pub fn refuse(&self, path: impl Into<String>, refusal: Refusal) {
        let path = checked(path.into());
        lock(&self.access).refusing.insert(path, refusal);
    }

    /// Refuses every `n`th request, whatever its token and path, as if one of `n` replicas had lost
    /// its keys.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    #[track_caller]
    pub fn refuse_every(&self, n: usize, refusal: Refusal) {
        assert!(n > 0, "n is 0; every request is refused with n = 1");
        lock(&self.access).share = Some(Share {
            every: n,
            requests: 0,
            refusal,
        });
    }

    /// Ends what [`refuse`](Self::refuse) and [`refuse_every`](Self::refuse_every) have set.
    pub fn stop_refusing(&self) {
        let mut access = lock(&self.access);
        access.refusing.clear();
        access.share = None;
    }

    /// Requires that tokens were issued for this audience.
    pub fn require_audience(&self, audience: impl Into<String>) {
        lock(&self.access).expected.audience = Some(audience.into());
    }

    /// Requires this scope for requests to this path.
    ///
    /// # Panics
    ///
    /// If the path doesn't start with `/`.
    #[track_caller]
    pub fn require_scope(&self, path: impl Into<String>, scope: impl Into<String>) {
        let path = checked(path.into());
        lock(&self.access).scopes.insert(path, scope.into());
    }

    /// Makes the API require this nonce in DPoP proofs (RFC 9449 §9). A request with another nonce,
    /// or without one, gets a 401 with `error="use_dpop_nonce"`.
    ///
    /// # Panics
    ///
    /// If the nonce can't be in a header.
    ///
    /// # Example
    ///
    /// ```
    /// use http::Request;
    /// use tower::Layer;
    /// use tower_auth::AuthLayer;
    /// use tower_auth::oauth2::{ClientCredentials, DpopKey};
    /// use tower_auth_test::{Api, AuthorizationServer};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
    /// let server = AuthorizationServer::new();
    /// let api = Api::new(&server);
    /// api.require_dpop_nonce("a-nonce");
    /// let client = server.client()?.dpop(DpopKey::generate()?);
    /// let layer = AuthLayer::new(ClientCredentials::with_client(client)).any_https();
    ///
    /// let request = Request::get("https://api.example.com/notes").body(String::new())?;
    /// layer.layer(api.clone()).send(request).await?;
    /// api.assert_requests([
    ///     "GET /notes DPoP token-1 -> 401",
    ///     "GET /notes DPoP token-1 -> 200",
    /// ]);
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "dpop")]
    #[track_caller]
    pub fn require_dpop_nonce(&self, nonce: impl Into<String>) {
        lock(&self.access).dpop.require_nonce(nonce.into());
    }
}

/// An API without an authorization server, which accepts no token until
/// [`accept`](Api::accept).
impl Default for Api {
    fn default() -> Self {
        Self::accepting::<[String; 0]>([])
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Panics if no request can have this path.
#[track_caller]
fn checked(path: String) -> String {
    assert!(path.starts_with('/'), "{path:?} doesn't start with `/`");
    path
}

/// Responds to a request. No lock is held while closures of the test run: they may call the API.
fn respond(access: &Mutex<Access>, request: &RecordedRequest) -> ScriptedResponse {
    let read_token = Arc::clone(&lock(access).read_token);
    let secret = read_token(request);
    let refusal = lock(access).refusal(request, secret.as_deref());
    let response = refusal.unwrap_or_else(|| {
        let respond = Arc::clone(&lock(access).respond);
        respond(request).or_as_usual(|| describe(request))
    });
    #[cfg(feature = "dpop")]
    let response = lock(access).dpop.describe(response);
    response
}

/// Describes the request in the body.
fn describe(request: &RecordedRequest) -> ScriptedResponse {
    let body = json!({ "method": request.method().as_str(), "path": request.path() });
    ScriptedResponse::json(200, body)
}
