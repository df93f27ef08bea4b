//! The server, as a test uses it.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use tower_auth::Error;
use tower_auth::cache::Clock;
use tower_auth::oauth2::{Client, ClientCredentials};

use super::grants::Grants;
use super::metadata::{self, AUTHORIZATION_PATH, METADATA_PATHS, REVOCATION_PATH, TOKEN_PATH};
use super::quota::Quota;
use super::refresh_tokens::{Login, RefreshTokens};
use super::tokens::{IssuedToken, Tokens};
use crate::difference::assert_lines;
use crate::lock::lock;
use crate::server::{RecordedRequest, ScriptedResponse, ScriptedServer, delegate_to_server};

/// A fake OAuth 2 authorization server (RFC 6749).
///
/// It issues `token-1`, `token-2` and so on to any client that requests one, each for one hour. An
/// [`Api`](crate::Api) of this server accepts a token until it expires or the test revokes it.
///
/// | path | is |
/// | --- | --- |
/// | `/oauth/token` | the token endpoint, for any grant; refresh tokens and codes are checked |
/// | `/oauth/revoke` | revokes an access token, or the login of a refresh token (RFC 7009) |
/// | `/authorize` | sends a browser back with a code, as if the person had agreed (PKCE: RFC 7636) |
/// | `/.well-known/oauth-authorization-server`, `/.well-known/openid-configuration` | the metadata (RFC 8414) |
///
/// It is a Tower service: pass a clone to a token source's `transport`, or use the source of
/// [`client_credentials`](Self::client_credentials). To listen on a port, see
/// [`serve`](Self::serve). Clones share everything.
///
/// # Example
///
/// One fetch for all callers, and a second one when the token expires:
///
/// ```
/// use std::time::Duration;
/// use tower_auth::TokenCache;
/// use tower_auth::cache::Clock;
/// use tower_auth_test::AuthorizationServer;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), tower_auth::Error> {
/// let server = AuthorizationServer::new();
/// let source = server.client_credentials()?;
/// let cache = TokenCache::builder(source).clock(Clock::tokio()).build();
///
/// cache.token().await?;
/// cache.token().await?;
/// server.assert_tokens_issued(1);
///
/// tokio::time::advance(Duration::from_secs(3600)).await;
/// cache.token().await?;
/// server.assert_requests(["POST /oauth/token - client_credentials -> 200"; 2]);
/// # Ok(()) }
/// ```
///
/// A client of your own, in memory:
///
/// ```
/// use tower_auth::oauth2::{AuthorizationCode, Client};
/// use tower_auth_test::AuthorizationServer;
///
/// let server = AuthorizationServer::new();
/// let client = Client::public(server.token_url(), "my-app")?
///     .revoke_at(server.revocation_url())?
///     .transport(server.clone());
/// let login = AuthorizationCode::new(client, server.authorization_url())?
///     .issuer(server.issuer());
/// # Ok::<(), tower_auth::Error>(())
/// ```
///
/// A strict server:
///
/// ```
/// use std::time::Duration;
///
/// use tower_auth::TokenCache;
/// use tower_auth_test::AuthorizationServer;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
/// let server = AuthorizationServer::new();
/// server.add_client("my-service", "a-secret");
/// server.set_lifetime(Duration::from_secs(60));
/// server.set_scopes("read:notes");
/// server.set_quota(100, Duration::from_secs(3600));
/// let cache = TokenCache::new(server.client_credentials()?.scope("write:notes"));
/// assert!(cache.token().await.is_err_and(|error| error.is_invalid_scope()));
/// # Ok(()) }
/// ```
///
/// A login that ends:
///
/// ```
/// use tower_auth::TokenCache;
/// use tower_auth::oauth2::RefreshToken;
/// use tower_auth_test::{AuthorizationServer, RefreshTokens};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
/// let server = AuthorizationServer::new();
/// server.set_refresh_tokens(RefreshTokens::Rotating);
/// let cache = TokenCache::new(RefreshToken::new(server.client()?, server.log_in()));
/// cache.token().await?;
/// assert_eq!(server.refresh_tokens(), ["refresh-2"]);
/// assert_eq!(server.refresh_token_reuses(), 0);
///
/// server.log_everybody_out();
/// assert!(cache.refresh_now().await.is_err_and(|error| error.is_login_required()));
/// # Ok(()) }
/// ```
///
/// Tokens without a request:
///
/// ```
/// use tower_auth_test::AuthorizationServer;
///
/// let server = AuthorizationServer::new();
/// let first = server.issue();
/// server.issue();
/// server.revoke(&first);
/// assert!(server.issued()[0].is_revoked() && !server.issued()[1].is_revoked());
/// server.revoke_all();
/// assert_eq!(server.tokens_issued(), 2);
/// ```
///
/// An outage:
///
/// ```
/// use tower_auth::TokenCache;
/// use tower_auth_test::{AuthorizationServer, ScriptedResponse};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
/// let server = AuthorizationServer::new();
/// let source = server.client_credentials()?;
/// let cache = TokenCache::builder(source).fetch_attempts(1).build();
/// server.assert_no_requests();
///
/// server.respond_next(ScriptedResponse::new(500));
/// server.respond_always(ScriptedResponse::new(503));
/// for _ in 0..3 {
///     assert!(cache.refresh_now().await.is_err_and(|error| error.is_transient()));
/// }
/// server.wait_for_requests(3).await;
/// server.respond_as_usual();
/// cache.refresh_now().await?;
/// assert_eq!(server.requests().len(), 4);
/// # Ok(()) }
/// ```
///
/// On a port:
///
/// ```
/// use tower_auth_test::AuthorizationServer;
///
/// # #[cfg(feature = "loopback")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
/// let server = AuthorizationServer::new();
/// let running = server.serve().await?;
/// let url = running.url("/.well-known/openid-configuration");
/// assert_eq!(reqwest::get(url).await?.status(), 200);
/// # Ok(()) }
/// # #[cfg(not(feature = "loopback"))] fn main() {}
/// ```
#[derive(Clone)]
pub struct AuthorizationServer {
    server: ScriptedServer,
    grants: Arc<Mutex<Grants>>,
    pub(crate) tokens: Tokens,
}

