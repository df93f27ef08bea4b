//! The task of one fetch. It calls the source, tries again after transient errors, and completes
//! the flight.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use tracing::{Instrument, Span};

use super::cache_inner::CacheInner;
use super::expiry::{FetchedBy, FetchedToken, expired_on_arrival};
#[cfg(feature = "fleet")]
use super::fleet_coordinator::FetchContext;
use super::state_machine::request::FetchStart;
use super::telemetry::FetchSummary;
use crate::backoff::Backoff;
use crate::error::{Error, Kind};
use crate::source::token_source::Reason;

/// The first pause between two attempts of one fetch. The pause is short because callers are
/// waiting, and a new connection often fixes the error.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The shortest pause after a token that had expired when it arrived. Some servers return the same
/// token until it expires, and round its remaining lifetime down to whole seconds. So in the last
/// second, they state a lifetime of zero. Two pauses take longer than this second, so the third
/// attempt gets the next token.
const PAUSE_AFTER_EXPIRED: Duration = Duration::from_millis(510);

impl CacheInner {
    /// Runs a fetch on its own task.
    ///
    /// Must not be called while the caller holds the state's lock. A runtime that is shutting down
    /// drops the task before `spawn` returns. Dropping the task takes this lock.
    pub(crate) fn start_fetch(self: &Arc<Self>, mut start: FetchStart) {
        if let Some(abandoned) = start.replaces.take() {
            abandoned.abandon();
        }
        let span = self.telemetry.fetch(start.reason);
        let task = FetchTask {
            inner: Arc::clone(self),
            start: Some(start),
            span: span.clone(),
        };
        match Handle::try_current() {
            Ok(runtime) => {
                let task = runtime.spawn(task.run().instrument(span));
                self.fetch_task.set(task.abort_handle());
            }
            Err(error) => {
                let message =
                    "could not fetch a token outside of a Tokio runtime; poll the request on one";
                task.abort(Error::new(Kind::Runtime, message).with_source(error));
            }
        }
    }
}

/// Returns whether the caller runs on a Tokio runtime with a timer. Without a timer, `sleep`
/// panics.
pub(crate) fn has_timer() -> bool {
    Handle::try_current().is_ok() && catch_unwind(|| tokio::time::sleep(Duration::ZERO)).is_ok()
}

/// The task of a fetch. If the task is dropped early, it aborts the fetch in the state machine.
struct FetchTask {
    inner: Arc<CacheInner>,
    start: Option<FetchStart>,
    /// The span of the fetch. If the subscriber has disabled this span, `Span::current` returns a
    /// caller's span instead.
    span: Span,
}

impl FetchTask {
    async fn run(self) {
        let Some(start) = &self.start else {
            return;
        };
        if !has_timer() {
            let message = "the Tokio runtime has no timer, so a fetch could hang forever; \
                           build it with `enable_time` or `enable_all`";
            return self.abort(Error::new(Kind::Runtime, message));
        }
        if !start.delay.is_zero() {
            tokio::time::sleep(start.delay).await;
        }
        let limit = self.inner.limits.fetch_timeout;
        let began = Instant::now();
        let mut attempts = Attempts::default();
        let all = self.attempt(start, began + limit, &mut attempts);
        let all = self.inner.while_fetching(timeout(limit, all));
        let all = AssertUnwindSafe(all).catch_unwind().await;
        let fetched = all
            .map(|in_time| in_time.unwrap_or_else(|_| Err(attempts.out_of_time(limit))))
            // The error doesn't contain the panic message, because the message may contain a
            // secret. Only the panic hook gets the message.
            .unwrap_or_else(|_| Err(Error::new(Kind::Panic, "the token source panicked")));
        self.complete(fetched, attempts.count, began.elapsed());
    }

