//! A store in memory that the test can look into and break, and caches as processes that share it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_auth::cache::{Clock, TokenCacheBuilder};
use tower_auth::fleet::{Fleet, Keyring, Lease, StoreKey, TokenStore};
use tower_auth::{BoxError, Token, TokenCache, TokenSource};

use crate::support::{Counting, ScriptedSource, paused, paused_clock, run_until_idle};

/// A sealing key, in base64.
pub(crate) const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

pub(crate) fn keyring() -> Keyring {
    Keyring::new("2026-11", KEY).unwrap()
}

pub(crate) fn key() -> StoreKey {
    StoreKey::new("of a test")
}

/// How an operation goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Fails,
    Hangs,
}

#[derive(Clone)]
pub(crate) struct BreakableStore {
    inner: Arc<Mutex<Inner>>,
    /// The processes' clocks all show the same.
    clock: Clock,
}

impl Default for BreakableStore {
    fn default() -> Self {
        Self {
            inner: Arc::default(),
            clock: paused_clock(),
        }
    }
}

#[derive(Default)]
struct Inner {
    values: HashMap<String, Value>,
    leases: HashMap<String, (u64, Instant)>,
    fence: u64,
    faults: HashMap<&'static str, Fault>,
    calls: Vec<&'static str>,
    /// What is there as soon as the next lease is granted.
    saved_before_lease: Option<Vec<u8>>,
}

#[derive(Clone)]
struct Value {
    fence: u64,
    sealed: Vec<u8>,
    end: Instant,
}

impl BreakableStore {
    /// A cache in paused time as one process of those that share this.
    pub(crate) fn process(&self, source: impl TokenSource) -> TokenCache {
        self.process_of(self.fleet(), source)
    }

    pub(crate) fn process_of(&self, fleet: Fleet, source: impl TokenSource) -> TokenCache {
        self.settings(source).fleet(fleet).unwrap().build()
    }

    /// Those of a cache in paused time.
    pub(crate) fn settings(&self, source: impl TokenSource) -> TokenCacheBuilder {
        paused(source).clock(self.clock.clone()).name("orders")
    }

    pub(crate) fn fleet(&self) -> Fleet {
        Fleet::new(self.clone(), keyring()).key(key())
    }

    /// From now on an operation goes wrong.
    pub(crate) fn breaks(&self, operation: &'static str, fault: Fault) {
        self.lock().faults.insert(operation, fault);
    }

    pub(crate) fn works_again(&self) {
        self.lock().faults.clear();
    }

    /// As `FLUSHALL` does it.
    pub(crate) fn forgets_all(&self) {
        let mut inner = self.lock();
        inner.values.clear();
        inner.leases.clear();
    }

