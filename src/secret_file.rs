//! Secrets in files: small texts, of which no copy is left behind, on disks that may take their time.

use std::fs::File;
use std::io::{self, Read};

use tokio::runtime::Handle;
use tokio::task::JoinError;
use zeroize::Zeroizing;

/// No secret is longer, and a path that was mistaken shouldn't fill the memory.
const LIMIT: u64 = 64 * 1024;

/// The whole text; `None` if it is longer than 64 KiB.
pub(crate) fn read(file: File) -> io::Result<Option<Zeroizing<String>>> {
    // As long as it can get, for what a growing buffer leaves behind isn't zeroized.
    let mut text = Zeroizing::new(String::with_capacity(LIMIT as usize + 1));
    file.take(LIMIT + 1).read_to_string(&mut text)?;
    Ok((text.len() as u64 <= LIMIT).then_some(text))
}

/// Does work that waits for a disk: off the runtime's threads where there is a runtime.
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
