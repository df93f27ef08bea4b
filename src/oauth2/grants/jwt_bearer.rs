//! The JWT bearer grant (RFC 7523 §2.1), which exchanges an assertion for an access token.

use secrecy::ExposeSecret;
#[cfg(feature = "fleet")]
use secrecy::SecretString;

use super::token_params::{Reserved, TokenParams, token_param_setters};
use crate::error::Error;
use crate::http_client::token_response::TokenResponse;
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::client::params::Params;
use crate::origin::Origin;
use crate::source::secret_source::SecretSource;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::Token;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Names that [`JwtBearer::param`] rejects.
const RESERVED: Reserved = &[
    ("grant_type", "it is always the grant type of RFC 7523 §2.1"),
    ("assertion", "pass it to the constructor"),
    ("scope", "use `.scope(…)`"),
    ("resource", "use `.resource(…)`"),
];

/// Fetches tokens with an assertion (RFC 7523 §2.1). The assertion is a JWT that names the token's
/// subject. The authorization server must trust the issuer of that JWT. Service accounts use this
/// grant with a `SignedJwt` (feature `jwt`). For each request, `SignedJwt` signs a new JWT with the
/// account's key.
///
/// | setting | default |
/// | --- | --- |
/// | [`scope`](Self::scope), [`resource`](Self::resource) | none |
/// | [`assume_lifetime`](Self::assume_lifetime) | 1 h, used if neither `expires_in` nor a JWT's `exp` is present |
///
/// The source reads the assertion again for each token request. Don't set a parameter on this
/// source if the assertion already contains the parameter, such as Google's `scope`. If the
/// assertion also identifies the client, use `Client::anonymous`.
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::{Client, JwtBearer};
/// use tower_auth::{AuthLayer, SecretSource};
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let client = Client::anonymous("https://id.example.com/token")?;
/// let assertion = SecretSource::file("/var/run/secrets/tokens/id");
/// let source = JwtBearer::new(client, assertion).scope("read");
/// let layer = AuthLayer::new(source).only_to(["https://api.example.com"])?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct JwtBearer {
    client: Client,
    assertion: SecretSource,
    params: TokenParams,
}

impl JwtBearer {
    /// Creates a source that sends `assertion`.
    pub fn new(client: Client, assertion: impl Into<SecretSource>) -> Self {
        Self {
            client,
            assertion: assertion.into(),
            params: TokenParams::new(RESERVED),
        }
    }

    async fn request(&self) -> Result<TokenResponse, Error> {
        let assertion = self.assertion.read().await?;
        let mut params = Params::default();
        params.push("grant_type", GRANT_TYPE);
        params.push_secret("assertion", assertion.expose_secret());
        self.params.add_to(&mut params);
        self.client.endpoint.request_once(params).await
    }
}

token_param_setters!(
    JwtBearer,
    (params),
    [scope, resource, param, assume_lifetime]
);

impl TokenSource for JwtBearer {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        let response = match self.request().await {
            // The second request has a new assertion, because a server may accept an assertion only
            // once.
            Err(error) if error.wants_nonce() => self.request().await?,
            other => other?,
        };
        self.params.token(&self.client, response)
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        self.client.revoke(last).await
    }

    #[cfg(feature = "fleet")]
    fn bind(&self, to: &str, secret: SecretString) -> Result<Token, Error> {
        self.client.bind(to, secret)
    }

    fn origins(&self) -> Vec<Origin> {
        self.params.origins()
    }
}
