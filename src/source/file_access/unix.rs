//! Access to files with an owner and permission bits.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};
use rustix::process::geteuid;

/// Makes a new file usable for its owner only. Doesn't follow a symbolic link, and doesn't wait
/// for the other end of a pipe.
pub(crate) fn owners_only(options: &mut OpenOptions) {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.mode(0o600);
    options.custom_flags(i32::try_from(flags.bits()).unwrap_or_default());
}

/// Creates a folder that only its owner may use, unless the folder exists.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Returns the file's owner and this process's user, if these two users differ.
pub(crate) fn foreign_owner(found: &Metadata) -> Option<(u32, u32)> {
    let user = geteuid().as_raw();
    (found.uid() != user).then_some((found.uid(), user))
}

/// Returns the permission bits. The mask `0o077` selects the bits of users other than the owner.
pub(crate) fn mode_of(found: &Metadata) -> u32 {
    found.permissions().mode() & 0o777
}

/// Returns the time since the file's last change, by the clock of the file system. Returns `None`
/// if that clock was set back.
///
/// The clock of this process may differ from the clock of the process that wrote the file. So the
/// file system sets the file's access time to its own current time.
pub(crate) fn age_of(file: &File) -> Option<Duration> {
    let at = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let touched = Timestamps {
        last_access: at(UTIME_NOW),
        last_modification: at(UTIME_OMIT),
    };
    futimens(file, &touched).ok()?;
    let found = file.metadata().ok()?;
    let (accessed, modified) = (found.accessed().ok()?, found.modified().ok()?);
    accessed.duration_since(modified).ok()
}

/// Syncs the names of the folder's files to disk.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
