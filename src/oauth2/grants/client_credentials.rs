//! The client credentials grant (RFC 6749 §4.4): a service asks for a token as itself.

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;

use super::extra_params::Extra;
use crate::error::Error;
use crate::http_client::endpoint_url::EndpointUrl;
use crate::http_client::token_response::ASSUMED_LIFETIME;
use crate::http_client::transport::Transport;
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::client::params::Params;
use crate::oauth2::scope;
use crate::source::secret_source::SecretSource;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::Token;

/// Names that [`ClientCredentials::param`] leaves to the method that sets them.
const RESERVED: [(&str, &str); 4] = [
    ("grant_type", "it is always `client_credentials`"),
    ("scope", "use `.scope(…)`"),
    ("audience", "use `.audience(…)`"),
    ("resource", "use `.resource(…)`"),
];

/// Gets tokens with the client credentials grant (RFC 6749 §4.4): a service, a job or a daemon
/// asks as itself, with its id and secret, or with what else a [`Client`] proves itself with.
///
/// | setting | default |
/// | --- | --- |
/// | client authentication | in the body (`client_secret_post`); [`basic_auth`](Self::basic_auth); others by [`with_client`](Self::with_client) |
/// | body | a form; [`json`](Self::json) |
/// | [`timeout`](Self::timeout) of the whole exchange | 10 s |
/// | [`assume_lifetime`](Self::assume_lifetime) | 1 h, if neither `expires_in` nor a JWT's `exp` says |
///
/// The address is `https`, or `http` to loopback, which is checked at once; [`EndpointUrl`] has the
/// way around it. Redirects are not followed, and an answer longer than 64 KiB is refused. Each
/// fetch is one request: there is no retry here, and no cache.
///
/// The `expires_in` of the answer counts, then the `exp` of a token that is a JWT, then the
/// assumed lifetime. [`Debug`](fmt::Debug) redacts the secret and the values of extra parameters.
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::ClientCredentials;
///
/// # fn example(id: String, secret: String) -> Result<(), tower_auth::Error> {
/// # #[cfg(feature = "reqwest")] {
/// let source = ClientCredentials::new("https://example.auth0.com/oauth/token", id, secret)?
///     .audience("https://api.example.com")
///     .scope("read:reports write:reports");
/// # }
/// # Ok(()) }
/// ```
pub struct ClientCredentials {
    client: Client,
    scope: String,
    audience: String,
    resources: Vec<String>,
    extra: Extra,
    assumed_lifetime: Duration,
}

impl ClientCredentials {
    /// A source that reaches the token endpoint with a [`reqwest`] client of its own: over rustls,
    /// without redirects, and through the proxy that the environment names.
    ///
    /// The url is a `&str`, a `String` or a [`EndpointUrl`]. The secret is a text, or a
    /// [`SecretSource`] that is read for each fetch.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address can't be used or is cleartext, if the id or
    /// the secret is empty, or if no HTTP client can be made, for want of root certificates for
    /// one.
    #[cfg(feature = "reqwest")]
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

