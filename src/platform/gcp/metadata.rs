//! The metadata server of Google Cloud, which issues tokens for the service account of a machine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use secrecy::SecretString;
use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::cache::builder::FETCH_TIMEOUT;
use crate::error::{Error, Kind};
use crate::http_client::bounded_response::{EndpointResponse, unusable};
use crate::http_client::endpoint_client::{EndpointClient, EndpointRequest};
use crate::http_client::token_response::{ASSUMED_LIFETIME, WantedToken, server_time};
use crate::http_client::transport::{DynTransport, Transport};
use crate::oauth2::scope;
use crate::origin::{GOOGLE_METADATA, Origin};
use crate::platform::environment::Environment;
use crate::platform::metadata_host;
use crate::source::secret_source::SecretSource;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::Token;
use crate::token::jwt;
use crate::token::redact::Redactor;

/// Fetches tokens from the metadata server of Google Cloud: on Compute Engine, on Cloud Run and in
/// a pod of GKE.
///
/// | setting | default |
/// | --- | --- |
/// | [`scopes`](Self::scopes) | none: the scopes of the machine |
/// | [`id_token`](Self::id_token) | off: an access token |
/// | [`service_account`](Self::service_account) | `default`: the account of the machine |
/// | `GCE_METADATA_HOST` | `metadata.google.internal` |
/// | [`timeout`](Self::timeout) of each try | 3 s |
///
/// - The source sends `Metadata-Flavor: Google`, and rejects an answer without this header. Such an
///   answer comes from something else, such as a proxy.
/// - If the server can't be reached, or answers with 408, 429 or 5xx, the source tries again. Like
///   Google's own client, it makes at most five tries, with pauses of 1, 2, 4 and 8 s. The metadata
///   server of GKE refuses connections in the first seconds of a pod.
/// - The server keeps each token until the last minutes of its lifetime. So the cache refreshes the
///   token in its last 225 s, as Google's client for Go does.
/// - The crate's own transport uses no proxy for the metadata server.
///
/// The tokens have no store key, because each machine has its own identity. To share them in a
/// fleet, set [`Fleet::key`](crate::fleet::Fleet::key).
///
/// Sources: [View and query VM metadata][vm] and [Authenticate workloads][workloads] of Compute
/// Engine; google-auth 2.63.0 for Python (`compute_engine/_metadata.py`) for the tries;
/// golang.org/x/oauth2 0.21.0 for the time of the refresh.
///
/// [vm]: https://cloud.google.com/compute/docs/metadata/querying-metadata
/// [workloads]: https://cloud.google.com/compute/docs/access/authenticate-workloads
///
/// # Example
///
/// ```
/// use tower_auth::AuthLayer;
/// use tower_auth::platform::gcp::Metadata;
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let source = Metadata::from_env()?
///     .scopes(["https://www.googleapis.com/auth/devstorage.read_only"]);
/// let layer = AuthLayer::new(source).only_to(["https://storage.googleapis.com"])?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Metadata {
    /// The origin of the server.
    server: String,
    account: String,
    scope: String,
    audience: Option<String>,
    timeout: Duration,
    tries: u32,
    transport: DynTransport,
}

/// The header that each request needs. In a response, the header shows that the metadata server
/// answered.
const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
const GOOGLE: &str = "Google";

/// The timeout of a try, and the tries of a fetch, as in google-auth 2.63.0.
const TIMEOUT: Duration = Duration::from_secs(3);
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// The sum of the pauses between [`TRIES`] tries.
const ALL_PAUSES: Duration = Duration::from_secs(15);

/// The last part of a token's lifetime, in which the server may issue the next token. The server
/// keeps a token at least until 4 min before its expiry. The other 15 s give the server time to
/// renew it.
const REFRESH_WINDOW: Duration = Duration::from_secs(225);

const VARIABLE: &str = "GCE_METADATA_HOST";
const NAME: &str = "the metadata server";
const REPLY: &str = "the metadata server's reply";

impl Metadata {
    /// Creates a source with the variables of this process: `GCE_METADATA_HOST`, a host or
    /// `host:port`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the variable isn't a host, or if the host could be
    /// another machine: only loopback and link-local addresses and `metadata.google.internal` are
    /// accepted without `https://`.
    pub fn from_env() -> Result<Self, Error> {
        Self::of(&Environment::of_process())
    }

