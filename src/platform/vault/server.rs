//! The server: its address, its namespace and its requests.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::error::{Error, Kind};
use crate::http_client::bounded_response::EndpointResponse;
use crate::http_client::endpoint_client::{EndpointClient, EndpointRequest};
use crate::http_client::endpoint_kind::EndpointKind;
use crate::http_client::endpoint_url::EndpointUrl;
use crate::http_client::token_response_format::TokenResponseFormat;
use crate::http_client::transport::{DynTransport, Transport};
use crate::origin::Origin;
use crate::platform::environment::Environment;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::token::issued_token::Token;

/// The header of a token.
pub(super) const X_VAULT_TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const X_VAULT_NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// A Vault Agent may require this header, as a protection against forged requests.
const X_VAULT_REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

const NAME: &str = "the Vault server";

/// A server of HashiCorp Vault or OpenBao.
///
/// | setting | default |
/// | --- | --- |
/// | address | an argument of the constructor; [`from_env`](Self::from_env) reads `BAO_ADDR` or `VAULT_ADDR` |
/// | [`namespace`](Self::namespace) | the root namespace; `from_env` reads `BAO_NAMESPACE` or `VAULT_NAMESPACE` |
/// | [`transport`](Self::transport) | a reqwest client (feature `reqwest`), made for the first request |
/// | [`timeout`](Self::timeout) of each request | 10 s |
///
/// The address is `https`, or `http` on loopback, where a Vault Agent listens.
/// [`EndpointUrl::danger_allow_http`](crate::oauth2::EndpointUrl::danger_allow_http) allows other
/// `http` addresses. Redirects are not followed, so pass the address of the active server or of a
/// load balancer. The variables `VAULT_CACERT` and `VAULT_SKIP_VERIFY` have no effect: for a server
/// with a private certificate authority, set a transport.
///
/// # Example
///
/// ```
/// use tower_auth::platform::vault::Server;
///
/// let server = Server::new("https://vault.example.com:8200")?.namespace("teams/reports")?;
/// # Ok::<(), tower_auth::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Server {
    http: EndpointClient,
    /// The address, without a slash at its end.
    address: String,
    namespace: Option<(String, HeaderValue)>,
}

