//! A managed identity: the identity of a machine, an app or a container on Azure.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use secrecy::ExposeSecret;

use super::arc_key;
use super::expires_on;
use super::identity_service::IdentityService;
use super::metadata_retries::{self, retrying};
use super::resource::Resource;
use super::user_assigned::UserAssigned;
use crate::error::{Error, Kind};
use crate::http_client::bounded_response::EndpointResponse;
use crate::http_client::endpoint_client::{EndpointClient, EndpointRequest};
use crate::http_client::endpoint_url::EndpointUrl;
use crate::http_client::token_response::{ASSUMED_LIFETIME, WantedToken};
use crate::http_client::transport::{DynTransport, Transport};
use crate::origin::Origin;
use crate::platform::environment::Environment;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::header_value::credential_value;
use crate::token::issued_token::Token;
use crate::token::redact::Redactor;

/// Fetches tokens of a managed identity. A local service of Azure issues these tokens, so the
/// program has no secret of its own.
///
/// The environment variables say where the program runs. The first row whose variables are all set
/// counts:
///
/// | variables | product | API version |
/// | --- | --- | --- |
/// | `IDENTITY_ENDPOINT`, `IDENTITY_HEADER` | App Service, Functions, Container Apps, Automation | 2019-08-01 |
/// | `IDENTITY_ENDPOINT`, `IMDS_ENDPOINT` | a server with Azure Arc | 2020-06-01 |
/// | `MSI_ENDPOINT`, `MSI_SECRET` | Machine Learning, and older plans of Functions | 2017-09-01 |
/// | none of these; optionally `AZURE_POD_IDENTITY_AUTHORITY_HOST` | a virtual machine, with its metadata server (IMDS) | 2018-02-01 |
///
/// Service Fabric and Cloud Shell aren't supported; their variables cause an error.
///
/// | setting | default |
/// | --- | --- |
/// | [`client_id`](Self::client_id), [`object_id`](Self::object_id), [`resource_id`](Self::resource_id) | the system-assigned identity |
/// | [`timeout`](Self::timeout) of each request | 10 s |
/// | [`transport`](Self::transport) | a reqwest client (feature `reqwest`), made for the first request |
/// | [`arc_key_folder`](Self::arc_key_folder) | the folder of Azure Arc's agent |
///
/// The token expires at its `expires_on`, or after its `expires_in` if this is earlier. The layer
/// sends the tokens to the origin of the resource, unless you call
/// [`only_to`](crate::AuthLayer::only_to). Many services of Azure have other origins than their
/// resource.
///
/// An address in a variable must be `https`, or `http` on loopback or on a link-local address. A
/// request to such an `http` address goes through no proxy, unless the transport has one.
///
/// # Retries
///
/// The metadata server of virtual machines restarts during updates. After a 404, a 410, a 429, a
/// 5xx or a timeout, the source sends the request again, as Microsoft recommends. It sends up to
/// five retries, after pauses of 2, 4, 8, 16 and 32 s. After a 410, the server is available again
/// within 70 s. So the source sends one more request 72 s after the first. The source therefore
/// raises the cache's [`fetch_timeout`](crate::cache::TokenCacheBuilder::fetch_timeout) to 84 s.
///
/// # Azure Arc
///
/// The agent of Azure Arc requires a proof that the program may read a file. On Linux, the
/// program's user has to be in the group `himds`. The source reads only `.key` files in the agent's
/// own folder. With a user-assigned identity, the agent has to confirm the identity in its response.
///
/// # Sources
///
/// "How to use managed identities for Azure resources on an Azure VM to acquire an access token"
/// (27 February 2025), "Use managed identities for App Service and Azure Functions" (27 March
/// 2025), "Access Azure resources by using managed identity on Azure Arc-enabled servers" (5
/// February 2026), and `azure-identity` 1.27.0 with `msal` 1.39.0 for Python.
///
/// # Example
///
/// ```no_run
/// use tower_auth::AuthLayer;
/// use tower_auth::platform::azure::ManagedIdentity;
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let identity = ManagedIdentity::from_env("https://vault.azure.net")?
///     .client_id("00001111-aaaa-2222-bbbb-3333cccc4444")?;
/// let layer = AuthLayer::new(identity).only_to(["https://reports.vault.azure.net"])?;
/// # Ok(()) }
/// ```
#[doc(alias = "msi")]
#[doc(alias = "imds")]
pub struct ManagedIdentity {
    service: IdentityService,
    resource: Resource,
    user_assigned: Option<UserAssigned>,
    http: EndpointClient,
}

