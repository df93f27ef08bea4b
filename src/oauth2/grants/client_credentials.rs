//! The client credentials grant (RFC 6749 §4.4): a service gets a token for itself.

use std::time::Duration;

#[cfg(feature = "fleet")]
use secrecy::SecretString;

use super::token_params::{Reserved, TokenParams, token_param_setters};
use crate::error::Error;
use crate::http_client::endpoint_url::EndpointUrl;
use crate::http_client::transport::Transport;
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::client::params::Params;
use crate::origin::Origin;
use crate::source::secret_source::SecretSource;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::Token;

/// Names that [`ClientCredentials::param`] rejects.
const RESERVED: Reserved = &[
    ("grant_type", "it is always `client_credentials`"),
    ("scope", "use `.scope(…)`"),
    ("audience", "use `.audience(…)`"),
    ("resource", "use `.resource(…)`"),
];

/// Fetches tokens with the client credentials grant (RFC 6749 §4.4). Use this grant for a service,
/// a job or a daemon that acts for itself. The service authenticates with an id and a secret, or
/// with other [`Client`] authentication.
///
/// | setting | default |
/// | --- | --- |
/// | client authentication | in the body (`client_secret_post`); [`basic_auth`](Self::basic_auth); others by [`with_client`](Self::with_client) |
/// | body | a form; [`json`](Self::json) |
/// | [`timeout`](Self::timeout) of each request | 10 s |
/// | [`assume_lifetime`](Self::assume_lifetime) | 1 h, used if neither `expires_in` nor a JWT's `exp` is present |
///
/// The address must be `https`, or `http` on a loopback host. [`EndpointUrl::danger_allow_http`]
/// allows other `http` addresses. The client doesn't follow redirects, and it rejects a response
/// longer than 64 KiB. Each fetch sends one request: the source doesn't retry or cache.
///
/// A token's lifetime is the first of these values that exists: `expires_in` in the response, the
/// `exp` of a JWT, the assumed lifetime. [`Debug`](std::fmt::Debug) redacts the secret and the
/// values of extra params.
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::ClientCredentials;
///
/// # fn example(id: String, secret: String) -> Result<(), tower_auth::Error> {
/// let source = ClientCredentials::new("https://example.auth0.com/oauth/token", id, secret)?
///     .audience("https://api.example.com")
///     .scope("read:reports write:reports");
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[doc(alias = "client_credentials")]
#[doc(alias = "machine-to-machine")]
pub struct ClientCredentials {
    client: Client,
    params: TokenParams,
}

impl ClientCredentials {
    /// Creates a source for a confidential client. For any other client, use
    /// [`with_client`](Self::with_client).
    ///
    /// The `url` is a `&str`, a `String` or an [`EndpointUrl`]. The secret is a string, or a
    /// [`SecretSource`] that is read for each fetch.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address is invalid or cleartext, or if the id
    /// or the secret is empty.
    pub fn new<U>(
        url: U,
        id: impl Into<String>,
        secret: impl Into<SecretSource>,
    ) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        Client::new(url, id, secret).map(Self::with_client)
    }

    /// Creates a source for a [`Client`]. Other grants can use a clone of the same client.
    ///
    /// RFC 6749 §4.4 allows only confidential clients to use this grant. Some servers also allow
    /// public clients, and identify them by network or certificate.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::SecretSource;
    /// use tower_auth::oauth2::{Client, ClientCredentials};
    ///
    /// let assertion = SecretSource::file("/var/run/secrets/tokens/id");
    /// let client = Client::public("https://id.example.com/token", "job")?
    ///     .client_assertion(assertion);
    /// let source = ClientCredentials::with_client(client).scope("read:reports");
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    #[must_use]
    pub fn with_client(client: Client) -> Self {
        Self {
            client,
            params: TokenParams::new(RESERVED),
        }
    }

    /// Does the same as [`Client::basic_auth`].
    #[must_use]
    pub fn basic_auth(mut self) -> Self {
        self.client = self.client.basic_auth();
        self
    }

    /// Does the same as [`Client::json`].
    #[must_use]
    pub fn json(mut self) -> Self {
        self.client = self.client.json();
        self
    }

    /// Does the same as [`Client::transport`].
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.client = self.client.transport(transport);
        self
    }

    /// Does the same as [`Client::timeout`].
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.client = self.client.timeout(timeout);
        self
    }

    fn grant(&self) -> Params<'_> {
        let mut params = Params::default();
        params.push("grant_type", "client_credentials");
        self.params.add_to(&mut params);
        params
    }
}

token_param_setters!(
    ClientCredentials,
    (params),
    [scope, scopes, audience, resource, param, assume_lifetime]
);

impl TokenSource for ClientCredentials {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        let response = self.client.endpoint.request(self.grant()).await?;
        self.params.token(&self.client, response)
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        self.client.revoke(last).await
    }

    #[cfg(feature = "fleet")]
    fn store_key(&self) -> Option<StoreKey> {
        Some(self.client.store_key(&self.grant()))
    }

    #[cfg(feature = "fleet")]
    fn bind(&self, to: &str, secret: SecretString) -> Result<Token, Error> {
        self.client.bind(to, secret)
    }

    fn origins(&self) -> Vec<Origin> {
        self.params.origins()
    }
}
