//! The client credentials grant (RFC 6749 §4.4): a service asks for a token as itself.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::client_auth::ClientAuth;
use super::endpoint::TokenEndpoint;
use super::params::{Format, Params};
use super::transport::{DynTransport, Transport};
use super::url::TokenUrl;
use crate::error::{Error, Kind};
use crate::secret::SecretSource;
use crate::source::{Reason, TokenSource};
use crate::token::Token;

/// What is assumed of a token when neither the server nor the token itself says how long it
/// lasts: the lifetime in RFC 6749's own examples (§5.1), and what most servers issue.
const ASSUMED_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Names that [`ClientCredentials::param`] leaves to the method that sets them.
const RESERVED: [(&str, &str); 8] = [
    ("grant_type", "it is always `client_credentials`"),
    ("client_id", "the constructor takes it"),
    ("client_secret", "the constructor takes it"),
    (
        "client_assertion",
        "the client authenticates with its secret",
    ),
    (
        "client_assertion_type",
        "the client authenticates with its secret",
    ),
    ("scope", "use `.scope(…)`"),
    ("audience", "use `.audience(…)`"),
    ("resource", "use `.resource(…)`"),
];

/// Gets tokens with the client credentials grant (RFC 6749 §4.4): a service, a job or a daemon
/// asks as itself, with its id and secret.
///
/// | setting | default |
/// | --- | --- |
/// | client authentication | in the body (`client_secret_post`); [`basic_auth`](Self::basic_auth) |
/// | body | a form; [`json`](Self::json) |
/// | [`timeout`](Self::timeout) of the whole exchange | 10 s |
/// | [`assume_lifetime`](Self::assume_lifetime) | 1 h, if neither `expires_in` nor a JWT's `exp` says |
///
/// The address is `https`, or `http` to loopback, which is checked at once; [`TokenUrl`] has the
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
    endpoint: TokenEndpoint,
    scope: String,
    audience: String,
    resources: Vec<String>,
    extra: Vec<(String, SecretString)>,
    assumed_lifetime: Duration,
}

impl ClientCredentials {
    /// A source that reaches the token endpoint with a [`reqwest`] client of its own: over rustls,
    /// without redirects, and through the proxy that the environment names.
    ///
    /// The url is a `&str`, a `String` or a [`TokenUrl`]. The secret is a text, or a
    /// [`SecretSource`] that is read for each fetch.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address can't be used or is cleartext, if the id or
    /// the secret is empty, or if no HTTP client can be made, for want of root certificates for
    /// one.
    #[cfg(feature = "reqwest")]
    #[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
    pub fn new<U>(
        url: U,
        id: impl Into<String>,
        secret: impl Into<SecretSource>,
    ) -> Result<Self, Error>
    where
        U: TryInto<TokenUrl>,
        Error: From<U::Error>,
    {
        let client = ClientAuth::confidential(id.into(), secret.into())?;
        Ok(Self::build(
            url.try_into()?,
            client,
            DynTransport::reqwest()?,
        ))
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
    #[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
    pub fn public<U>(url: U, id: impl Into<String>) -> Result<Self, Error>
    where
        U: TryInto<TokenUrl>,
        Error: From<U::Error>,
    {
        let client = ClientAuth::public(id.into())?;
        Ok(Self::build(
            url.try_into()?,
            client,
            DynTransport::reqwest()?,
        ))
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
        U: TryInto<TokenUrl>,
        Error: From<U::Error>,
    {
        let client = ClientAuth::confidential(id.into(), secret.into())?;
        Ok(Self::build(
            url.try_into()?,
            client,
            DynTransport::new(transport),
        ))
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
        U: TryInto<TokenUrl>,
        Error: From<U::Error>,
    {
        let client = ClientAuth::public(id.into())?;
        Ok(Self::build(
            url.try_into()?,
            client,
            DynTransport::new(transport),
        ))
    }

    fn build(url: TokenUrl, client: ClientAuth, transport: DynTransport) -> Self {
        Self {
            endpoint: TokenEndpoint::new(url, client, transport),
            scope: String::new(),
            audience: String::new(),
            resources: Vec::new(),
            extra: Vec::new(),
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
        self.scope.clear();
        for scope in scopes {
            for name in scope.as_ref().split_whitespace() {
                if !self.scope.is_empty() {
                    self.scope.push(' ');
                }
                self.scope.push_str(name);
            }
        }
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
        let name = name.into();
        let wrong = |why: &str| {
            let message = format!(
                "the parameter `{}` can't be added: {why}",
                name.escape_debug()
            );
            Err(Error::new(Kind::Config, message))
        };
        if name.is_empty() {
            return wrong("it has no name");
        }
        if let Some((_, instead)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
            return wrong(instead);
        }
        if self.extra.iter().any(|(taken, _)| *taken == name) {
            return wrong("it is set already");
        }
        self.extra.push((name, value.into()));
        Ok(self)
    }

    /// Sends id and secret as basic authentication (`client_secret_basic`, RFC 6749 §2.3.1)
    /// instead of in the body. A public client has an empty password.
    ///
    /// Every server must support this, yet many allow a client only the one method it was
    /// registered for. Auth0 registers for the body unless told otherwise, so that is the default.
    #[must_use]
    pub fn basic_auth(mut self) -> Self {
        self.endpoint.client.use_basic();
        self
    }

    /// Sends the parameters as a JSON object instead of a form, for servers such as Auth0 that
    /// take it. No RFC has this.
    #[must_use]
    pub fn json(mut self) -> Self {
        self.endpoint.format = Format::Json;
        self
    }

    /// Bounds the whole exchange, from connecting to the last byte of the answer; default 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.endpoint.timeout = timeout;
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
        for (name, value) in &self.extra {
            params.push_secret(name, value.expose_secret());
        }
        params
    }
}

impl TokenSource for ClientCredentials {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        let reply = self.endpoint.request(self.grant()).await?;
        let requested = Some(self.scope.as_str()).filter(|scope| !scope.is_empty());
        reply.into_token(requested, self.assumed_lifetime)
    }
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.extra.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ClientCredentials")
            .field("endpoint", &self.endpoint)
            .field("scope", &self.scope)
            .field("audience", &self.audience)
            .field("resources", &self.resources)
            .field("extra", &names)
            .field("assumed_lifetime", &self.assumed_lifetime)
            .finish()
    }
}
