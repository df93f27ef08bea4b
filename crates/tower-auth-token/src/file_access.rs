//! Access to the store's files, which differs between Unix and other systems.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use system::{cache_folder, check_key, create_folder};

use crate::variable;

/// Folders and files with permission bits.
#[cfg(all(unix, not(tower_auth_portable)))]
mod system {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};

    use super::{Path, PathBuf, fs, io, variable};

    /// Returns the folder in which programs of this user cache files.
    pub(crate) fn cache_folder() -> Option<PathBuf> {
        variable::path("HOME").map(|home| home.join(".cache"))
    }

    /// Creates a folder that only the user may use, unless the folder exists.
    pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path)
    }

    /// Rejects a key that other users may read or change.
    pub(crate) fn check_key(path: &Path) -> Result<(), String> {
        let at = |error: io::Error| format!("{}: {error}", path.display());
        let mode = fs::metadata(path).map_err(at)?.permissions().mode() & 0o777;
        if mode & 0o077 == 0 {
            return Ok(());
        }
        let path = path.display();
        Err(format!(
            "{path}: other users may access the key (mode {mode:04o}); remove the file, and the next run \
             makes another key"
        ))
    }
}

/// Folders and files that get the rights of the folder above.
#[cfg(any(not(unix), tower_auth_portable))]
mod system {
    use super::{Path, PathBuf, fs, io, variable};

    /// Returns the folder in which programs of this user cache files. On Windows, a variable names
    /// this folder.
    pub(crate) fn cache_folder() -> Option<PathBuf> {
        let home = || variable::path("HOME").map(|home| home.join(".cache"));
        variable::path("LOCALAPPDATA").or_else(home)
    }

    /// Creates a folder, unless the folder exists.
    pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    /// Accepts every key, because there are no permission bits.
    pub(crate) fn check_key(_: &Path) -> Result<(), String> {
        Ok(())
    }
}
