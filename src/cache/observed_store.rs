//! Limits the time of each call to a fleet's store, and reports the results.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::telemetry::Telemetry;
use crate::error::BoxError;
use crate::fleet::settings::Fleet;
use crate::fleet::store::token_store::{DynTokenStore, Lease, StoredValue, TokenStore};
use crate::sanitize::ServerText;

/// A store that reports its own failures. The caller reports loaded values and lost leases, because
/// only the caller knows what these results mean.
pub(crate) struct ObservedStore {
    store: Arc<dyn DynTokenStore>,
    limit: Duration,
    telemetry: Arc<Telemetry>,
}

impl ObservedStore {
    pub(crate) fn new(fleet: &Fleet, telemetry: Arc<Telemetry>) -> Self {
        Self {
            store: Arc::clone(&fleet.store),
            limit: fleet.store_timeout,
            telemetry,
        }
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, BoxError>>,
    ) -> Result<T, BoxError> {
        let answer = timeout(self.limit, call).await;
        match &answer {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.telemetry.store_failed(operation, error),
            Err(_) => self.telemetry.store_timed_out(operation, self.limit),
        }
        answer?
    }
}

impl TokenStore for ObservedStore {
    async fn load(&self, key: &str) -> Result<Option<StoredValue>, BoxError> {
        self.call("load", self.store.load(key)).await
    }

    async fn save(
        &self,
        key: &str,
        sealed: &[u8],
        ttl: Duration,
        lease: &Lease,
    ) -> Result<bool, BoxError> {
        let save = self.store.save(key, sealed, ttl, lease);
        let is_saved = self.call("save", save).await?;
        if is_saved {
            self.telemetry.store("save", "saved");
        }
        Ok(is_saved)
    }

    async fn delete(&self, key: &str, lease: &Lease) -> Result<bool, BoxError> {
        let is_deleted = self.call("delete", self.store.delete(key, lease)).await?;
        let outcome = if is_deleted { "deleted" } else { "miss" };
        self.telemetry.store("delete", outcome);
        Ok(is_deleted)
    }

    async fn lease(&self, key: &str, ttl: Duration) -> Result<Option<Lease>, BoxError> {
        let lease = self.call("lease", self.store.lease(key, ttl)).await?;
        if let Some(what) = lease.as_ref().and_then(Lease::replaced) {
            self.telemetry.foreign_lease(&ServerText::new(what));
        }
        let outcome = if lease.is_some() { "granted" } else { "taken" };
        self.telemetry.store("lease", outcome);
        Ok(lease)
    }

    async fn renew(&self, key: &str, lease: &Lease, ttl: Duration) -> Result<bool, BoxError> {
        let is_held = self
            .call("renew", self.store.renew(key, lease, ttl))
            .await?;
        if is_held {
            self.telemetry.store("renew", "renewed");
        }
        Ok(is_held)
    }

    async fn release(&self, key: &str, lease: Lease) -> Result<bool, BoxError> {
        let is_released = self.call("release", self.store.release(key, lease)).await?;
        if is_released {
            self.telemetry.store("release", "released");
        }
        Ok(is_released)
    }
}
