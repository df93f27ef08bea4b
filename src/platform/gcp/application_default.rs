//! Application Default Credentials: the identity that Google's own clients find.

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::credentials::Credentials;
use super::credentials_file::{CredentialsFile, FilePlaces, Lookup};
use super::file_settings::FileSettings;
use super::metadata::Metadata;
use super::universe::Universe;
use crate::error::{Error, Kind};
use crate::http_client::transport::{DynTransport, Transport};
use crate::oauth2::scope;
use crate::platform::environment::Environment;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::Token;

/// Fetches tokens of the identity that Google's own clients find: Application Default Credentials.
///
/// The source uses the first of these places:
///
/// 1. the file that `GOOGLE_APPLICATION_CREDENTIALS` names
/// 2. the file that `gcloud auth application-default login` writes:
///    `application_default_credentials.json` in `$CLOUDSDK_CONFIG`, in `~/.config/gcloud`, or on
///    Windows in `%APPDATA%\gcloud`
/// 3. the [metadata server](Metadata) of a machine, a service or a pod on Google Cloud, unless
///    `NO_GCE_CHECK` is `true`
///
/// If no place has an identity, the error says why each place has none.
///
/// | `type` of the file | identity |
/// | --- | --- |
/// | `service_account` | a key of a service account, which signs an assertion (RFC 7523) |
/// | `authorized_user` | a person's login, with a refresh token |
/// | `impersonated_service_account` | a service account that the file's `source_credentials` may impersonate |
/// | `external_account` | another provider's token (RFC 8693), from a file, a URL or a program; then perhaps a service account |
///
/// | setting | default |
/// | --- | --- |
/// | [`scopes`](Self::scopes) | `https://www.googleapis.com/auth/cloud-platform`; for the metadata server, the scopes of the machine |
/// | [`universe_domain`](Self::universe_domain) | `GOOGLE_CLOUD_UNIVERSE_DOMAIN`, or else `googleapis.com` |
/// | [`pass_env`](Self::pass_env) | a program gets no variables of this process except `PATH` and `HOME` |
/// | [`timeout`](Self::timeout) of each request | 10 s; 3 s for the metadata server |
///
/// - **Each fetch reads the file again.** So you can replace the file while the program runs.
/// - **The addresses in a file are checked.** They must be `https`, and in the universe's domain.
///   Otherwise, the author of the file could send your secrets to any server. Google's clients don't
///   check these addresses, but Google's documentation asks you to check them. The URL of another
///   provider's token may be any `https` address, or `http` on loopback and link-local addresses.
/// - **A program that a file names** runs only if `GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES` is
///   `1`. It runs without a shell. Quotes keep white space within an argument.
/// - Credentials of AWS (`environment_id`), client certificates and other types of files aren't
///   supported. The error says so.
/// - If one account impersonates another, the source also caches the token of the first account.
/// - Google charges the requests of a person to a quota project, which the request's header
///   `x-goog-user-project` names. [`quota_project`](Self::quota_project) returns the project.
///
/// The tokens have no store key, because another process may find another identity. To share them in
/// a fleet, set [`Fleet::key`](crate::fleet::Fleet::key).
///
/// Sources: [How Application Default Credentials works][adc], [Security requirements for credential
/// configurations][external], AIP-4110 to AIP-4117, and google-auth 2.63.0 for Python.
///
/// [adc]: https://cloud.google.com/docs/authentication/application-default-credentials
/// [external]: https://cloud.google.com/docs/authentication/external/externally-sourced-credentials
///
/// # Example
///
/// ```
/// use tower_auth::AuthLayer;
/// use tower_auth::platform::gcp::ApplicationDefault;
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let source = ApplicationDefault::from_env()?;
/// let layer = AuthLayer::new(source).only_to(["https://storage.googleapis.com"])?;
/// # Ok(()) }
/// ```
pub struct ApplicationDefault {
    places: FilePlaces,
    settings: FileSettings,
    metadata: Option<Metadata>,
    quota_project: Option<String>,
    /// The credentials of the last fetch.
    last: Mutex<Option<ReadCredentials>>,
}

/// The credentials, and the text that they were read from.
struct ReadCredentials {
    text: SecretString,
    credentials: Arc<Credentials>,
}

/// How often a fetch tries to reach the metadata server, as google-auth 2.63.0 does when it looks
/// for the server. Outside of Google Cloud, no server answers.
const METADATA_TRIES: u32 = 3;

const UNIVERSE_VARIABLE: &str = "GOOGLE_CLOUD_UNIVERSE_DOMAIN";

impl ApplicationDefault {
    /// Creates a source with the variables of this process. The files are read at the first fetch.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if `GCE_METADATA_HOST` or `GOOGLE_CLOUD_UNIVERSE_DOMAIN` has
    /// an invalid value.
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
    /// A file at a path of your choice:
    ///
    /// ```
    /// use tower_auth::platform::gcp::ApplicationDefault;
    ///
    /// # fn example() -> Result<(), tower_auth::Error> {
    /// let path = "/etc/reports/google.json";
    /// let source = ApplicationDefault::from_vars([("GOOGLE_APPLICATION_CREDENTIALS", path)])?;
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

    fn of(environment: &Environment) -> Result<Self, Error> {
        let mut settings = FileSettings {
            allows_executables: environment.get("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES")
                == Some("1"),
            ..FileSettings::default()
        };
        if let Some(domain) = environment.get(UNIVERSE_VARIABLE) {
            let what = format!("the environment variable `{UNIVERSE_VARIABLE}`");
            settings.universe = Universe::new(&what, domain)?;
        }
        let metadata = Metadata::of(environment)?.with_tries(METADATA_TRIES);
        let has_no_server = environment.get("NO_GCE_CHECK") == Some("true");
        let quota_project = environment.get("GOOGLE_CLOUD_QUOTA_PROJECT");
        Ok(Self {
            places: FilePlaces::of(environment),
            settings,
            metadata: Some(metadata).filter(|_| !has_no_server),
            quota_project: quota_project.map(str::to_owned),
            last: Mutex::default(),
        })
    }

