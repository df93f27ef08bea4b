//! Reads and writes secret files without blocking the runtime's worker threads. No copy of a secret
//! stays in memory.

use std::io::{self, Read};

use tokio::runtime::Handle;
use tokio::task::JoinError;
use zeroize::Zeroizing;

#[cfg(feature = "file")]
pub(crate) use written::{
    FileLock, FileWrite, at, check, check_links, folder_of, open, resolve, with_suffix,
};

/// The maximum size of a secret file, in bytes. Without a limit, a wrong path could fill the
/// memory.
const LIMIT: u64 = 64 * 1024;

/// Reads the whole file. Returns `None` if the file is longer than 64 KiB.
pub(crate) fn read(file: impl Read) -> io::Result<Option<Zeroizing<String>>> {
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
///
/// - Only the owner may use such a file. A file that other users may read or write is rejected.
/// - A new file is written completely under the name `<name>.next` and synced. Then the new file
///   replaces the old file. So only one writer at a time may write, under a lock.
/// - After `kill -9` or a crash, `<name>.next` may remain. The next process with the lock moves a
///   complete file to its place, and removes an incomplete file. If another program has written the
///   old file since, the process removes the new file.
#[cfg(feature = "file")]
mod written {
    use std::ffi::OsStr;
    use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
    use std::io::{self, Read, Write};
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use same_file::Handle;
    use zeroize::Zeroizing;

    use crate::error::BoxError;
    use crate::source::file_access::{foreign_owner, mode_of, owners_only, sync_folder};

    /// The maximum number of symbolic links on the way to a file. Linux follows at most 40.
    const MOST_LINKS: usize = 100;

    /// A lock that no other process has. The system unlocks the lock file when this process ends.
    ///
    /// Only the holder of the lock writes the files that the lock protects. The writes under one
    /// lock run one after the other. A cancelled future doesn't stop its write, which may still wait
    /// for the disk. So each write has a number, and an older write never replaces a newer one.
    #[derive(Clone)]
    pub(crate) struct FileLock {
        file: Arc<Mutex<LockedFile>>,
        writes: Arc<AtomicU64>,
    }

    /// A write that will replace or remove a file.
    pub(crate) struct FileWrite {
        lock: FileLock,
        number: u64,
    }

    /// A locked file, and the number of the last write that began.
    ///
    /// `Drop` unlocks the file explicitly, because closing the file isn't enough. A child process
    /// that is just starting has the file open until its `exec`. Without the explicit unlock, the
    /// child would keep the lock.
    struct LockedFile {
        file: File,
        last_write: u64,
    }

    impl Drop for LockedFile {
        fn drop(&mut self) {
            drop(self.file.unlock());
        }
    }

    impl FileLock {
        /// Locks the lock file, and creates it if necessary. Returns `None` if another process has
        /// locked the file. The file stays after unlocking, because the next process may already
        /// have opened it.
        pub(crate) fn take(path: &Path, remedy: &str) -> Result<Option<Self>, BoxError> {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).write(true);
            owners_only(&mut options);
            let file = options
                .open(path)
                .map_err(|error| not_written(path, &error))?;
            check_file(path, &file, remedy)?;
            Self::lock(path, file)
        }

        /// Locks the file that was at `path` when this process opened it.
        fn lock(path: &Path, file: File) -> Result<Option<Self>, BoxError> {
            match file.try_lock() {
                Ok(()) => {
                    let last_write = 0;
                    let lock = Self {
                        file: Arc::new(Mutex::new(LockedFile { file, last_write })),
                        writes: Arc::default(),
                    };
                    // Another program may have removed the file before this process locked it.
                    Ok(lock.is_at(path)?.then_some(lock))
                }
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(error)) => Err(at(path, &error)),
            }
        }

        /// Returns whether `path` still leads to the locked file. Otherwise, another process could
        /// lock a new file in its place.
        pub(crate) fn is_at(&self, path: &Path) -> Result<bool, BoxError> {
            is_at(path, &self.locked().file).map_err(|error| at(path, &error))
        }

        /// Numbers the next write. Call this method before any wait, so that the numbers have the
        /// order of the saves.
        pub(crate) fn next_write(&self) -> FileWrite {
            let number = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
            let lock = self.clone();
            FileWrite { lock, number }
        }

        /// Completes a save that `kill -9` or a crash interrupted. Moves a complete new file to its
        /// place, and removes an incomplete new file.
        pub(crate) fn finish(
            &self,
            path: &Path,
            limit: usize,
            remedy: &str,
            is_complete: impl FnOnce(&[u8]) -> bool,
        ) -> Result<(), BoxError> {
            let _locked = self.locked();
            finish(path, limit, remedy, is_complete)
        }

        fn locked(&self) -> MutexGuard<'_, LockedFile> {
            self.file.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl FileWrite {
        /// Replaces a file atomically with a file that contains these parts. After a crash, either
        /// the complete old file or the complete new file exists. Only the owner may use the new
        /// file.
        pub(crate) fn replace(self, path: &Path, parts: &[&[u8]]) -> Result<(), BoxError> {
            let mut locked = self.lock.locked();
            match locked.begins(self.number) {
                true => replace(path, parts),
                false => Ok(()),
            }
        }

        /// Removes the file, and what an interrupted save left. Returns whether there was a file.
        pub(crate) fn remove(self, path: &Path) -> Result<bool, BoxError> {
            let mut locked = self.lock.locked();
            match locked.begins(self.number) {
                true => remove(path),
                false => Ok(false),
            }
        }
    }

    impl LockedFile {
        /// Returns whether no later write has begun.
        fn begins(&mut self, number: u64) -> bool {
            let is_latest = number > self.last_write;
            self.last_write = self.last_write.max(number);
            is_latest
        }
    }

    /// Opens a file for reading. Returns `None` if there is no file. `remedy` says what to do with a
    /// file that other users may have used.
    pub(crate) fn open(path: &Path, remedy: &str) -> Result<Option<File>, BoxError> {
        open_with(&read_only(), path, remedy)
    }

    fn open_with(
        options: &OpenOptions,
        path: &Path,
        remedy: &str,
    ) -> Result<Option<File>, BoxError> {
        let file = match options.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(path, &error)),
        };
        check_file(path, &file, remedy)?;
        Ok(Some(file))
    }

    fn read_only() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true);
        owners_only(&mut options);
        options
    }

    fn replace(path: &Path, parts: &[&[u8]]) -> Result<(), BoxError> {
        let next = next_to(path);
        let (folder, failed) = (folder_of(path), |error| not_written(path, &error));
        remove_if_present(&next).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.create_new(true).write(true);
        owners_only(&mut options);
        let mut file = options.open(&next).map_err(failed)?;
        let written = parts.iter().try_for_each(|part| file.write_all(part));
        if let Err(error) = written {
            drop(file);
            drop(fs::remove_file(&next));
            return Err(at(path, &error));
        }
        // If one of these steps fails, the complete new file remains for `finish`.
        let moved = file
            .sync_all()
            .and_then(|()| fs::rename(&next, path))
            .and_then(|()| sync_folder(folder));
        moved.map_err(failed)
    }

    fn finish(
        path: &Path,
        limit: usize,
        remedy: &str,
        is_complete: impl FnOnce(&[u8]) -> bool,
    ) -> Result<(), BoxError> {
        let next = next_to(path);
        match fs::symlink_metadata(&next) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at(&next, &error)),
            // `replace` makes only regular files, so another program made this.
            Ok(found) if !found.is_file() => {
                return fs::remove_file(&next).map_err(|error| at(&next, &error));
            }
            Ok(_) => {}
        }
        // Windows syncs only files that are open for writing.
        let Some(file) = open_with(read_only().write(true), &next, remedy)? else {
            return Ok(());
        };
        // Allocates the whole length, because a buffer that grows leaves copies in memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 2));
        let read = (&file).take(limit as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| at(&next, &error))?;
        if bytes.len() > limit || !is_complete(&bytes) || is_older(&file, path) {
            return fs::remove_file(&next).map_err(|error| at(&next, &error));
        }
        let moved = file
            .sync_all()
            .and_then(|()| fs::rename(&next, path))
            .and_then(|()| sync_folder(folder_of(path)));
        moved.map_err(|error| at(&next, &error))
    }

    /// Returns whether the file at `path` was written later. After the crash, another program may have
    /// written it.
    fn is_older(file: &File, path: &Path) -> bool {
        let changed = |found: io::Result<Metadata>| found.and_then(|found| found.modified()).ok();
        let replaced = changed(fs::symlink_metadata(path));
        replaced.is_some_and(|replaced| changed(file.metadata()).is_some_and(|it| it < replaced))
    }

    fn remove(path: &Path) -> Result<bool, BoxError> {
        // In the other order, a crash in between would leave a file that `finish` moves back.
        let removed = remove_if_present(&next_to(path)).and_then(|_| remove_if_present(path));
        let removed = removed.and_then(|was_present| {
            if was_present {
                sync_folder(folder_of(path))?;
            }
            Ok(was_present)
        });
        removed.map_err(|error| not_written(path, &error))
    }

    fn remove_if_present(path: &Path) -> io::Result<bool> {
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the path of the successor: the new file that will replace `path`.
    fn next_to(path: &Path) -> PathBuf {
        with_suffix(path, ".next")
    }

    /// Appends to the name of the file.
    pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    }

    /// Follows a symbolic link to the file, so that a save replaces the file and not the link. The
    /// lock file is beside the file, so all links to the file share one lock. Rejects links that
    /// other users could have made.
    pub(crate) fn resolve(path: &Path) -> Result<PathBuf, BoxError> {
        check_links(path)?;
        let folder = folder_of(path);
        match fs::read_link(path) {
            // The target of the link may be missing at first.
            Ok(target) => Ok(fs::canonicalize(path).unwrap_or_else(|_| folder.join(target))),
            Err(_) => Ok(path.to_owned()),
        }
    }

    /// Rejects a path with a symbolic link in a folder in which other users may make links. Such a
    /// link could lead to a file that those users chose, even if the folder has the sticky bit. Also
    /// follows the link, because it may lead to another link.
    pub(crate) fn check_links(path: &Path) -> Result<(), BoxError> {
        let mut links = MOST_LINKS;
        check_links_within(path, &mut links)
    }

    fn check_links_within(path: &Path, links: &mut usize) -> Result<(), BoxError> {
        // Without the slash at the end, the last name may be a link too.
        let path = path.components().as_path();
        for path in path.ancestors() {
            let Ok(target) = fs::read_link(path) else {
                continue;
            };
            check_link(path)?;
            let Some(left) = links.checked_sub(1) else {
                return Err(format!("{}: too many symbolic links", path.display()).into());
            };
            *links = left;
            check_links_within(&folder_of(path).join(target), links)?;
        }
        Ok(())
    }

    fn check_link(path: &Path) -> Result<(), BoxError> {
        let link = fs::symlink_metadata(path).map_err(|error| at(path, &error))?;
        if let Some((owner, _)) = foreign_owner(&link).filter(|(owner, _)| !is_root(*owner)) {
            return Err(format!(
                "{}: this is a symbolic link of user {owner}, who chose where it leads; \
                 use the path that the link leads to",
                path.display()
            )
            .into());
        }
        let folder = folder_of(path);
        let found = fs::metadata(folder).map_err(|error| at(folder, &error))?;
        let mode = mode_of(&found);
        if mode & 0o022 == 0 {
            return Ok(());
        }
        let (path, folder) = (path.display(), folder.display());
        Err(format!(
            "{path}: this is a symbolic link, and other users may write to its folder (mode {mode:04o}), \
             so they may have made the link; use the path that the link leads to, \
             or run `chmod go-w {folder}`"
        )
        .into())
    }

    fn check_file(path: &Path, file: &File, remedy: &str) -> Result<(), BoxError> {
        let found = file.metadata().map_err(|error| at(path, &error))?;
        if !found.is_file() {
            return Err(format!("{}: this isn't a file", path.display()).into());
        }
        check(path, &found, remedy)
    }

    /// Rejects a file or folder that another user owns or may access. With write access, other
    /// users could choose the token that is sent. With read access, they could use the token, or
    /// try to unseal it.
    pub(crate) fn check(path: &Path, found: &Metadata, remedy: &str) -> Result<(), BoxError> {
        let path = path.display();
        if let Some((owner, user)) = foreign_owner(found) {
            return Err(format!(
                "{path}: belongs to user {owner}, but this process runs as user {user}, so no token is kept \
                 there; run `chown {user} {path}`, {remedy}, or choose another place"
            )
            .into());
        }
        let mode = mode_of(found);
        if mode & 0o077 == 0 {
            return Ok(());
        }
        let right = if found.is_dir() { "700" } else { "600" };
        Err(format!(
            "{path}: other users may access it (mode {mode:04o}), so they may know or have changed the token; \
             run `chmod {right} {path}` if nobody has done so, or {remedy}"
        )
        .into())
    }

    /// Returns whether this user is root. In a user namespace, root may have another number, and
    /// owns the topmost folder.
    fn is_root(user: u32) -> bool {
        let top = fs::metadata("/").ok();
        let top_owner = top.and_then(|found| foreign_owner(&found));
        user == 0 || top_owner.is_some_and(|(owner, _)| owner == user)
    }

    /// Returns whether `path` still leads to this file.
    fn is_at(path: &Path, file: &File) -> io::Result<bool> {
        match read_only().open(path) {
            Ok(found) => Ok(Handle::from_file(found)? == Handle::from_file(file.try_clone()?)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Adds the path to the error.
    pub(crate) fn at(path: &Path, error: &io::Error) -> BoxError {
        format!("{}: {error}", path.display()).into()
    }

    /// Adds the path to the error of a write. Says what is missing if this process may not write to
    /// the folder.
    fn not_written(path: &Path, error: &io::Error) -> BoxError {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};

        if !matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) {
            return at(path, error);
        }
        let (path, folder) = (path.display(), folder_of(path).display());
        format!(
            "{path}: {error}; this process must be able to create files in {folder}, so give its user write \
             access to that folder, or choose a folder of its own"
        )
        .into()
    }

    pub(crate) fn folder_of(path: &Path) -> &Path {
        match path.parent() {
            Some(folder) if folder != OsStr::new("") => folder,
            _ => Path::new("."),
        }
    }

    /// This is a unit test because an integration test can't replace the file between the opening
    /// and the locking.
    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_lock_file_that_was_removed_before_it_was_locked_is_no_lock() -> Result<(), BoxError> {
            let folder = tempfile::tempdir()?;
            let path = folder.path().join("lock");
            let open = || File::create(&path);
            let removed = open()?;
            fs::remove_file(&path)?;
            assert!(FileLock::lock(&path, removed.try_clone()?)?.is_none());
            let replacing = open()?;
            assert!(FileLock::lock(&path, removed)?.is_none());
            assert!(FileLock::lock(&path, replacing)?.is_some());
            Ok(())
        }
    }
}
