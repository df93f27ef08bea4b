//! A login to the server, and renewals of its token.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use http::header::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::auth_method::AuthMethod;
use super::lease::{Lease, hiding, is_batch};
use super::server::{Server, X_VAULT_TOKEN, judged};
use crate::error::{Error, Kind};
use crate::http_client::token_response::WantedToken;
use crate::origin::Origin;
use crate::platform::pod_files;
use crate::source::secret_source::SecretSource;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::source::token_source::{DynTokenSource, Reason, TokenSource};
use crate::token::issued_token::Token;
use crate::token::place::Place;
use crate::token::redact::Redactor;

/// Fetches tokens by logging in to HashiCorp Vault or OpenBao. The tokens go into the header
/// `X-Vault-Token` of requests to the same server.
///
/// | login | credentials | mount |
/// | --- | --- | --- |
/// | [`app_role`](Self::app_role) | a role id and a secret id | `approle` |
/// | [`jwt`](Self::jwt) | a JWT, such as the identity of a CI job | `jwt` |
/// | [`kubernetes`](Self::kubernetes) | the token of the pod's service account | `kubernetes` |
///
/// | setting | default |
/// | --- | --- |
/// | [`mount`](Self::mount) | see above |
/// | [`revoke_on_close`](Self::revoke_on_close) | the token stays valid until its lease ends |
///
/// # Renewals
///
/// A token has a lease. Before the lease ends, the source renews the lease (`renew-self`), which
/// keeps the token's text. A renewal can't extend a lease beyond the maximum lifetime of the token.
/// So the source logs in again in these cases:
///
/// - The renewal doesn't extend the lease by at least a tenth.
/// - The server refuses the renewal, or the lease isn't renewable.
/// - The lease has ended.
/// - [`TokenCache::refresh_now`](crate::TokenCache::refresh_now) is called. A token keeps the
///   policies that its role had at the login, so call this method after a change of the role.
///
/// A `lease_duration` of zero means that the token never expires. The source reads the credentials
/// again for each login.
///
/// # Refusals
///
/// The server sends a 403 in two cases: the token is invalid, or its policies don't allow the
/// request. Therefore the source asks the server about a refused token (`lookup-self`). The source
/// logs in again only if the token is invalid. Otherwise, the caller gets the 403, and the token
/// stays in use. The [refusal budget](crate::docs::how_it_works#the-refusal-budget) limits these
/// lookups. The policy `default` of the server allows the lookup and the renewal. If a token
/// doesn't have this policy, the source logs in instead.
///
/// Sources: Vault and OpenBao, HTTP API: "AppRole auth method", "JWT/OIDC auth method", "Kubernetes
/// auth method" and "Token auth method" (OpenBao 2.7).
///
/// # Example
///
/// ```
/// use tower_auth::platform::vault::{Login, Server};
/// use tower_auth::{AuthLayer, SecretSource};
///
/// # fn example(role_id: String) -> Result<(), tower_auth::Error> {
/// let server = Server::new("https://vault.example.com:8200")?;
/// let secret_id = SecretSource::file("/run/secrets/secret-id");
/// // The source names the origin of the server, so the token goes only to that origin.
/// let layer = AuthLayer::new(Login::app_role(server, role_id, secret_id));
/// # Ok(()) }
/// ```
///
/// In a Kubernetes pod:
///
/// ```
/// use tower_auth::AuthLayer;
/// use tower_auth::platform::vault::{Login, Server};
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let layer = AuthLayer::new(Login::kubernetes(Server::from_env()?, "reports"));
/// # Ok(()) }
/// ```
#[doc(alias = "openbao")]
#[doc(alias = "hashicorp")]
pub struct Login {
    server: Server,
    method: AuthMethod,
    mount: String,
    revokes_on_close: bool,
    /// The lease of the last login. The lock is held during a fetch.
    lease: Mutex<Option<Lease>>,
}

const RENEW: &str = "auth/token/renew-self";
const LOOK_UP: &str = "auth/token/lookup-self";
const REVOKE: &str = "auth/token/revoke-self";

