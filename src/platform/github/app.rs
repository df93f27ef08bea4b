//! A GitHub App, which has installations in accounts.

use std::fmt;
use std::time::Duration;

use super::app_client::AppClient;
use super::installation::Installation;
use crate::error::{Error, Kind};
use crate::http_client::transport::{DynTransport, Transport};
use crate::source::secret_source::SecretSource;

/// A GitHub App, which makes the sources for its installations.
///
/// | setting | default |
/// | --- | --- |
/// | [`api_url`](Self::api_url) | `https://api.github.com` |
/// | [`timeout`](Self::timeout) of the requests for one token | 10 s |
/// | [`transport`](Self::transport) | the crate's own HTTP client |
///
/// Each request contains a new JWT that the app's private key signs (RS256). The JWT is valid from
/// 60 s before now, because clocks differ, until 9 min after now. GitHub accepts at most 10 min.
///
/// If GitHub refuses the JWT, the app compares this machine's clock with the `Date` of the response.
/// If the difference is more than 30 s, the app sends the request once more, with a JWT for GitHub's
/// time.
///
/// Sources: GitHub, "Generating a JSON Web Token (JWT) for a GitHub App" (REST API version
/// 2022-11-28); `@octokit/auth-app` 8.3.1, which corrects the clock in the same way.
///
/// # Example
///
/// ```
/// use tower_auth::platform::github::App;
/// use tower_auth::{AuthLayer, SecretSource};
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let key = SecretSource::file("/run/secrets/app.pem");
/// let app = App::new("Iv23liExampleClient", key)?;
/// // The token is sent to https://api.github.com only.
/// let layer = AuthLayer::new(app.installation(12_345_678));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct App {
    client: AppClient,
}

impl App {
    /// Creates an app from its client id and its private key. An app id also works. The key is the
    /// PEM file that GitHub generates on the app's page.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the id is empty, or if a fixed string isn't the PEM of an
    /// RSA key.
    pub fn new(
        client_id: impl Into<String>,
        private_key: impl Into<SecretSource>,
    ) -> Result<Self, Error> {
        let id = client_id.into();
        if id.is_empty() {
            let message = "the client id of the GitHub App is empty; copy it from the app's page";
            return Err(Error::new(Kind::Config, message));
        }
        AppClient::new(id, private_key.into()).map(|client| Self { client })
    }

    /// Sets the address of the REST API, for GitHub Enterprise. The address is
    /// `https://HOST/api/v3` on your own server, and `https://api.SUBDOMAIN.ghe.com` with data
    /// residency.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address is invalid or cleartext, or has a query.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::platform::github::App;
    ///
    /// # fn example(key: String) -> Result<(), tower_auth::Error> {
    /// let app = App::new("Iv23liExampleClient", key)?
    ///     .api_url("https://github.example.com/api/v3")?;
    /// # Ok(()) }
    /// ```
    pub fn api_url(mut self, url: impl AsRef<str>) -> Result<Self, Error> {
        self.client.set_api_url(url.as_ref())?;
        Ok(self)
    }

    /// Sets the timeout of the requests for one token. Default: 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.client.http.timeout = timeout;
        self
    }

    /// Sets the client that sends the requests. Default: the same as for
    /// [`Client::transport`](crate::oauth2::Client::transport).
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.client.http.transport = DynTransport::new(transport);
        self
    }

    /// Returns a source for the installation with this id. The id is in the address of the
    /// installation's page, and in the webhooks that GitHub sends.
    #[must_use]
    pub fn installation(&self, id: u64) -> Installation {
        Installation::with_id(self.client.clone(), id)
    }

    /// Returns a source for the installation that has access to a repository: `owner/name`. The
    /// first fetch looks up the installation's id.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the text isn't `owner/name`.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::platform::github::App;
    ///
    /// # fn example(app: App) -> Result<(), tower_auth::Error> {
    /// let source = app
    ///     .installation_of_repository("octo-org/hello-world")?
    ///     .repository("hello-world")
    ///     .permission("contents", "read");
    /// # Ok(()) }
    /// ```
    pub fn installation_of_repository(&self, repository: &str) -> Result<Installation, Error> {
        let wrong = || Error::new(Kind::Config, "the repository isn't `owner/name`");
        let (owner, name) = repository.split_once('/').ok_or_else(wrong)?;
        let (owner, name) = (checked(owner)?, checked(name)?);
        let path = format!("/repos/{owner}/{name}/installation");
        Ok(Installation::at(self.client.clone(), path))
    }

    /// Returns a source for the installation in an organization. The first fetch looks up the
    /// installation's id.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the text isn't the name of an organization.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::platform::github::App;
    ///
    /// # fn example(app: App) -> Result<(), tower_auth::Error> {
    /// let source = app.installation_of_organization("octo-org")?;
    /// # Ok(()) }
    /// ```
    pub fn installation_of_organization(&self, organization: &str) -> Result<Installation, Error> {
        let path = format!("/orgs/{}/installation", checked(organization)?);
        Ok(Installation::at(self.client.clone(), path))
    }

    /// Returns a source for the installation in the account of a person. The first fetch looks up
    /// the installation's id.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the text isn't the name of an account.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::platform::github::App;
    ///
    /// # fn example(app: App) -> Result<(), tower_auth::Error> {
    /// let source = app.installation_of_user("octocat")?;
    /// # Ok(()) }
    /// ```
    pub fn installation_of_user(&self, user: &str) -> Result<Installation, Error> {
        let path = format!("/users/{}/installation", checked(user)?);
        Ok(Installation::at(self.client.clone(), path))
    }
}

/// Returns the name of an account or a repository, if the name has the characters that GitHub
/// allows.
fn checked(name: &str) -> Result<&str, Error> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || !name.bytes().all(is_allowed) || name.bytes().all(|b| b == b'.') {
        let message = "the name of the account or repository isn't a name of GitHub: it may contain \
                       letters, digits, `-`, `_` and `.`";
        return Err(Error::new(Kind::Config, message));
    }
    Ok(name)
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.client.fmt(f)
    }
}