    /// Creates a source with these variables instead of those of this process.
    ///
    /// # Errors
    ///
    /// The same as for [`from_env`](Self::from_env).
    ///
    /// # Example
    ///
    /// An emulator of the metadata server:
    ///
    /// ```
    /// use tower_auth::platform::gcp::Metadata;
    ///
    /// # fn example() -> Result<(), tower_auth::Error> {
    /// let source = Metadata::from_vars([("GCE_METADATA_HOST", "127.0.0.1:8080")])?;
    /// # Ok(()) }
    /// ```
    pub fn from_vars<I, N, V>(variables: I) -> Result<Self, Error>
    where
        I: IntoIterator<Item = (N, V)>,
        N: Into<String>,
        V: Into<String>,
    {
        Self::of(&Environment::of(variables))
    }

    pub(crate) fn of(environment: &Environment) -> Result<Self, Error> {
        Ok(Self {
            server: server(environment.get(VARIABLE).unwrap_or(GOOGLE_METADATA))?,
            account: String::from("default"),
            scope: String::new(),
            audience: None,
            timeout: TIMEOUT,
            tries: TRIES,
            transport: DynTransport::default(),
        })
    }

    /// Requests scopes. By default, the token has the scopes of the machine. A virtual machine gets
    /// no other scopes than its own.
    #[must_use]
    pub fn scopes<I>(mut self, scopes: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.scope = scope::join(scopes);
        self
    }

    /// Fetches ID tokens for this audience instead of access tokens. Cloud Run, Cloud Functions and
    /// Identity-Aware Proxy accept ID tokens. The [scopes](Self::scopes) then have no effect.
    ///
    /// If the audience is an `https` or loopback URL, its origin may receive the tokens
    /// ([`TokenSource::origins`]).
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::AuthLayer;
    /// use tower_auth::platform::gcp::Metadata;
    ///
    /// # fn example() -> Result<(), tower_auth::Error> {
    /// let orders = Metadata::from_env()?.id_token("https://orders-x7a.a.run.app");
    /// let layer = AuthLayer::new(orders);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn id_token(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Chooses one of the service accounts of the machine by its email address. Default: `default`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if this is neither `default` nor an email address.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::platform::gcp::Metadata;
    ///
    /// # fn example() -> Result<(), tower_auth::Error> {
    /// let source = Metadata::from_env()?
    ///     .service_account("reports@project.iam.gserviceaccount.com")?;
    /// # Ok(()) }
    /// ```
    pub fn service_account(mut self, email: impl Into<String>) -> Result<Self, Error> {
        let email = email.into();
        // Other characters could lead to another path of the server.
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._+".contains(&b);
        let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_plain);
        let parts = email.split_once('@');
        if email != "default" && !parts.is_some_and(|(name, at)| is_part(name) && is_part(at)) {
            let message = format!(
                "`{}` is no service account; write its email address, or `default`",
                email.escape_debug()
            );
            return Err(Error::new(Kind::Config, message));
        }
        self.account = email;
        Ok(self)
    }

    /// Sets the timeout of each try, from connecting to the last byte of the response. Default: 3 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends all requests with `transport`, such as your own HTTP client. The transport must not
    /// use a proxy. The default is the same as for
    /// [`oauth2::Client::transport`](crate::oauth2::Client::transport).
    #[must_use]
    pub fn transport(self, transport: impl Transport) -> Self {
        self.with_transport(DynTransport::new(transport))
    }

    pub(crate) fn with_transport(mut self, transport: DynTransport) -> Self {
        self.transport = transport;
        self
    }

    /// Sets how often a fetch tries to reach the server.
    pub(crate) fn with_tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// Returns the origin of the server, for messages.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    fn client(&self) -> Result<EndpointClient, Error> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let kind = match &self.audience {
            None => {
                if !self.scope.is_empty() {
                    query.append_pair("scopes", &self.scope.replace(' ', ","));
                }
                "token"
            }
            Some(audience) => {
                query.append_pair("audience", audience);
                query.append_pair("format", "full");
                "identity"
            }
        };
        let url = format!(
            "{}/computeMetadata/v1/instance/service-accounts/{}/{kind}?{}",
            self.server,
            self.account,
            query.finish()
        );
        let url = metadata_host::checked(NAME, url.trim_end_matches('?'))?;
        let mut http = EndpointClient::new(url).named(NAME);
        http.timeout = self.timeout;
        http.transport = self.transport.clone();
        Ok(http)
    }

    async fn request(&self, http: &EndpointClient) -> Result<Token, Error> {
        let mut request = EndpointRequest::get();
        let flavor = HeaderValue::from_static(GOOGLE);
        request.headers.insert(FLAVOR, flavor);
        let partial = http.post_partial(request).await?;
        check_flavor(&partial.response)?;
        let token = match &self.audience {
            None => {
                let response = http.tokens(partial, WantedToken::BEARER, Redactor::default());
                let response = response.rest?;
                response.into_token("", ASSUMED_LIFETIME, Token::bearer)?
            }
            Some(_) => read_id_token(&http.complete(partial)?)?,
        };
        Ok(token.refresh_within_last(REFRESH_WINDOW))
    }
}

