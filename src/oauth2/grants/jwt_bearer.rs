//! The JWT bearer grant (RFC 7523 §2.1): an assertion for an access token.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::extra_params::Extra;
use crate::error::Error;
use crate::http_client::token_response::{ASSUMED_LIFETIME, TokenResponse};
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::client::params::Params;
use crate::oauth2::scope;
use crate::source::secret_source::SecretSource;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::Token;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Names that [`JwtBearer::param`] leaves to whoever sets them.
const RESERVED: [(&str, &str); 4] = [
    ("grant_type", "it is always that of RFC 7523 §2.1"),
    ("assertion", "the constructor takes it"),
    ("scope", "use `.scope(…)`"),
    ("resource", "use `.resource(…)`"),
];

/// Gets tokens with an assertion (RFC 7523 §2.1): a JWT that says for whom they are, signed by
/// somebody who the authorization server trusts. So service accounts log in, with a key of their
/// own and a `SignedJwt` (feature `jwt`), which is signed anew for each request.
///
/// | setting | default |
/// | --- | --- |
/// | [`scope`](Self::scope), [`resource`](Self::resource) | none |
/// | [`assume_lifetime`](Self::assume_lifetime) | 1 h, if neither `expires_in` nor a JWT's `exp` says |
///
/// The assertion is read for each fetch, and each attempt of a flight is one. What is settled in the
/// assertion itself, such as the `scope` of Google's, isn't repeated here; the client of such a
/// server is `Client::anonymous`.
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::{Client, JwtBearer};
/// use tower_auth::{AuthLayer, SecretSource};
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// # #[cfg(feature = "reqwest")] {
/// let client = Client::anonymous("https://id.example.com/token")?;
/// let assertion = SecretSource::file("/var/run/secrets/tokens/id");
/// let layer = AuthLayer::new(JwtBearer::new(client, assertion).scope("read"));
/// # }
/// # Ok(()) }
/// ```
pub struct JwtBearer {
    client: Client,
    assertion: SecretSource,
    scope: String,
    resources: Vec<String>,
    extra: Extra,
    assumed_lifetime: Duration,
}

impl JwtBearer {
    /// A source that asks with this assertion.
    pub fn new(client: Client, assertion: impl Into<SecretSource>) -> Self {
        Self {
            client,
            assertion: assertion.into(),
            scope: String::new(),
            resources: Vec::new(),
            extra: Extra::default(),
            assumed_lifetime: ASSUMED_LIFETIME,
        }
    }

    /// Asks for a scope (RFC 6749 §3.3): names separated by spaces. Replaces the one set before;
    /// default, and if empty: none, and the server decides.
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.scope = scope::join([scope]);
        self
    }

    /// Adds a resource that the token is for (RFC 8707 §2): an absolute URI without a fragment.
    /// Can be called for several.
    #[must_use]
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resources.push(resource.into());
        self
    }

    /// Adds any other parameter. Its value is treated as a secret.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the name is empty or set already, or is one that the
    /// client, the constructor or another method sets.
    pub fn param(
        mut self,
        name: impl Into<String>,
        value: impl Into<SecretString>,
    ) -> Result<Self, Error> {
        self.extra.add(name.into(), value.into(), &RESERVED)?;
        Ok(self)
    }

    /// Sets the lifetime of a token when neither the server nor, being a JWT, the token itself
    /// says it; default 1 h.
    #[must_use]
    pub fn assume_lifetime(mut self, lifetime: Duration) -> Self {
        self.assumed_lifetime = lifetime;
        self
    }

    async fn ask(&self) -> Result<TokenResponse, Error> {
        let assertion = self.assertion.read().await?;
        let mut params = Params::default();
        params.push("grant_type", GRANT_TYPE);
        params.push_secret("assertion", assertion.expose_secret());
        params.push("scope", &self.scope);
        for resource in &self.resources {
            params.push("resource", resource);
        }
        self.extra.add_to(&mut params);
        self.client.endpoint.request_once(params).await
    }
}

impl TokenSource for JwtBearer {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        let reply = match self.ask().await {
            // With another assertion: the server has seen the first.
            Err(error) if error.wants_nonce() => self.ask().await?,
            other => other?,
        };
        self.client.token(reply, &self.scope, self.assumed_lifetime)
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        self.client.revoke(last).await
    }

    #[cfg(feature = "fleet")]
    fn bind(&self, to: &str, secret: SecretString) -> Result<Token, Error> {
        self.client.bind(to, secret)
    }
}

impl fmt::Debug for JwtBearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtBearer")
            .field("client", &self.client)
            .field("assertion", &self.assertion)
            .field("scope", &self.scope)
            .field("resources", &self.resources)
            .field("extra", &self.extra)
            .field("assumed_lifetime", &self.assumed_lifetime)
            .finish()
    }
}
