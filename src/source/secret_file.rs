//! Reads and writes secret files without blocking the runtime's worker threads. No copy of a secret
//! stays in memory.

use std::fs::File;
use std::io::{self, Read};

use tokio::runtime::Handle;
use tokio::task::JoinError;
use zeroize::Zeroizing;

#[cfg(feature = "file")]
pub(crate) use written::{age_of, at, mode_of, replace};

/// The maximum size of a secret file, in bytes. Without a limit, a wrong path could fill the
/// memory.
const LIMIT: u64 = 64 * 1024;

/// Reads the whole file. Returns `None` if the file is longer than 64 KiB.
pub(crate) fn read(file: File) -> io::Result<Option<Zeroizing<String>>> {
    // Allocates the maximum length. A buffer that grows leaves copies in memory that aren't
    // zeroized.
    let mut text = Zeroizing::new(String::with_capacity(LIMIT as usize + 1));
    file.take(LIMIT + 1).read_to_string(&mut text)?;
    Ok((text.len() as u64 <= LIMIT).then_some(text))
}

/// Runs `work`, which may wait for a disk, on a blocking thread. Without a runtime, `work` runs on
/// the current thread.
pub(crate) async fn off_the_runtime<T, F>(work: F) -> Result<T, JoinError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    match Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await,
        Err(_) => Ok(work()),
    }
}

/// Files that this crate writes itself.
#[cfg(feature = "file")]
mod written {
    use std::ffi::OsStr;
    use std::fs::{File, Metadata};
    use std::io::{self, Write};
    use std::path::Path;
    use std::time::Duration;

    use crate::error::BoxError;

    /// Replaces a file atomically with a file that contains these parts. After a crash, either the
    /// complete old file or the complete new file exists. Only the owner may use the new file.
    ///
    /// `tempfile` creates files with mode 0600. It removes a file that wasn't moved to `path`.
    pub(crate) fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
        let folder = folder_of(path);
        let name = path.file_name().unwrap_or(OsStr::new("secret"));
        let mut file = tempfile::Builder::new().prefix(name).tempfile_in(folder)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        // The new name reaches the disk only when the folder is synced.
        sync_folder(folder)
    }

    /// Returns the time since the file's last change, by the clock of the file system. Returns
    /// `None` if that clock was set back.
    ///
    /// The clock of this process may differ from the clock of the process that wrote the file. So
    /// the file system sets the file's access time to its own current time.
    #[cfg(unix)]
    pub(crate) fn age_of(file: &File) -> Option<Duration> {
        use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};

        let at = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
        let touched = Timestamps {
            last_access: at(UTIME_NOW),
            last_modification: at(UTIME_OMIT),
        };
        futimens(file, &touched).ok()?;
        let found = file.metadata().ok()?;
        found
            .accessed()
            .ok()?
            .duration_since(found.modified().ok()?)
            .ok()
    }

    /// Returns the time since the file's last change. Returns `None` if the clock was set back.
    #[cfg(not(unix))]
    pub(crate) fn age_of(file: &File) -> Option<Duration> {
        let changed = file.metadata().ok()?.modified().ok()?;
        std::time::SystemTime::now().duration_since(changed).ok()
    }

    /// Returns the permission bits. The mask `0o077` selects the bits of users other than the
    /// owner. Returns 0 on platforms without modes.
    pub(crate) fn mode_of(found: &Metadata) -> u32 {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            found.permissions().mode() & 0o777
        }
        #[cfg(not(unix))]
        {
            let _ = found;
            0
        }
    }

    /// Adds the path to the error.
    pub(crate) fn at(path: &Path, error: &io::Error) -> BoxError {
        format!("{}: {error}", path.display()).into()
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

    /// Does nothing on platforms other than Unix, because a folder can't be opened there.
    #[cfg(not(unix))]
    fn sync_folder(_: &Path) -> io::Result<()> {
        Ok(())
    }
}
