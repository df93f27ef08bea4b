//! A login in JSON: a user name and a password for a token, and a refresh token for the next.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::Mutex;

use super::credentials::{Credentials, address, question};
use super::json;
use super::response_paths::ResponsePaths;
use crate::error::Error;
use crate::http_client::endpoint_kind::EndpointKind;
use crate::http_client::endpoint_url::EndpointUrl;
use crate::http_client::exchange::{EndpointRequest, Exchange};
use crate::http_client::redact::Redactor;
use crate::http_client::token_response::{ASSUMED_LIFETIME, TokenResponse, TokenType};
use crate::http_client::transport::{DynTransport, Transport};
use crate::source::secret_source::SecretSource;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::Token;

/// Gets tokens from an API's own login: a POST of `{"email": …, "password": …}` brings
/// `{"access_token": …, "refresh_token": …, "token_type": …, "expires_in": …}`, and a POST of
/// `{"refresh_token": …}` the next access token. If the refresh is refused, it logs in again.
///
/// | setting | default |
/// | --- | --- |
/// | address of the login | the constructor takes it |
/// | [`refresh_at`](Self::refresh_at) | none: each fetch is a login |
/// | [`user_field`](Self::user_field), [`password_field`](Self::password_field) | `/email`, `/password` |
/// | [`access_token_field`](Self::access_token_field), … | where RFC 6749 §5.1 has them |
/// | [`timeout`](Self::timeout) of each exchange | 10 s |
/// | [`assume_lifetime`](Self::assume_lifetime) | 1 h, if neither the answer nor a JWT's `exp` says |
///
/// Fields are JSON pointers (RFC 6901): `/data/token` is the member `token` of the member `data`.
/// The password is read anew for each login. Addresses are `https`, or `http` to loopback;
/// redirects are not followed, answers are at most 64 KiB. The refresh token is kept in memory:
/// after a restart there is a login.
///
/// # Example
///
/// ```
/// use tower_auth::login::JsonLogin;
/// use tower_auth::{AuthLayer, SecretSource};
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let password = SecretSource::file("/run/secrets/password");
/// let login = JsonLogin::new("https://api.example.com/v1/auth/login", "me@example.com", password)?
///     .refresh_at("https://api.example.com/v1/auth/refresh")?;
/// let layer = AuthLayer::new(login);
/// # Ok(()) }
/// ```
pub struct JsonLogin {
    login: Exchange,
    refresh: Option<Exchange>,
    credentials: Credentials,
    /// Where the answer has what, and the refresh its token.
    paths: ResponsePaths,
    assumed_lifetime: Duration,
    /// The refresh token. Held during a fetch, so that it isn't used twice at once.
    memory: Mutex<Option<SecretString>>,
}

