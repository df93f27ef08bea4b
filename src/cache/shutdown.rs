//! Closes a cache: waits for the running fetch, and then closes the source.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::cache_inner::CacheInner;
use super::single_flight::Flight;
use super::state_machine::close::RemainingWork;
use super::state_machine::machine::{Outcome, StateMachine};
use crate::error::{Error, Kind};
use crate::token::issued_token::Token;

/// The work that remains after the state became `Closed`.
pub(crate) struct Shutdown {
    inner: Arc<CacheInner>,
    remaining: RemainingWork,
    deadline: Instant,
}

impl Shutdown {
    pub(crate) fn new(inner: &Arc<CacheInner>, remaining: RemainingWork) -> Self {
        Self {
            inner: Arc::clone(inner),
            remaining,
            deadline: Instant::now() + inner.close_timeout,
        }
    }

    /// Waits for the running fetch and then closes the source, all within one deadline.
    pub(crate) async fn finish(self) {
        let (inner, deadline) = (self.inner, self.deadline);
        let mut last = self.remaining.cached.map(|cached| cached.token().clone());
        if let Some(flight) = self.remaining.flight
            && let Some(newer) = inner.last_fetched(&flight, deadline).await
        {
            last = Some(newer);
        }
        // Other processes still use the token, so this process must not revoke it.
        let last = last.filter(|_| !inner.is_shared_with_fleet());
        inner.close_source(last, deadline).await;
        inner.transition(StateMachine::finish_close);
    }

    /// Reports that the source can't be closed without a runtime.
    pub(crate) fn skip(self) {
        let message =
            "could not close the token source outside of a Tokio runtime; await `close` on one";
        let error = Error::new(Kind::Runtime, message);
        self.inner.telemetry.close_failed(&error);
        self.inner.transition(StateMachine::finish_close);
    }
}

impl CacheInner {
    /// Returns the token of the running fetch, if the fetch completes in time.
    async fn last_fetched(&self, flight: &Flight<Outcome>, deadline: Instant) -> Option<Token> {
        match tokio::time::timeout_at(deadline, flight.wait()).await {
            Ok(ended) => Some(ended.ok()?.ok()?.token().clone()),
            Err(_) => {
                // Callers that wait for the fetch request a token again and get the error of a
                // closed cache.
                self.fetch_task.abort();
                flight.abandon();
                None
            }
        }
    }

    async fn close_source(&self, last: Option<Token>, deadline: Instant) {
        let close = AssertUnwindSafe(async { self.source.close(last).await }).catch_unwind();
        let closed = match tokio::time::timeout_at(deadline, close).await {
            Ok(Ok(closed)) => closed,
            Ok(Err(_panic)) => Err(Error::new(Kind::Panic, "the token source panicked")),
            Err(_) => {
                let limit = self.close_timeout;
                let message = format!("the token source was not closed within {limit:?}");
                Err(Error::new(Kind::Timeout, message))
            }
        };
        if let Err(error) = closed {
            self.telemetry.close_failed(&error);
        }
    }
}
