//! Where a secret is read from.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use secrecy::{ExposeSecret, SecretString};

use super::secret_file::{self, off_the_runtime};
use super::token_source::{Reason, TokenSource};
use crate::error::{BoxError, Error, Kind};
use crate::token::issued_token::Token;
use crate::token::jwt;

/// Where a secret is read from: anew for each fetch, so that it can be rotated under a running
/// service.
///
/// A `&str`, `String` or [`SecretString`] is one that stays as it is.
///
/// # Example
///
/// ```
/// use tower_auth::SecretSource;
///
/// let fixed = SecretSource::from("s3cret");
/// let mounted = SecretSource::file("/run/secrets/client-secret");
/// let set = SecretSource::env("CLIENT_SECRET");
/// let asked = SecretSource::from_fn(|| async { Ok("from-the-vault".into()) });
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
    Closure(Ask),
}

/// How old a secret may be that was replaced where it is read from.
pub(crate) const REREAD_EVERY: Duration = Duration::from_secs(60);

type Asked = Pin<Box<dyn Future<Output = Result<SecretString, BoxError>> + Send>>;
type Ask = Arc<dyn Fn() -> Asked + Send + Sync>;

impl SecretSource {
    /// An environment variable of this process.
    pub fn env(name: impl Into<Arc<str>>) -> Self {
        Self {
            location: SecretLocation::Env(name.into()),
        }
    }

    /// A file, such as a mounted Kubernetes secret. White space at its end, which editors and
    /// shells leave there, isn't part of the secret. At most 64 KiB.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let path: PathBuf = path.into();
        Self {
            location: SecretLocation::File(Arc::from(path)),
        }
    }

    /// A closure that asks for it: a vault, a keychain. An [`Error`] of it is passed on as it is, so
    /// that one that is [`transient`](Error::transient) is tried again within the same flight.
    pub fn from_fn<F, Fut>(ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<SecretString, BoxError>> + Send + 'static,
    {
        Self {
            location: SecretLocation::Closure(Arc::new(move || Box::pin(ask()))),
        }
    }

    /// The secret as it is now. Never empty.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if there is none or it is empty: the message names the
    /// variable or the file. [`is_source`](Error::is_source) if the closure failed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn read(&self) -> Result<SecretString, Error> {
        let secret = match &self.location {
            SecretLocation::Value(secret) => secret.clone(),
            SecretLocation::Env(name) => from_env(name)?,
            SecretLocation::File(path) => from_file(path).await?,
            SecretLocation::Closure(ask) => ask().await.map_err(closure_error)?,
        };
        if secret.expose_secret().is_empty() {
            return Err(wrong(format!("{self} is empty")));
        }
        Ok(secret)
    }

    /// The secret, if it is one that stays as it is.
    pub(crate) fn value(&self) -> Option<&SecretString> {
        match &self.location {
            SecretLocation::Value(secret) => Some(secret),
            SecretLocation::Env(_) | SecretLocation::File(_) | SecretLocation::Closure(_) => None,
        }
    }

    /// Whether it is a value that can be seen to be empty at once.
    pub(crate) fn is_empty_value(&self) -> bool {
        let value = self.value();
        value.is_some_and(|secret| secret.expose_secret().is_empty())
    }
}

/// A [bearer token](Token::bearer) that is read for each fetch: one that an agent rotates in a file
/// (a Kubernetes service account token), or a person has put in a variable.
///
/// A JWT is used until its `exp`, and read anew ahead of that; any other is read anew once a minute,
/// behind the requests, unless it is a fixed value. One that is refused is read anew at once.
///
/// ```
/// use tower_auth::{AuthLayer, SecretSource};
///
/// let layer = AuthLayer::new(SecretSource::file("/var/run/secrets/tokens/api"));
/// ```
impl TokenSource for SecretSource {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        let secret = self.read().await?;
        let end = jwt::end(secret.expose_secret());
        let token = Token::bearer(secret)?;
        Ok(match end {
            Some(end) => token.expires_at(end),
            None if self.value().is_some() => token,
            // Half of it is the window in which it is read anew behind the requests.
            None => token.expires_in(REREAD_EVERY * 2),
        })
    }
}

/// An error of this crate says all that there is to say.
fn closure_error(error: BoxError) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => *own,
        Err(other) => Error::other(other),
    }
}

fn wrong(what: impl fmt::Display) -> Error {
    Error::new(Kind::Config, format!("no secret could be read: {what}"))
}

fn from_env(name: &str) -> Result<SecretString, Error> {
    match env::var(name) {
        Ok(secret) => Ok(SecretString::from(secret)),
        // The other error quotes what is there.
        Err(env::VarError::NotUnicode(_)) => Err(wrong(format!("the variable {name} isn't UTF-8"))),
        Err(env::VarError::NotPresent) => Err(wrong(format!("the variable {name} isn't set"))),
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

/// As it stands in messages: its place, and nothing of what is there.
impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            SecretLocation::Value(_) => f.write_str("the secret"),
            SecretLocation::Env(name) => write!(f, "the variable {name}"),
            SecretLocation::File(path) => write!(f, "the file {}", path.display()),
            SecretLocation::Closure(_) => f.write_str("the secret that was asked for"),
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            SecretLocation::Value(_) => f.write_str("SecretSource([redacted])"),
            SecretLocation::Env(_) | SecretLocation::File(_) | SecretLocation::Closure(_) => {
                write!(f, "SecretSource({self})")
            }
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
