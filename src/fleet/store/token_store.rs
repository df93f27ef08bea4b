//! The trait of a store of shared tokens, and what the store returns.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "redis")]
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::error::BoxError;

/// Stores shared tokens, and leases the right to fetch the next token.
///
/// The [`Fleet`](crate::fleet::Fleet) limits the time of each call. If a call fails, the process
/// fetches without the store. With a [one-time grant](crate::TokenSource::has_one_time_grant), the
/// fetch fails instead. Therefore, a store should report each failure without retrying.
///
/// A key is 43 characters of the base64url alphabet. These characters are valid in file names and
/// in any database. If the store has several servers, all calls for one key must go to the same
/// server.
///
/// The store measures all times with its own clock. The processes never compare their clocks, so
/// these clocks may differ by any amount.
///
/// # Example
///
/// A store for a single process:
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
/// use std::time::{Duration, Instant};
///
/// use tower_auth::fleet::{Lease, StoredValue, TokenStore};
/// use tower_auth::BoxError;
///
/// #[derive(Default)]
/// struct OneProcess {
///     values: Mutex<HashMap<String, (Vec<u8>, Instant)>>,
/// }
///
/// impl TokenStore for OneProcess {
///     async fn load(&self, key: &str) -> Result<Option<StoredValue>, BoxError> {
///         let values = self.values.lock().map_err(|_| "poisoned")?;
///         let now = Instant::now();
///         let good = values.get(key).filter(|(_, end)| *end > now);
///         Ok(good.map(|(sealed, end)| StoredValue::new(sealed.clone(), *end - now)))
///     }
///
///     async fn save(
///         &self,
///         key: &str,
///         sealed: &[u8],
///         ttl: Duration,
///         _lease: &Lease,
///     ) -> Result<bool, BoxError> {
///         let value = (sealed.to_vec(), Instant::now() + ttl);
///         self.values.lock().map_err(|_| "poisoned")?.insert(key.to_owned(), value);
///         Ok(true)
///     }
///
///     async fn delete(&self, key: &str, _lease: &Lease) -> Result<bool, BoxError> {
///         Ok(self.values.lock().map_err(|_| "poisoned")?.remove(key).is_some())
///     }
///
///     // There is no other process that could fetch.
///     async fn lease(&self, _: &str, _: Duration) -> Result<Option<Lease>, BoxError> {
///         Ok(Some(Lease::new(0)))
///     }
///
///     async fn renew(&self, _: &str, _: &Lease, _: Duration) -> Result<bool, BoxError> {
///         Ok(true)
///     }
///
///     async fn release(&self, _: &str, _: Lease) -> Result<bool, BoxError> {
///         Ok(true)
///     }
/// }
/// ```
pub trait TokenStore: Send + Sync + 'static {
    /// Loads the last value that was saved for `key`, and the time that the store still keeps the
    /// value. Returns `None` if there is no value or the value has expired.
    ///
    /// If another program wrote something else under this key, returns a
    /// [foreign](StoredValue::foreign) value instead of an error. The next `save` replaces it.
    ///
    /// # Errors
    ///
    /// Returns an error if the value can't be read. The error's message may be logged, so the
    /// message must contain no secret.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped after the [store timeout](crate::fleet::Fleet::store_timeout). The
    /// same applies to all methods of this trait.
    fn load(&self, key: &str)
    -> impl Future<Output = Result<Option<StoredValue>, BoxError>> + Send;

    /// Saves `sealed` for `ttl`. The new value replaces the old value atomically.
    ///
    /// Returns whether the value was saved. If a later lease has already saved a value, this method
    /// must not save. A later lease has a greater [fence](Lease::fence). Without this rule, a
    /// delayed process could replace a newer token with an older token.
    ///
    /// # Errors
    ///
    /// Returns an error if the value can't be written.
    fn save(
        &self,
        key: &str,
        sealed: &[u8],
        ttl: Duration,
        lease: &Lease,
    ) -> impl Future<Output = Result<bool, BoxError>> + Send;

    /// Deletes the value for `key`. Returns whether a value was deleted. If a later lease has saved
    /// the value, this method must not delete it.
    ///
    /// # Errors
    ///
    /// Returns an error if the value can't be deleted.
    fn delete(
        &self,
        key: &str,
        lease: &Lease,
    ) -> impl Future<Output = Result<bool, BoxError>> + Send;

    /// Leases the right to fetch for `key`. One process at a time has the lease. Returns `None` if
    /// another process has the lease. The lease ends by itself: after `ttl`, or when its process
    /// ends. `ttl` is at most 2 min.
    ///
    /// # Errors
    ///
    /// Returns an error if the store can't decide whether to grant the lease.
    fn lease(
        &self,
        key: &str,
        ttl: Duration,
    ) -> impl Future<Output = Result<Option<Lease>, BoxError>> + Send;

    /// Extends the lease: it now ends after `ttl`, counted from now. Returns `false` if the lease
    /// has ended, even if no other process has taken it.
    ///
    /// # Errors
    ///
    /// Returns an error if the store can't decide whether the lease has ended.
    fn renew(
        &self,
        key: &str,
        lease: &Lease,
        ttl: Duration,
    ) -> impl Future<Output = Result<bool, BoxError>> + Send;

    /// Releases the lease if it hasn't ended yet. Must not release another process's lease. Returns
    /// whether the given lease was released.
    ///
    /// # Errors
    ///
    /// Returns an error if the lease can't be released. The lease then ends by itself.
    fn release(
        &self,
        key: &str,
        lease: Lease,
    ) -> impl Future<Output = Result<bool, BoxError>> + Send;
}

