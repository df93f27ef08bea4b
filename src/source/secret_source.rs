//! Secrets that are read again for each fetch.

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroize;

use super::secret_file::{self, off_the_runtime};
use super::token_source::{Reason, TokenSource};
use crate::error::{BoxError, Error, Kind};
use crate::token::issued_token::Token;
use crate::token::jwt;

/// Where a secret is read from. Each fetch reads the secret again, so a secret can be rotated while
/// the service runs.
///
/// A `&str`, `String` or [`SecretString`] is a fixed secret.
///
/// # Example
///
/// ```
/// use tower_auth::SecretSource;
///
/// let fixed = SecretSource::from("s3cret");
/// let mounted = SecretSource::file("/run/secrets/client-secret");
/// let set = SecretSource::env("CLIENT_SECRET");
/// let fetched = SecretSource::from_fn(|| async { Ok("from-the-vault".into()) });
/// assert!(!format!("{fixed:?}").contains("s3cret"));
/// ```
#[derive(Clone)]
pub struct SecretSource {
    location: SecretLocation,
}

#[derive(Clone)]
enum SecretLocation {
    Value(SecretString),
    Env(Arc<str>),
    File(Arc<Path>),
    Closure(ReadFn),
    /// A configuration doesn't say where the secret is. The text says what is wrong.
    #[cfg(feature = "serde")]
    Misconfigured(&'static str),
}

/// The minimum time before a secret is read again.
pub(crate) const REREAD_EVERY: Duration = Duration::from_secs(60);

type ReadFuture = Pin<Box<dyn Future<Output = Result<SecretString, BoxError>> + Send>>;
type ReadFn = Arc<dyn Fn() -> ReadFuture + Send + Sync>;

impl SecretSource {
    /// Reads an environment variable of this process.
    pub fn env(name: impl Into<Arc<str>>) -> Self {
        Self {
            location: SecretLocation::Env(name.into()),
        }
    }

    /// Reads a file of at most 64 KiB, such as a mounted Kubernetes secret. Trailing white space
    /// isn't part of the secret, because editors and shells add such white space.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let path: PathBuf = path.into();
        Self {
            location: SecretLocation::File(Arc::from(path)),
        }
    }

    /// Calls a closure that reads the secret from elsewhere, such as a vault or a keychain. An
    /// [`Error`] of the closure is returned unchanged. So after a [`transient`](Error::transient)
    /// error, the same fetch tries again.
    pub fn from_fn<F, Fut>(read: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<SecretString, BoxError>> + Send + 'static,
    {
        Self {
            location: SecretLocation::Closure(Arc::new(move || Box::pin(read()))),
        }
    }

    /// Reads the current secret. The returned secret is never empty.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the secret is empty or can't be read. The message names
    /// the variable or the file. [`is_source`](Error::is_source) if the closure failed. An
    /// [`Error`] of the closure is returned unchanged.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Example
    ///
    /// ```
    /// use secrecy::ExposeSecret;
    /// use tower_auth::SecretSource;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let secret = SecretSource::from_fn(|| async { Ok("from-the-vault".into()) });
    /// assert_eq!(secret.read().await?.expose_secret(), "from-the-vault");
    /// # Ok(()) }
    /// ```
    pub async fn read(&self) -> Result<SecretString, Error> {
        let secret = match &self.location {
            SecretLocation::Value(secret) => secret.clone(),
            SecretLocation::Env(name) => from_env(name)?,
            SecretLocation::File(path) => from_file(path).await?,
            SecretLocation::Closure(read) => read().await.map_err(closure_error)?,
            #[cfg(feature = "serde")]
            SecretLocation::Misconfigured(what) => return Err(wrong(what)),
        };
        if secret.expose_secret().is_empty() {
            return Err(wrong(format!("{self} is empty")));
        }
        Ok(secret)
    }

    /// Makes a source that fails, because a configuration doesn't say where the secret is.
    #[cfg(feature = "serde")]
    pub(crate) fn misconfigured(what: &'static str) -> Self {
        Self {
            location: SecretLocation::Misconfigured(what),
        }
    }

    /// Fails if a configuration doesn't say where the secret is.
    pub(crate) fn check_location(&self) -> Result<(), Error> {
        #[cfg(feature = "serde")]
        if let SecretLocation::Misconfigured(what) = self.location {
            return Err(Error::new(Kind::Config, what));
        }
        Ok(())
    }

    /// Returns the secret if it is a fixed value.
    pub(crate) fn value(&self) -> Option<&SecretString> {
        match &self.location {
            SecretLocation::Value(secret) => Some(secret),
            _ => None,
        }
    }

    /// Returns whether the secret is an empty fixed value.
    pub(crate) fn is_empty_value(&self) -> bool {
        let value = self.value();
        value.is_some_and(|secret| secret.expose_secret().is_empty())
    }
}

/// Fetches a [bearer token](Token::bearer) by reading the secret. For example, the secret is a
/// Kubernetes service account token in a file that an agent rotates. Or a person has put a token in
/// an environment variable.
///
/// A JWT is read again before its `exp`. Any other token is read again every 60 s in the
/// background, unless it is a fixed value. A refused token is read again immediately.
///
/// ```
/// use tower_auth::{AuthLayer, SecretSource};
///
/// let layer = AuthLayer::new(SecretSource::file("/var/run/secrets/tokens/api"))
///     .only_to(["https://api.example.com"])?;
/// # Ok::<(), tower_auth::Error>(())
/// ```
impl TokenSource for SecretSource {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        let secret = self.read().await?;
        let end = jwt::exp(secret.expose_secret());
        let token = Token::bearer(secret)?;
        Ok(match end {
            Some(end) => token.expires_at(end),
            None if self.value().is_some() => token,
            // The cache refreshes in the second half of a lifetime. So a lifetime of two intervals
            // makes the cache refresh after one interval.
            None => token.expires_in(REREAD_EVERY * 2),
        })
    }
}

