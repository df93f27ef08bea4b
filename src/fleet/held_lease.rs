//! A lease that this process has.
//!
//! A background task renews the lease, so a short lease lasts until the work is done. If the
//! process dies, the renewals stop, and the lease soon ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::RwLock;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::Instrument;

use super::store::token_store::{DynTokenStore, LONGEST_LEASE, Lease};
use crate::error::BoxError;

/// How long a lease lasts without a renewal. If a process dies, the other processes wait for at
/// most this time.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(3);

/// The number of equal parts of the TTL. A renewal starts after each part. So if one renewal fails,
/// the next one is still in time.
const RENEWALS: u32 = 3;

/// A lease that is renewed in the background, and released when it is dropped. Without a Tokio
/// runtime, the lease ends by itself.
pub(crate) struct HeldLease {
    granted: Arc<GrantedLease>,
    renewal: Option<AbortHandle>,
    /// The runtime that releases the lease after a drop. `None` after an explicit release.
    runtime: Option<Handle>,
}

/// A lease that the store granted, and what the store needs to renew it.
struct GrantedLease {
    store: Arc<dyn DynTokenStore>,
    key: Arc<str>,
    /// `None` after the release, which waits for running calls.
    lease: RwLock<Option<Lease>>,
    /// When this process stops renewing the lease. `None` if there is no limit.
    latest_end: Option<Instant>,
    term: Mutex<Term>,
    /// Locked during a renewal. Without this lock, a renewal with a short TTL could replace one
    /// with a longer TTL.
    extending: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy)]
struct Term {
    /// How long the lease lasts without a renewal.
    ttl: Duration,
    /// When this process requested the lease or its last renewal. The store counts from a later
    /// time.
    extended: Instant,
    /// When the store reported that the lease has ended.
    lost: Option<Instant>,
}

impl HeldLease {
    /// Returns the TTL of a lease that must outlast `work` and the save after the work, even if this
    /// process stalls. A call to the store takes at most `longest_call`. On a slow store, the lease
    /// is longer, so that the lease outlasts one failed renewal.
    pub(crate) fn ttl(work: Duration, longest_call: Duration) -> Duration {
        let time_to_save = LEASE_TTL.max(longest_call.saturating_mul(RENEWALS));
        work.saturating_add(time_to_save).min(LONGEST_LEASE)
    }

    /// Takes the lease of `key`. Returns `None` if another process has the lease.
    pub(crate) async fn take(
        store: &Arc<dyn DynTokenStore>,
        key: &Arc<str>,
        ttl: Duration,
        latest_end: Option<Instant>,
    ) -> Result<Option<Self>, BoxError> {
        let extended = Instant::now();
        let Some(lease) = store.lease(key, ttl).await? else {
            return Ok(None);
        };
        let granted = Arc::new(GrantedLease {
            store: Arc::clone(store),
            key: Arc::clone(key),
            lease: RwLock::new(Some(lease)),
            latest_end,
            term: Mutex::new(Term {
                ttl,
                extended,
                lost: None,
            }),
            extending: tokio::sync::Mutex::default(),
        });
        let runtime = Handle::try_current().ok();
        let renewal = runtime.as_ref().map(|runtime| {
            let granted = Arc::clone(&granted);
            let task = async move { granted.keep_renewed().await };
            runtime.spawn(task.in_current_span()).abort_handle()
        });
        Ok(Some(Self {
            granted,
            renewal,
            runtime,
        }))
    }

    /// Renews the lease immediately with this TTL. Later renewals use the same TTL. Returns `false`
    /// if the lease has ended.
    pub(crate) async fn extend(&self, ttl: Duration) -> Result<bool, BoxError> {
        let is_held = self.granted.extend(Some(ttl)).await?;
        // If this process stalled after the store answered, the lease may have ended since then.
        Ok(is_held && self.is_in_time())
    }

