//! A store whose requests and answers arrive late.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;
use tower_auth::BoxError;
use tower_auth::fleet::{Lease, StoredValue, TokenStore};

#[derive(Clone)]
pub(crate) struct SlowStore<S> {
    store: S,
    delays: Arc<Mutex<Delays>>,
}

#[derive(Clone, Copy)]
struct Delays {
    request: Duration,
    answer: Duration,
}

impl<S> SlowStore<S> {
    /// Delays each request, and each answer.
    pub(crate) fn new(store: S, request: Duration, answer: Duration) -> Self {
        let delays = Arc::new(Mutex::new(Delays { request, answer }));
        Self { store, delays }
    }

    /// Sets how late requests and answers arrive from now on.
    pub(crate) fn delays(&self, request: Duration, answer: Duration) {
        *self.delays.lock().unwrap() = Delays { request, answer };
    }

    async fn late<T>(&self, call: impl Future<Output = T>) -> T {
        let Delays { request, answer } = *self.delays.lock().unwrap();
        sleep(request).await;
        let result = call.await;
        sleep(answer).await;
        result
    }
}

impl<S> TokenStore for SlowStore<S>
where
    S: TokenStore,
{
    async fn load(&self, key: &str) -> Result<Option<StoredValue>, BoxError> {
        self.late(self.store.load(key)).await
    }

    async fn save(
        &self,
        key: &str,
        sealed: &[u8],
        ttl: Duration,
        lease: &Lease,
    ) -> Result<bool, BoxError> {
        self.late(self.store.save(key, sealed, ttl, lease)).await
    }

    async fn delete(&self, key: &str, lease: &Lease) -> Result<bool, BoxError> {
        self.late(self.store.delete(key, lease)).await
    }

    async fn lease(&self, key: &str, ttl: Duration) -> Result<Option<Lease>, BoxError> {
        self.late(self.store.lease(key, ttl)).await
    }

    async fn renew(&self, key: &str, lease: &Lease, ttl: Duration) -> Result<bool, BoxError> {
        self.late(self.store.renew(key, lease, ttl)).await
    }

    async fn release(&self, key: &str, lease: Lease) -> Result<bool, BoxError> {
        self.late(self.store.release(key, lease)).await
    }
}
