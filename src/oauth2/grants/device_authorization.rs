//! The device authorization grant (RFC 8628): a user logs in with a browser on another device.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep_until};

use super::device_prompt::{DevicePrompt, MAX_INTERVAL};
use super::refresh_store::RefreshTokenStore;
use super::refresh_token::RefreshToken;
use super::token_params::{Reserved, token_param_setters};
use super::user_login::UserLogin;
use crate::error::{Error, Kind};
use crate::http_client::endpoint_kind::EndpointKind;
use crate::http_client::endpoint_url::EndpointUrl;
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::client::params::Params;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The time that each `slow_down` adds to the time between polls (RFC 8628 §3.5).
const SLOW_DOWN: Duration = Duration::from_secs(5);

/// Names that [`DeviceAuthorization::param`] rejects.
const RESERVED: Reserved = &[
    ("grant_type", "it belongs to the token request"),
    ("device_code", "the server issues it"),
    ("scope", "use `.scope(…)`"),
    ("audience", "use `.audience(…)`"),
    ("resource", "use `.resource(…)`"),
];

/// Logs a user in on another device (RFC 8628), and returns a [`RefreshToken`] source. Use this
/// grant on a television, in a container, or on a server behind SSH.
///
/// 1. [`begin`](Self::begin) requests a [`DevicePrompt`]. Show the prompt's address and code to the
///    user.
/// 2. [`finish`](Self::finish) polls the server until the user has logged in.
///
/// The next run of the program needs no login: use [`RefreshToken::stored`] with the same store.
///
/// | setting | default |
/// | --- | --- |
/// | [`scope`](Self::scope), [`audience`](Self::audience), [`resource`](Self::resource) | none: the server decides |
/// | [`param`](Self::param) of the request that begins the login | none |
/// | [`store`](Self::store) of the refresh token | memory: a restart requires a login |
/// | [`assume_lifetime`](Self::assume_lifetime) | 1 h, used if neither `expires_in` nor a JWT's `exp` is present |
/// | time between polls | set by the server, between 1 s and 5 min; otherwise 5 s |
///
/// # Example
///
/// ```no_run
/// use tower_auth::AuthLayer;
/// use tower_auth::oauth2::{Client, DeviceAuthorization};
///
/// # async fn example() -> Result<(), tower_auth::Error> {
/// let client = Client::public("https://id.example.com/oauth/token", "my-app")?;
/// let login = DeviceAuthorization::new(client, "https://id.example.com/oauth/device/code")?
///     .scope("offline_access read:things");
///
/// let prompt = login.begin().await?;
/// println!("Open {} and type {}", prompt.verification_uri(), prompt.user_code());
/// let source = login.finish(prompt).await?;
/// let layer = AuthLayer::new(source).only_to(["https://api.example.com"])?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct DeviceAuthorization {
    login: UserLogin,
    device_authorization_at: EndpointUrl,
}