    /// Requests scopes. A person's token always has the scopes of the person's login, as in Google's
    /// own clients.
    #[must_use]
    pub fn scopes<I>(mut self, scopes: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.settings.scope = scope::join(scopes);
        let scope = &self.settings.scope;
        self.metadata = self.metadata.map(|metadata| metadata.scopes([scope]));
        self
    }

    /// Sets the domain of the APIs. The addresses in a file must be in this domain. For Google's
    /// sovereign clouds, set another domain than `googleapis.com`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if `domain` isn't a valid domain.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::platform::gcp::ApplicationDefault;
    ///
    /// # fn example() -> Result<(), tower_auth::Error> {
    /// let source = ApplicationDefault::from_env()?.universe_domain("s3nsapis.fr")?;
    /// # Ok(()) }
    /// ```
    pub fn universe_domain(mut self, domain: impl AsRef<str>) -> Result<Self, Error> {
        self.settings.universe = Universe::new("the universe domain", domain.as_ref())?;
        Ok(self)
    }

    /// Passes variables of this process to the program that a file names. A variable that isn't set
    /// is skipped.
    #[must_use]
    pub fn pass_env<I>(mut self, names: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.settings
            .passed
            .extend(names.into_iter().map(Into::into));
        self
    }

    /// Sets the timeout of each request to Google's servers and to the server of another provider's
    /// token. Default: 10 s. The metadata server keeps its 3 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Sends all requests with `transport`, such as your own HTTP client. The default is the same as
    /// for [`oauth2::Client::transport`](crate::oauth2::Client::transport).
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        let transport = DynTransport::new(transport);
        self.settings.transport = transport.clone();
        self.metadata = self
            .metadata
            .map(|metadata| metadata.with_transport(transport));
        self
    }

    /// Returns the project to which Google charges the requests: `GOOGLE_CLOUD_QUOTA_PROJECT`, or
    /// else `quota_project_id` of the file. Send the project in the header `x-goog-user-project` of
    /// your own requests. Most APIs refuse a person's token without this header.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the file can't be read.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Example
    ///
    /// ```
    /// use http::{HeaderMap, HeaderValue};
    /// use tower_auth::BoxError;
    /// use tower_auth::platform::gcp::ApplicationDefault;
    ///
    /// async fn headers(source: &ApplicationDefault) -> Result<HeaderMap, BoxError> {
    ///     let mut headers = HeaderMap::new();
    ///     if let Some(project) = source.quota_project().await? {
    ///         headers.insert("x-goog-user-project", HeaderValue::try_from(project)?);
    ///     }
    ///     Ok(headers)
    /// }
    /// ```
    pub async fn quota_project(&self) -> Result<Option<String>, Error> {
        if self.quota_project.is_some() {
            return Ok(self.quota_project.clone());
        }
        let Lookup::Found(file) = self.places.look().await? else {
            return Ok(None);
        };
        let value = file.parse()?;
        let project = file.fields(&value).text("quota_project_id")?;
        Ok(project.map(str::to_owned))
    }

    /// Returns the credentials of the file. Keeps those of the last fetch if the file has the same
    /// text, because their caches contain tokens.
    async fn credentials(&self, file: CredentialsFile) -> Result<Arc<Credentials>, Error> {
        let mut last = self.last.lock().await;
        if let Some(last) = &*last
            && last.text.expose_secret() == file.text.expose_secret()
        {
            return Ok(Arc::clone(&last.credentials));
        }
        let value = file.parse()?;
        let credentials = Credentials::of(&file.fields(&value), &self.settings)?;
        let credentials = Arc::new(credentials);
        *last = Some(ReadCredentials {
            text: file.text,
            credentials: Arc::clone(&credentials),
        });
        Ok(credentials)
    }

    /// Fetches a token from the metadata server. `looked_at` says why the other places have no
    /// identity.
    async fn fetch_metadata(&self, looked_at: &str) -> Result<Token, Error> {
        let advice = "to log in on this machine, run `gcloud auth application-default login`";
        let Some(metadata) = &self.metadata else {
            let message = format!(
                "found no credentials of Google: {looked_at}; `NO_GCE_CHECK` excludes the metadata \
                 server; {advice}"
            );
            return Err(Error::new(Kind::Config, message));
        };
        metadata.fetch(Reason::First).await.map_err(|error| {
            // A refusal shows that the metadata server is there.
            if error.is_denied() {
                return error;
            }
            let kind = match error.is_transient() {
                true => Kind::Transport,
                false => Kind::Config,
            };
            let message = format!(
                "found no credentials of Google: {looked_at}; at {}: {error}; {advice}",
                metadata.server()
            );
            Error::new(kind, message).with_source(error)
        })
    }
}

impl TokenSource for ApplicationDefault {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        match self.places.look().await? {
            Lookup::Found(file) => {
                let credentials = self.credentials(file).await?;
                credentials.fetch(reason).await
            }
            Lookup::NotFound(looked_at) => self.fetch_metadata(&looked_at).await,
        }
    }

    fn fetch_timeout(&self) -> Option<Duration> {
        self.settings.fetch_timeout()
    }
}

impl fmt::Debug for ApplicationDefault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApplicationDefault")
            .field("places", &self.places)
            .field("settings", &self.settings)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}
