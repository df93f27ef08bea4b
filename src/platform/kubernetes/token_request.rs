//! A token that the API server issues for a service account.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::service_account::ServiceAccount;
use crate::error::{Error, Kind};
use crate::http_client::endpoint_client::{EndpointClient, EndpointRequest};
use crate::http_client::endpoint_url::{EndpointUrl, base};
use crate::http_client::token_response::WantedToken;
use crate::http_client::token_response_format::TokenResponseFormat;
use crate::http_client::transport::{DynTransport, Transport};
use crate::origin::Origin;
use crate::platform::environment::Environment;
use crate::platform::expiry_field;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::source::token_source::{DynTokenSource, Reason, TokenSource};
use crate::token::issued_token::Token;
use crate::token::place::Place;
use crate::token::redact::Redactor;
use crate::token::secret_json;

/// Asks the API server for a token of a service account (`TokenRequest`, `authentication.k8s.io/v1`).
/// The token is for the [audience](Self::audience): another API, a cloud or Vault.
///
/// | setting | default |
/// | --- | --- |
/// | address of the API server, credential | arguments of the constructor; [`from_env`](Self::from_env): those of the pod |
/// | [`audience`](Self::audience) | the audience of the API server itself |
/// | [`lifetime`](Self::lifetime) | 1 h |
/// | [`transport`](Self::transport) | a reqwest client (feature `reqwest`), made for the first request |
/// | [`timeout`](Self::timeout) of the request | 10 s |
///
/// The credential needs the permission to `create` the resource `serviceaccounts/token`. If the API
/// server refuses the credential with a 401, the source fetches another credential once. The token
/// expires at `expirationTimestamp`, because the API server may choose another lifetime.
///
/// The certificate of the API server comes from the cluster's own certificate authority. So the
/// transport has to trust `/var/run/secrets/kubernetes.io/serviceaccount/ca.crt`.
///
/// Sources: Kubernetes API reference, "TokenRequest v1 authentication.k8s.io" (2026);
/// `pkg/apis/authentication/validation` of the API server.
///
/// # Example
///
/// ```
/// use std::fs;
///
/// use tower_auth::AuthLayer;
/// use tower_auth::oauth2::ReqwestTransport;
/// use tower_auth::platform::kubernetes::TokenRequest;
///
/// # fn example() -> Result<(), tower_auth::BoxError> {
/// let authority = fs::read("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")?;
/// let authority = reqwest::Certificate::from_pem(&authority)?;
/// let http = reqwest::Client::builder().tls_certs_only([authority]).build()?;
/// let source = TokenRequest::from_env("prod", "reports")?
///     .audience("https://stock.example.com")
///     .transport(ReqwestTransport::new(http));
/// let layer = AuthLayer::new(source).only_to(["https://stock.example.com"])?;
/// # Ok(()) }
/// ```
pub struct TokenRequest {
    http: EndpointClient,
    credential: Box<dyn DynTokenSource>,
    audiences: Vec<String>,
    lifetime: Duration,
}

const NAME: &str = "the API server";
const ADDRESS: &str = "the address of the API server";

/// The default lifetime, which is also that of a pod's own token.
const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The lifetimes in seconds that the API server accepts.
const SHORTEST: u64 = 10 * 60;
const LONGEST: u64 = 1 << 32;

impl TokenRequest {
    /// Creates a source of tokens for this service account. `credential` authenticates the requests
    /// to the API server. A [`TokenCache`](crate::TokenCache) can share the credential with other
    /// sources.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address is invalid or cleartext, or if a name is empty.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::SecretSource;
    /// use tower_auth::platform::kubernetes::TokenRequest;
    ///
    /// # fn example() -> Result<(), tower_auth::Error> {
    /// let credential = SecretSource::file("/run/secrets/cluster-token");
    /// let source = TokenRequest::new("https://10.0.0.1:6443", "prod", "reports", credential)?
    ///     .audience("https://stock.example.com");
    /// # Ok(()) }
    /// ```
    pub fn new(
        api_server: impl AsRef<str>,
        namespace: impl AsRef<str>,
        service_account: impl AsRef<str>,
        credential: impl TokenSource,
    ) -> Result<Self, Error> {
        let (namespace, account) = (namespace.as_ref(), service_account.as_ref());
        if namespace.is_empty() || account.is_empty() {
            let message = "the namespace or the name of the service account is empty";
            return Err(Error::new(Kind::Config, message));
        }
        let encoded = |name| utf8_percent_encode(name, NON_ALPHANUMERIC);
        let url = format!(
            "{}/api/v1/namespaces/{}/serviceaccounts/{}/token",
            base(ADDRESS, api_server.as_ref())?,
            encoded(namespace),
            encoded(account),
        );
        let mut http = EndpointClient::new(EndpointUrl::secure(ADDRESS, &url)?).named(NAME);
        let format = TokenResponseFormat::new().access_token_field("/status/token")?;
        http.format = Arc::new(format);
        Ok(Self {
            http,
            credential: Box::new(credential),
            audiences: Vec::new(),
            lifetime: LIFETIME,
        })
    }

    /// Creates a source that asks the API server of the pod's cluster, with the token of the pod's
    /// own service account.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if a name is empty, or if `KUBERNETES_SERVICE_HOST` or
    /// `KUBERNETES_SERVICE_PORT` is missing, empty or invalid.
    pub fn from_env(
        namespace: impl AsRef<str>,
        service_account: impl AsRef<str>,
    ) -> Result<Self, Error> {
        let environment = Environment::of_process();
        Self::from_environment(&environment, namespace.as_ref(), service_account.as_ref())
    }