/// Returns this crate's error unchanged, and wraps any other error.
fn closure_error(error: BoxError) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => *own,
        Err(other) => Error::other(other),
    }
}

fn wrong(what: impl fmt::Display) -> Error {
    Error::new(Kind::Config, format!("could not read the secret: {what}"))
}

fn from_env(name: &str) -> Result<SecretString, Error> {
    match env::var_os(name).map(OsString::into_string) {
        Some(Ok(secret)) => Ok(SecretString::from(secret)),
        Some(Err(secret)) => {
            secret.into_encoded_bytes().zeroize();
            Err(wrong(format!("the variable {name} isn't UTF-8")))
        }
        None => Err(wrong(format!("the variable {name} isn't set"))),
    }
}

async fn from_file(path: &Arc<Path>) -> Result<SecretString, Error> {
    let path = Arc::clone(path);
    off_the_runtime(move || read_file(&path))
        .await
        .unwrap_or_else(|error| Err(wrong("the runtime is shutting down").with_source(error)))
}

fn read_file(path: &Path) -> Result<SecretString, Error> {
    let text = fs::File::open(path).and_then(secret_file::read);
    let text = text.map_err(|error| {
        wrong(format!("the file {} can't be read", path.display())).with_source(error)
    })?;
    let too_long = || wrong(format!("the file {} is longer than 64 KiB", path.display()));
    let text = text.ok_or_else(too_long)?;
    Ok(SecretString::from(text.trim_end()))
}

/// Shows where the secret is read from, but not the secret.
impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            SecretLocation::Value(_) => f.write_str("the secret"),
            SecretLocation::Env(name) => write!(f, "the variable {name}"),
            SecretLocation::File(path) => write!(f, "the file {}", path.display()),
            SecretLocation::Closure(_) => f.write_str("the secret of a closure"),
            #[cfg(feature = "serde")]
            SecretLocation::Misconfigured(_) => f.write_str("a misconfigured secret"),
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value() {
            Some(_) => f.write_str("SecretSource([redacted])"),
            None => write!(f, "SecretSource({self})"),
        }
    }
}

impl From<SecretString> for SecretSource {
    fn from(secret: SecretString) -> Self {
        Self {
            location: SecretLocation::Value(secret),
        }
    }
}

impl From<String> for SecretSource {
    fn from(secret: String) -> Self {
        SecretString::from(secret).into()
    }
}

impl From<&str> for SecretSource {
    fn from(secret: &str) -> Self {
        SecretString::from(secret).into()
    }
}