/// A value that a [`TokenStore`] loaded. The bytes are zeroized when the value is dropped.
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use tower_auth::fleet::StoredValue;
///
/// let minute = Duration::from_secs(60);
/// let value = StoredValue::new(b"sealed", minute);
/// assert_eq!(value.sealed(), Ok((b"sealed".as_slice(), minute)));
///
/// let other = StoredValue::foreign("the key `token:7` contains a list");
/// assert_eq!(other.sealed(), Err("the key `token:7` contains a list"));
/// ```
pub struct StoredValue(Contents);

enum Contents {
    Sealed {
        bytes: Zeroizing<Vec<u8>>,
        remaining: Duration,
    },
    Foreign {
        what: String,
    },
}

impl StoredValue {
    /// Makes a value that the store saved. `remaining` is the time until the value expires, by the
    /// store's clock.
    pub fn new(sealed: impl Into<Vec<u8>>, remaining: Duration) -> Self {
        let bytes = Zeroizing::new(sealed.into());
        Self(Contents::Sealed { bytes, remaining })
    }

    /// Describes something that the store didn't save, such as a value of another type. `what`
    /// names the place and what is there. `what` may be logged, so it must contain no secret.
    pub fn foreign(what: impl Into<String>) -> Self {
        Self(Contents::Foreign { what: what.into() })
    }

    /// Returns the saved bytes and their remaining time, or what is there instead.
    ///
    /// # Errors
    ///
    /// Returns the text of [`foreign`](Self::foreign).
    pub fn sealed(&self) -> Result<(&[u8], Duration), &str> {
        match &self.0 {
            Contents::Sealed { bytes, remaining } => Ok((bytes, *remaining)),
            Contents::Foreign { what } => Err(what),
        }
    }
}

/// Hides the bytes.
impl fmt::Debug for StoredValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Contents::Sealed { bytes, remaining } => f
                .debug_struct("StoredValue")
                .field("length", &bytes.len())
                .field("remaining", remaining)
                .finish(),
            Contents::Foreign { what } => f.debug_tuple("Foreign").field(what).finish(),
        }
    }
}

/// The longest lease of any process. A lease that lasts longer was written by another program.
pub(crate) const LONGEST_LEASE: Duration = Duration::from_secs(120);

/// The right to fetch a token for all processes, granted by a [`TokenStore`].
///
/// # Example
///
/// ```
/// use tower_auth::fleet::Lease;
///
/// /// Returns whether a store may save a value with this lease.
/// fn may_save(lease: &Lease, last_saved_with: u64) -> bool {
///     lease.fence() >= last_saved_with
/// }
///
/// assert!(may_save(&Lease::new(8), 8));
/// assert!(!may_save(&Lease::new(7), 8));
/// ```
pub struct Lease {
    fence: u64,
    /// When this process got the lease.
    #[cfg(feature = "redis")]
    granted: Instant,
    pub(super) guard: Option<Box<dyn Any + Send + Sync>>,
    replaced: Option<String>,
}

impl Lease {
    /// Makes a lease with a fencing token. The fencing token must be greater than the fencing token
    /// of any earlier lease for the same key.
    pub fn new(fence: u64) -> Self {
        Self {
            fence,
            #[cfg(feature = "redis")]
            granted: Instant::now(),
            guard: None,
            replaced: None,
        }
    }

    /// Keeps a value, such as a locked file, as long as the lease exists.
    #[must_use]
    pub fn holding(mut self, guard: impl Any + Send + Sync) -> Self {
        self.guard = Some(Box::new(guard));
        self
    }

