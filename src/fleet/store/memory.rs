//! A store in the memory of this process.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use zeroize::Zeroizing;

use super::token_store::{Lease, StoredValue, TokenStore, check_length};
use crate::error::BoxError;

/// Shares tokens between the caches of one process. In tests, this store replaces other stores. All
/// clones share their contents.
///
/// The store uses Tokio's clock. A test that pauses the clock can end a lease with
/// `tokio::time::advance`.
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use tower_auth::fleet::{MemoryStore, StoreKey, TokenStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
/// let store = MemoryStore::new();
/// let key = StoreKey::new("vault").to_text();
/// let lease = store.lease(&key, Duration::from_secs(30)).await?.expect("no other process");
/// assert!(store.save(&key, b"sealed", Duration::from_secs(60), &lease).await?);
/// assert!(store.release(&key, lease).await?);
/// let value = store.load(&key).await?.expect("saved before");
/// let (sealed, remaining) = value.sealed()?;
/// assert_eq!(sealed, b"sealed");
/// assert!(remaining <= Duration::from_secs(60));
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct MemoryStore {
    contents: Arc<Mutex<Contents>>,
}

#[derive(Default)]
struct Contents {
    /// The fencing token of the latest lease for any key.
    fence: u64,
    values: HashMap<String, SavedValue>,
    leases: HashMap<String, RunningLease>,
}

struct SavedValue {
    sealed: Zeroizing<Vec<u8>>,
    fence: u64,
    end: Deadline,
}

struct RunningLease {
    fence: u64,
    end: Deadline,
}

/// The time at which a value or a lease ends. `None` if this time is too far in the future for an
/// `Instant`.
#[derive(Clone, Copy)]
struct Deadline(Option<Instant>);

impl MemoryStore {
    /// Makes an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes expired entries, and returns the contents.
    fn lock(&self) -> MutexGuard<'_, Contents> {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        contents.values.retain(|_, value| value.end.is_after(now));
        contents.leases.retain(|_, lease| lease.end.is_after(now));
        contents
    }
}

impl TokenStore for MemoryStore {
    async fn load(&self, key: &str) -> Result<Option<StoredValue>, BoxError> {
        let contents = self.lock();
        let value = contents.values.get(key);
        Ok(value.map(|value| StoredValue::new(value.sealed.to_vec(), value.end.remaining())))
    }

    async fn save(
        &self,
        key: &str,
        sealed: &[u8],
        ttl: Duration,
        lease: &Lease,
    ) -> Result<bool, BoxError> {
        check_length(sealed.len())?;
        let end = Deadline::after(ttl);
        let fence = lease.fence();
        let mut contents = self.lock();
        let is_outdated = contents
            .values
            .get(key)
            .is_some_and(|value| value.fence > fence);
        if is_outdated || !end.is_after(Instant::now()) {
            return Ok(false);
        }
        let sealed = Zeroizing::new(sealed.to_vec());
        contents
            .values
            .insert(key.to_owned(), SavedValue { sealed, fence, end });
        Ok(true)
    }

    async fn delete(&self, key: &str, lease: &Lease) -> Result<bool, BoxError> {
        let mut contents = self.lock();
        let value = contents.values.get(key);
        let may_delete = value.is_some_and(|value| value.fence <= lease.fence());
        if may_delete {
            contents.values.remove(key);
        }
        Ok(may_delete)
    }

    async fn lease(&self, key: &str, ttl: Duration) -> Result<Option<Lease>, BoxError> {
        let mut contents = self.lock();
        if contents.leases.contains_key(key) {
            return Ok(None);
        }
        contents.fence += 1;
        let fence = contents.fence;
        let end = Deadline::after(ttl);
        contents
            .leases
            .insert(key.to_owned(), RunningLease { fence, end });
        Ok(Some(Lease::new(fence)))
    }

    async fn renew(&self, key: &str, lease: &Lease, ttl: Duration) -> Result<bool, BoxError> {
        let mut contents = self.lock();
        let running = contents.leases.get_mut(key);
        let Some(running) = running.filter(|running| running.fence == lease.fence()) else {
            return Ok(false);
        };
        running.end = Deadline::after(ttl);
        Ok(true)
    }

    async fn release(&self, key: &str, lease: Lease) -> Result<bool, BoxError> {
        let mut contents = self.lock();
        let running = contents.leases.get(key);
        let is_ours = running.is_some_and(|running| running.fence == lease.fence());
        if is_ours {
            contents.leases.remove(key);
        }
        Ok(is_ours)
    }
}

impl Deadline {
    fn after(ttl: Duration) -> Self {
        Self(Instant::now().checked_add(ttl))
    }

    fn is_after(self, now: Instant) -> bool {
        self.0.is_none_or(|end| end > now)
    }

    fn remaining(self) -> Duration {
        let left = |end: Instant| end.saturating_duration_since(Instant::now());
        self.0.map_or(Duration::MAX, left)
    }
}

/// Shows the number of values and leases, but not their contents.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contents = self.lock();
        f.debug_struct("MemoryStore")
            .field("values", &contents.values.len())
            .field("leases", &contents.leases.len())
            .finish()
    }
}
