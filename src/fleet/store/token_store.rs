//! What a store of shared tokens has to do.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::BoxError;

/// Keeps the tokens that processes share, and says which of them may fetch the next.
///
/// What happens when it fails is the [`Fleet`](crate::Fleet)'s business: each call is bounded, and
/// after one that failed the process fetches for itself. So a store has no retry of its own and hides
/// no failure.
///
/// A key is 43 letters of the base64url alphabet: fit for file names and for any database. All calls
/// for one key go to the same place, if the store has several.
///
/// # Example
///
/// What a process keeps to itself, as a store:
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
/// use std::time::{Duration, Instant};
///
/// use tower_auth::{BoxError, Lease, TokenStore};
///
/// #[derive(Default)]
/// struct OneProcess {
///     values: Mutex<HashMap<String, (Vec<u8>, Instant)>>,
/// }
///
/// impl TokenStore for OneProcess {
///     async fn load(&self, key: &str) -> Result<Option<Vec<u8>>, BoxError> {
///         let values = self.values.lock().map_err(|_| "poisoned")?;
///         let good = values.get(key).filter(|(_, end)| *end > Instant::now());
///         Ok(good.map(|(sealed, _)| sealed.clone()))
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
///     // Nobody else is there, so nobody else fetches.
///     async fn lease(&self, _: &str, _: Duration) -> Result<Option<Lease>, BoxError> {
///         Ok(Some(Lease::new(0)))
///     }
///
///     async fn release(&self, _: &str, _: Lease) -> Result<bool, BoxError> {
///         Ok(true)
///     }
/// }
/// ```
pub trait TokenStore: Send + Sync + 'static {
    /// What was saved last for `key`; `None` if there is nothing, or its time is over.
    ///
    /// # Errors
    ///
    /// What kept it from being read. The message may be logged, so it must hold no secret.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the store's [time](crate::Fleet::store_timeout) is over. The same
    /// holds for all others here.
    fn load(&self, key: &str) -> impl Future<Output = Result<Option<Vec<u8>>, BoxError>> + Send;

    /// Keeps `sealed` for `ttl`, in the place of what was there: whole or not at all.
    ///
    /// Returns whether it is kept. It isn't if a later lease than `lease` has saved something by now
    /// (its [fence](Lease::fence) is greater): whoever was held up must not put an old token in the
    /// place of a newer one.
    ///
    /// # Errors
    ///
    /// What kept it from being written.
    fn save(
        &self,
        key: &str,
        sealed: &[u8],
        ttl: Duration,
        lease: &Lease,
    ) -> impl Future<Output = Result<bool, BoxError>> + Send;

    /// The right to fetch for `key`, which one process has at a time; `None` if another has it. It
    /// ends by itself after `ttl`, or when that process does, so that none who dies keeps it.
    ///
    /// # Errors
    ///
    /// What kept it from being granted.
    fn lease(
        &self,
        key: &str,
        ttl: Duration,
    ) -> impl Future<Output = Result<Option<Lease>, BoxError>> + Send;

    /// Gives the right back, if it is still had: another's is left alone. Returns whether it was.
    ///
    /// # Errors
    ///
    /// What kept it from being given back. It ends by itself then.
    fn release(
        &self,
        key: &str,
        lease: Lease,
    ) -> impl Future<Output = Result<bool, BoxError>> + Send;
}

/// The right to fetch a token for all, as a [`TokenStore`] grants it.
pub struct Lease {
    fence: u64,
    pub(super) guard: Option<Box<dyn Any + Send + Sync>>,
}

impl Lease {
    /// A lease with a fencing token: greater than that of any lease for the same key before it.
    pub fn new(fence: u64) -> Self {
        Self { fence, guard: None }
    }

    /// Holds on to something for as long as the lease is had, such as a locked file. Dropping the
    /// lease drops it.
    #[must_use]
    pub fn holding(mut self, guard: impl Any + Send + Sync) -> Self {
        self.guard = Some(Box::new(guard));
        self
    }

    /// The fencing token.
    pub fn fence(&self) -> u64 {
        self.fence
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("fence", &self.fence)
            .field("holds", &self.guard.is_some())
            .finish()
    }
}

/// No sealed token is longer, and what somebody else put in its place shouldn't fill the memory.
pub(crate) const LIMIT: usize = 256 * 1024;

pub(crate) fn check_length(length: usize) -> Result<(), BoxError> {
    if length <= LIMIT {
        return Ok(());
    }
    Err(format!("{length} bytes are no sealed token: one has at most 256 KiB").into())
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>;

/// A store whose type is forgotten.
pub(crate) trait DynTokenStore: Send + Sync + 'static {
    fn load<'a>(&'a self, key: &'a str) -> Boxed<'a, Option<Vec<u8>>>;
    fn save<'a>(
        &'a self,
        key: &'a str,
        sealed: &'a [u8],
        ttl: Duration,
        lease: &'a Lease,
    ) -> Boxed<'a, bool>;
    fn lease<'a>(&'a self, key: &'a str, ttl: Duration) -> Boxed<'a, Option<Lease>>;
    fn release<'a>(&'a self, key: &'a str, lease: Lease) -> Boxed<'a, bool>;
}

impl<T> DynTokenStore for T
where
    T: TokenStore,
{
    fn load<'a>(&'a self, key: &'a str) -> Boxed<'a, Option<Vec<u8>>> {
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

    fn lease<'a>(&'a self, key: &'a str, ttl: Duration) -> Boxed<'a, Option<Lease>> {
        Box::pin(TokenStore::lease(self, key, ttl))
    }

    fn release<'a>(&'a self, key: &'a str, lease: Lease) -> Boxed<'a, bool> {
        Box::pin(TokenStore::release(self, key, lease))
    }
}

impl<T> TokenStore for Arc<T>
where
    T: TokenStore,
{
    fn load(&self, key: &str) -> impl Future<Output = Result<Option<Vec<u8>>, BoxError>> + Send {
        T::load(self, key)
    }

    fn save(
        &self,
        key: &str,
        sealed: &[u8],
        ttl: Duration,
        lease: &Lease,
    ) -> impl Future<Output = Result<bool, BoxError>> + Send {
        T::save(self, key, sealed, ttl, lease)
    }

    fn lease(
        &self,
        key: &str,
        ttl: Duration,
    ) -> impl Future<Output = Result<Option<Lease>, BoxError>> + Send {
        T::lease(self, key, ttl)
    }

    fn release(
        &self,
        key: &str,
        lease: Lease,
    ) -> impl Future<Output = Result<bool, BoxError>> + Send {
        T::release(self, key, lease)
    }
}
