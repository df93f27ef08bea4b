//! What a server publishes of itself, kept for as long as it says: two who want it share one request,
//! and the old one is used on while a new one can't be had.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::error::{Error, Kind};
use crate::sync::atomic::{AtomicBool, Ordering};

/// How long the old one is used on before a new one is asked for again.
const RETRY: Duration = Duration::from_secs(60);

pub(crate) struct Kept<T> {
    /// Held while it is looked for.
    state: Mutex<Option<State<T>>>,
    is_doubted: AtomicBool,
}

struct State<T> {
    value: Arc<T>,
    /// When it is looked for anew.
    due: Instant,
}

impl<T> Kept<T> {
    /// What is kept, or what `look` finds, with how long that is good. With an old one in hand the
    /// search may take `patience` and no longer: half of the caller's time is left for what it is
    /// wanted for.
    pub(crate) async fn get(
        &self,
        look: impl Future<Output = Result<(T, Duration), Error>>,
        patience: Duration,
    ) -> Result<Arc<T>, Error> {
        let mut state = self.state.lock().await;
        let found = match &*state {
            Some(old) if Instant::now() < old.due && !self.is_doubted() => {
                return Ok(Arc::clone(&old.value));
            }
            Some(_) => timeout(patience, look).await.unwrap_or_else(|_| {
                let message = "the metadata could not be had anew in time";
                Err(Error::new(Kind::Timeout, message))
            }),
            None => look.await,
        };
        // Not earlier: whoever looked may have been cut off.
        self.is_doubted.store(false, Ordering::Relaxed);
        let now = Instant::now();
        let next = match (found, state.take()) {
            (Ok((value, lifetime)), _) => State {
                value: Arc::new(value),
                due: now + lifetime,
            },
            (Err(_), Some(old)) => State {
                value: old.value,
                due: now + RETRY,
            },
            (Err(error), None) => return Err(error),
        };
        let value = Arc::clone(&next.value);
        *state = Some(next);
        Ok(value)
    }

    /// It seems to be out of date: the next who wants it looks anew.
    pub(crate) fn doubt(&self) {
        self.is_doubted.store(true, Ordering::Relaxed);
    }

    fn is_doubted(&self) -> bool {
        self.is_doubted.load(Ordering::Relaxed)
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            is_doubted: AtomicBool::new(false),
        }
    }
}