    /// The operations so far; from now on they are counted from zero.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.lock().calls)
    }

    /// All that is kept, as it is kept.
    pub(crate) fn stored(&self) -> Vec<Vec<u8>> {
        let inner = self.lock();
        inner
            .values
            .values()
            .map(|value| value.sealed.clone())
            .collect()
    }

    /// For how long the one value is kept.
    pub(crate) fn ttl(&self) -> Duration {
        let inner = self.lock();
        let value = inner.values.values().next().unwrap();
        value.end.saturating_duration_since(Instant::now())
    }

    /// Puts something in the place of the one value.
    pub(crate) fn put(&self, sealed: Vec<u8>) {
        let mut inner = self.lock();
        inner.values.values_mut().next().unwrap().sealed = sealed;
    }

    /// Takes the one value away, and puts it back just before the next lease is granted.
    pub(crate) fn is_saved_before_the_lease(&self) {
        let mut inner = self.lock();
        let value = inner.values.drain().next().unwrap().1;
        inner.saved_before_lease = Some(value.sealed);
    }

    /// Puts the one value under another key.
    pub(crate) fn copies_to(&self, key: &StoreKey) {
        let mut inner = self.lock();
        let value = inner.values.values().next().unwrap().clone();
        inner.values.insert(key.to_text(), value);
    }

    async fn call(&self, operation: &'static str) -> Result<(), BoxError> {
        let fault = {
            let mut inner = self.lock();
            inner.calls.push(operation);
            inner.faults.get(operation).copied()
        };
        match fault {
            None => Ok(()),
            Some(Fault::Fails) => Err("the store is broken".into()),
            Some(Fault::Hangs) => std::future::pending().await,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

impl TokenStore for BreakableStore {
    async fn load(&self, key: &str) -> Result<Option<Vec<u8>>, BoxError> {
        self.call("load").await?;
        let inner = self.lock();
        let good = inner
            .values
            .get(key)
            .filter(|value| value.end > Instant::now());
        Ok(good.map(|value| value.sealed.clone()))
    }

    async fn save(
        &self,
        key: &str,
        sealed: &[u8],
        ttl: Duration,
        lease: &Lease,
    ) -> Result<bool, BoxError> {
        self.call("save").await?;
        let mut inner = self.lock();
        let fence = lease.fence();
        if inner
            .values
            .get(key)
            .is_some_and(|value| value.fence > fence)
        {
            return Ok(false);
        }
        let value = Value {
            fence,
            sealed: sealed.to_vec(),
            end: Instant::now() + ttl,
        };
        inner.values.insert(key.to_owned(), value);
        Ok(true)
    }

    async fn lease(&self, key: &str, ttl: Duration) -> Result<Option<Lease>, BoxError> {
        self.call("lease").await?;
        let mut inner = self.lock();
        if inner
            .leases
            .get(key)
            .is_some_and(|(_, end)| *end > Instant::now())
        {
            return Ok(None);
        }
        inner.fence += 1;
        let fence = inner.fence;
        if let Some(sealed) = inner.saved_before_lease.take() {
            let end = Instant::now() + ttl;
            let value = Value { fence, sealed, end };
            inner.values.insert(key.to_owned(), value);
        }
        inner
            .leases
            .insert(key.to_owned(), (fence, Instant::now() + ttl));
        Ok(Some(Lease::new(fence)))
    }

    async fn release(&self, key: &str, lease: Lease) -> Result<bool, BoxError> {
        self.call("release").await?;
        let mut inner = self.lock();
        let (fence, now) = (lease.fence(), Instant::now());
        let is_held = |(holder, end): &(u64, Instant)| *holder == fence && *end > now;
        let is_held = inner.leases.get(key).is_some_and(is_held);
        if is_held {
            inner.leases.remove(key);
        }
        Ok(is_held)
    }
}

/// A process whose fetch takes longer than its lease, and another that has fetched meanwhile.
pub(crate) async fn lose_a_lease() {
    let store = BreakableStore::default();
    let held_up = store.process(|_| async {
        sleep(Duration::from_secs(12)).await;
        Token::bearer("older")
    });
    let asked = tokio::spawn(held_up.token());
    run_until_idle().await;
    let other = store.process(Counting::lasting(Duration::from_secs(3600)));
    other.token().await.unwrap();
    asked.await.unwrap().unwrap();
}

/// A process that waits for others which never come by a token.
pub(crate) async fn wait_in_vain() {
    let store = BreakableStore::default();
    let holder = store.fleet().lease_time(Duration::from_secs(20));
    let holder = store
        .settings(|_| std::future::pending())
        .fleet(holder)
        .unwrap();
    let holder = holder.fetch_timeout(Duration::from_secs(60)).build();
    let asked = tokio::spawn(holder.token());
    run_until_idle().await;
    let waiting = store.process(Counting::default());
    waiting.token().await.unwrap();
    asked.abort();
}

/// Everything that is told of a store.
pub(crate) async fn all_events() {
    for fault in [Fault::Fails, Fault::Hangs] {
        let store = BreakableStore::default();
        store.breaks("load", fault);
        store.process(Counting::default()).token().await.unwrap();
    }
    let store = BreakableStore::default();
    for _ in 0..2 {
        store.process(Counting::default()).token().await.unwrap();
    }
    store.put(b"foreign".to_vec());
    let too_long = ScriptedSource::new(|_| Token::bearer("x".repeat(64 * 1024)));
    store.process(too_long).token().await.unwrap();
    lose_a_lease().await;
    wait_in_vain().await;
}