impl DeviceAuthorization {
    /// Creates a login of `client` at the server's device authorization endpoint (RFC 8628 §3.1).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address is invalid or cleartext, or if the
    /// client has no id.
    pub fn new<U>(client: Client, device_authorization_at: U) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        Ok(Self {
            login: UserLogin::new(client, RESERVED)?,
            device_authorization_at: device_authorization_at.try_into()?,
        })
    }

    /// Saves the refresh token in `store`, so that the next run needs no login. Default: in memory.
    #[must_use]
    pub fn store(mut self, store: impl RefreshTokenStore) -> Self {
        self.login.store = Some(Arc::new(store));
        self
    }

    /// Requests a code that the user can log in with (RFC 8628 §3.1). Before the request, this
    /// method checks that the [store](Self::store) can be locked. It doesn't retry the request.
    ///
    /// # Errors
    ///
    /// - [`is_source`](Error::is_source) if the store fails.
    /// - [`is_denied`](Error::is_denied) if the server refuses.
    /// - [`is_reply`](Error::is_reply) if a field of the response is missing or malformed.
    /// - Any other error of a request to the server.
    ///
    /// # Cancel safety
    ///
    /// If the server has already issued a code, nobody can use that code.
    pub async fn begin(&self) -> Result<DevicePrompt, Error> {
        self.login.check_store().await?;
        let requested_at = Instant::now();
        let mut params = Params::default();
        self.login.params.add_to(&mut params);
        let (url, kind) = (
            &self.device_authorization_at,
            EndpointKind::DeviceAuthorization,
        );
        let read = |response: &_, redactor| DevicePrompt::read(response, redactor, requested_at);
        let endpoint = &self.login.client.endpoint;
        endpoint.request_at(url, kind, params, read).await
    }

    /// Waits until the user has logged in, and exchanges the code for tokens (RFC 8628 §3.4). The
    /// refresh token is saved before this method returns.
    ///
    /// The first fetch of the returned source gets the access token of this login. Later fetches
    /// refresh it. If the server issued no refresh token, the store stays unchanged, and the
    /// returned source has only this access token until it expires. After that, [a login is required](Error::is_login_required).
    ///
    /// The server chooses the time between polls. Three events change that time:
    ///
    /// - Each `slow_down` adds 5 s.
    /// - The time doubles after a poll if the server is unreachable or has an error (§3.5).
    /// - A `Retry-After` sets a lower bound.
    ///
    /// The upper bound is 5 min. These three events cause no error before the code expires.
    ///
    /// # Errors
    ///
    /// - [`is_access_denied`](Error::is_access_denied) if the user or the server refused the login.
    /// - [`is_login_required`](Error::is_login_required) if the code expires before the user logs
    ///   in. If the last poll failed, its error is the [source](std::error::Error::source).
    /// - [`is_source`](Error::is_source) if the refresh token can't be saved.
    /// - Any other error of the token endpoint.
    ///
    /// If the response has no usable access token, its refresh token is saved before the error is
    /// returned. A [`RefreshToken::stored`] source can then use the refresh token. In two cases,
    /// this method ignores the error and returns a source that starts with the refresh token:
    ///
    /// - The error is transient.
    /// - There is no store, and the error isn't a refusal by the server.
    ///
    /// After any other error, begin the login again.
    ///
    /// # Cancel safety
    ///
    /// The code is lost, and its tokens may also be lost. Begin the login again.
    pub async fn finish(&self, prompt: DevicePrompt) -> Result<RefreshToken, Error> {
        let (expires_at, mut interval) = (prompt.expires_at(), prompt.interval);
        let mut failed = None;
        loop {
            let next = Instant::now() + interval;
            sleep_until(next.min(expires_at)).await;
            if next >= expires_at {
                return Err(expired(failed));
            }
            let error = match self.poll(&prompt).await {
                Ok(source) => return Ok(source),
                Err(error) => error,
            };
            let Some(change) = IntervalChange::after(&error) else {
                return Err(ended(error));
            };
            let retry_after = error.retry_after().unwrap_or_default();
            failed = matches!(change, IntervalChange::Doubled).then_some(error);
            interval = change.apply(interval).max(retry_after);
            interval = interval.min(MAX_INTERVAL);
        }
    }

    async fn poll(&self, prompt: &DevicePrompt) -> Result<RefreshToken, Error> {
        let mut grant = Params::default();
        grant.push("grant_type", GRANT_TYPE);
        grant.push_secret("device_code", prompt.device_code.expose_secret());
        self.login.exchange(grant).await
    }
}

token_param_setters!(
    DeviceAuthorization,
    (login.params),
    [scope, audience, resource, param, assume_lifetime]
);

/// The effect of a poll without a token on the time until the next poll.
enum IntervalChange {
    /// The user hasn't logged in yet.
    Same,
    /// The server wants fewer polls.
    Longer,
    /// The server is unreachable or has an error.
    Doubled,
}

impl IntervalChange {
    /// Returns the effect of an error, or `None` if polling must end.
    fn after(error: &Error) -> Option<Self> {
        match error.code() {
            Some("authorization_pending") => Some(Self::Same),
            Some("slow_down") => Some(Self::Longer),
            _ if error.is_transient() => Some(Self::Doubled),
            _ => None,
        }
    }

    /// Returns the interval of all later polls (§3.5).
    fn apply(self, interval: Duration) -> Duration {
        match self {
            Self::Same => interval,
            Self::Longer => interval + SLOW_DOWN,
            Self::Doubled => interval * 2,
        }
    }
}

fn ended(error: Error) -> Error {
    match error.code() {
        Some("expired_token") => expired(Some(error)),
        _ => error,
    }
}

fn expired(source: Option<Error>) -> Error {
    let message = "the code expired before the user logged in; begin the login again";
    let error = Error::new(Kind::LoginRequired, message);
    match source {
        Some(source) => error.with_source(source),
        None => error,
    }
}
