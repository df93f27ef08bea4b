//! An in-memory store that the test can inspect and break, and caches that share it like processes
//! of a fleet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_auth::cache::{Clock, TokenCacheBuilder};
use tower_auth::fleet::{Fleet, Keyring, Lease, StoreKey, StoredValue, TokenStore};
use tower_auth::{BoxError, Token, TokenCache, TokenSource};
use tower_auth_test::{ScriptedSource, run_until_idle};

use crate::support::paused;

/// A sealing key, in base64.
pub(crate) const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

pub(crate) fn keyring() -> Keyring {
    Keyring::new("2026-11", KEY).unwrap()
}

pub(crate) fn key() -> StoreKey {
    StoreKey::new("of a test")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Fails,
    Hangs,
}

#[derive(Clone)]
pub(crate) struct BreakableStore {
    inner: Arc<Mutex<Inner>>,
    /// One clock, because most tests compare the times of the simulated processes.
    clock: Clock,
    /// Whether the process of this clone has been killed.
    is_dead: Arc<AtomicBool>,
}

impl Default for BreakableStore {
    fn default() -> Self {
        Self {
            inner: Arc::default(),
            clock: Clock::tokio(),
            is_dead: Arc::default(),
        }
    }
}

#[derive(Default)]
struct Inner {
    values: HashMap<String, Value>,
    leases: HashMap<String, (u64, Instant)>,
    fence: u64,
    faults: HashMap<&'static str, Fault>,
    loses_leases: bool,
    /// What the next lease replaces.
    replaced: Option<&'static str>,
    calls: Vec<&'static str>,
    /// The value that appears when the next lease is granted.
    saved_before_lease: Option<Value>,
}

#[derive(Clone)]
struct Value {
    fence: u64,
    sealed: Vec<u8>,
    end: Instant,
}

impl BreakableStore {
    /// Builds a cache in paused time. It acts as one of the processes that share this store.
    pub(crate) fn process(&self, source: impl TokenSource) -> TokenCache {
        self.process_of(self.fleet(), source)
    }

    pub(crate) fn process_of(&self, fleet: Fleet, source: impl TokenSource) -> TokenCache {
        self.settings(source).fleet(fleet).unwrap().build()
    }

    /// Starts the builder of such a cache.
    pub(crate) fn settings(&self, source: impl TokenSource) -> TokenCacheBuilder {
        paused(source).clock(self.clock.clone()).name("orders")
    }

    /// Returns the same store for a process that can be [killed](Self::kill).
    pub(crate) fn of_another_process(&self) -> Self {
        Self {
            is_dead: Arc::default(),
            ..self.clone()
        }
    }

    /// Lets every call of this process hang from now on, as if the process had been killed.
    pub(crate) fn kill(&self) {
        self.is_dead.store(true, Ordering::Relaxed);
    }

    /// Lets the calls of a killed process work again, as if the process had only stalled.
    pub(crate) fn wakes_up(&self) {
        self.is_dead.store(false, Ordering::Relaxed);
    }

    pub(crate) fn fleet(&self) -> Fleet {
        Fleet::new(self.clone(), keyring()).key(key())
    }

    /// Makes an operation fail or hang from now on.
    pub(crate) fn breaks(&self, operation: &'static str, fault: Fault) {
        self.lock().faults.insert(operation, fault);
    }

    /// Lets the next lease replace something that this store didn't write.
    pub(crate) fn has_a_foreign_lease(&self, what: &'static str) {
        self.lock().replaced = Some(what);
    }

    /// Loses each lease as soon as it is granted.
    pub(crate) fn loses_leases(&self) {
        self.lock().loses_leases = true;
    }

    pub(crate) fn works_again(&self) {
        self.lock().faults.clear();
    }

    /// Deletes all values and leases, as `FLUSHALL` does.
    pub(crate) fn forgets_all(&self) {
        let mut inner = self.lock();
        inner.values.clear();
        inner.leases.clear();
    }

