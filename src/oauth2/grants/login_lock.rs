//! Waits for the lock of a login, up to a deadline.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use super::refresh_store::{DynRefreshTokenStore, LoginLock};
use crate::backoff::Backoff;
use crate::error::{BoxError, Error, Kind};

/// The default time that a process waits for the lock. If a process with the default client dies,
/// its lock lasts for at most 13 s.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(15);

/// How much longer than a token request a process needs the lock, to load and to save the login.
const STORE_TIME: Duration = Duration::from_secs(3);

/// The time that the release of a lock may take. After this time, the lock ends by itself.
const UNLOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// The attempts of one fetch to take the lock.
pub(crate) struct LockAttempts<'a> {
    store: &'a dyn DynRefreshTokenStore,
    /// How long this process needs the lock.
    time: Duration,
    timeout: Duration,
    since: Instant,
    pauses: Backoff,
}

impl<'a> LockAttempts<'a> {
    /// Waits for at most `timeout`. A token request takes at most `request_time`.
    pub(crate) fn new(
        store: &'a dyn DynRefreshTokenStore,
        timeout: Duration,
        request_time: Duration,
    ) -> Self {
        Self {
            store,
            time: request_time.saturating_add(STORE_TIME),
            timeout,
            since: Instant::now(),
            pauses: Backoff::between_looks(true),
        }
    }

    /// Makes one attempt. If another process has the lock, waits a little and returns `None`. Fails
    /// after the deadline.
    pub(crate) async fn next(&mut self) -> Result<Option<LoginLock>, Error> {
        // Without a runtime, Tokio's timer would panic.
        if Handle::try_current().is_err() {
            let message = "a login can only be locked within a Tokio runtime";
            return Err(Error::new(Kind::Runtime, message));
        }
        let left = self.timeout.saturating_sub(self.since.elapsed());
        match timeout(left, self.store.lock(self.time)).await {
            Ok(Ok(Some(lock))) => return Ok(Some(lock)),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => return Err(not_locked(error)),
            Err(_) => return Err(self.too_late()),
        }
        self.pause().await?;
        Ok(None)
    }

    /// Waits until the next attempt. Fails after the deadline.
    pub(crate) async fn pause(&mut self) -> Result<(), Error> {
        let pause = self.pauses.next();
        if self.since.elapsed() + pause >= self.timeout {
            return Err(self.too_late());
        }
        sleep(pause).await;
        Ok(())
    }

    /// Waits for the lock.
    pub(crate) async fn lock(mut self) -> Result<LoginLock, Error> {
        loop {
            if let Some(lock) = self.next().await? {
                return Ok(lock);
            }
        }
    }

    fn too_late(&self) -> Error {
        let message = format!(
            "another process has locked the login for longer than {:?} (`lock_timeout`), so the refresh token \
             wasn't sent; look for a process that hangs",
            self.timeout
        );
        Error::new(Kind::Transient, message)
    }
}

/// Releases the lock. If the release fails, the lock ends by itself.
pub(crate) async fn unlock(store: &dyn DynRefreshTokenStore, lock: LoginLock) {
    drop(timeout(UNLOCK_TIMEOUT, store.unlock(lock)).await);
}

/// Makes the error of a login whose lock another process took.
pub(crate) fn lock_lost() -> Error {
    let message = "this process lost the lock of the login, so nothing was sent";
    Error::new(Kind::Transient, message)
}

/// Makes the error of a store that can't say whether this process has the lock.
pub(crate) fn not_locked(error: BoxError) -> Error {
    let message = "could not lock the login, so the refresh token wasn't sent";
    Error::new(Kind::Transient, message).with_source(error)
}
