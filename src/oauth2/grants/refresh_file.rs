//! A store that keeps a login in a file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::login_record::LoginRecord;
use super::refresh_store::{LoginLock, RefreshTokenStore, SavedLogin};
use crate::error::BoxError;
use crate::source::file_access::age_of;
use crate::source::secret_file::{self, FileLock, at, off_the_runtime, with_suffix};

/// Keeps a login in a file. On Unix, only the file's owner may use the file (mode 0600). Use this
/// store for command-line tools, and for services on one machine. All processes of the owner may
/// share the file.
///
/// - A process that refreshes the login locks the file `<name>.lock` beside the file. The system
///   unlocks that file when the process ends. The lock file stays.
/// - A new login is written to `<name>.next`, synced to disk and renamed. Even after a crash, the
///   file contains the complete old login or the complete new login. After `kill -9`, the next
///   process with the lock completes the save or removes `<name>.next`.
/// - If the path is a symbolic link, the store uses the file that the link leads to.
/// - On Unix, the age of the login is measured by the clock of the file system. On other systems, the
///   clock of this process measures the age.
///
/// The folder must exist, and the process must be able to create files in it. The folder should be
/// on a local disk, because some network file systems don't support locks.
///
/// The file may contain only a refresh token, for example one that a person pasted. The first
/// refresh replaces the file.
///
/// # Errors
///
/// On Unix, the store rejects these files, and the error says what to run:
///
/// - a file that another user owns
/// - a file that other users may read or write, because these users may know the refresh token
/// - a path with a symbolic link of another user, or in a folder in which other users may make links
///
/// Systems other than Unix have no such owners and modes. There, the store checks no owners, modes
/// or links. A new file gets the permissions of its folder. Choose a folder that only the user can
/// access, such as a folder in the user's profile.
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

/// What a person does with a file that other users may have used.
const REMEDY: &str = "remove it and log in again";

/// The maximum length of the file, in bytes.
const LIMIT: usize = 64 * 1024;

impl RefreshTokenFile {
    /// Creates a store for the file at `path`. The file may be missing at first.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the path of the file.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::oauth2::RefreshTokenFile;
    ///
    /// let file = RefreshTokenFile::new("/var/lib/my-app/refresh-token");
    /// println!("the login is in {}", file.path().display());
    /// ```
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn run<T>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, BoxError> + Send + 'static,
    ) -> Result<T, BoxError>
    where
        T: Send + 'static,
    {
        let path = self.path.clone();
        off_the_runtime(move || work(&secret_file::resolve(&path)?)).await?
    }
}

impl RefreshTokenStore for RefreshTokenFile {
    async fn load(&self) -> Result<Option<SavedLogin>, BoxError> {
        self.run(load).await
    }

    /// Saves the login. Without the lock of this file, locks the file first, and fails if another
    /// process has locked it.
    async fn save(&self, login: SecretString, lock: &LoginLock) -> Result<(), BoxError> {
        let write = lock.guard::<FileLock>().map(FileLock::next_write);
        self.run(move |path| {
            let write = match write {
                Some(write) => write,
                None => locked(path)?
                    .ok_or("another process has locked the login")?
                    .next_write(),
            };
            let parts = [login.expose_secret().as_bytes(), b"\n"];
            write.replace(path, &parts)
        })
        .await
    }

    /// Locks the lock file. `_time` has no effect, because the system unlocks the file when the
    /// process ends.
    async fn lock(&self, _time: Duration) -> Result<Option<LoginLock>, BoxError> {
        self.run(|path| {
            // In a folder that doesn't exist, there is nothing to lock.
            if !secret_file::folder_of(path).exists() {
                return Ok(Some(LoginLock::none()));
            }
            Ok(locked(path)?.map(LoginLock::holding))
        })
        .await
    }

    /// Returns whether the lock file is still beside the file. Fails if the folder doesn't exist.
    async fn confirm(&self, lock: &LoginLock) -> Result<bool, BoxError> {
        let Some(locked) = lock.guard::<FileLock>().cloned() else {
            return self.run(folder_exists).await;
        };
        self.run(move |path| locked.is_at(&lock_of(path))).await
    }

    async fn delete(&self, lock: &LoginLock) -> Result<(), BoxError> {
        let Some(write) = lock.guard::<FileLock>().map(FileLock::next_write) else {
            return Ok(());
        };
        self.run(move |path| write.remove(path).map(drop)).await
    }
}

fn load(path: &Path) -> Result<Option<SavedLogin>, BoxError> {
    let Some(file) = secret_file::open(path, REMEDY)? else {
        return Ok(None);
    };
    let text = secret_file::read(&file).map_err(|error| at(path, &error))?;
    let Some(text) = text else {
        let path = path.display();
        return Err(format!("{path}: longer than 64 KiB, so it isn't a login").into());
    };
    let text = text.trim();
    let login = (!text.is_empty()).then(|| SavedLogin::new(text));
    Ok(match age_of(&file) {
        Some(age) => login.map(|login| login.saved_ago(age)),
        None => login,
    })
}

fn folder_exists(path: &Path) -> Result<bool, BoxError> {
    let folder = secret_file::folder_of(path);
    match folder.metadata() {
        Ok(_) => Ok(true),
        Err(error) => Err(at(folder, &error)),
    }
}

/// Locks the login, and completes a save that was interrupted. Returns `None` if another process
/// has locked the login.
fn locked(path: &Path) -> Result<Option<FileLock>, BoxError> {
    let locked = FileLock::take(&lock_of(path), REMEDY)?;
    if let Some(locked) = &locked {
        locked.finish(path, LIMIT, REMEDY, is_complete)?;
    }
    Ok(locked)
}

/// Returns whether `save` wrote the whole text. The text ends with a line feed, and contains no other
/// control characters that JSON escapes.
fn is_complete(bytes: &[u8]) -> bool {
    let text = bytes.strip_suffix(b"\n").map(std::str::from_utf8);
    let Some(Ok(text)) = text else {
        return false;
    };
    let is_plain = text.bytes().all(|byte| byte >= b' ');
    is_plain && matches!(LoginRecord::parse(text), Ok(Some(_)))
}

fn lock_of(path: &Path) -> PathBuf {
    with_suffix(path, ".lock")
}