    /// Does the same as [`from_env`](Self::from_env), but reads these variables.
    ///
    /// # Errors
    ///
    /// The same as for [`from_env`](Self::from_env).
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::platform::kubernetes::TokenRequest;
    ///
    /// let half = [("KUBERNETES_SERVICE_HOST", "10.0.0.1")];
    /// let error = TokenRequest::from_vars(half, "prod", "reports").unwrap_err();
    /// assert!(error.to_string().contains("KUBERNETES_SERVICE_PORT"));
    /// ```
    pub fn from_vars<N, V>(
        variables: impl IntoIterator<Item = (N, V)>,
        namespace: impl AsRef<str>,
        service_account: impl AsRef<str>,
    ) -> Result<Self, Error>
    where
        N: Into<String>,
        V: Into<String>,
    {
        let environment = Environment::of(variables);
        Self::from_environment(&environment, namespace.as_ref(), service_account.as_ref())
    }

    fn from_environment(
        environment: &Environment,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, Error> {
        let pod = ServiceAccount::from_environment(environment)?;
        let address = pod.api_server().to_owned();
        Self::new(address, namespace, service_account, pod)
    }

    /// Adds an audience of the token. Call this method again to add more audiences.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Sets the lifetime to request (`expirationSeconds`). Default: 1 h.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the lifetime is shorter than 10 min or longer than 2^32 s,
    /// because the API server refuses such a lifetime.
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_auth::Error;
    /// use tower_auth::platform::kubernetes::TokenRequest;
    ///
    /// fn short(request: TokenRequest) -> Result<TokenRequest, Error> {
    ///     request.lifetime(Duration::from_secs(15 * 60))
    /// }
    /// ```
    pub fn lifetime(mut self, lifetime: Duration) -> Result<Self, Error> {
        if !(SHORTEST..=LONGEST).contains(&lifetime.as_secs()) {
            let message = "the API server issues tokens for at least 10 minutes and at most 2^32 \
                           seconds; set another lifetime";
            return Err(Error::new(Kind::Config, message));
        }
        self.lifetime = lifetime;
        Ok(self)
    }

    /// Sends all requests with `transport`, such as your own HTTP client. The default is the same as
    /// for [`oauth2::Client::transport`](crate::oauth2::Client::transport).
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.http.transport = DynTransport::new(transport);
        self
    }

    /// Sets the timeout of each request, from connecting to the last byte of the response. Default:
    /// 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.http.timeout = timeout;
        self
    }

    async fn request(&self, credential: &Token) -> Result<Token, Error> {
        let mut spec = json!({ "expirationSeconds": self.lifetime.as_secs() });
        if !self.audiences.is_empty() {
            spec["audiences"] = self.audiences.as_slice().into();
        }
        let body = secret_json::encode(&json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": spec,
        }));
        let body = body.map_err(|_| Error::new(Kind::Config, "could not encode the request"))?;
        let mut request = EndpointRequest::json(body);
        let (Place::Header(name), Some(value)) = (credential.place(), credential.header_value())
        else {
            let message = "the credential for the API server doesn't go into a header";
            return Err(Error::new(Kind::Config, message));
        };
        request.headers.insert(name.clone(), value.clone());
        let sent = async {
            let partial = self.http.post_partial(request).await?;
            self.http.complete(partial)
        };
        let response = self.http.within(sent).await?;
        let mut redactor = Redactor::default();
        redactor.hide(credential.secret());
        let issued = response.tokens(WantedToken::BEARER, redactor).rest?;
        let token = issued.into_token("", self.lifetime, Token::bearer)?;
        Ok(
            match expiry_field::read(&response, "/status/expirationTimestamp")? {
                Some(expiry) => token.with_expiry(expiry),
                None => token,
            },
        )
    }
}

impl TokenSource for TokenRequest {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        // The API refused only the issued token. The credential may still be valid.
        let reason = match reason {
            Reason::Refused => Reason::First,
            other => other,
        };
        let credential = self.credential.fetch(reason).await?;
        let refusal = match self.request(&credential).await {
            Err(error) if error.status() == Some(StatusCode::UNAUTHORIZED) => error,
            other => return other,
        };
        let renewed = self.credential.fetch(Reason::Refused).await?;
        match renewed.is_same_credential(&credential) {
            true => Err(refusal),
            false => self.request(&renewed).await,
        }
    }

    /// Closes the source of the credential, but without a token, because this source doesn't keep
    /// the credential.
    async fn close(&self, _last: Option<Token>) -> Result<(), Error> {
        self.credential.close(None).await
    }

    #[cfg(feature = "fleet")]
    fn store_key(&self) -> Option<StoreKey> {
        let key = StoreKey::new("kubernetes token request");
        let key = self.http.url.add_to_key(key);
        let audiences = self.audiences.iter();
        let key = audiences.fold(key, |key, audience| key.with("audience", audience));
        Some(key.with("lifetime", self.lifetime.as_secs().to_string()))
    }

    /// Returns the origin of the API server for a token without another audience.
    fn origins(&self) -> Vec<Origin> {
        let address = self.http.url.address();
        let address = address.filter(|_| self.audiences.is_empty());
        address.and_then(Origin::of_uri).into_iter().collect()
    }

    fn has_one_time_grant(&self) -> bool {
        self.credential.has_one_time_grant()
    }

    fn fetch_timeout(&self) -> Option<Duration> {
        self.credential.fetch_timeout()
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest")
            .field("http", &self.http)
            .field("audiences", &self.audiences)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}
