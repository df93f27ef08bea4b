//! A store in a folder, for the processes of one user on one machine.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::token_store::{LIMIT, Lease, StoredValue, TokenStore, check_length};
use crate::error::BoxError;
use crate::source::secret_file::{self, age_of, at, mode_of, off_the_runtime};

/// Shares tokens between the processes of one user on one machine, such as command-line tools and
/// timer jobs.
///
/// Each token has a file, and a lock file beside that file. The fetching process locks the lock
/// file. The system releases the lock when that process ends. So a lease lasts until the process
/// releases the lease or ends. Such a lease needs no fencing token. A new token is written to a
/// temporary file and synced to disk. The temporary file then replaces the old file atomically.
///
/// Tokens expire by the clock of the file system, which all processes share. For example, the clock
/// of one process may be set differently, or the folder may be on a server.
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
const MAGIC: &[u8; 8] = b"t-auth 2";

/// The length of the header. The header contains the magic, the lifetime of the value in
/// milliseconds, and the length of the sealed token. Both numbers are big-endian. The lifetime
/// counts from the file's last change.
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
    async fn load(&self, key: &str) -> Result<Option<StoredValue>, BoxError> {
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

    async fn delete(&self, key: &str, _lease: &Lease) -> Result<bool, BoxError> {
        let path = self.path(key, "token")?;
        off_the_runtime(move || delete(&path)).await?
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

    /// Returns whether the lease's lock file is still in the folder. Another process could lock a
    /// new file in its place. `_ttl` has no effect.
    async fn renew(&self, key: &str, lease: &Lease, _ttl: Duration) -> Result<bool, BoxError> {
        let path = self.path(key, "lock")?;
        let guard = lease.guard.as_deref();
        let Some(locked) = guard.and_then(|guard| guard.downcast_ref::<Locked>()) else {
            return Ok(false);
        };
        let file = locked.0.try_clone().map_err(|error| at(&path, &error))?;
        off_the_runtime(move || is_at(&path, &file)).await?
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

fn load(folder: &Path, path: &Path) -> Result<Option<StoredValue>, BoxError> {
    if !exists(folder)? {
        return Ok(None);
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path, &error)),
    };
    check(path, &file)?;
    let found = file.metadata().map_err(|error| at(path, &error))?;
    if found.len() > (HEADER + LIMIT) as u64 {
        return Ok(Some(foreign(path)));
    }
    // Allocates the whole length, because a buffer that grows leaves copies in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER + LIMIT + 1));
    let limit = (HEADER + LIMIT + 1) as u64;
    let read = (&file).take(limit).read_to_end(&mut bytes);
    read.map_err(|error| at(path, &error))?;
    let Some((ttl, sealed)) = parse(&bytes) else {
        return Ok(Some(foreign(path)));
    };
    // Without a known age, the value counts as expired.
    let age = age_of(&file).unwrap_or(Duration::MAX);
    let remaining = ttl.saturating_sub(age);
    Ok((!remaining.is_zero()).then(|| StoredValue::new(sealed, remaining)))
}

/// Describes a file that is truncated, or that another program wrote. The next save replaces it.
fn foreign(path: &Path) -> StoredValue {
    StoredValue::foreign(format!("{}: not a complete token file", path.display()))
}

/// Returns the lifetime and the sealed token, or `None` if this store didn't write the file.
fn parse(bytes: &[u8]) -> Option<(Duration, &[u8])> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (ttl, rest) = rest.split_first_chunk()?;
    let (length, sealed) = rest.split_first_chunk()?;
    let is_whole = magic == MAGIC && u64::from_be_bytes(*length) == sealed.len() as u64;
    is_whole.then_some((Duration::from_millis(u64::from_be_bytes(*ttl)), sealed))
}

fn save(folder: &Path, path: &Path, sealed: &[u8], ttl: Duration) -> Result<bool, BoxError> {
    let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    if ttl == 0 {
        return Ok(false);
    }
    create(folder)?;
    let length = (sealed.len() as u64).to_be_bytes();
    let parts: [&[u8]; 4] = [MAGIC, &ttl.to_be_bytes(), &length, sealed];
    secret_file::replace(path, &parts).map_err(|error| at(path, &error))?;
    Ok(true)
}

fn delete(path: &Path) -> Result<bool, BoxError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at(path, &error)),
    }
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
        // Another program may have removed the file before this process locked it.
        Ok(()) if is_at(path, &file)? => Ok(Some(Locked(file))),
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(at(path, &error)),
    }
}

/// Returns whether `path` still leads to this file.
#[cfg(unix)]
fn is_at(path: &Path, file: &File) -> Result<bool, BoxError> {
    use std::os::unix::fs::MetadataExt;

    let ours = file.metadata().map_err(|error| at(path, &error))?;
    match fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at(path, &error)),
    }
}

/// Returns `true`, because other systems don't remove a file that is open.
#[cfg(not(unix))]
fn is_at(_: &Path, _: &File) -> Result<bool, BoxError> {
    Ok(true)
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
