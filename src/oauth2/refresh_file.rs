//! A refresh token in a file.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use tempfile::NamedTempFile;

use super::refresh_store::RefreshTokenStore;
use crate::error::BoxError;
use crate::secret_file::{self, off_the_runtime};

/// Keeps a refresh token in a file that only its owner may read (mode 0600), for command lines and
/// services on one machine.
///
/// A new token is written beside the old one, brought to the disk, and put in its place in one step:
/// at any moment, a crash included, the file holds the one or the other, whole. The folder must
/// exist.
///
/// # Errors
///
/// On Unix, [`load`](RefreshTokenStore::load) refuses a file that others than its owner may read or
/// write: the token in it may be known to them.
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::{Client, RefreshToken, RefreshTokenFile};
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// # #[cfg(feature = "reqwest")] {
/// let client = Client::public("https://id.example.com/oauth/token", "my-app")?;
/// let source = RefreshToken::stored(client, RefreshTokenFile::new("/var/lib/my-app/refresh-token"));
/// # }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(docsrs, doc(cfg(feature = "file")))]
pub struct RefreshTokenFile {
    path: PathBuf,
}

impl RefreshTokenFile {
    /// The file at `path`, which needn't exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where the file is.
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
        return Err(format!("{path}: longer than 64 KiB, so no refresh token").into());
    };
    let token = text.trim();
    Ok((!token.is_empty()).then(|| SecretString::from(token)))
}

#[cfg(unix)]
fn check_mode(path: &Path, file: &File) -> Result<(), BoxError> {
    use std::os::unix::fs::PermissionsExt;

    let mode = file.metadata().map_err(|error| at(path, &error))?;
    let mode = mode.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(format!(
        "{path}: others than its owner may use this file (mode {mode:04o}), so the refresh token in it \
         may be known to them; log in again, or `chmod 600 {path}` if it is not"
    )
    .into())
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &File) -> Result<(), BoxError> {
    Ok(())
}

/// `tempfile` makes files of mode 0600, and removes one that isn't put in its place.
fn save(path: &Path, token: &SecretString) -> Result<(), BoxError> {
    let write = || {
        let folder = folder_of(path);
        let name = path.file_name().unwrap_or(OsStr::new("refresh-token"));
        let mut file = tempfile::Builder::new().prefix(name).tempfile_in(folder)?;
        write_all(&mut file, token)?;
        file.persist(path).map_err(|error| error.error)?;
        // The name is on the disk when its folder is.
        sync_folder(folder)
    };
    write().map_err(|error: io::Error| at(path, &error))
}

fn write_all(file: &mut NamedTempFile, token: &SecretString) -> io::Result<()> {
    file.write_all(token.expose_secret().as_bytes())?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Elsewhere a folder can't be opened.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

fn at(path: &Path, error: &io::Error) -> BoxError {
    format!("{}: {error}", path.display()).into()
}
