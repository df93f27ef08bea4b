//! A store in a folder, for the processes of one user on one machine.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use super::token_store::{LIMIT, Lease, TokenStore, check_length};
use crate::error::BoxError;
use crate::source::secret_file::{self, FileLock, at, off_the_runtime};

/// Shares tokens between the processes of one user on one machine, such as command-line tools and
/// timer jobs.
///
/// Each token has a file, and a lock file beside that file. The fetching process locks the lock
/// file. The system releases the lock when that process ends. So a lease lasts until the process
/// releases the lease or ends. Such a lease needs no fencing token. A new token is written to the
/// file `<key>.token.next` and synced to disk. This file then replaces the old file atomically. After
/// `kill -9`, the next process with the lease completes the save or removes that file.
/// Tokens expire by the machine's clock.
///
/// The store creates the folder at first use. The folder should be on a local disk, because some
/// network file systems don't support locks.
///
/// # Errors
///
/// On Unix, the store rejects a folder or a file that another user owns or may access. The mode of
/// the folder must be 0700 or stricter; the mode of a file must be 0600 or stricter. The store also
/// rejects a path with a symbolic link in a folder in which other users may make links.
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
        lease: &Lease,
    ) -> Result<bool, BoxError> {
        check_length(sealed.len())?;
        let folder = self.folder.clone();
        let path = self.path(key, "token")?;
        let sealed = Zeroizing::new(sealed.to_vec());
        let guard = lease.guard.as_deref();
        let lock = guard.and_then(|guard| guard.downcast_ref::<FileLock>());
        let lock = lock.cloned();
        off_the_runtime(move || save(&folder, &path, &sealed, ttl, lock)).await?
    }

    /// Locks the token's lock file. The lease ends when it is released or when its process ends.
    /// `_ttl` has no effect.
    async fn lease(&self, key: &str, _ttl: Duration) -> Result<Option<Lease>, BoxError> {
        let folder = self.folder.clone();
        let path = self.path(key, "token")?;
        let locked = off_the_runtime(move || lock(&folder, &path)).await??;
        // No other process saves while the file is locked, so no fencing token is needed.
        Ok(locked.map(|file| Lease::new(0).holding(file)))
    }

    async fn release(&self, _key: &str, lease: Lease) -> Result<bool, BoxError> {
        // Dropping the lease unlocks the file.
        let is_ours = lease.guard.is_some_and(|guard| guard.is::<FileLock>());
        Ok(is_ours)
    }
}

/// What a person does with a file that other users may have used.
const REMEDY: &str = "remove it";

fn load(folder: &Path, path: &Path) -> Result<Option<Vec<u8>>, BoxError> {
    if !exists(folder)? {
        return Ok(None);
    }
    let Some(file) = secret_file::open(path, REMEDY)? else {
        return Ok(None);
    };
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

fn save(
    folder: &Path,
    path: &Path,
    sealed: &[u8],
    ttl: Duration,
    held: Option<FileLock>,
) -> Result<bool, BoxError> {
    let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    if ttl == 0 {
        return Ok(false);
    }
    create(folder)?;
    let end = now().saturating_add(ttl).to_be_bytes();
    let length = (sealed.len() as u64).to_be_bytes();
    let parts: [&[u8]; 4] = [MAGIC, &end, &length, sealed];
    let Some(locked) = held.map_or_else(|| lock(folder, path), |held| Ok(Some(held)))? else {
        // Another process has the lease.
        return Ok(false);
    };
    locked.replace(path, &parts)?;
    Ok(true)
}

/// Locks the token's lock file, and completes a save that was interrupted. Returns `None` if another
/// process has locked the file.
fn lock(folder: &Path, path: &Path) -> Result<Option<FileLock>, BoxError> {
    create(folder)?;
    let locked = FileLock::take(&path.with_extension("lock"), REMEDY)?;
    if let Some(locked) = &locked {
        locked.finish(path, HEADER + LIMIT, REMEDY, |bytes| parse(bytes).is_some())?;
    }
    Ok(locked)
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
    secret_file::check_links(folder)?;
    match fs::metadata(folder) {
        Ok(found) => secret_file::check(folder, &found, REMEDY).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at(folder, &error)),
    }
}

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
