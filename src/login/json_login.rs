//! A JSON login: exchanges a user name and a password for a token, and a refresh token for the next
//! token.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::Mutex;

use super::login_request::{LoginRequest, address, login_setters, request};
use crate::error::Error;
use crate::http_client::endpoint_client::{EndpointClient, EndpointRequest};
use crate::http_client::endpoint_url::EndpointUrl;
use crate::http_client::json_pointer;
use crate::http_client::token_response::{ASSUMED_LIFETIME, TokenResponse, WantedToken};
use crate::http_client::token_response_format::TokenResponseFormat;
use crate::source::secret_source::SecretSource;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::Token;
use crate::token::redact::Redactor;

/// Fetches tokens from an API's own login.
///
/// - The login is a POST of `{"email": …, "password": …}`. The server returns `{"access_token": …,
///   "refresh_token": …, "token_type": …, "expires_in": …}`.
/// - A refresh is a POST of `{"refresh_token": …}`. The server returns the next access token.
/// - A new refresh token replaces the old token, even if the response has no usable access token.
/// - If the server [permanently](Error::is_permanent) refuses the refresh, the source logs in
///   again. The codes of [`TokenResponseFormat::login_required_code`] have the same effect.
///
/// | setting | default |
/// | --- | --- |
/// | address of the login | an argument of the constructor |
/// | [`refresh_at`](Self::refresh_at) | none: each fetch is a login |
/// | [`user_field`](Self::user_field), [`password_field`](Self::password_field) | `/email`, `/password` |
/// | [`response_format`](Self::response_format), [`access_token_field`](Self::access_token_field), … | the format of RFC 6749 §5 |
/// | [`timeout`](Self::timeout) of each request | 10 s |
/// | [`assume_lifetime`](Self::assume_lifetime) | 1 h, used if neither the response nor the `exp` of a JWT specifies a lifetime |
///
/// Fields are JSON pointers (RFC 6901): `/data/token` is the field `token` of the object `data`.
/// The source reads the password again for each login. Addresses are `https`, or `http` on
/// loopback. Redirects are not followed, and a response longer than 64 KiB is an error. The source
/// keeps the refresh token in memory, so a restart requires a login.
///
/// # Example
///
/// ```
/// use tower_auth::login::JsonLogin;
/// use tower_auth::{AuthLayer, SecretSource};
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let password = SecretSource::file("/run/secrets/password");
/// let url = "https://api.example.com/v1/auth/login";
/// let login = JsonLogin::new(url, "me@example.com", password)?
///     .refresh_at("https://api.example.com/v1/auth/refresh")?;
/// let layer = AuthLayer::new(login).only_to(["https://api.example.com"])?;
/// # Ok(()) }
/// ```
///
/// An API with other fields:
///
/// ```
/// use tower_auth::SecretSource;
/// use tower_auth::login::JsonLogin;
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let password = SecretSource::file("/run/secrets/password");
/// let login = JsonLogin::new("https://api.example.com/login", "me", password)?
///     .user_field("/user/name")?
///     .password_field("/user/password")?
///     .field("/device", "reports")?
///     .access_token_field("/data/token")?
///     .refresh_token_field("/data/refresh")?
///     .expires_in_field("/data/seconds")?
///     .error_field("/message")?;
/// # Ok(()) }
/// ```
#[doc(alias = "password")]
pub struct JsonLogin {
    login: LoginRequest,
    refresh_at: Option<EndpointUrl>,
    /// The refresh request's field for the refresh token.
    sent_refresh_token: String,
    assumed_lifetime: Duration,
    /// The current refresh token. The lock is held during a fetch, so that two requests never send
    /// the same refresh token.
    refresh_token: Mutex<Option<SecretString>>,
}

