//! A store that keeps a refresh token in a file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::refresh_store::RefreshTokenStore;
use crate::error::BoxError;
use crate::source::secret_file::{self, at, mode_of, off_the_runtime};

/// Keeps a refresh token in a file that only the file's owner may read (mode 0600). Use this store
/// for command-line tools, and for services on one machine.
///
/// The store writes a new token to another file, syncs that file to disk and renames it. Even after
/// a crash, the file therefore contains the complete old token or the complete new token. The
/// folder must exist.
///
/// # Errors
///
/// On Unix, [`load`](RefreshTokenStore::load) rejects a file that other users may read or write,
/// because these users may know the token.
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::{Client, RefreshToken, RefreshTokenFile};
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let client = Client::public("https://id.example.com/oauth/token", "my-app")?;
/// let file = RefreshTokenFile::new("/var/lib/my-app/refresh-token");
/// let source = RefreshToken::stored(client, file);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct RefreshTokenFile {
    path: PathBuf,
}

impl RefreshTokenFile {
    /// Creates a store for the file at `path`. The file may be missing at first.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl RefreshTokenStore for RefreshTokenFile {
    async fn load(&self) -> Result<Option<SecretString>, BoxError> {
        let path = self.path.clone();
        off_the_runtime(move || load(&path)).await?
    }

    async fn save(&self, token: SecretString) -> Result<(), BoxError> {
        let path = self.path.clone();
        off_the_runtime(move || save(&path, &token)).await?
    }
}

fn load(path: &Path) -> Result<Option<SecretString>, BoxError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path, &error)),
    };
    check_mode(path, &file)?;
    let text = secret_file::read(file).map_err(|error| at(path, &error))?;
    let Some(text) = text else {
        let path = path.display();
        return Err(format!("{path}: longer than 64 KiB, so it isn't a refresh token").into());
    };
    let token = text.trim();
    Ok((!token.is_empty()).then(|| SecretString::from(token)))
}

fn check_mode(path: &Path, file: &File) -> Result<(), BoxError> {
    let found = file.metadata().map_err(|error| at(path, &error))?;
    let mode = mode_of(&found);
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(format!(
        "{path}: users other than the owner have access to this file (mode {mode:04o}), so they may know \
         the refresh token; log in again, or `chmod 600 {path}` if nobody has read it"
    )
    .into())
}

fn save(path: &Path, token: &SecretString) -> Result<(), BoxError> {
    let parts = [token.expose_secret().as_bytes(), b"\n"];
    secret_file::replace(path, &parts).map_err(|error| at(path, &error))
}
