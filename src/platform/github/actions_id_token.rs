//! The identity of a job in GitHub Actions.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use secrecy::{ExposeSecret, SecretString};

use crate::error::{BoxError, Error, Kind};
use crate::http_client::endpoint_client::{EndpointClient, EndpointRequest};
use crate::http_client::endpoint_kind::EndpointKind;
use crate::http_client::endpoint_url::EndpointUrl;
use crate::http_client::token_response::WantedToken;
use crate::http_client::token_response_format::TokenResponseFormat;
use crate::http_client::transport::{DynTransport, Transport};
use crate::platform::environment::Environment;
use crate::source::secret_source::SecretSource;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::header_value::credential_value;
use crate::token::issued_token::Token;
use crate::token::redact::Redactor;

/// Fetches the ID token (OpenID Connect) of a job in GitHub Actions. The token proves to another
/// service which repository, branch and workflow the job belongs to. Forgejo's Actions have the same
/// interface.
///
/// | setting | default |
/// | --- | --- |
/// | [`audience`](Self::audience) | GitHub's own: the address of the repository's owner |
/// | [`timeout`](Self::timeout) of each request | 10 s |
/// | [`transport`](Self::transport) | the crate's own HTTP client |
///
/// As the source of a layer, this type provides the ID token as a bearer token. As a
/// [`SecretSource`], this type provides a client assertion or the subject of an exchange. A job gets
/// an ID token only if the workflow grants `permissions: id-token: write`.
///
/// Source: GitHub, "OpenID Connect reference" (2026), and `@actions/core` 3.0.0.
///
/// # Example
///
/// The ID token as the client's assertion:
///
/// ```
/// use tower_auth::oauth2::{Client, ClientCredentials};
/// use tower_auth::platform::github::ActionsIdToken;
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let id_token = ActionsIdToken::from_env()?.audience("https://id.example.com");
/// let client = Client::public("https://id.example.com/token", "deploy")?
///     .client_assertion(id_token);
/// let source = ClientCredentials::with_client(client).scope("deploy");
/// # Ok(()) }
/// ```
///
/// The ID token as the subject of an exchange (RFC 8693):
///
/// ```
/// use tower_auth::oauth2::{Client, TokenExchange};
/// use tower_auth::platform::github::ActionsIdToken;
///
/// # fn example(client: Client) -> Result<(), tower_auth::Error> {
/// let id_token = ActionsIdToken::from_env()?.audience("https://sts.example.com");
/// let source = TokenExchange::new(client, id_token)
///     .subject_token_type("urn:ietf:params:oauth:token-type:id_token");
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[doc(alias = "oidc")]
pub struct ActionsIdToken {
    url: String,
    request_token: SecretString,
    audience: Option<String>,
    http: EndpointClient,
}

const URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

const NAME: &str = "GitHub's endpoint for ID tokens";

/// The lifetime of an ID token that isn't a JWT with an `exp`.
const LIFETIME: Duration = Duration::from_secs(5 * 60);

impl ActionsIdToken {
    /// Creates a source from the variables that GitHub sets for the job:
    /// `ACTIONS_ID_TOKEN_REQUEST_URL` and `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if a variable is missing, empty or invalid. The error names
    /// the variable.
    pub fn from_env() -> Result<Self, Error> {
        Self::of(&Environment::of_process())
    }

    /// Does the same as [`from_env`](Self::from_env) with variables from elsewhere.
    ///
    /// # Errors
    ///
    /// The same as for [`from_env`](Self::from_env).
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::platform::github::ActionsIdToken;
    ///
    /// let error = ActionsIdToken::from_vars([("CI", "true")]).unwrap_err();
    /// assert!(error.to_string().contains("`permissions: id-token: write`"));
    /// ```
    pub fn from_vars<N, V>(variables: impl IntoIterator<Item = (N, V)>) -> Result<Self, Error>
    where
        N: Into<String>,
        V: Into<String>,
    {
        Self::of(&Environment::of(variables))
    }

    fn of(environment: &Environment) -> Result<Self, Error> {
        let what = "the ID token of a job in GitHub Actions (grant the job \
                    `permissions: id-token: write`)";
        let url = environment.require(URL, what)?;
        let request_token = SecretString::from(environment.require(REQUEST_TOKEN, what)?);
        credential_value(&AUTHORIZATION, "Bearer ", &request_token).map_err(|_| {
            let message = format!("the environment variable `{REQUEST_TOKEN}` is no token");
            Error::new(Kind::Config, message)
        })?;
        let address = EndpointUrl::secure(&format!("the environment variable `{URL}`"), url)?;
        let mut http = EndpointClient::new(address);
        http.format = TokenResponseFormat::new()
            .access_token_field("/value")?
            .into();
        Ok(Self {
            url: url.to_owned(),
            request_token,
            audience: None,
            http,
        })
    }

    /// Sets the service for which the token is valid (`aud`). Services accept only tokens for their
    /// own audience. Default: GitHub's own, the address of the repository's owner.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Sets the timeout of each request. Default: 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.http.timeout = timeout;
        self
    }

    /// Sets the client that sends the requests. Default: the same as for
    /// [`Client::transport`](crate::oauth2::Client::transport).
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.http.transport = DynTransport::new(transport);
        self
    }

    /// Returns the address of the request. GitHub's address already has a query.
    fn address(&self) -> Result<EndpointUrl, Error> {
        let Some(audience) = &self.audience else {
            return EndpointUrl::try_from(&self.url);
        };
        let separator = if self.url.contains('?') { '&' } else { '?' };
        let audience: String = form_urlencoded::byte_serialize(audience.as_bytes()).collect();
        EndpointUrl::try_from(format!("{}{separator}audience={audience}", self.url))
    }

    async fn token(&self) -> Result<Token, Error> {
        let mut redactor = Redactor::default();
        redactor.hide(self.request_token.expose_secret());
        let authorization = credential_value(&AUTHORIZATION, "Bearer ", &self.request_token)?;
        let mut request = EndpointRequest::get();
        request.headers.insert(AUTHORIZATION, authorization);
        let http = self
            .http
            .to(self.address()?, EndpointKind::Token)
            .named(NAME);
        let issued = http
            .within(async {
                let partial = http.post_partial(request).await?;
                http.tokens(partial, WantedToken::BEARER, redactor).rest
            })
            .await?;
        issued.into_token("", LIFETIME, Token::bearer)
    }
}

impl TokenSource for ActionsIdToken {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        self.token().await
    }
}

/// Fetches a new ID token for each use, such as the assertion of a client.
impl From<ActionsIdToken> for SecretSource {
    fn from(source: ActionsIdToken) -> Self {
        let source = Arc::new(source);
        Self::from_fn(move || {
            let source = Arc::clone(&source);
            async move {
                let token = source.token().await?;
                Ok::<_, BoxError>(SecretString::from(token.secret()))
            }
        })
    }
}

impl fmt::Debug for ActionsIdToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActionsIdToken")
            .field("url", &self.http.url)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}