impl Server {
    /// Creates a server at this address, such as `https://vault.example.com:8200`. The address may
    /// have a path, for a server behind a proxy.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address is invalid or cleartext, or has a query.
    pub fn new<U>(address: U) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        let url: EndpointUrl = address.try_into()?;
        let Some(uri) = url.address().filter(|uri| uri.query().is_none()) else {
            let message = "the address of the Vault server is an issuer or has a query; pass an \
                           address such as `https://vault.example.com:8200`";
            return Err(Error::new(Kind::Config, message));
        };
        let address = uri.to_string().trim_end_matches('/').to_owned();
        let mut http = EndpointClient::new(url).named(NAME);
        let format = TokenResponseFormat::new().access_token_field("/auth/client_token")?;
        http.format = Arc::new(format);
        Ok(Self {
            http,
            address,
            namespace: None,
        })
    }

    /// Reads the address and the namespace from the environment: `BAO_ADDR` and `BAO_NAMESPACE`, or
    /// else `VAULT_ADDR` and `VAULT_NAMESPACE`. An empty variable counts as missing.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if there is no address, or if a variable is invalid. The
    /// message names the variable.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::SecretSource;
    /// use tower_auth::platform::vault::{Login, Server};
    ///
    /// # fn example() -> Result<(), tower_auth::Error> {
    /// let secret_id = SecretSource::file("/run/secrets/secret-id");
    /// let login = Login::app_role(Server::from_env()?, "role-id", secret_id);
    /// # Ok(()) }
    /// ```
    pub fn from_env() -> Result<Self, Error> {
        Self::from_environment(&Environment::of_process())
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
    /// use tower_auth::platform::vault::Server;
    ///
    /// let error = Server::from_vars(std::iter::empty::<(&str, &str)>()).unwrap_err();
    /// assert!(error.is_config() && error.to_string().contains("VAULT_ADDR"));
    /// ```
    pub fn from_vars<N, V>(variables: impl IntoIterator<Item = (N, V)>) -> Result<Self, Error>
    where
        N: Into<String>,
        V: Into<String>,
    {
        Self::from_environment(&Environment::of(variables))
    }

    fn from_environment(environment: &Environment) -> Result<Self, Error> {
        let either = |bao: &'static str, vault: &'static str| {
            [bao, vault]
                .into_iter()
                .find_map(|name| Some((name, environment.get(name)?)))
        };
        let Some((name, address)) = either("BAO_ADDR", "VAULT_ADDR") else {
            let message = "the environment variables `VAULT_ADDR` and `BAO_ADDR` are not set or \
                           are empty; set one of them to the address of the Vault server";
            return Err(Error::new(Kind::Config, message));
        };
        let wrong = |name, error| {
            let message = format!("the environment variable `{name}` is unusable: {error}");
            Error::new(Kind::Config, message)
        };
        let server = Self::new(address).map_err(|error| wrong(name, error))?;
        match either("BAO_NAMESPACE", "VAULT_NAMESPACE") {
            None => Ok(server),
            Some((name, namespace)) => server
                .namespace(namespace)
                .map_err(|error| wrong(name, error)),
        }
    }

    /// Sets the namespace of the login (`X-Vault-Namespace`). Slashes separate nested namespaces.
    ///
    /// The layer doesn't add the namespace to your own requests: set the header there, or put the
    /// namespace into the path (`/v1/teams/reports/secret/data/key`).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the text can't be in a header.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Result<Self, Error> {
        let namespace: String = namespace.into();
        let namespace = namespace.trim_matches('/').to_owned();
        self.namespace = match HeaderValue::try_from(&namespace) {
            Ok(_) if namespace.is_empty() => None,
            Ok(value) => Some((namespace, value)),
            Err(error) => {
                let message = "the namespace contains characters that a header may not contain";
                return Err(Error::new(Kind::Config, message).with_source(error));
            }
        };
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

    pub(super) fn origin(&self) -> Option<Origin> {
        Origin::of_uri(self.http.url.address()?)
    }

    #[cfg(feature = "fleet")]
    pub(super) fn add_to_key(&self, key: StoreKey) -> StoreKey {
        let namespace = self.namespace.as_ref();
        key.with("server", &self.address)
            .with("namespace", namespace.map_or("", |(name, _)| name))
    }

    fn at(&self, path: &str) -> Result<EndpointClient, Error> {
        let url = EndpointUrl::danger_allow_http(format!("{}/v1/{path}", self.address))?;
        Ok(self.http.to(url, EndpointKind::Token).named(NAME))
    }

    /// Sends a GET to this path, or a POST if there is a body.
    pub(super) async fn send(
        &self,
        path: &str,
        token: Option<&Token>,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<EndpointResponse, Error> {
        let mut request = match body {
            Some(body) => EndpointRequest::json(body),
            None => EndpointRequest::get(),
        };
        let headers = &mut request.headers;
        headers.insert(X_VAULT_REQUEST, HeaderValue::from_static("true"));
        if let Some((_, namespace)) = &self.namespace {
            headers.insert(X_VAULT_NAMESPACE, namespace.clone());
        }
        if let Some(value) = token.and_then(Token::header_value) {
            headers.insert(X_VAULT_TOKEN, value.clone());
        }
        let client = self.at(path)?;
        let sent = async { client.complete(client.post_partial(request).await?) };
        client.within(sent).await
    }
}

/// Makes an error transient if its status means that another attempt may succeed.
///
/// - 412: the server doesn't have the newest data yet.
/// - 472 and 473: the server is a standby.
///
/// Source: HashiCorp Vault, HTTP API, "HTTP status codes" (2026).
pub(super) fn judged(error: Error) -> Error {
    match error.status().map(|status| status.as_u16()) {
        Some(412 | 472 | 473) => error.passing(),
        _ => error,
    }
}