impl ManagedIdentity {
    /// Creates a source from the environment variables of this process. `resource` is the App ID
    /// URI of the API, such as `https://vault.azure.net`. A scope that ends in `/.default` is also
    /// accepted.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the resource is empty, or if the variables are
    /// incomplete, invalid or unsupported. The message names the variable.
    pub fn from_env(resource: impl AsRef<str>) -> Result<Self, Error> {
        Self::of(resource.as_ref(), &Environment::of_process())
    }

    /// Does the same as [`from_env`](Self::from_env), but with the given variables.
    ///
    /// # Errors
    ///
    /// The same as for [`from_env`](Self::from_env).
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::platform::azure::ManagedIdentity;
    ///
    /// let variables = [
    ///     ("IDENTITY_ENDPOINT", "http://localhost:42356/msi/token"),
    ///     ("IDENTITY_HEADER", "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a"),
    /// ];
    /// let identity = ManagedIdentity::from_vars("https://graph.microsoft.com", variables)?;
    ///
    /// let half = ManagedIdentity::from_vars("https://graph.microsoft.com", [variables[0]]);
    /// assert!(half.unwrap_err().to_string().contains("`IDENTITY_HEADER`"));
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    pub fn from_vars<N, V>(
        resource: impl AsRef<str>,
        vars: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, Error>
    where
        N: Into<String>,
        V: Into<String>,
    {
        Self::of(resource.as_ref(), &Environment::of(vars))
    }

    fn of(resource: &str, environment: &Environment) -> Result<Self, Error> {
        let resource = Resource::of(resource)?;
        let (service, url) = IdentityService::detect(environment)?;
        let http = EndpointClient::new(url).named(service.name());
        Ok(Self {
            service,
            resource,
            user_assigned: None,
            http,
        })
    }

    /// Chooses a user-assigned identity by its client id. Call only one of the three setters.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the id is empty, or if an identity is already chosen.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::platform::azure::ManagedIdentity;
    ///
    /// # fn example() -> Result<(), tower_auth::Error> {
    /// let identity = ManagedIdentity::from_env("https://vault.azure.net")?
    ///     .client_id("00001111-aaaa-2222-bbbb-3333cccc4444")?;
    /// # Ok(()) }
    /// ```
    pub fn client_id(self, id: impl Into<String>) -> Result<Self, Error> {
        self.choose(UserAssigned::Client(id.into()))
    }

    /// Chooses a user-assigned identity by its object id, which is also called its principal id.
    /// Call only one of the three setters.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the id is empty, if an identity is already chosen, or if
    /// the source uses `MSI_ENDPOINT`. That endpoint knows only client ids.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::platform::azure::ManagedIdentity;
    ///
    /// # fn example() -> Result<(), tower_auth::Error> {
    /// let identity = ManagedIdentity::from_env("https://vault.azure.net")?
    ///     .object_id("aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb")?;
    /// # Ok(()) }
    /// ```
    pub fn object_id(self, id: impl Into<String>) -> Result<Self, Error> {
        self.choose(UserAssigned::Object(id.into()))
    }

    /// Chooses a user-assigned identity by the id of its Azure resource: `/subscriptions/…`. Call
    /// only one of the three setters.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the id is empty, if an identity is already chosen, or if
    /// the source uses `MSI_ENDPOINT`. That endpoint knows only client ids.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::platform::azure::ManagedIdentity;
    ///
    /// # fn example(identity: &str) -> Result<(), tower_auth::Error> {
    /// let identity = ManagedIdentity::from_env("https://vault.azure.net")?.resource_id(format!(
    ///     "/subscriptions/s/resourceGroups/g/providers/\
    ///      Microsoft.ManagedIdentity/userAssignedIdentities/{identity}"
    /// ))?;
    /// # Ok(()) }
    /// ```
    pub fn resource_id(self, id: impl Into<String>) -> Result<Self, Error> {
        self.choose(UserAssigned::Resource(id.into()))
    }

    fn choose(mut self, identity: UserAssigned) -> Result<Self, Error> {
        let setter = identity.setter();
        if identity.id().is_empty() {
            let message = format!("the id in `{setter}` is empty; leave out the call");
            return Err(Error::new(Kind::Config, message));
        }
        if let Some(chosen) = &self.user_assigned {
            let message = format!(
                "`{}` has already chosen an identity; remove this call or `{setter}`",
                chosen.setter()
            );
            return Err(Error::new(Kind::Config, message));
        }
        self.service.parameter(&identity)?;
        self.user_assigned = Some(identity);
        Ok(self)
    }

    /// Sends requests with this HTTP client. The client should use no proxy for link-local
    /// addresses. Default: reqwest (feature `reqwest`).
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.http.transport = DynTransport::new(transport);
        self
    }

