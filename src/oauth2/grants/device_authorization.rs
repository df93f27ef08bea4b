//! The device authorization grant (RFC 8628): a person logs in with the browser of another device,
//! for a program that has none.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep_until};

use super::device_prompt::{DevicePrompt, LONGEST_INTERVAL};
use super::refresh_store::RefreshTokenStore;
use super::refresh_token::RefreshToken;
use super::token_params::{Reserved, token_param_setters};
use super::user_login::Login;
use crate::error::{Error, Kind};
use crate::http_client::endpoint_kind::EndpointKind;
use crate::http_client::endpoint_url::EndpointUrl;
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::client::params::Params;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// What is added between polls each time that the server asks for it (RFC 8628 §3.5).
const SLOWER: Duration = Duration::from_secs(5);

/// Names that [`DeviceAuthorization::param`] leaves to whoever sets them.
const RESERVED: Reserved = &[
    ("grant_type", "it belongs to the token request"),
    ("device_code", "the server has it"),
    ("scope", "use `.scope(…)`"),
    ("audience", "use `.audience(…)`"),
    ("resource", "use `.resource(…)`"),
];

/// Has a person log in on another device (RFC 8628), and becomes a [`RefreshToken`] source: for a
/// television, a server that is reached by SSH, a container.
///
/// 1. [`begin`](Self::begin) asks for a [`DevicePrompt`]: show the person its address and its code.
/// 2. [`finish`](Self::finish) asks once in a while whether they have logged in, until they have.
///
/// The next run of the program needs no login: [`RefreshToken::stored`] over the same store.
///
/// | setting | default |
/// | --- | --- |
/// | [`scope`](Self::scope), [`audience`](Self::audience), [`resource`](Self::resource) | none: the server decides |
/// | [`param`](Self::param) of the request that begins the login | none |
/// | [`store`](Self::store) of the refresh token | memory: after a restart there is a login |
/// | [`assume_lifetime`](Self::assume_lifetime) | 1 h, if neither `expires_in` nor a JWT's `exp` says |
/// | time between polls | what the server says, 1 s to 5 min; 5 s if it doesn't say |
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
/// let layer = AuthLayer::new(login.finish(prompt).await?);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct DeviceAuthorization {
    login: Login,
    device_authorization_at: EndpointUrl,
}

impl DeviceAuthorization {
    /// A login of `client` at the server's device authorization endpoint (RFC 8628 §3.1).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address can't be used or is cleartext, or if the
    /// client has no id.
    pub fn new<U>(client: Client, device_authorization_at: U) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        Ok(Self {
            login: Login::new(client, RESERVED)?,
            device_authorization_at: device_authorization_at.try_into()?,
        })
    }

    /// Where the refresh token is kept, so that the next run needs no login. Default: in memory.
    #[must_use]
    pub fn store(mut self, store: impl RefreshTokenStore) -> Self {
        self.login.store = Some(Arc::new(store));
        self
    }

    /// Asks for a code that the person can log in with (RFC 8628 §3.1).
    ///
    /// # Errors
    ///
    /// [`is_denied`](Error::is_denied) if the server refuses, [`is_reply`](Error::is_reply) if it
    /// leaves out or garbles what a person or this program needs, and any other that a request to
    /// the server may bring. It is sent once; there is no retry.
    ///
    /// # Cancel safety
    ///
    /// The server may have made a code that nobody will use.
    pub async fn begin(&self) -> Result<DevicePrompt, Error> {
        let asked = Instant::now();
        let mut params = Params::default();
        self.login.params.add_to(&mut params);
        let endpoint = &self.login.client.endpoint;
        let url = &self.device_authorization_at;
        endpoint
            .ask_at(
                url,
                EndpointKind::DeviceAuthorization,
                params,
                |answer, redactor| DevicePrompt::read(answer, redactor, asked),
            )
            .await
    }

    /// Waits until the person has logged in, and exchanges the code for tokens (RFC 8628 §3.4): a
    /// source that first hands out the access token just issued, and then refreshes. The refresh
    /// token is saved before this returns. Without one, the access token is used until its end, and
    /// then [a login is required](Error::is_login_required); what the store holds is left alone.
    ///
    /// The server is asked as often as it wants, 5 s less often after each `slow_down`, and half as
    /// often after each time that it can't be reached or is in trouble (§3.5). None of that is an
    /// error as long as the code is good.
    ///
    /// # Errors
    ///
    /// [`is_access_denied`](Error::is_access_denied) if the person said no,
    /// [`is_login_required`](Error::is_login_required) if the code is over before they logged in, any
    /// other that the token endpoint may bring, and [`is_source`](Error::is_source) if the refresh
    /// token can't be saved. After any: begin anew.
    ///
    /// # Cancel safety
    ///
    /// The code is gone with it, and so may be the tokens that came for it: begin anew.
    pub async fn finish(&self, prompt: DevicePrompt) -> Result<RefreshToken, Error> {
        let (end, mut interval) = (prompt.end(), prompt.interval);
        loop {
            let next = Instant::now() + interval;
            sleep_until(next.min(end)).await;
            if next >= end {
                return Err(expired());
            }
            let error = match self.poll(&prompt).await {
                Ok(source) => return Ok(source),
                Err(error) => error,
            };
            let Some(wait) = Wait::after(&error) else {
                return Err(ended(error));
            };
            let asked_for = error.retry_after().unwrap_or_default();
            interval = wait.lengthen(interval).max(asked_for);
            interval = interval.min(LONGEST_INTERVAL);
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

/// How a poll that brought nothing changes the time to the next.
enum Wait {
    /// The person hasn't logged in yet.
    AsBefore,
    /// The server wants fewer.
    Slower,
    /// The server can't be reached, or is in trouble.
    Double,
}

impl Wait {
    /// `None`: there is nothing to wait for.
    fn after(error: &Error) -> Option<Self> {
        match error.code() {
            Some("authorization_pending") => Some(Self::AsBefore),
            Some("slow_down") => Some(Self::Slower),
            _ if error.is_transient() => Some(Self::Double),
            _ => None,
        }
    }

    /// For this poll and all after it (§3.5).
    fn lengthen(self, interval: Duration) -> Duration {
        match self {
            Self::AsBefore => interval,
            Self::Slower => interval + SLOWER,
            Self::Double => interval * 2,
        }
    }
}

fn ended(error: Error) -> Error {
    match error.code() {
        Some("expired_token") => expired().with_source(error),
        _ => error,
    }
}

fn expired() -> Error {
    let message = "the code has expired before anybody logged in with it; begin the login anew";
    Error::new(Kind::LoginRequired, message)
}