    /// Describes a value that the store didn't write, and that this lease replaced. `what` names
    /// the place and what was there. The cache logs `what`, so it must contain no secret.
    #[must_use]
    pub fn replacing(mut self, what: impl Into<String>) -> Self {
        self.replaced = Some(what.into());
        self
    }

    /// Returns the time since this process got the lease.
    #[cfg(feature = "redis")]
    pub(super) fn age(&self) -> Duration {
        self.granted.elapsed()
    }

    pub(crate) fn replaced(&self) -> Option<&str> {
        self.replaced.as_deref()
    }

    /// Returns the fencing token.
    pub fn fence(&self) -> u64 {
        self.fence
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("fence", &self.fence)
            .field("holds", &self.guard.is_some())
            .field("replaced", &self.replaced)
            .finish()
    }
}

/// The maximum length of a value, in bytes. Sealed tokens are shorter. Without a limit, a long
/// value could fill the memory.
pub(crate) const LIMIT: usize = 256 * 1024;

pub(crate) fn check_length(length: usize) -> Result<(), BoxError> {
    if length <= LIMIT {
        return Ok(());
    }
    Err(format!("the sealed token has {length} bytes, but a store accepts at most 256 KiB").into())
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>;

/// A type-erased store.
pub(crate) trait DynTokenStore: Send + Sync + 'static {
    fn load<'a>(&'a self, key: &'a str) -> Boxed<'a, Option<StoredValue>>;
    fn save<'a>(
        &'a self,
        key: &'a str,
        sealed: &'a [u8],
        ttl: Duration,
        lease: &'a Lease,
    ) -> Boxed<'a, bool>;
    fn delete<'a>(&'a self, key: &'a str, lease: &'a Lease) -> Boxed<'a, bool>;
    fn lease<'a>(&'a self, key: &'a str, ttl: Duration) -> Boxed<'a, Option<Lease>>;
    fn renew<'a>(&'a self, key: &'a str, lease: &'a Lease, ttl: Duration) -> Boxed<'a, bool>;
    fn release<'a>(&'a self, key: &'a str, lease: Lease) -> Boxed<'a, bool>;
}

impl<T> DynTokenStore for T
where
    T: TokenStore,
{
    fn load<'a>(&'a self, key: &'a str) -> Boxed<'a, Option<StoredValue>> {
        Box::pin(TokenStore::load(self, key))
    }

    fn save<'a>(
        &'a self,
        key: &'a str,
        sealed: &'a [u8],
        ttl: Duration,
        lease: &'a Lease,
    ) -> Boxed<'a, bool> {
        Box::pin(TokenStore::save(self, key, sealed, ttl, lease))
    }

    fn delete<'a>(&'a self, key: &'a str, lease: &'a Lease) -> Boxed<'a, bool> {
        Box::pin(TokenStore::delete(self, key, lease))
    }

    fn lease<'a>(&'a self, key: &'a str, ttl: Duration) -> Boxed<'a, Option<Lease>> {
        Box::pin(TokenStore::lease(self, key, ttl))
    }

    fn renew<'a>(&'a self, key: &'a str, lease: &'a Lease, ttl: Duration) -> Boxed<'a, bool> {
        Box::pin(TokenStore::renew(self, key, lease, ttl))
    }

    fn release<'a>(&'a self, key: &'a str, lease: Lease) -> Boxed<'a, bool> {
        Box::pin(TokenStore::release(self, key, lease))
    }
}

impl<T> TokenStore for Arc<T>
where
    T: TokenStore,
{
    async fn load(&self, key: &str) -> Result<Option<StoredValue>, BoxError> {
        T::load(self, key).await
    }

    async fn save(
        &self,
        key: &str,
        sealed: &[u8],
        ttl: Duration,
        lease: &Lease,
    ) -> Result<bool, BoxError> {
        T::save(self, key, sealed, ttl, lease).await
    }

    async fn delete(&self, key: &str, lease: &Lease) -> Result<bool, BoxError> {
        T::delete(self, key, lease).await
    }

    async fn lease(&self, key: &str, ttl: Duration) -> Result<Option<Lease>, BoxError> {
        T::lease(self, key, ttl).await
    }

    async fn renew(&self, key: &str, lease: &Lease, ttl: Duration) -> Result<bool, BoxError> {
        T::renew(self, key, lease, ttl).await
    }

    async fn release(&self, key: &str, lease: Lease) -> Result<bool, BoxError> {
        T::release(self, key, lease).await
    }
}