impl JsonLogin {
    /// A source that logs in at `url`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address can't be used or is cleartext, or if the user
    /// or the password is empty.
    pub fn new<U>(
        url: U,
        user: impl Into<String>,
        password: impl Into<SecretSource>,
    ) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        let login = Exchange::new(address(url)?);
        Self::build(login, user.into(), password.into())
    }

    fn build(login: Exchange, user: String, password: SecretSource) -> Result<Self, Error> {
        Ok(Self {
            login,
            refresh: None,
            credentials: Credentials::new(user, password)?,
            paths: ResponsePaths::default(),
            assumed_lifetime: ASSUMED_LIFETIME,
            memory: Mutex::default(),
        })
    }

    /// Where a refresh token is exchanged for the next access token.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address can't be used or is cleartext.
    pub fn refresh_at<U>(mut self, url: U) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        self.refresh = Some(self.login.to(address(url)?, EndpointKind::Token));
        Ok(self)
    }

    /// Where the login has the user name; default `/email`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if it is no JSON pointer to a member.
    pub fn user_field(mut self, pointer: impl Into<String>) -> Result<Self, Error> {
        self.credentials.set_user_field(pointer.into())?;
        Ok(self)
    }

    /// Where the login has the password; default `/password`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if it is no JSON pointer to a member.
    pub fn password_field(mut self, pointer: impl Into<String>) -> Result<Self, Error> {
        self.credentials.set_password_field(pointer.into())?;
        Ok(self)
    }

    /// Adds a member to the login that is always the same: a tenant, a device. Its texts are treated
    /// as secrets.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if it is no JSON pointer to a member.
    pub fn field(
        mut self,
        pointer: impl Into<String>,
        value: impl Into<Value>,
    ) -> Result<Self, Error> {
        self.credentials.add_field(pointer.into(), value.into())?;
        Ok(self)
    }

    /// Where answers have the access token; default `/access_token`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if it is no JSON pointer to a member.
    pub fn access_token_field(mut self, pointer: impl Into<String>) -> Result<Self, Error> {
        self.paths.access_token = json::pointer(pointer.into())?;
        Ok(self)
    }

    /// Where answers have the refresh token, and the refresh too; default `/refresh_token`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if it is no JSON pointer to a member.
    pub fn refresh_token_field(mut self, pointer: impl Into<String>) -> Result<Self, Error> {
        self.paths.refresh_token = json::pointer(pointer.into())?;
        Ok(self)
    }

    /// Where answers have the lifetime in seconds; default `/expires_in`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if it is no JSON pointer to a member.
    pub fn expires_in_field(mut self, pointer: impl Into<String>) -> Result<Self, Error> {
        self.paths.expires_in = json::pointer(pointer.into())?;
        Ok(self)
    }

    /// Where refusals say why; default `/error_description`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if it is no JSON pointer to a member.
    pub fn error_field(mut self, pointer: impl Into<String>) -> Result<Self, Error> {
        self.paths.error_description = json::pointer(pointer.into())?;
        Ok(self)
    }

    /// Sends all requests with `transport`, such as your own HTTP client; the default is that of
    /// [`oauth2::Client`](crate::oauth2::Client::transport).
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.login.transport = DynTransport::new(transport);
        if let Some(refresh) = &mut self.refresh {
            refresh.transport = self.login.transport.clone();
        }
        self
    }

    /// Bounds each exchange, from connecting to the last byte of the answer; default 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.login.timeout = timeout;
        if let Some(refresh) = &mut self.refresh {
            refresh.timeout = timeout;
        }
        self
    }

    /// Sets the lifetime of a token when neither the answer nor, being a JWT, the token itself says
    /// it; default 1 h.
    #[must_use]
    pub fn assume_lifetime(mut self, lifetime: Duration) -> Self {
        self.assumed_lifetime = lifetime;
        self
    }

    async fn log_in(&self) -> Result<TokenResponse, Error> {
        let (question, redactor) = self.credentials.question().await?;
        self.ask(&self.login, question, redactor).await
    }

    async fn refresh(&self, at: &Exchange, token: &SecretString) -> Result<TokenResponse, Error> {
        let member = Value::from(token.expose_secret());
        let members = vec![(self.paths.refresh_token.clone(), member)];
        let (question, redactor) = question(members, token)?;
        self.ask(at, question, redactor).await
    }

    async fn ask(
        &self,
        at: &Exchange,
        question: EndpointRequest,
        redactor: Redactor,
    ) -> Result<TokenResponse, Error> {
        let response = at.post(question).await?;
        response.token(self.paths.read(&response.body), TokenType::Bearer, redactor)
    }

    /// With the refresh token if there is one that is still accepted, else with the password.
    async fn issue(&self, memory: &mut Option<SecretString>) -> Result<TokenResponse, Error> {
        if let (Some(at), Some(token)) = (&self.refresh, memory.as_ref()) {
            match at.within(self.refresh(at, token)).await {
                Err(error) if error.is_permanent() => *memory = None,
                other => return other,
            }
        }
        self.login.within(self.log_in()).await
    }
}

impl TokenSource for JsonLogin {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        let mut memory = self.memory.lock().await;
        let mut reply = self.issue(&mut memory).await?;
        if let Some(next) = reply.refresh_token.take() {
            *memory = Some(next);
        }
        reply.into_token("", self.assumed_lifetime, Token::bearer)
    }

    #[cfg(feature = "fleet")]
    fn store_key(&self) -> Option<StoreKey> {
        let key = self.login.url.add_to_key(StoreKey::new("json login"));
        let key = key.with("access_token at", &self.paths.access_token);
        Some(self.credentials.add_to_key(key))
    }
}

impl fmt::Debug for JsonLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonLogin")
            .field("login", &self.login)
            .field("refresh", &self.refresh)
            .field("credentials", &self.credentials)
            .field("paths", &self.paths)
            .field("assumed_lifetime", &self.assumed_lifetime)
            .finish_non_exhaustive()
    }
}