impl Login {
    /// Logs in with an AppRole: a role id and a secret id.
    pub fn app_role(
        server: Server,
        role_id: impl Into<String>,
        secret_id: impl Into<SecretSource>,
    ) -> Self {
        let method = AuthMethod::AppRole {
            role_id: role_id.into(),
            secret_id: secret_id.into(),
        };
        Self::new(server, method, "approle")
    }

    /// Logs in with a JWT. An empty `role` selects the default role of the mount.
    ///
    /// `jwt` is a [`SecretSource`], a [`Command`](crate::platform::Command) or another source whose
    /// token is a JWT. The server must trust the issuer of the JWT.
    ///
    /// # Example
    ///
    /// A GitLab CI job:
    ///
    /// ```
    /// use tower_auth::SecretSource;
    /// use tower_auth::platform::vault::{Login, Server};
    ///
    /// # fn example() -> Result<(), tower_auth::Error> {
    /// let jwt = SecretSource::env("VAULT_ID_TOKEN");
    /// let source = Login::jwt(Server::from_env()?, "deploy", jwt).mount("gitlab")?;
    /// # Ok(()) }
    /// ```
    pub fn jwt(server: Server, role: impl Into<String>, jwt: impl TokenSource) -> Self {
        let method = AuthMethod::Jwt {
            role: role.into(),
            jwt: Box::new(jwt),
        };
        Self::new(server, method, "jwt")
    }

    /// Logs in with the token of the pod's service account, which Kubernetes mounts at
    /// `/var/run/secrets/kubernetes.io/serviceaccount/token`.
    ///
    /// For a token at another path, use `jwt` with the [mount](Self::mount) `kubernetes`: both auth
    /// methods take the same fields.
    pub fn kubernetes(server: Server, role: impl Into<String>) -> Self {
        let jwt = SecretSource::file(pod_files::TOKEN);
        Self {
            mount: String::from("kubernetes"),
            ..Self::jwt(server, role, jwt)
        }
    }

    fn new(server: Server, method: AuthMethod, mount: &str) -> Self {
        Self {
            server,
            method,
            mount: String::from(mount),
            revokes_on_close: false,
            lease: Mutex::default(),
        }
    }

    /// Sets the path where the auth method is mounted, without `auth/`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if a part of the path is empty, `.` or `..`.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::Error;
    /// use tower_auth::platform::vault::Login;
    ///
    /// fn of_team(login: Login) -> Result<Login, Error> {
    ///     login.mount("team/approle")
    /// }
    /// ```
    pub fn mount(mut self, path: impl AsRef<str>) -> Result<Self, Error> {
        /// Everything but the unreserved characters (RFC 3986 §2.3) and the slash.
        const ENCODED: AsciiSet = NON_ALPHANUMERIC
            .remove(b'-')
            .remove(b'.')
            .remove(b'_')
            .remove(b'~')
            .remove(b'/');
        let path = path.as_ref().trim_matches('/');
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            let message = format!(
                "`{}` is no path of an auth method; write it as `approle` or `teams/approle`",
                path.escape_debug()
            );
            return Err(Error::new(Kind::Config, message));
        }
        self.mount = utf8_percent_encode(path, &ENCODED).to_string();
        Ok(self)
    }

    /// Revokes the token when the cache is [closed](crate::TokenCache::close). Secrets that were
    /// leased with the token, such as passwords of a database, end with the token.
    #[must_use]
    pub fn revoke_on_close(mut self) -> Self {
        self.revokes_on_close = true;
        self
    }

    async fn log_in(&self) -> Result<Lease, Error> {
        let (body, redactor) = self.method.credentials().await?;
        let path = format!("auth/{}/login", self.mount);
        self.issue(&path, None, body, redactor).await
    }

    /// Sends a request whose response contains a token.
    async fn issue(
        &self,
        path: &str,
        token: Option<&Token>,
        body: Zeroizing<Vec<u8>>,
        redactor: Redactor,
    ) -> Result<Lease, Error> {
        let asked = Instant::now();
        let response = self.server.send(path, token, Some(body)).await?;
        let issued = response.tokens(WantedToken::BEARER, redactor).rest;
        let make = |secret| Token::header(X_VAULT_TOKEN, secret);
        let token = issued.map_err(judged)?.into_token("", None, make)?;
        Lease::issued(token, asked)
    }

    /// Renews the lease. Returns `None` if a login is needed.
    async fn renew(&self, lease: &Lease) -> Result<Option<Lease>, Error> {
        let token = lease.bare_token();
        let body = Zeroizing::new(b"{}".to_vec());
        let renewed = self.issue(RENEW, Some(token), body, hiding(token)).await;
        Ok(usable(renewed)?
            .map(|renewed| lease.renewed(renewed))
            .filter(|renewed| renewed.extends(lease)))
    }

    /// Asks the server about a refused token. Returns `None` if a login is needed.
    async fn look_up(&self, lease: &Lease) -> Result<Option<Lease>, Error> {
        let token = lease.bare_token();
        let asked = Instant::now();
        let response = self.server.send(LOOK_UP, Some(token), None).await?;
        let refused = "the Vault server refused to look up the token";
        let found = response.done(hiding(token), refused).map_err(judged);
        Ok(usable(found)?.and_then(|()| lease.looked_up(&response, asked)))
    }

    /// Revokes the token. A token that has already ended is no error.
    async fn revoke(&self, token: &Token) -> Result<(), Error> {
        let body = Zeroizing::new(b"{}".to_vec());
        let response = self.server.send(REVOKE, Some(token), Some(body)).await?;
        if response.status == StatusCode::FORBIDDEN {
            return Ok(());
        }
        response.done(
            hiding(token),
            "the Vault server refused to revoke the token",
        )
    }
}