impl JsonLogin {
    /// Creates a source that logs in at `url`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address is invalid or cleartext, or if the user
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
        Ok(Self {
            login: LoginRequest::new(url, user, password)?,
            refresh_at: None,
            sent_refresh_token: String::from("/refresh_token"),
            assumed_lifetime: ASSUMED_LIFETIME,
            refresh_token: Mutex::default(),
        })
    }

    /// Sets the address where a refresh token is exchanged for the next access token.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address is invalid or cleartext.
    pub fn refresh_at<U>(mut self, url: U) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        self.refresh_at = Some(address(url)?);
        Ok(self)
    }

    /// Sets the format of the responses. Replaces the response fields that earlier calls set.
    #[must_use]
    pub fn response_format(mut self, format: TokenResponseFormat) -> Self {
        self.login.http.format = Arc::new(format);
        self
    }

    /// Sets the response's field for the access token. Default: `/access_token`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the text isn't a JSON pointer (RFC 6901) to a field.
    pub fn access_token_field(self, pointer: impl Into<String>) -> Result<Self, Error> {
        self.with_format(|format| format.access_token_field(pointer))
    }

    /// Sets the field for the refresh token, in responses and in the refresh request. Default:
    /// `/refresh_token`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the text isn't a JSON pointer (RFC 6901) to a field.
    pub fn refresh_token_field(mut self, pointer: impl Into<String>) -> Result<Self, Error> {
        let pointer = json_pointer::checked(pointer.into())?;
        self.sent_refresh_token.clone_from(&pointer);
        self.with_format(|format| format.refresh_token_field(pointer))
    }

    /// Sets the response's field for the lifetime in seconds. Default: `/expires_in`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the text isn't a JSON pointer (RFC 6901) to a field.
    pub fn expires_in_field(self, pointer: impl Into<String>) -> Result<Self, Error> {
        self.with_format(|format| format.expires_in_field(pointer))
    }

    /// Sets the field for the description in a refusal. Default: `/error_description`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the text isn't a JSON pointer (RFC 6901) to a field.
    pub fn error_field(self, pointer: impl Into<String>) -> Result<Self, Error> {
        self.with_format(|format| format.error_description_field(pointer))
    }

    fn with_format(
        mut self,
        change: impl FnOnce(TokenResponseFormat) -> Result<TokenResponseFormat, Error>,
    ) -> Result<Self, Error> {
        let format = change(self.login.http.format.as_ref().clone())?;
        self.login.http.format = Arc::new(format);
        Ok(self)
    }

    /// Sets the lifetime to assume if neither the response nor the token (a JWT) specifies a
    /// lifetime. Default: 1 h.
    #[must_use]
    pub fn assume_lifetime(mut self, lifetime: Duration) -> Self {
        self.assumed_lifetime = lifetime;
        self
    }

    async fn log_in(&self, next: &mut Option<SecretString>) -> Result<TokenResponse, Error> {
        let (request, redactor) = self.login.build().await?;
        self.send(&self.login.http, request, redactor, next).await
    }

    async fn refresh(
        &self,
        at: &EndpointClient,
        token: &SecretString,
        next: &mut Option<SecretString>,
    ) -> Result<TokenResponse, Error> {
        let pointer = self.sent_refresh_token.clone();
        let fields = vec![(pointer, Value::from(token.expose_secret()).into())];
        let (request, redactor) = request(fields, token)?;
        self.send(at, request, redactor, next).await
    }

    /// Sends a request. Stores the response's refresh token in `next` before it reads the rest.
    async fn send(
        &self,
        at: &EndpointClient,
        request: EndpointRequest,
        redactor: Redactor,
        next: &mut Option<SecretString>,
    ) -> Result<TokenResponse, Error> {
        let partial = at.post_partial(request).await?;
        let response = at.tokens(partial, WantedToken::BEARER, redactor);
        if response.refresh_token.is_some() {
            *next = response.refresh_token;
        }
        response.rest
    }

    /// Refreshes if there is a refresh token. Logs in if there is no refresh token, or if the
    /// server permanently refuses the refresh token.
    async fn refresh_or_log_in(
        &self,
        refresh_token: &mut Option<SecretString>,
    ) -> Result<TokenResponse, Error> {
        if let (Some(url), Some(token)) = (&self.refresh_at, refresh_token.clone()) {
            let at = self.login.client_for(url);
            match at.within(self.refresh(&at, &token, refresh_token)).await {
                Err(error) if error.is_permanent() || error.is_invalid_grant() => {
                    // Drops only the token that the server refused. A new token that came with the
                    // error is kept.
                    let is_refused =
                        |now: &mut SecretString| now.expose_secret() == token.expose_secret();
                    refresh_token.take_if(is_refused);
                }
                other => return other,
            }
        }
        self.login.http.within(self.log_in(refresh_token)).await
    }
}

login_setters!(JsonLogin);

impl TokenSource for JsonLogin {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        let mut refresh_token = self.refresh_token.lock().await;
        let response = self.refresh_or_log_in(&mut refresh_token).await?;
        response.into_token("", self.assumed_lifetime, Token::bearer)
    }

    #[cfg(feature = "fleet")]
    fn store_key(&self) -> Option<StoreKey> {
        let key = self.login.add_to_key(StoreKey::new("json login"));
        let elsewhere = self.login.http.format.access_token_elsewhere();
        Some(key.with("access_token at", elsewhere.unwrap_or("/access_token")))
    }
}

impl fmt::Debug for JsonLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonLogin")
            .field("login", &self.login)
            .field("refresh_at", &self.refresh_at)
            .field("assumed_lifetime", &self.assumed_lifetime)
            .finish_non_exhaustive()
    }
}
