//! A store in a folder, for the processes of one user on one machine.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use super::token_store::{LIMIT, Lease, TokenStore, check_length};
use crate::error::BoxError;
use crate::source::secret_file::{self, at, mode_of, off_the_runtime};

/// Shares tokens between the processes of one user on one machine: command lines, jobs of a timer.
///
/// A file for each token, and one beside it that whoever fetches has locked. The system frees the lock when
/// that process ends, however it ends, so the lease has no other end than that and needs no fencing token.
/// A token is written beside the old one, brought to the disk, and put in its place in one step. How long
/// it is good is counted by the machine's clock.
///
/// The folder is made when it is first needed. It should be on a local disk: not all others lock.
///
/// # Errors
///
/// On Unix, a folder or a file that isn't this user's, or that others may use (its mode isn't 0700 or
/// 0600, or stricter), is refused.
///
/// # Example
///
/// ```no_run
/// use tower_auth::FileStore;
///
/// let home = std::env::var("HOME").unwrap_or_default();
/// let store = FileStore::new(format!("{home}/.cache/my-app/tokens"));
/// ```
#[derive(Clone, Debug)]
pub struct FileStore {
    folder: PathBuf,
}

/// Begins each file, and tells it from those of a later version that looks otherwise.
const MAGIC: &[u8; 8] = b"t-auth 1";

/// The magic, when it is over (milliseconds since 1970, big-endian), and how many bytes follow (the same).
const HEADER: usize = 24;

impl FileStore {
    /// A store in this folder, which needn't exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self { folder }
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A key that isn't one could lead to another folder.
    fn path(&self, key: &str, extension: &str) -> Result<PathBuf, BoxError> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if key.is_empty() || !key.bytes().all(is_letter) {
            return Err("a key holds letters of the base64url alphabet only".into());
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

    /// The lease has no other end than its process, so it isn't limited to the time that is asked for.
    async fn lease(&self, key: &str, _ttl: Duration) -> Result<Option<Lease>, BoxError> {
        let folder = self.folder.clone();
        let path = self.path(key, "lock")?;
        let locked = off_the_runtime(move || lock(&folder, &path)).await??;
        // Nobody else can have saved anything while it is had, so it comes after all others.
        Ok(locked.map(|file| Lease::new(0).holding(file)))
    }

    async fn release(&self, _key: &str, lease: Lease) -> Result<bool, BoxError> {
        // Dropping it is what frees it.
        let is_ours = lease.guard.is_some_and(|guard| guard.is::<Locked>());
        Ok(is_ours)
    }
}

/// A file that this process has locked. It is unlocked and not just closed: a child that is being started at
/// that moment has the same file open until it becomes another program, and with it the lock.
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        drop(self.0.unlock());
    }
}

fn load(folder: &Path, path: &Path) -> Result<Option<Vec<u8>>, BoxError> {
    if !is_there(folder)? {
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
        return Err(format!("{path}: no sealed token has more than 256 KiB; remove it").into());
    }
    match open(&bytes) {
        Some((end, _)) if end <= now() => Ok(None),
        Some((_, sealed)) => Ok(Some(sealed.to_vec())),
        // Torn, or not of this store: whoever unseals it says so, and it is overwritten.
        None => Ok(Some(bytes)),
    }
}

/// When it is over, and what follows; `None` if that isn't what a file of this store looks like.
fn open(bytes: &[u8]) -> Option<(u64, &[u8])> {
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
    make(folder)?;
    let end = now().saturating_add(ttl).to_be_bytes();
    let length = (sealed.len() as u64).to_be_bytes();
    let parts: [&[u8]; 4] = [MAGIC, &end, &length, sealed];
    secret_file::replace(path, &parts).map_err(|error| at(path, &error))?;
    Ok(true)
}

/// The file that says who fetches, locked; `None` if somebody else has locked it. It stays when it is freed:
/// who removes it takes it from the next one, who has opened it by then.
fn lock(folder: &Path, path: &Path) -> Result<Option<Locked>, BoxError> {
    make(folder)?;
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

/// Makes the folder if it isn't there. What is there may not be ours.
fn make(folder: &Path) -> Result<(), BoxError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(folder).map_err(|error| at(folder, &error))?;
    is_there(folder).map(drop)
}

/// Whether the folder is there, and only its owner's.
fn is_there(folder: &Path) -> Result<bool, BoxError> {
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

/// Whoever else may write there decides which token is sent; whoever may read there can try to unseal it.
fn check_owner(path: &Path, found: &Metadata) -> Result<(), BoxError> {
    let path = path.display();
    if let Some((owner, user)) = foreign_owner(found) {
        return Err(format!(
            "{path}: belongs to user {owner} and not to user {user} who runs this, so no token is kept \
             there; `chown {user} {path}`, remove it, or choose another folder"
        )
        .into());
    }
    let mode = mode_of(found);
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let right = if found.is_dir() { "700" } else { "600" };
    Err(format!(
        "{path}: others than its owner may use it (mode {mode:04o}), so no token is kept there; \
         `chmod {right} {path}`, or remove it if they may have changed it"
    )
    .into())
}

/// Whose it is, and who we are, if that isn't the same user.
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