    /// Returns the operations since the last call.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.lock().calls)
    }

    /// Returns every stored value in its sealed form.
    pub(crate) fn stored(&self) -> Vec<Vec<u8>> {
        let inner = self.lock();
        inner
            .values
            .values()
            .map(|value| value.sealed.clone())
            .collect()
    }

    /// Returns the time until the only value expires.
    pub(crate) fn ttl(&self) -> Duration {
        let inner = self.lock();
        let value = inner.values.values().next().unwrap();
        value.end.saturating_duration_since(Instant::now())
    }

    /// Replaces the sealed form of the only value.
    pub(crate) fn put(&self, sealed: Vec<u8>) {
        let mut inner = self.lock();
        inner.values.values_mut().next().unwrap().sealed = sealed;
    }

    /// Removes the only value, and restores it just before the store grants the next lease.
    pub(crate) fn is_saved_before_the_lease(&self) {
        let mut inner = self.lock();
        let value = inner.values.drain().next().unwrap().1;
        inner.saved_before_lease = Some(value);
    }

    /// Copies the only value to another key.
    pub(crate) fn copies_to(&self, key: &StoreKey) {
        let mut inner = self.lock();
        let value = inner.values.values().next().unwrap().clone();
        inner.values.insert(key.to_text(), value);
    }

    async fn call(&self, operation: &'static str) -> Result<(), BoxError> {
        if self.is_dead.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
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
    async fn load(&self, key: &str) -> Result<Option<StoredValue>, BoxError> {
        self.call("load").await?;
        let (inner, now) = (self.lock(), Instant::now());
        let good = inner.values.get(key).filter(|value| value.end > now);
        Ok(good.map(|value| StoredValue::new(value.sealed.clone(), value.end - now)))
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

    async fn delete(&self, key: &str, lease: &Lease) -> Result<bool, BoxError> {
        self.call("delete").await?;
        let mut inner = self.lock();
        let value = inner.values.get(key);
        let may_delete = value.is_some_and(|value| value.fence <= lease.fence());
        if may_delete {
            inner.values.remove(key);
        }
        Ok(may_delete)
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
        if let Some(value) = inner.saved_before_lease.take() {
            inner.values.insert(key.to_owned(), value);
        }
        if !inner.loses_leases {
            let lease = (fence, Instant::now() + ttl);
            inner.leases.insert(key.to_owned(), lease);
        }
        let lease = Lease::new(fence);
        Ok(Some(match inner.replaced.take() {
            Some(what) => lease.replacing(what),
            None => lease,
        }))
    }

    async fn renew(&self, key: &str, lease: &Lease, ttl: Duration) -> Result<bool, BoxError> {
        self.call("renew").await?;
        let mut inner = self.lock();
        let now = Instant::now();
        let held = inner.leases.get_mut(key);
        let held = held.filter(|(holder, end)| *holder == lease.fence() && *end > now);
        Ok(held.map(|(_, end)| *end = now + ttl).is_some())
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

/// Runs a fetch that outlasts its lease, while another process fetches and saves a newer token.
pub(crate) async fn lose_a_lease() {
    let store = BreakableStore::default();
    let held_up = store.process(|_| async {
        sleep(Duration::from_secs(12)).await;
        Token::bearer("older")
    });
    let asked = tokio::spawn(held_up.token());
    run_until_idle().await;
    let other = store.process(ScriptedSource::expiring(Duration::from_secs(3600)));
    other.token().await.unwrap();
    asked.await.unwrap().unwrap();
}

/// Lets a process wait for a lease whose holder never saves a token.
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
    let waiting = store.process(ScriptedSource::default());
    waiting.token().await.unwrap();
    asked.abort();
}

/// Causes every log event and metric about a store.
pub(crate) async fn all_events() {
    for fault in [Fault::Fails, Fault::Hangs] {
        let store = BreakableStore::default();
        store.breaks("load", fault);
        store
            .process(ScriptedSource::default())
            .token()
            .await
            .unwrap();
    }
    let store = BreakableStore::default();
    for _ in 0..2 {
        store
            .process(ScriptedSource::default())
            .token()
            .await
            .unwrap();
    }
    store.put(b"foreign".to_vec());
    let too_long = ScriptedSource::from_fn(|_| Token::bearer("x".repeat(64 * 1024)));
    store.process(too_long).token().await.unwrap();
    lose_a_lease().await;
    flush_during_a_fetch().await;
    wait_in_vain().await;
    let store = BreakableStore::default();
    store.has_a_foreign_lease("the key `lease` was no lease");
    store
        .process(ScriptedSource::default())
        .token()
        .await
        .unwrap();
}

/// Flushes the store while a process fetches.
pub(crate) async fn flush_during_a_fetch() {
    let store = BreakableStore::default();
    let flushed = store.clone();
    let source = ScriptedSource::from_fn(move |_| {
        flushed.forgets_all();
        Token::bearer("token")
    });
    store.process(source).token().await.unwrap();
}
