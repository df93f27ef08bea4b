//! Where a secret is read from.

use std::fmt;
use std::future::Future;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::{env, fs};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::error::{BoxError, Error, Kind};

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
    place: Place,
}

#[derive(Clone)]
enum Place {
    Value(SecretString),
    Env(Arc<str>),
    File(Arc<Path>),
    Asked(Ask),
}

type Asked = Pin<Box<dyn Future<Output = Result<SecretString, BoxError>> + Send>>;
type Ask = Arc<dyn Fn() -> Asked + Send + Sync>;

/// No secret is longer, and a path that was mistaken shouldn't fill the memory.
const FILE_LIMIT: u64 = 64 * 1024;

impl SecretSource {
    /// An environment variable of this process.
    pub fn env(name: impl Into<Arc<str>>) -> Self {
        Self {
            place: Place::Env(name.into()),
        }
    }

    /// A file, such as a mounted Kubernetes secret. White space at its end, which editors and
    /// shells leave there, isn't part of the secret. At most 64 KiB.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let path: PathBuf = path.into();
        Self {
            place: Place::File(Arc::from(path)),
        }
    }

    /// A closure that asks for it: a vault, a keychain.
    pub fn from_fn<F, Fut>(ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<SecretString, BoxError>> + Send + 'static,
    {
        Self {
            place: Place::Asked(Arc::new(move || Box::pin(ask()))),
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
        let secret = match &self.place {
            Place::Value(secret) => secret.clone(),
            Place::Env(name) => from_env(name)?,
            Place::File(path) => from_file(path).await?,
            Place::Asked(ask) => ask().await.map_err(Error::other)?,
        };
        if secret.expose_secret().is_empty() {
            return Err(wrong(format!("{self} is empty")));
        }
        Ok(secret)
    }

    /// The secret, if it is one that stays as it is.
    pub(crate) fn value(&self) -> Option<&SecretString> {
        match &self.place {
            Place::Value(secret) => Some(secret),
            Place::Env(_) | Place::File(_) | Place::Asked(_) => None,
        }
    }

    /// Whether it is a value that can be seen to be empty at once.
    pub(crate) fn is_empty_value(&self) -> bool {
        let value = self.value();
        value.is_some_and(|secret| secret.expose_secret().is_empty())
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

/// Off the runtime's threads where there is one: the file may be on a network.
async fn from_file(path: &Arc<Path>) -> Result<SecretString, Error> {
    let blocking = {
        let path = Arc::clone(path);
        move || read_file(&path)
    };
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime
            .spawn_blocking(blocking)
            .await
            .unwrap_or_else(|error| Err(wrong("the runtime is shutting down").with_source(error))),
        Err(_) => blocking(),
    }
}

fn read_file(path: &Path) -> Result<SecretString, Error> {
    let unread = |error: std::io::Error| {
        wrong(format!("the file {} can't be read", path.display())).with_source(error)
    };
    let file = fs::File::open(path).map_err(unread)?;
    // As long as it can get, for what a growing buffer leaves behind isn't zeroized.
    let mut text = Zeroizing::new(String::with_capacity(FILE_LIMIT as usize + 1));
    file.take(FILE_LIMIT + 1)
        .read_to_string(&mut text)
        .map_err(unread)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(wrong(format!(
            "the file {} is longer than 64 KiB",
            path.display()
        )));
    }
    Ok(SecretString::from(text.trim_end()))
}

/// As it stands in messages: its place, and nothing of what is there.
impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Value(_) => f.write_str("the secret"),
            Place::Env(name) => write!(f, "the variable {name}"),
            Place::File(path) => write!(f, "the file {}", path.display()),
            Place::Asked(_) => f.write_str("the secret that was asked for"),
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Value(_) => f.write_str("SecretSource([redacted])"),
            Place::Env(_) | Place::File(_) | Place::Asked(_) => write!(f, "SecretSource({self})"),
        }
    }
}

impl From<SecretString> for SecretSource {
    fn from(secret: SecretString) -> Self {
        Self {
            place: Place::Value(secret),
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
