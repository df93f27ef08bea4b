//! A store in a folder, for the processes of one user on one machine.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use super::token_store::{LIMIT, Lease, TokenStore, check_length};
use crate::error::BoxError;
use crate::source::secret_file::{self, at, mode_of, off_the_runtime};

/// Shares tokens between the processes of one user on one machine, such as command-line tools and
/// timer jobs.
///
/// Each token has a file, and a lock file beside that file. The fetching process locks the lock
/// file. The system releases the lock when that process ends. So a lease lasts until the process
/// releases the lease or ends. Such a lease needs no fencing token. A new token is written to a
/// temporary file and synced to disk. The temporary file then replaces the old file atomically.
/// Tokens expire by the machine's clock.
///
/// The store creates the folder at first use. The folder should be on a local disk, because some
/// network file systems don't support locks.
///
/// # Errors
///
/// On Unix, the store rejects a folder or a file that another user owns or may access. The mode of
/// the folder must be 0700 or stricter; the mode of a file must be 0600 or stricter.
///
/// # Example
///
/// ```no_run
/// use tower_auth::fleet::FileStore;
///
/// let home = std::env::var("HOME").unwrap_or_default();
/// let store = FileStore::new(format!("{home}/.cache/my-app/tokens"));
/// ```
#[derive(Clone, Debug)]
pub struct FileStore {
    folder: PathBuf,
}

/// The first bytes of each file. They identify the file format.
const MAGIC: &[u8; 8] = b"t-auth 1";

/// The length of the header. The header contains the magic, the expiry in milliseconds since 1970,
/// and the length of the sealed token. Both numbers are big-endian.
const HEADER: usize = 24;

impl FileStore {
    /// Makes a store in this folder. The store creates the folder if necessary.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self { folder }
    }

    /// Returns the folder that contains the files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the path of a file. Rejects invalid keys, because such a key could lead to another
    /// folder.
    fn path(&self, key: &str, extension: &str) -> Result<PathBuf, BoxError> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if key.is_empty() || !key.bytes().all(is_letter) {
            return Err(
                "a store key must be one or more characters of the base64url alphabet".into(),
            );
        }
        Ok(self.folder.join(format!("{key}.{extension}")))
    }
}

impl TokenStore for FileStore {
    async fn load(&self, key: &str) -> Result<Option<Vec<u8>>, BoxError> {
        let folder = self.folder.clone();
        let path = self.path(key, "token")?;
        off_the_runtime(move || load(&folder, &path)).await?
    }

    async fn save(
        &self,
        key: &str,
        sealed: &[u8],
        ttl: Duration,
        _lease: &Lease,
    ) -> Result<bool, BoxError> {
        check_length(sealed.len())?;
        let folder = self.folder.clone();
        let path = self.path(key, "token")?;
        let sealed = Zeroizing::new(sealed.to_vec());
        off_the_runtime(move || save(&folder, &path, &sealed, ttl)).await?
    }

    /// Locks the token's lock file. The lease ends when it is released or when its process ends.
    /// `_ttl` has no effect.
    async fn lease(&self, key: &str, _ttl: Duration) -> Result<Option<Lease>, BoxError> {
        let folder = self.folder.clone();
        let path = self.path(key, "lock")?;
        let locked = off_the_runtime(move || lock(&folder, &path)).await??;
        // No other process saves while the file is locked, so no fencing token is needed.
        Ok(locked.map(|file| Lease::new(0).holding(file)))
    }

    async fn release(&self, _key: &str, lease: Lease) -> Result<bool, BoxError> {
        // Dropping the lease unlocks the file.
        let is_ours = lease.guard.is_some_and(|guard| guard.is::<Locked>());
        Ok(is_ours)
    }
}

/// A file that this process has locked.
///
/// `Drop` unlocks the file explicitly, because closing the file isn't enough. A child process that
/// is just starting has the file open until its `exec`. Without the explicit unlock, the child
/// would keep the lock.
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        drop(self.0.unlock());
    }
}