    /// A source for a public client (RFC 6749 §2.1), which has an id but no secret.
    ///
    /// RFC 6749 §4.4 leaves this grant to confidential clients; some servers allow it all the
    /// same, and know the caller by its network or its certificate.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    #[cfg(feature = "reqwest")]
    pub fn public<U>(url: U, id: impl Into<String>) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        Client::public(url, id).map(Self::with_client)
    }

    /// As `new`, over an HTTP client of your own.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address can't be used or is cleartext, or if the id
    /// or the secret is empty.
    ///
    /// # Example
    ///
    /// ```
    /// use std::convert::Infallible;
    ///
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Full;
    /// use tower_auth::oauth2::ClientCredentials;
    /// use tower_auth::{Reason, TokenSource};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let server = tower::service_fn(|_request: Request<Full<Bytes>>| async {
    ///     let reply = r#"{"access_token":"issued","token_type":"Bearer","expires_in":3600}"#;
    ///     Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(reply)))
    /// });
    /// let url = "https://id.example.com/token";
    /// let source = ClientCredentials::with_transport(url, "job", "secret", server)?;
    /// assert_eq!(source.fetch(Reason::First).await?.secret(), "issued");
    /// # Ok(()) }
    /// ```
    pub fn with_transport<U>(
        url: U,
        id: impl Into<String>,
        secret: impl Into<SecretSource>,
        transport: impl Transport,
    ) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        Client::with_transport(url, id, secret, transport).map(Self::with_client)
    }

    /// As `public`, over an HTTP client of your own.
    ///
    /// # Errors
    ///
    /// As [`with_transport`](Self::with_transport).
    pub fn public_with_transport<U>(
        url: U,
        id: impl Into<String>,
        transport: impl Transport,
    ) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        Client::public_with_transport(url, id, transport).map(Self::with_client)
    }

    /// A source for a [`Client`] that other grants may share their settings with.
    #[must_use]
    pub fn with_client(client: Client) -> Self {
        Self {
            client,
            scope: String::new(),
            audience: String::new(),
            resources: Vec::new(),
            extra: Extra::default(),
            assumed_lifetime: ASSUMED_LIFETIME,
        }
    }

    /// Asks for a scope (RFC 6749 §3.3): names separated by spaces. Replaces the one set before;
    /// default, and if empty: none, and the server decides.
    #[must_use]
    pub fn scope(self, scope: impl AsRef<str>) -> Self {
        self.scopes([scope])
    }

    /// [`scope`](Self::scope), name by name.
    #[must_use]
    pub fn scopes<I>(mut self, scopes: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.scope = scope::join(scopes);
        self
    }

    /// Names the API that the token is for, as Auth0 wants it. Replaces the one set before;
    /// default, and if empty: none.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = audience.into();
        self
    }

    /// Adds a resource that the token is for (RFC 8707 §2): an absolute URI without a fragment.
    /// Can be called for several.
    #[must_use]
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resources.push(resource.into());
        self
    }

    /// Adds any other parameter. Its value is treated as a secret, for what a server wants on top
    /// may be one.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the name is empty or set already (RFC 6749 §3.2 allows
    /// each once), or is one that the constructor or another method sets: `grant_type`,
    /// `client_id`, `client_secret`, `client_assertion`, `client_assertion_type`, `scope`,
    /// `audience`, `resource`.
    pub fn param(
        mut self,
        name: impl Into<String>,
        value: impl Into<SecretString>,
    ) -> Result<Self, Error> {
        self.extra.add(name.into(), value.into(), &RESERVED)?;
        Ok(self)
    }

    /// As [`Client::basic_auth`].
    #[must_use]
    pub fn basic_auth(mut self) -> Self {
        self.client = self.client.basic_auth();
        self
    }

    /// As [`Client::json`].
    #[must_use]
    pub fn json(mut self) -> Self {
        self.client = self.client.json();
        self
    }

    /// As [`Client::timeout`].
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.client = self.client.timeout(timeout);
        self
    }

    /// Sets the lifetime of a token when neither the server nor, being a JWT, the token itself
    /// says it; default 1 h.
    #[must_use]
    pub fn assume_lifetime(mut self, lifetime: Duration) -> Self {
        self.assumed_lifetime = lifetime;
        self
    }

    fn grant(&self) -> Params<'_> {
        let mut params = Params::default();
        params.push("grant_type", "client_credentials");
        params.push("scope", &self.scope);
        params.push("audience", &self.audience);
        for resource in &self.resources {
            params.push("resource", resource);
        }
        self.extra.add_to(&mut params);
        params
    }
}

impl TokenSource for ClientCredentials {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        let reply = self.client.endpoint.request(self.grant()).await?;
        self.client.token(reply, &self.scope, self.assumed_lifetime)
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
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials")
            .field("client", &self.client)
            .field("scope", &self.scope)
            .field("audience", &self.audience)
            .field("resources", &self.resources)
            .field("extra", &self.extra)
            .field("assumed_lifetime", &self.assumed_lifetime)
            .finish()
    }
}
