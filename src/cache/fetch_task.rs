//! The task of one flight: asks the source, a few times if it must, and lands what came of it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::Instrument;

use super::cache_inner::CacheInner;
#[cfg(feature = "fleet")]
use super::coordinator::FetchContext;
use super::expiry::{FetchedBy, FetchedToken};
use super::state_machine::FetchStart;
use super::telemetry::FetchSummary;
use crate::backoff::Backoff;
use crate::error::{Error, Kind};
use crate::source::token_source::Reason;

/// Between the attempts of one flight, while all who need the token wait: short at first, since a
/// broken connection is mended by the next.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Puts a flight on a task of its own. Not to be called under the lock: a runtime that is shutting
/// down drops the task, and with it the completer, before `spawn` returns.
pub(crate) fn launch(shared: &Arc<CacheInner>, mut start: FetchStart) {
    if let Some(abandoned) = start.replaces.take() {
        abandoned.abandon();
    }
    let span = shared.telemetry.fetch(start.reason);
    let task = FetchTask {
        shared: Arc::clone(shared),
        start: Some(start),
    };
    match Handle::try_current() {
        Ok(runtime) => {
            let task = runtime.spawn(task.run().instrument(span));
            shared.flight.set(task.abort_handle());
        }
        Err(error) => task.abort(
            Error::new(
                Kind::Runtime,
                "a token can only be fetched on a Tokio runtime",
            )
            .with_source(error),
        ),
    }
}

/// Whether the runtime this is polled on has a timer; without one `sleep` panics.
pub(crate) fn has_timer() -> bool {
    catch_unwind(|| tokio::time::sleep(Duration::ZERO)).is_ok()
}

/// A flight's task. Dropped before its end, it tells the machine that the flight is lost.
struct FetchTask {
    shared: Arc<CacheInner>,
    start: Option<FetchStart>,
}

/// What all attempts of a flight came to.
struct Attempted {
    fetched: Result<FetchedToken, Error>,
    attempts: u32,
    duration: Duration,
}

impl FetchTask {
    async fn run(self) {
        let Some(start) = &self.start else {
            return;
        };
        if !has_timer() {
            let message = "the Tokio runtime has no timer, so a fetch could hang for ever; \
                           build it with `enable_time` or `enable_all`";
            return self.abort(Error::new(Kind::Runtime, message));
        }
        if !start.delay.is_zero() {
            tokio::time::sleep(start.delay).await;
        }
        let attempted = self.fetch(start).await;
        self.complete(attempted);
    }

    async fn fetch(&self, start: &FetchStart) -> Attempted {
        let limit = self.shared.limits.fetch_timeout;
        let began = Instant::now();
        let mut attempts = 0;
        let all = self.attempt(start, began + limit, &mut attempts);
        let fetched = AssertUnwindSafe(within(limit, all))
            .catch_unwind()
            .await
            // The panic's message stays with the panic hook: it might hold a secret.
            .unwrap_or_else(|_| Err(Error::new(Kind::Panic, "the token source panicked")));
        Attempted {
            fetched,
            attempts,
            duration: began.elapsed(),
        }
    }

    /// Asks until there is a token, or an error that no further attempt will change.
    async fn attempt(
        &self,
        start: &FetchStart,
        deadline: Instant,
        attempts: &mut u32,
    ) -> Result<FetchedToken, Error> {
        let shared = &self.shared;
        let jitter = shared.limits.expiry_policy.has_jitter();
        let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, jitter);
        loop {
            *attempts += 1;
            let error = match self.ask(start.reason).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => error,
            };
            let pause = pauses.next().max(error.retry_after().unwrap_or_default());
            let in_time = deadline.saturating_duration_since(Instant::now()) > pause;
            if *attempts >= shared.attempts || !error.is_transient() || !in_time {
                return Err(error);
            }
            shared.telemetry.attempt_failed(start.reason, &error, pause);
            tokio::time::sleep(pause).await;
        }
    }

    async fn ask(&self, reason: Reason) -> Result<FetchedToken, Error> {
        let shared = &self.shared;
        #[cfg(feature = "fleet")]
        if let Some(coordinator) = &shared.coordinator {
            let context = FetchContext {
                source: &*shared.source,
                reason,
                clock: &shared.clock,
                expiry_policy: &shared.limits.expiry_policy,
                limit: shared.limits.fetch_timeout,
                telemetry: &shared.telemetry,
            };
            return coordinator.fetch(context).await;
        }
        FetchedToken::by_asking(&*shared.source, reason, &shared.clock).await
    }

    fn complete(mut self, attempted: Attempted) {
        let Some(start) = self.start.take() else {
            return;
        };
        let (shared, now) = (&self.shared, self.shared.now());
        let by = attempted.fetched.as_ref().map(|fetched| fetched.by);
        let by = by.unwrap_or(FetchedBy::ThisProcess);
        // The state first: whoever is woken finds the new token there.
        let (outcome, retry_in, dry) = shared.transition(|machine| {
            let outcome = machine.complete(&start.completer, attempted.fetched, now);
            (outcome, machine.retry_in(now), machine.take_newly_low())
        });
        let lifetime = match &outcome {
            Ok(cached) => Ok(cached.expires_at().map(|end| now.until(end))),
            Err(error) => Err(error.clone()),
        };
        let waiters = start.completer.complete(outcome);
        if let Some(id) = tokio::task::try_id() {
            shared.flight.done(id);
        }
        shared.telemetry.fetch_completed(&FetchSummary {
            reason: start.reason,
            duration: attempted.duration,
            attempts: attempted.attempts,
            by,
            waiters,
            outcome: lifetime.as_ref().copied(),
            retry_in,
        });
        for dry in &dry {
            shared.telemetry.quota_low(dry);
        }
    }

    /// Ends the flight before it began. The failure isn't remembered: it says nothing of the
    /// source.
    fn abort(mut self, error: Error) {
        let Some(start) = self.start.take() else {
            return;
        };
        self.abandon(&start);
        start.completer.complete(Err(error));
    }

    fn abandon(&self, start: &FetchStart) {
        self.shared
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

async fn within<T>(
    limit: Duration,
    attempts: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, attempts)
        .await
        .unwrap_or_else(|_| {
            let message = format!("the token source took longer than its {limit:?}");
            Err(Error::new(Kind::Timeout, message))
        })
}