    /// Saves a value for the key of the lease. Returns `false` if a later lease has saved a value.
    pub(crate) async fn save(&self, sealed: &[u8], ttl: Duration) -> Result<bool, BoxError> {
        let GrantedLease { store, key, .. } = &*self.granted;
        match &*self.granted.lease.read().await {
            Some(lease) => store.save(key, sealed, ttl, lease).await,
            None => Ok(false),
        }
    }

    /// Deletes the value for the key of the lease. Returns whether there was a value to delete.
    pub(crate) async fn delete(&self) -> Result<bool, BoxError> {
        let GrantedLease { store, key, .. } = &*self.granted;
        match &*self.granted.lease.read().await {
            Some(lease) => store.delete(key, lease).await,
            None => Ok(false),
        }
    }

    /// Releases the lease. Returns `false` if the lease has already ended.
    pub(crate) async fn release(mut self) -> Result<bool, BoxError> {
        self.runtime = None;
        self.stop_renewal();
        self.granted.release().await
    }

    /// Returns whether the lease may have ended: the store reported its end, or the renewals are
    /// late.
    pub(crate) fn may_have_ended(&self) -> bool {
        let term = *self.granted.term();
        term.lost.is_some() || term.extended.elapsed() > term.ttl / 2
    }

    /// Returns whether the time of the lease has not yet passed. If the store has reported the end
    /// of the lease, the time of the report counts. If a lease ends within its time, the store has
    /// lost the lease.
    pub(crate) fn is_in_time(&self) -> bool {
        let term = *self.granted.term();
        let now = term.lost.unwrap_or_else(Instant::now);
        let has_ended = self.granted.latest_end.is_some_and(|end| now >= end);
        now.saturating_duration_since(term.extended) < term.ttl && !has_ended
    }

    fn stop_renewal(&self) {
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
    }
}

impl GrantedLease {
    /// Renews the lease until the store no longer has the lease, or until its latest end.
    async fn keep_renewed(&self) {
        let mut attempted = self.term().extended;
        loop {
            let Term { ttl, extended, .. } = *self.term();
            let next = extended.max(attempted) + ttl / RENEWALS;
            if Instant::now() < next {
                sleep_until(next).await;
                // Meanwhile, `HeldLease::extend` may have set another TTL.
                continue;
            }
            attempted = Instant::now();
            let renewed = timeout(ttl / RENEWALS, self.extend(None)).await;
            // If the store fails or hangs, it may answer the next renewal.
            if let Ok(Ok(false)) = renewed {
                return;
            }
        }
    }

    /// Renews the lease with this TTL, or else with the last TTL, but not beyond its latest end.
    async fn extend(&self, ttl: Option<Duration>) -> Result<bool, BoxError> {
        let _extending = self.extending.lock().await;
        let ttl = ttl.unwrap_or_else(|| self.term().ttl);
        let now = Instant::now();
        let left = self
            .latest_end
            .map_or(ttl, |end| end.saturating_duration_since(now).min(ttl));
        if left.is_zero() {
            return Ok(false);
        }
        let is_held = match &*self.lease.read().await {
            Some(lease) => self.store.renew(&self.key, lease, left).await?,
            None => false,
        };
        let mut term = self.term();
        if is_held {
            (term.ttl, term.extended) = (ttl, now);
        } else {
            term.lost.get_or_insert_with(Instant::now);
        }
        Ok(is_held)
    }

    async fn release(&self) -> Result<bool, BoxError> {
        let lease = self.lease.write().await.take();
        match lease {
            Some(lease) => self.store.release(&self.key, lease).await,
            None => Ok(false),
        }
    }

    fn term(&self) -> MutexGuard<'_, Term> {
        self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Releases the lease of work that was cancelled.
impl Drop for HeldLease {
    fn drop(&mut self) {
        self.stop_renewal();
        let Term { ttl, lost, .. } = *self.granted.term();
        if let Some(runtime) = self.runtime.take().filter(|_| lost.is_none()) {
            let granted = Arc::clone(&self.granted);
            // After its TTL, the lease has ended by itself.
            let release = async move { drop(timeout(ttl, granted.release()).await) };
            runtime.spawn(release.in_current_span());
        }
    }
}
