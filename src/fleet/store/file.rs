//! A store in a folder, for the processes of one user on one machine.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::token_store::{LIMIT, Lease, StoredValue, TokenStore, check_length};
use crate::error::BoxError;
use crate::source::file_access::{age_of, create_folder};
use crate::source::secret_file::{self, FileLock, FileWrite, at, off_the_runtime};

/// Shares tokens between the processes of one user on one machine, such as command-line tools and
/// timer jobs.
///
/// Each token has a file, and a lock file beside that file. The fetching process locks the lock
/// file. The system releases the lock when that process ends. So a lease lasts until the process
/// releases the lease or ends. Such a lease needs no fencing token. A new token is written to the
/// file `<key>.token.next` and synced to disk. This file then replaces the old file atomically. After
/// `kill -9`, the next process with the lease completes the save or removes that file.
///
/// On Unix, tokens expire by the clock of the file system, which all processes share. So the clocks
/// of the processes may differ. On other systems, tokens expire by the clock of each process.
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
/// Systems other than Unix have no such owners and modes. There, the store checks no owners, modes
/// or links. A new file gets the permissions of the folder. Choose a folder that only the user can
/// access, such as a folder in the user's profile.
///
/// # Example
///
/// ```no_run
/// use tower_auth::fleet::FileStore;
///
/// let home = std::env::var("HOME").unwrap_or_default();
/// let store = FileStore::new(format!("{home}/.cache/my-app/tokens"));
/// println!("the tokens are in {}", store.folder().display());
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
        lease: &Lease,
    ) -> Result<bool, BoxError> {
        check_length(sealed.len())?;
        let folder = self.folder.clone();
        let path = self.path(key, "token")?;
        let sealed = Zeroizing::new(sealed.to_vec());
        let write = lock_of(lease).map(FileLock::next_write);
        off_the_runtime(move || save(&folder, &path, &sealed, ttl, write)).await?
    }

    async fn delete(&self, key: &str, lease: &Lease) -> Result<bool, BoxError> {
        let folder = self.folder.clone();
        let path = self.path(key, "token")?;
        let write = lock_of(lease).map(FileLock::next_write);
        off_the_runtime(move || match begin(&folder, &path, write)? {
            Some(write) => write.remove(&path),
            None => Ok(false),
        })
        .await?
    }

    /// Locks the token's lock file. The lease ends when it is released or when its process ends.
    /// `_ttl` has no effect.
    async fn lease(&self, key: &str, _ttl: Duration) -> Result<Option<Lease>, BoxError> {
        let folder = self.folder.clone();
        let path = self.path(key, "token")?;
        let locked = off_the_runtime(move || locked(&folder, &path)).await??;
        // No other process saves while the file is locked, so no fencing token is needed.
        Ok(locked.map(|file| Lease::new(0).holding(file)))
    }

    /// Returns whether the lease's lock file is still in the folder. If the file was removed,
    /// another process could lock a new file in its place. `_ttl` has no effect.
    async fn renew(&self, key: &str, lease: &Lease, _ttl: Duration) -> Result<bool, BoxError> {
        let path = self.path(key, "lock")?;
        let Some(locked) = lock_of(lease).cloned() else {
            return Ok(false);
        };
        off_the_runtime(move || locked.is_at(&path)).await?
    }

    async fn release(&self, _key: &str, lease: Lease) -> Result<bool, BoxError> {
        // Dropping the lease unlocks the file.
        let is_ours = lease.guard.is_some_and(|guard| guard.is::<FileLock>());
        Ok(is_ours)
    }
}

/// What a person does with a file that other users may have used.
const REMEDY: &str = "remove it";

fn lock_of(lease: &Lease) -> Option<&FileLock> {
    lease.guard.as_deref()?.downcast_ref()
}

fn load(folder: &Path, path: &Path) -> Result<Option<StoredValue>, BoxError> {
    if !exists(folder)? {
        return Ok(None);
    }
    let Some(file) = secret_file::open(path, REMEDY)? else {
        return Ok(None);
    };
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
    let Some(age) = age_of(&file) else {
        // The clock was set back, so the age is unknown. Without remaining time, a token counts as
        // expired. But a login must not get lost, so the value is returned.
        return Ok(Some(StoredValue::new(sealed, Duration::ZERO)));
    };
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

fn save(
    folder: &Path,
    path: &Path,
    sealed: &[u8],
    ttl: Duration,
    write: Option<FileWrite>,
) -> Result<bool, BoxError> {
    let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    if ttl == 0 {
        return Ok(false);
    }
    let Some(write) = begin(folder, path, write)? else {
        // Another process has the lease.
        return Ok(false);
    };
    let length = (sealed.len() as u64).to_be_bytes();
    let parts: [&[u8]; 4] = [MAGIC, &ttl.to_be_bytes(), &length, sealed];
    write.replace(path, &parts)?;
    Ok(true)
}

/// Prepares a write. If the caller has no lease, locks the token for this write. Returns `None` if
/// another process has the lock.
fn begin(
    folder: &Path,
    path: &Path,
    write: Option<FileWrite>,
) -> Result<Option<FileWrite>, BoxError> {
    match write {
        Some(_) => create(folder).map(|()| write),
        None => Ok(locked(folder, path)?.map(|lock| lock.next_write())),
    }
}

/// Locks a token, and completes a save that was interrupted. Returns `None` if another process has
/// the lock.
fn locked(folder: &Path, path: &Path) -> Result<Option<FileLock>, BoxError> {
    create(folder)?;
    let locked = FileLock::take(&path.with_extension("lock"), REMEDY)?;
    if let Some(locked) = &locked {
        locked.finish(path, HEADER + LIMIT, REMEDY, |bytes| parse(bytes).is_some())?;
    }
    Ok(locked)
}

/// Creates the folder. If the folder already exists, checks the folder's owner.
fn create(folder: &Path) -> Result<(), BoxError> {
    create_folder(folder).map_err(|error| at(folder, &error))?;
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