    /// Sets the timeout of each request. Default: 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.http.timeout = timeout;
        self
    }

    /// Sets the folder of the keys of Azure Arc's agent. Default: `/var/opt/azcmagent/tokens` on
    /// Linux, and `%ProgramData%\AzureConnectedMachineAgent\Tokens` on Windows. The source sends a
    /// `.key` file of this folder to the address in `IDENTITY_ENDPOINT`. Has no effect outside of
    /// Azure Arc.
    #[must_use]
    pub fn arc_key_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        if let IdentityService::Arc { keys } = &mut self.service {
            *keys = Some(folder.into());
        }
        self
    }

    /// Returns the endpoint with the parameters of the request.
    fn address(&self) -> Result<EndpointUrl, Error> {
        let base = self.http.url.address_or_issuer();
        let mut query = form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("api-version", self.service.api_version())
            .append_pair("resource", self.resource.as_str());
        if let Some(identity) = &self.user_assigned {
            query.append_pair(self.service.parameter(identity)?, identity.id());
        }
        let mark = if base.contains('?') { '&' } else { '?' };
        EndpointUrl::danger_allow_http(format!("{base}{mark}{}", query.finish()))
    }

    async fn send(
        &self,
        http: &EndpointClient,
        headers: HeaderMap,
    ) -> Result<EndpointResponse, Error> {
        let mut request = EndpointRequest::get();
        request.headers = headers;
        let mut response = http.complete(http.post_partial(request).await?)?;
        // The query contains no secret. If its values were hidden, the service's errors could not
        // name the resource.
        response.sent = Redactor::default();
        Ok(response)
    }

    async fn request(&self, http: &EndpointClient) -> Result<Token, Error> {
        let mut redactor = Redactor::default();
        redactor.hide(self.service.secret().unwrap_or_default());
        let mut headers = self.service.headers();
        let mut response = self.send(http, headers.clone()).await?;
        if let IdentityService::Arc { keys } = &self.service
            && response.status == StatusCode::UNAUTHORIZED
        {
            let key = arc_key::read(&response.headers, keys.as_deref()).await?;
            redactor.hide(key.expose_secret());
            let basic = credential_value(&AUTHORIZATION, "Basic ", &key).map_err(|_| {
                let message = "the key of Azure Arc is empty or has bytes that a header can't \
                               contain";
                Error::new(Kind::Reply, message)
            })?;
            headers.insert(AUTHORIZATION, basic);
            response = self.send(http, headers).await?;
        }
        self.token(&response, redactor)
    }

    fn token(&self, response: &EndpointResponse, redactor: Redactor) -> Result<Token, Error> {
        let mut issued = response.tokens(WantedToken::BEARER, redactor).rest?;
        let fields = response.fields().unwrap_or_default();
        if let (IdentityService::Arc { .. }, Some(identity)) = (&self.service, &self.user_assigned)
        {
            identity.confirm(&fields.body)?;
        }
        if let Some(left) = expires_on::left(response, &fields)? {
            issued = issued.lasting_at_most(left);
        }
        issued.into_token("", ASSUMED_LIFETIME, Token::bearer)
    }

    async fn attempt(&self) -> Result<Token, Error> {
        let mut http = self.http.clone();
        http.url = self.address()?;
        http.within(self.request(&http)).await
    }
}

/// The error on a machine where nothing answers at the metadata server's address.
const NOT_ON_AZURE: &str = "the metadata server of Azure could not be reached, or the connection \
                            broke; check that the program runs on Azure, and that it gets the \
                            variables `IDENTITY_ENDPOINT` and `IDENTITY_HEADER` if the platform \
                            sets them";

impl TokenSource for ManagedIdentity {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        if !matches!(self.service, IdentityService::Metadata) {
            return self.attempt().await;
        }
        match retrying(|| self.attempt()).await {
            Err(error) if error.is_transport() => Err(error.with_message(NOT_ON_AZURE)),
            done => done,
        }
    }

    /// Returns a key only for a user-assigned identity, because each machine has its own
    /// system-assigned identity.
    #[cfg(feature = "fleet")]
    fn store_key(&self) -> Option<StoreKey> {
        let identity = self.user_assigned.as_ref()?;
        let key = StoreKey::new("azure managed identity")
            .with("resource", self.resource.as_str())
            .with(identity.setter(), identity.id());
        Some(key)
    }

    fn origins(&self) -> Vec<Origin> {
        self.resource.origins()
    }

    fn fetch_timeout(&self) -> Option<Duration> {
        // The last retry may take as long as the timeout of a request.
        let last = self.http.timeout.saturating_add(Duration::from_secs(2));
        let is_retried = matches!(self.service, IdentityService::Metadata);
        is_retried.then(|| metadata_retries::LIMIT.saturating_add(last))
    }
}

impl fmt::Debug for ManagedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagedIdentity")
            .field("service", &self.service)
            .field("resource", &self.resource)
            .field("user_assigned", &self.user_assigned)
            .field("http", &self.http)
            .finish()
    }
}
