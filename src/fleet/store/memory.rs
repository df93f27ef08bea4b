//! A store in the memory of this process.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use zeroize::Zeroizing;

use super::token_store::{Lease, TokenStore, check_length};
use crate::error::BoxError;

/// Shares tokens between the caches of one process, and stands in for any other store in tests.
/// Clones are the same store.
///
/// Times are Tokio's, so that a test that pauses them ends a lease by
/// `tokio::time::advance`.
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use tower_auth::{MemoryStore, StoreKey, TokenStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
/// let store = MemoryStore::new();
/// let key = StoreKey::new("vault").to_text();
/// let lease = store.lease(&key, Duration::from_secs(30)).await?.expect("nobody else is there");
/// assert!(store.save(&key, b"sealed", Duration::from_secs(60), &lease).await?);
/// assert!(store.release(&key, lease).await?);
/// assert_eq!(store.load(&key).await?.as_deref(), Some(&b"sealed"[..]));
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct MemoryStore {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    /// That of the last lease, of any key.
    fence: u64,
    values: HashMap<String, Value>,
    leases: HashMap<String, Held>,
}

struct Value {
    sealed: Zeroizing<Vec<u8>>,
    fence: u64,
    end: End,
}

struct Held {
    fence: u64,
    end: End,
}

/// `None`: so far away that no clock gets there.
#[derive(Clone, Copy)]
struct End(Option<Instant>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is kept, without what is over.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        kept.values.retain(|_, value| value.end.is_after(now));
        kept.leases.retain(|_, held| held.end.is_after(now));
        kept
    }
}

impl TokenStore for MemoryStore {
    async fn load(&self, key: &str) -> Result<Option<Vec<u8>>, BoxError> {
        let kept = self.kept();
        Ok(kept.values.get(key).map(|value| value.sealed.to_vec()))
    }

    async fn save(
        &self,
        key: &str,
        sealed: &[u8],
        ttl: Duration,
        lease: &Lease,
    ) -> Result<bool, BoxError> {
        check_length(sealed.len())?;
        let end = End::after(ttl);
        let fence = lease.fence();
        let mut kept = self.kept();
        let is_late = kept
            .values
            .get(key)
            .is_some_and(|value| value.fence > fence);
        if is_late || !end.is_after(Instant::now()) {
            return Ok(false);
        }
        let sealed = Zeroizing::new(sealed.to_vec());
        kept.values
            .insert(key.to_owned(), Value { sealed, fence, end });
        Ok(true)
    }

    async fn lease(&self, key: &str, ttl: Duration) -> Result<Option<Lease>, BoxError> {
        let mut kept = self.kept();
        if kept.leases.contains_key(key) {
            return Ok(None);
        }
        kept.fence += 1;
        let fence = kept.fence;
        let end = End::after(ttl);
        kept.leases.insert(key.to_owned(), Held { fence, end });
        Ok(Some(Lease::new(fence)))
    }

    async fn release(&self, key: &str, lease: Lease) -> Result<bool, BoxError> {
        let mut kept = self.kept();
        let held = kept.leases.get(key);
        let is_ours = held.is_some_and(|held| held.fence == lease.fence());
        if is_ours {
            kept.leases.remove(key);
        }
        Ok(is_ours)
    }
}

impl End {
    fn after(ttl: Duration) -> Self {
        Self(Instant::now().checked_add(ttl))
    }

    fn is_after(self, now: Instant) -> bool {
        self.0.is_none_or(|end| end > now)
    }
}

/// How many, and nothing of what they are.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept();
        f.debug_struct("MemoryStore")
            .field("values", &kept.values.len())
            .field("leases", &kept.leases.len())
            .finish()
    }
}
