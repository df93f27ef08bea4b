//! Access to files without owners and permission bits. This module uses only the standard library.
//! It doesn't check or limit which users may access a file.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Does nothing: a new file gets the permissions of its folder.
pub(crate) fn owners_only(_: &mut OpenOptions) {}

/// Creates a folder, unless the folder exists. The folder gets the permissions of its parent
/// folder.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Returns `None`: every file counts as this user's.
pub(crate) fn foreign_owner(_: &Metadata) -> Option<(u32, u32)> {
    None
}

/// Returns 0, which counts as the mode of a file that only its owner may use.
pub(crate) fn mode_of(_: &Metadata) -> u32 {
    0
}

/// Returns the time since the file's last change, by the clock of this process. Returns `None` if
/// the clock was set back.
pub(crate) fn age_of(file: &File) -> Option<Duration> {
    let modified = file.metadata().ok()?.modified().ok()?;
    SystemTime::now().duration_since(modified).ok()
}

/// Does nothing, because the standard library can't open a folder on Windows.
pub(crate) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