    /// Calls the source until an attempt succeeds or fails with an error that isn't transient. A
    /// token that had expired when it arrived counts as a transient error. Stops earlier at the
    /// attempt limit, or if the next attempt would start after the deadline.
    async fn attempt(
        &self,
        start: &FetchStart,
        deadline: Instant,
        attempts: &mut Attempts,
    ) -> Result<FetchedToken, Error> {
        let inner = &self.inner;
        let jitter = inner.limits.expiry_policy.has_jitter();
        let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, jitter);
        loop {
            attempts.count += 1;
            let fetched = self.fetch_once(start.reason).await;
            let (error, shortest_pause) = match &fetched {
                Ok(token) if token.has_expired(inner.now()) => {
                    (expired_on_arrival(), PAUSE_AFTER_EXPIRED)
                }
                Err(error) if error.is_transient() => {
                    (error.clone(), error.retry_after().unwrap_or_default())
                }
                _ => return fetched,
            };
            let pause = pauses.next().max(shortest_pause);
            let in_time = deadline.saturating_duration_since(Instant::now()) > pause;
            if attempts.count >= inner.attempts || !in_time {
                return fetched;
            }
            inner.telemetry.attempt_failed(start.reason, &error, pause);
            attempts.last_error = Some(error);
            tokio::time::sleep(pause).await;
        }
    }

    async fn fetch_once(&self, reason: Reason) -> Result<FetchedToken, Error> {
        let inner = &self.inner;
        #[cfg(feature = "fleet")]
        if let Some(coordinator) = &inner.coordinator {
            let context = FetchContext {
                source: &*inner.source,
                reason,
                clock: &inner.clock,
                expiry_policy: &inner.limits.expiry_policy,
                limit: inner.limits.fetch_timeout,
                token_left: self.token_left(reason),
            };
            return coordinator.fetch(context).await;
        }
        FetchedToken::fetch_from(&*inner.source, reason, &inner.clock).await
    }

    /// Returns how long callers can still use the current token, if only its age requires a new
    /// token.
    #[cfg(feature = "fleet")]
    fn token_left(&self, reason: Reason) -> Option<Duration> {
        let current = self
            .inner
            .state
            .current()
            .filter(|_| reason == Reason::Stale)?;
        let served_for = current.served_for(self.inner.now());
        Some(served_for.unwrap_or(Duration::MAX))
    }

    fn complete(mut self, fetched: Result<FetchedToken, Error>, attempts: u32, duration: Duration) {
        let Some(start) = self.start.take() else {
            return;
        };
        let (inner, now) = (&self.inner, self.inner.now());
        let by = fetched.as_ref().map(|fetched| fetched.by);
        let by = by.unwrap_or(FetchedBy::ThisProcess);
        // The state drops a token that expired before it arrived. This clone delays the drop until
        // the lock is released, because dropping a token may run user code.
        let token = fetched.as_ref().ok().map(|it| it.token.clone());
        // The state changes before the waiting callers wake, so the callers find the new token in
        // the state.
        let (outcome, retry_in, newly_low) = inner.transition(|machine| {
            let outcome = machine.complete(&start.completer, fetched, now);
            (outcome, machine.retry_in(now), machine.take_newly_low())
        });
        let lifetime = match &outcome {
            Ok(cached) => Ok(cached.expires_at().map(|end| now.until(end))),
            Err(error) => Err(error.clone()),
        };
        let waiters = start.completer.complete(outcome);
        if let Some(id) = tokio::task::try_id() {
            inner.fetch_task.done(id);
        }
        inner.telemetry.fetch_completed(&FetchSummary {
            span: &self.span,
            reason: start.reason,
            duration,
            attempts,
            by,
            waiters,
            outcome: lifetime.as_ref().copied(),
            retry_in,
        });
        // The process that fetched the token warns, because only that process knows the requested
        // scope.
        if let Some(token) = &token
            && by == FetchedBy::ThisProcess
        {
            inner.telemetry.token_issued(token, lifetime.ok().flatten());
        }
        for low in &newly_low {
            inner.telemetry.quota_low(low);
        }
    }

    /// Ends the fetch without calling the source. The error isn't about the source, so the state
    /// machine doesn't cache it.
    fn abort(mut self, error: Error) {
        let Some(start) = self.start.take() else {
            return;
        };
        self.abandon(&start);
        start.completer.complete(Err(error));
    }

    fn abandon(&self, start: &FetchStart) {
        self.inner
            .transition(|machine| machine.abort(&start.completer));
    }
}

impl Drop for FetchTask {
    fn drop(&mut self) {
        if let Some(start) = self.start.take() {
            self.abandon(&start);
        }
    }
}

/// The attempts of one fetch so far.
#[derive(Default)]
struct Attempts {
    count: u32,
    last_error: Option<Error>,
}

impl Attempts {
    /// Returns the error of a fetch that reached its timeout. Prefers the error of the last attempt
    /// that ended, because this error says what is wrong.
    fn out_of_time(&mut self, limit: Duration) -> Error {
        self.last_error.take().unwrap_or_else(|| {
            let message =
                format!("the token source took longer than the fetch timeout of {limit:?}");
            Error::new(Kind::Timeout, message)
        })
    }
}