/// Returns the origin of the metadata server. `host` may also have a port, or be an origin.
fn server(host: &str) -> Result<String, Error> {
    let origin = match host.contains("://") {
        true => host.trim_end_matches('/').to_owned(),
        false => format!("http://{host}"),
    };
    let what = format!("the environment variable `{VARIABLE}`");
    if origin.parse::<Origin>().is_err() {
        let message = format!("{what} is no host; write `host` or `host:port`");
        return Err(Error::new(Kind::Config, message));
    }
    metadata_host::checked(&what, &origin)?;
    Ok(origin)
}

fn check_flavor(response: &EndpointResponse) -> Result<(), Error> {
    let flavor = response.headers.get(FLAVOR);
    // A refusal says enough without this header.
    if flavor.is_some_and(|flavor| flavor == GOOGLE) || !response.status.is_success() {
        return Ok(());
    }
    let what = "has no `Metadata-Flavor: Google`, so something else answered; check \
                `GCE_METADATA_HOST`, and whether the program runs on Google Cloud";
    Err(unusable(REPLY, response.status, what))
}

/// Reads an ID token. The body of the response is the bare JWT.
fn read_id_token(response: &EndpointResponse) -> Result<Token, Error> {
    let refused = "the metadata server refused to issue an ID token";
    if let Some(error) = response.refusal(Redactor::default(), refused) {
        return Err(error);
    }
    let body = response.decoded().unwrap_or_default();
    let jwt = str::from_utf8(body).unwrap_or_default().trim();
    let sent_at = server_time(&response.headers);
    let Some(expiry) = jwt::expiry(jwt, response.started, sent_at) else {
        let what = "isn't a JWT with an `exp`";
        return Err(unusable(REPLY, response.status, what));
    };
    Ok(Token::bearer(SecretString::from(jwt))?.with_expiry(expiry))
}

impl TokenSource for Metadata {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        let http = self.client()?;
        let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, false);
        for _ in 1..self.tries {
            match http.within(self.request(&http)).await {
                // If the server says how long to wait, the cache waits.
                Err(error) if error.is_transient() && error.retry_after().is_none() => {
                    sleep(pauses.next()).await;
                }
                result => return result,
            }
        }
        http.within(self.request(&http)).await
    }

    /// Returns the origin of the ID token's audience, if the audience is a URL.
    fn origins(&self) -> Vec<Origin> {
        let audience = self.audience.as_deref();
        audience
            .and_then(Origin::of_secure_url)
            .into_iter()
            .collect()
    }

    fn fetch_timeout(&self) -> Option<Duration> {
        let tries = self.timeout.saturating_mul(self.tries);
        // Leaves time for the last response.
        Some(tries.saturating_add(ALL_PAUSES + Duration::from_secs(5)))
            .filter(|needed| *needed > FETCH_TIMEOUT)
    }
}

/// Reads a secret from the metadata server, such as the ID token that another cloud or Vault
/// accepts as the subject of an exchange or as a client assertion.
impl From<Metadata> for SecretSource {
    fn from(metadata: Metadata) -> Self {
        let metadata = Arc::new(metadata);
        Self::from_fn(move || {
            let metadata = Arc::clone(&metadata);
            async move {
                let token = metadata.fetch(Reason::First).await?;
                Ok(SecretString::from(token.secret()))
            }
        })
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("server", &self.server)
            .field("account", &self.account)
            .field("scope", &self.scope)
            .field("audience", &self.audience)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