/// Returns `None` if the server refused. Returns a transient error, because a login would probably
/// fail too.
fn usable<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_transient() => Err(error),
        Err(_) => Ok(None),
    }
}

impl TokenSource for Login {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        let mut lease = self.lease.lock().await;
        let kept = match (&*lease, reason) {
            (Some(lease), Reason::Stale) if lease.is_renewable => self.renew(lease).await?,
            (Some(lease), Reason::Refused) => self.look_up(lease).await?,
            _ => None,
        };
        let next = match kept {
            Some(kept) => kept,
            None => self.log_in().await?,
        };
        Ok(lease.insert(next).token())
    }

    /// Also closes the source of the JWT.
    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        *self.lease.lock().await = None;
        let last = last.filter(|token| self.revokes_on_close && !is_batch(token));
        let revoked = match last {
            Some(token) => self.revoke(&token).await,
            None => Ok(()),
        };
        match self.method.jwt() {
            Some(jwt) => revoked.and(jwt.close(None).await),
            None => revoked,
        }
    }

    /// Returns a key for an AppRole. A login with a JWT has a key only if the JWT's source has a
    /// key.
    #[cfg(feature = "fleet")]
    fn store_key(&self) -> Option<StoreKey> {
        let key = self.server.add_to_key(StoreKey::new("vault login"));
        let key = key.with("mount", &self.mount);
        Some(key.with_key("identity", &self.method.store_key()?))
    }

    fn place(&self) -> Place {
        Place::Header(X_VAULT_TOKEN)
    }

    /// Returns the origin of the server.
    fn origins(&self) -> Vec<Origin> {
        self.server.origin().into_iter().collect()
    }

    /// A 403 refuses the token, or only the request. The next fetch asks the server whether the token
    /// is valid.
    fn is_refusal(&self, status: StatusCode, _headers: &HeaderMap) -> bool {
        status == StatusCode::FORBIDDEN
    }

    fn has_one_time_grant(&self) -> bool {
        let jwt = self.method.jwt();
        jwt.is_some_and(DynTokenSource::has_one_time_grant)
    }

    fn fetch_timeout(&self) -> Option<Duration> {
        self.method.jwt()?.fetch_timeout()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("server", &self.server)
            .field("method", &self.method)
            .field("mount", &self.mount)
            .field("revokes_on_close", &self.revokes_on_close)
            .finish_non_exhaustive()
    }
}