fn load(folder: &Path, path: &Path) -> Result<Option<Vec<u8>>, BoxError> {
    if !exists(folder)? {
        return Ok(None);
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path, &error)),
    };
    check(path, &file)?;
    let mut bytes = Vec::new();
    let read = file
        .take((HEADER + LIMIT + 1) as u64)
        .read_to_end(&mut bytes);
    read.map_err(|error| at(path, &error))?;
    if bytes.len() > HEADER + LIMIT {
        let path = path.display();
        return Err(format!(
            "{path}: longer than a sealed token, which has at most 256 KiB; remove it"
        )
        .into());
    }
    match parse(&bytes) {
        Some((end, _)) if end <= now() => Ok(None),
        Some((_, sealed)) => Ok(Some(sealed.to_vec())),
        // The file is truncated, or another program wrote the file. An attempt to open the seal
        // reports this, and the next save replaces the file.
        None => Ok(Some(bytes)),
    }
}

/// Returns the expiry and the sealed token, or `None` if this store didn't write the file.
fn parse(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (end, rest) = rest.split_first_chunk()?;
    let (length, sealed) = rest.split_first_chunk()?;
    let is_whole = magic == MAGIC && u64::from_be_bytes(*length) == sealed.len() as u64;
    is_whole.then_some((u64::from_be_bytes(*end), sealed))
}

fn save(folder: &Path, path: &Path, sealed: &[u8], ttl: Duration) -> Result<bool, BoxError> {
    let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    if ttl == 0 {
        return Ok(false);
    }
    create(folder)?;
    let end = now().saturating_add(ttl).to_be_bytes();
    let length = (sealed.len() as u64).to_be_bytes();
    let parts: [&[u8]; 4] = [MAGIC, &end, &length, sealed];
    secret_file::replace(path, &parts).map_err(|error| at(path, &error))?;
    Ok(true)
}

/// Locks the lock file. Returns `None` if another process has locked the file. The file stays after
/// unlocking, because the next process may already have opened it.
fn lock(folder: &Path, path: &Path) -> Result<Option<Locked>, BoxError> {
    create(folder)?;
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let file = options.open(path).map_err(|error| at(path, &error))?;
    check(path, &file)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Locked(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(at(path, &error)),
    }
}

/// Creates the folder. If the folder already exists, checks the folder's owner.
fn create(folder: &Path) -> Result<(), BoxError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(folder).map_err(|error| at(folder, &error))?;
    exists(folder).map(drop)
}

/// Returns whether the folder exists. Fails if users other than the folder's owner may access the
/// folder.
fn exists(folder: &Path) -> Result<bool, BoxError> {
    match fs::metadata(folder) {
        Ok(found) => check_owner(folder, &found).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at(folder, &error)),
    }
}

fn check(path: &Path, file: &File) -> Result<(), BoxError> {
    let found = file.metadata().map_err(|error| at(path, &error))?;
    check_owner(path, &found)
}

/// Rejects a file or folder that other users may access. With write access, other users could
/// choose the token that is sent. With read access, other users could try to unseal the token.
fn check_owner(path: &Path, found: &Metadata) -> Result<(), BoxError> {
    let path = path.display();
    if let Some((owner, user)) = foreign_owner(found) {
        return Err(format!(
            "{path}: belongs to user {owner}, but this process runs as user {user}, so no token is stored \
             there; run `chown {user} {path}`, remove it, or choose another folder"
        )
        .into());
    }
    let mode = mode_of(found);
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let right = if found.is_dir() { "700" } else { "600" };
    Err(format!(
        "{path}: other users may access it (mode {mode:04o}), so no token is stored there; \
         run `chmod {right} {path}`, or remove it if they may have changed it"
    )
    .into())
}

/// Returns the file's owner and this process's user, if these two users differ.
#[cfg(unix)]
fn foreign_owner(found: &Metadata) -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;

    let user = rustix::process::geteuid().as_raw();
    (found.uid() != user).then_some((found.uid(), user))
}

#[cfg(not(unix))]
fn foreign_owner(_: &Metadata) -> Option<(u32, u32)> {
    None
}

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
