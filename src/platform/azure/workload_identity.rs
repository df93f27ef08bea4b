//! A workload identity: Microsoft Entra issues a token in exchange for a pod's Kubernetes token.

use std::time::Duration;

use super::resource::Resource;
use crate::error::{Error, Kind};
use crate::http_client::endpoint_url::{base, secure};
use crate::http_client::transport::Transport;
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::grants::client_credentials::ClientCredentials;
use crate::origin::Origin;
use crate::platform::environment::Environment;
use crate::source::secret_source::SecretSource;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::Token;

/// What the variables are for, in error messages.
const PURPOSE: &str = "a workload identity of Azure";

const PUBLIC_CLOUD: &str = "https://login.microsoftonline.com";

/// Fetches tokens for a pod with Microsoft Entra Workload ID. Kubernetes writes a token of the pod
/// to a file. Microsoft Entra accepts this token as the proof of an app or of a managed identity.
///
/// The webhook of Azure sets these variables in the pod:
///
/// | variable | contents |
/// | --- | --- |
/// | `AZURE_TENANT_ID` | the tenant |
/// | `AZURE_CLIENT_ID` | the client id of the app or of the user-assigned identity |
/// | `AZURE_FEDERATED_TOKEN_FILE` | the file of the pod's token; each fetch reads the file again |
/// | `AZURE_AUTHORITY_HOST` | the address of Microsoft Entra; default: `https://login.microsoftonline.com` |
///
/// The request is a [client credentials grant](crate::oauth2::ClientCredentials) with the pod's
/// token as the client assertion (RFC 7523 §2.2). The layer sends the tokens to the origin of the
/// scope, unless you call [`only_to`](crate::AuthLayer::only_to).
///
/// The proxy for identity bindings (`AZURE_KUBERNETES_TOKEN_PROXY`) isn't supported.
///
/// Sources: "Mutating Admission Webhook" of Azure AD Workload Identity, "Use Microsoft Entra Workload
/// ID with Azure Kubernetes Service", and `azure-identity` 1.27.0 for Python.
///
/// # Example
///
/// ```no_run
/// use tower_auth::AuthLayer;
/// use tower_auth::platform::azure::WorkloadIdentity;
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let identity = WorkloadIdentity::from_env("https://vault.azure.net/.default")?;
/// let layer = AuthLayer::new(identity).only_to(["https://reports.vault.azure.net"])?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct WorkloadIdentity {
    grant: ClientCredentials,
    resource: Resource,
}

impl WorkloadIdentity {
    /// Creates a source from the environment variables of this process. `scope` is a scope of the
    /// API, usually its App ID URI and `/.default`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if a variable is missing, empty or invalid, or if the scope
    /// is empty or contains white space. The message names the variable.
    pub fn from_env(scope: impl AsRef<str>) -> Result<Self, Error> {
        Self::of(scope.as_ref(), &Environment::of_process())
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
    /// use tower_auth::platform::azure::WorkloadIdentity;
    ///
    /// let identity = WorkloadIdentity::from_vars(
    ///     "https://graph.microsoft.com/.default",
    ///     [
    ///         ("AZURE_TENANT_ID", "contoso.onmicrosoft.com"),
    ///         ("AZURE_CLIENT_ID", "00001111-aaaa-2222-bbbb-3333cccc4444"),
    ///         ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/token"),
    ///     ],
    /// )?;
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    pub fn from_vars<N, V>(
        scope: impl AsRef<str>,
        vars: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, Error>
    where
        N: Into<String>,
        V: Into<String>,
    {
        Self::of(scope.as_ref(), &Environment::of(vars))
    }

    fn of(scope: &str, environment: &Environment) -> Result<Self, Error> {
        let resource = Resource::of(scope)?;
        let tenant = environment.require("AZURE_TENANT_ID", PURPOSE)?;
        let id = environment.require("AZURE_CLIENT_ID", PURPOSE)?;
        let file = environment.require("AZURE_FEDERATED_TOKEN_FILE", PURPOSE)?;
        let authority = authority(environment)?;
        check_tenant(tenant)?;
        let url = format!("{authority}/{tenant}/oauth2/v2.0/token");
        let client = Client::public(url, id)?.client_assertion(SecretSource::file(file));
        Ok(Self {
            grant: ClientCredentials::with_client(client).scope(scope),
            resource,
        })
    }

    /// Sends requests with this HTTP client. Default: reqwest (feature `reqwest`).
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.grant = self.grant.transport(transport);
        self
    }

    /// Sets the timeout of each request. Default: 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.grant = self.grant.timeout(timeout);
        self
    }
}

/// Returns the address of Microsoft Entra, without a slash at its end. Like Microsoft's clients,
/// accepts a host without `https://`.
fn authority(environment: &Environment) -> Result<String, Error> {
    const WHAT: &str = "the environment variable `AZURE_AUTHORITY_HOST`";
    let set = environment.get("AZURE_AUTHORITY_HOST");
    let host = base(WHAT, set.unwrap_or(PUBLIC_CLOUD))?;
    let url = match host.contains("://") {
        true => host.to_owned(),
        false => format!("https://{host}"),
    };
    secure(WHAT, &url)?;
    Ok(url)
}

/// Checks a tenant, because it becomes a part of the address. A tenant is a GUID or a domain.
fn check_tenant(tenant: &str) -> Result<(), Error> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    // Excludes `..`, which would remove a part of the path.
    if tenant.bytes().all(is_plain) && !tenant.starts_with('.') {
        return Ok(());
    }
    let message = "the environment variable `AZURE_TENANT_ID` is not a tenant; set it to the \
                   tenant's GUID or domain";
    Err(Error::new(Kind::Config, message))
}

impl TokenSource for WorkloadIdentity {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        self.grant.fetch(reason).await
    }

    #[cfg(feature = "fleet")]
    fn store_key(&self) -> Option<StoreKey> {
        self.grant.store_key()
    }

    fn origins(&self) -> Vec<Origin> {
        self.resource.origins()
    }
}