delegate_to_server!(AuthorizationServer, "authorization server");

impl AuthorizationServer {
    /// Makes a server whose tokens expire by [`Clock::tokio`].
    pub fn new() -> Self {
        Self::with_clock(Clock::tokio())
    }

    /// Makes a server whose tokens expire by this clock.
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_auth::TokenCache;
    /// use tower_auth::cache::Clock;
    /// use tower_auth_test::AuthorizationServer;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let clock = Clock::manual();
    /// let server = AuthorizationServer::with_clock(&clock);
    /// let source = server.client_credentials()?;
    /// let cache = TokenCache::builder(source).clock(&clock).build();
    /// cache.token().await?;
    /// clock.suspend(Duration::from_secs(3600));
    /// cache.token().await?;
    /// server.assert_tokens_issued(2);
    /// # Ok(()) }
    /// ```
    pub fn with_clock(clock: impl Into<Clock>) -> Self {
        let tokens = Tokens::new(clock.into());
        let grants = Arc::new(Mutex::new(Grants::new(tokens.clone())));
        let shared = Arc::clone(&grants);
        let server = ScriptedServer::new(move |request| respond(&mut lock(&shared), request));
        Self {
            server,
            grants,
            tokens,
        }
    }

    /// Returns the issuer in memory: `https://id.example.com`.
    pub fn issuer(&self) -> &'static str {
        "https://id.example.com"
    }

    /// Returns the URL of the token endpoint in memory: `https://id.example.com/oauth/token`.
    pub fn token_url(&self) -> String {
        format!("{}{TOKEN_PATH}", self.issuer())
    }

    /// Makes a token source that fetches from this server in memory. Its client has the id
    /// `my-service` and the secret `a-secret`.
    ///
    /// # Errors
    ///
    /// Those of [`ClientCredentials::new`]. The URL, the id and the secret are valid, so none is
    /// expected.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::TokenCache;
    /// use tower_auth_test::AuthorizationServer;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let server = AuthorizationServer::new();
    /// let cache = TokenCache::new(server.client_credentials()?.scope("read:notes"));
    /// cache.token().await?;
    /// assert_eq!(server.issued()[0].scope(), "read:notes");
    /// # Ok(()) }
    /// ```
    pub fn client_credentials(&self) -> Result<ClientCredentials, Error> {
        self.client().map(ClientCredentials::with_client)
    }

    /// Makes the client of [`client_credentials`](Self::client_credentials), for sources of other
    /// grants.
    ///
    /// # Errors
    ///
    /// As [`client_credentials`](Self::client_credentials).
    ///
    /// # Example
    ///
    /// A rotated refresh token, and a second client that sends the old one:
    ///
    /// ```
    /// use tower_auth::TokenCache;
    /// use tower_auth::oauth2::RefreshToken;
    /// use tower_auth_test::{AuthorizationServer, RefreshTokens};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let server = AuthorizationServer::new();
    /// server.set_refresh_tokens(RefreshTokens::Rotating);
    /// let old = server.log_in();
    /// TokenCache::new(RefreshToken::new(server.client()?, old.clone())).token().await?;
    /// assert_eq!(server.refresh_tokens(), ["refresh-2"]);
    ///
    /// let thief = TokenCache::new(RefreshToken::new(server.client()?, old));
    /// assert!(thief.token().await.is_err_and(|error| error.is_login_required()));
    /// assert_eq!(server.refresh_token_reuses(), 1);
    /// # Ok(()) }
    /// ```
    pub fn client(&self) -> Result<Client, Error> {
        let client = Client::new(self.token_url(), "my-service", "a-secret")?;
        Ok(client.transport(self.clone()))
    }

    /// Returns the URL of the revocation endpoint in memory.
    pub fn revocation_url(&self) -> String {
        format!("{}{REVOCATION_PATH}", self.issuer())
    }

    /// Returns the URL of the authorization endpoint in memory.
    pub fn authorization_url(&self) -> String {
        format!("{}{AUTHORIZATION_PATH}", self.issuer())
    }

    /// Adds a client, or changes its secret. From then on, all other clients get `invalid_client`. A
    /// public client has an empty secret. Default: any client.
    pub fn add_client(&self, id: impl Into<String>, secret: impl Into<String>) {
        lock(&self.grants).clients.add(id.into(), secret.into());
    }

    /// Sets the lifetime of the tokens issued from now on, in whole seconds. Default: 1 h.
    pub fn set_lifetime(&self, lifetime: Duration) {
        lock(&self.grants).lifetime = lifetime;
    }

    /// Sets the scopes that clients may request from now on, separated by spaces. Another scope is
    /// refused with `invalid_scope`. Default: any scope.
    pub fn set_scopes(&self, scopes: &str) {
        let scopes = scopes.split_whitespace().map(str::to_owned).collect();
        lock(&self.grants).scopes = Some(scopes);
    }

    /// Sets how many token requests the server accepts in windows of this length, by the server's
    /// clock. All others get a 429 with `Retry-After`. Each response has `RateLimit` headers.
    /// Default: no limit.
    ///
    /// After a 429, a cache waits up to 10 % longer than `Retry-After` says, unless the test sets
    /// its [`jitter`](tower_auth::cache::TokenCacheBuilder::jitter) to 0.
    pub fn set_quota(&self, requests: usize, window: Duration) {
        lock(&self.grants).quota = Some(Quota::new(requests, window));
    }

    /// Sets which refresh tokens the server issues. Default: [`RefreshTokens::Reusable`].
    pub fn set_refresh_tokens(&self, mode: RefreshTokens) {
        lock(&self.grants).refresh_tokens.mode = mode;
    }

    /// Logs a person in, and returns the refresh token of the login: `refresh-1` for the first
    /// one that the server issues. Any client may use it, with any scope.
    pub fn log_in(&self) -> String {
        let login = Login::default();
        let (_, token) = lock(&self.grants).refresh_tokens.start_login(login);
        token
    }

    /// Ends all logins: their refresh tokens get `invalid_grant`. Access tokens stay valid.
    pub fn log_everybody_out(&self) {
        lock(&self.grants).refresh_tokens.end_all();
    }

    /// Returns the refresh tokens that the server accepts, one for each login.
    pub fn refresh_tokens(&self) -> Vec<String> {
        lock(&self.grants).refresh_tokens.current()
    }

    /// Returns how often a client sent a refresh token that the server had replaced.
    pub fn refresh_token_reuses(&self) -> usize {
        lock(&self.grants).refresh_tokens.reuses
    }

    /// Issues a token without a request, for example for an API alone.
    pub fn issue(&self) -> String {
        let lifetime = lock(&self.grants).lifetime;
        self.tokens.issue(lifetime, |_| {})
    }

    /// Revokes one access token. An unknown token is ignored.
    pub fn revoke(&self, token: &str) {
        self.tokens.revoke(|issued| issued.secret() == token);
    }

    /// Revokes all access tokens issued so far.
    pub fn revoke_all(&self) {
        self.tokens.revoke(|_| true);
    }

    /// Returns how many access tokens the server has issued.
    pub fn tokens_issued(&self) -> usize {
        self.tokens.count()
    }

    /// Returns all access tokens that the server has issued, in order.
    pub fn issued(&self) -> Vec<IssuedToken> {
        self.tokens.all()
    }

    /// Asserts how many access tokens the server has issued.
    ///
    /// # Panics
    ///
    /// If it issued more or fewer. The message lists them.
    #[track_caller]
    pub fn assert_tokens_issued(&self, expected: usize) {
        let issued = self.tokens.all();
        let expected = (1..=expected).map(|number| format!("token-{number}"));
        let issued = issued.iter().map(IssuedToken::secret);
        assert_lines(
            "the authorization server issued other tokens",
            expected,
            issued,
        );
    }

    /// Makes the server require a DPoP proof with each token request (RFC 9449 §5), and bind the
    /// tokens to its key. Without this, a proof is optional. The age of a proof is not checked,
    /// because clients sign with the system's time.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::TokenCache;
    /// use tower_auth::oauth2::{ClientCredentials, DpopKey};
    /// use tower_auth_test::AuthorizationServer;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let server = AuthorizationServer::new();
    /// server.require_dpop();
    /// let without_key = TokenCache::new(server.client_credentials()?);
    /// assert!(without_key.token().await.is_err_and(|error| error.is_denied()));
    ///
    /// let client = server.client()?.dpop(DpopKey::generate()?);
    /// TokenCache::new(ClientCredentials::with_client(client)).token().await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "dpop")]
    pub fn require_dpop(&self) {
        lock(&self.grants).dpop.require_proof();
    }

    /// Makes the server require this nonce in DPoP proofs (RFC 9449 §8). A request with another
    /// nonce, or without one, gets `use_dpop_nonce`.
    ///
    /// # Panics
    ///
    /// If the nonce can't be in a header.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::TokenCache;
    /// use tower_auth::oauth2::{ClientCredentials, DpopKey};
    /// use tower_auth_test::AuthorizationServer;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let server = AuthorizationServer::new();
    /// server.require_dpop_nonce("a-nonce");
    /// let client = server.client()?.dpop(DpopKey::generate()?);
    /// TokenCache::new(ClientCredentials::with_client(client)).token().await?;
    /// // The client sent the request once more, with the nonce.
    /// assert_eq!(server.requests().len(), 2);
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "dpop")]
    #[track_caller]
    pub fn require_dpop_nonce(&self, nonce: impl Into<String>) {
        lock(&self.grants).dpop.require_nonce(nonce.into());
    }
}

impl Default for AuthorizationServer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServer")
            .field("tokens_issued", &self.tokens.count())
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

fn respond(grants: &mut Grants, request: &RecordedRequest) -> ScriptedResponse {
    match (request.method(), request.path()) {
        (&Method::POST, TOKEN_PATH) => grants.respond(request),
        (&Method::POST, REVOCATION_PATH) => grants.respond_to_revocation(request),
        (&Method::GET, AUTHORIZATION_PATH) => grants.codes.authorize(request, &grants.clients),
        (&Method::GET, path) if METADATA_PATHS.contains(&path) => metadata::document(request),
        (_, TOKEN_PATH | REVOCATION_PATH | AUTHORIZATION_PATH) => ScriptedResponse::new(405),
        _ => ScriptedResponse::new(404),
    }
}
