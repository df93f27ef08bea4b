//! The service account of a pod: a token in a file that the kubelet replaces.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use secrecy::ExposeSecret;

use super::api_server;
use crate::error::Error;
use crate::origin::Origin;
use crate::platform::environment::Environment;
use crate::platform::pod_files;
use crate::source::secret_source::{REREAD_EVERY, SecretSource};
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::Token;
use crate::token::jwt;

/// Reads the token of the pod's service account, for requests to the API server of the cluster.
///
/// | setting | default |
/// | --- | --- |
/// | origin | `https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT` |
/// | [`token_file`](Self::token_file) | `/var/run/secrets/kubernetes.io/serviceaccount/token` |
///
/// The kubelet replaces the token in the file before the token expires. So the source reads the file
/// again every one to three minutes, before the token expires, and after a refusal. If the file can't
/// be read, the last token stays in use for up to five minutes, but never after its `exp`.
///
/// The certificate of the API server comes from the cluster's own certificate authority, whose
/// certificate is in `/var/run/secrets/kubernetes.io/serviceaccount/ca.crt`. The HTTP client below
/// the layer has to trust this authority.
///
/// For an API other than the cluster's, mount a token with that API's audience (a projected volume),
/// and use [`SecretSource::file`].
///
/// Sources: Kubernetes, "Accessing the Kubernetes API from a Pod" and "Managing Service Accounts"
/// (2026); `transport/token_source.go` of client-go, which reads the file every minute.
///
/// # Example
///
/// ```
/// use tower_auth::AuthLayer;
/// use tower_auth::platform::kubernetes::ServiceAccount;
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// // The source names the origin of the API server, so the token goes only to that origin.
/// let layer = AuthLayer::new(ServiceAccount::from_env()?);
/// # Ok(()) }
/// ```
pub struct ServiceAccount {
    token: SecretSource,
    api_server: String,
    origin: Origin,
}

/// How long a token stays in use if the file can't be read.
const KEPT_FOR: Duration = Duration::from_secs(5 * 60);

impl ServiceAccount {
    /// Reads the address of the API server from `KUBERNETES_SERVICE_HOST` and
    /// `KUBERNETES_SERVICE_PORT`, which Kubernetes sets in each pod.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if a variable is missing, empty or invalid. The message names
    /// the variable.
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
    /// use tower_auth::TokenSource;
    /// use tower_auth::platform::kubernetes::ServiceAccount;
    ///
    /// let variables = [
    ///     ("KUBERNETES_SERVICE_HOST", "fd00::1"),
    ///     ("KUBERNETES_SERVICE_PORT", "443"),
    /// ];
    /// let account = ServiceAccount::from_vars(variables)?;
    /// assert_eq!(account.origins()[0].to_string(), "https://[fd00::1]:443");
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    pub fn from_vars<N, V>(variables: impl IntoIterator<Item = (N, V)>) -> Result<Self, Error>
    where
        N: Into<String>,
        V: Into<String>,
    {
        Self::from_environment(&Environment::of(variables))
    }

    pub(super) fn from_environment(environment: &Environment) -> Result<Self, Error> {
        let api_server = api_server::address(environment)?;
        let origin = api_server.parse();
        Ok(Self {
            token: SecretSource::file(pod_files::TOKEN),
            origin: origin.map_err(|error| api_server::unusable(&error))?,
            api_server,
        })
    }

    /// Reads another file, such as a token of a projected volume.
    #[must_use]
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token = SecretSource::file(path);
        self
    }

    /// Returns the address of the API server.
    pub(super) fn api_server(&self) -> &str {
        &self.api_server
    }
}

impl TokenSource for ServiceAccount {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        let secret = self.token.read().await?;
        let exp = jwt::exp(secret.expose_secret());
        let token = Token::bearer(secret)?;
        let ends_soon = exp.filter(|exp| *exp < SystemTime::now() + KEPT_FOR);
        Ok(match ends_soon {
            Some(exp) => token.expires_at(exp),
            None => token.expires_in(KEPT_FOR),
        }
        .refresh_in(REREAD_EVERY))
    }

    /// Returns the origin of the API server.
    fn origins(&self) -> Vec<Origin> {
        vec![self.origin.clone()]
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccount")
            .field("token", &self.token)
            .field("api_server", &self.api_server)
            .finish()
    }
}
