//! A document that a server publishes, cached for as long as the server allows. Concurrent callers
//! share one fetch. If a new fetch fails, the old document stays in use.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::cache::cache_inner::shut_out;
use crate::error::{Error, Kind};
use crate::sync::atomic::{AtomicBool, Ordering};

/// The time between a failed fetch and the next attempt. The old document stays in use meanwhile.
const RETRY: Duration = Duration::from_secs(60);

pub(crate) struct CachedDocument<T> {
    /// The stored document. Its lock is held during a fetch.
    state: Mutex<Option<StoredDocument<T>>>,
    is_invalid: AtomicBool,
}

struct StoredDocument<T> {
    value: Arc<T>,
    /// When the document is fetched again.
    due: Instant,
}

impl<T> CachedDocument<T> {
    /// Returns the cached document, or fetches it and its lifetime with `fetch`. If there is an old
    /// document, this method cancels `fetch` after `limit`. The caller then has time left to use
    /// the old document.
    pub(crate) async fn get(
        &self,
        fetch: impl Future<Output = Result<(T, Duration), Error>>,
        limit: Duration,
    ) -> Result<Arc<T>, Error> {
        let mut state = self.state.lock().await;
        let is_invalid = self.is_invalid.load(Ordering::Relaxed);
        let fetched = match &*state {
            Some(old) if Instant::now() < old.due && !is_invalid => {
                return Ok(Arc::clone(&old.value));
            }
            Some(_) => timeout(limit, fetch).await.unwrap_or_else(|_| {
                let message = "the metadata could not be fetched again in time";
                Err(Error::new(Kind::Timeout, message))
            }),
            None => fetch.await,
        };
        // Resets the mark only after the fetch. If the caller drops this future during the fetch,
        // the document stays marked as invalid.
        self.is_invalid.store(false, Ordering::Relaxed);
        let now = Instant::now();
        let mut rejected = None;
        let next = match (fetched, state.take()) {
            (Ok((value, lifetime)), _) => StoredDocument {
                value: Arc::new(value),
                due: now + lifetime,
            },
            (Err(error), Some(old)) => {
                rejected = Some(error).filter(Error::is_config);
                StoredDocument {
                    value: old.value,
                    due: now + RETRY,
                }
            }
            (Err(error), None) => return Err(error),
        };
        let value = Arc::clone(&next.value);
        *state = Some(next);
        drop(state);
        // The new document was rejected, but the caller gets the old document and no error.
        if let Some(error) = rejected {
            shut_out(format!("{error}; the old metadata stays in use"));
        }
        Ok(value)
    }

    /// Marks the document as possibly out of date, so that the next caller fetches it again.
    pub(crate) fn invalidate(&self) {
        self.is_invalid.store(true, Ordering::Relaxed);
    }
}

impl<T> Default for CachedDocument<T> {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            is_invalid: AtomicBool::new(false),
        }
    }
}
