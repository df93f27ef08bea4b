//! The token endpoint and the store of the processes. Both run in virtual time and count calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_auth::fleet::{Lease, MemoryStore, StoredValue, TokenStore};
use tower_auth::{BoxError, Error, Reason, Token, TokenSource};

pub(crate) const LIFETIME: Duration = Duration::from_secs(600);
const FETCH: Duration = Duration::from_millis(250);

/// Counts events for each second.
#[derive(Clone)]
pub(crate) struct Counter {
    start: Instant,
    counted: Arc<Mutex<Counted>>,
}

#[derive(Default)]
struct Counted {
    total: u64,
    by_second: BTreeMap<u64, u64>,
}

impl Counter {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            counted: Arc::default(),
        }
    }

    /// Counts one event, and returns the total.
    fn count(&self) -> u64 {
        let mut counted = self.lock();
        counted.total += 1;
        let second = self.start.elapsed().as_secs();
        *counted.by_second.entry(second).or_default() += 1;
        counted.total
    }

    pub(crate) fn total(&self) -> u64 {
        self.lock().total
    }

    /// Returns the maximum number of events in one second.
    pub(crate) fn peak(&self) -> u64 {
        self.lock().by_second.values().copied().max().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The token endpoint.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) fetches: Counter,
}

impl TokenSource for Endpoint {
    async fn fetch(&self, _: Reason) -> Result<Token, Error> {
        let number = self.fetches.count();
        sleep(FETCH).await;
        Ok(Token::bearer(format!("token-{number}"))?.expires_in(LIFETIME))
    }
}

/// A store on another machine.
#[derive(Clone)]
pub(crate) struct Far {
    store: Arc<MemoryStore>,
    pub(crate) operations: Counter,
}

impl Far {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            operations: Counter::new(start),
        }
    }

    async fn is_asked(&self) {
        self.operations.count();
        sleep(Duration::from_micros(fastrand::u64(1000..2000))).await;
    }
}

impl TokenStore for Far {
    async fn load(&self, key: &str) -> Result<Option<StoredValue>, BoxError> {
        self.is_asked().await;
        self.store.load(key).await
    }

    async fn save(
        &self,
        key: &str,
        sealed: &[u8],
        ttl: Duration,
        lease: &Lease,
    ) -> Result<bool, BoxError> {
        self.is_asked().await;
        self.store.save(key, sealed, ttl, lease).await
    }

    async fn delete(&self, key: &str, lease: &Lease) -> Result<bool, BoxError> {
        self.is_asked().await;
        self.store.delete(key, lease).await
    }

    async fn lease(&self, key: &str, ttl: Duration) -> Result<Option<Lease>, BoxError> {
        self.is_asked().await;
        self.store.lease(key, ttl).await
    }

    async fn renew(&self, key: &str, lease: &Lease, ttl: Duration) -> Result<bool, BoxError> {
        self.is_asked().await;
        self.store.renew(key, lease, ttl).await
    }

    async fn release(&self, key: &str, lease: Lease) -> Result<bool, BoxError> {
        self.is_asked().await;
        self.store.release(key, lease).await
    }
}
