//! The task of one flight: asks the source, a few times if it must, and lands what came of it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::Instrument;

use crate::backoff::Backoff;
use crate::cache::cache_inner::Shared;
#[cfg(feature = "fleet")]
use crate::cache::coordinator::Flying;
use crate::cache::expiry::{Fetched, FetchedBy};
use crate::cache::state_machine::TakeOff;
use crate::cache::telemetry::Landing;
use crate::error::{Error, Kind};
use crate::source::token_source::Reason;

/// Between the attempts of one flight, while all who need the token wait: short at first, since a
/// broken connection is mended by the next.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Puts a flight on a task of its own. Not to be called under the lock: a runtime that is shutting
/// down drops the task, and with it the pilot, before `spawn` returns.
pub(crate) fn launch(shared: &Arc<Shared>, mut take_off: TakeOff) {
    if let Some(abandoned) = take_off.replaces.take() {
        abandoned.give_up();
    }
    let span = shared.events.fetch(take_off.reason);
    let flight = InFlight {
        shared: Arc::clone(shared),
        take_off: Some(take_off),
    };
    match Handle::try_current() {
        Ok(runtime) => {
            let task = runtime.spawn(flight.fly().instrument(span));
            shared.flight.set(task.abort_handle());
        }
        Err(error) => flight.abort(
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
struct InFlight {
    shared: Arc<Shared>,
    take_off: Option<TakeOff>,
}

/// What all attempts of a flight came to.
struct Attempted {
    fetched: Result<Fetched, Error>,
    attempts: u32,
    duration: Duration,
}

impl InFlight {
    async fn fly(self) {
        let Some(take_off) = &self.take_off else {
            return;
        };
        if !has_timer() {
            let message = "the Tokio runtime has no timer, so a fetch could hang for ever; \
                           build it with `enable_time` or `enable_all`";
            return self.abort(Error::new(Kind::Runtime, message));
        }
        if !take_off.delay.is_zero() {
            tokio::time::sleep(take_off.delay).await;
        }
        let attempted = self.fetch(take_off).await;
        self.land(attempted);
    }

    async fn fetch(&self, take_off: &TakeOff) -> Attempted {
        let limit = self.shared.limits.fetch_timeout;
        let start = Instant::now();
        let mut attempts = 0;
        let all = self.attempt(take_off, start + limit, &mut attempts);
        let fetched = AssertUnwindSafe(within(limit, all))
            .catch_unwind()
            .await
            // The panic's message stays with the panic hook: it might hold a secret.
            .unwrap_or_else(|_| Err(Error::new(Kind::Panic, "the token source panicked")));
        Attempted {
            fetched,
            attempts,
            duration: start.elapsed(),
        }
    }

    /// Asks until there is a token, or an error that no further attempt will change.
    async fn attempt(
        &self,
        take_off: &TakeOff,
        deadline: Instant,
        attempts: &mut u32,
    ) -> Result<Fetched, Error> {
        let shared = &self.shared;
        let jitter = shared.limits.windows.has_jitter();
        let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, jitter);
        loop {
            *attempts += 1;
            let error = match self.ask(take_off.reason).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => error,
            };
            let pause = pauses.next().max(error.retry_after().unwrap_or_default());
            let in_time = deadline.saturating_duration_since(Instant::now()) > pause;
            if *attempts >= shared.attempts || !error.is_transient() || !in_time {
                return Err(error);
            }
            shared.events.attempt_failed(take_off.reason, &error, pause);
            tokio::time::sleep(pause).await;
        }
    }

    async fn ask(&self, reason: Reason) -> Result<Fetched, Error> {
        let shared = &self.shared;
        #[cfg(feature = "fleet")]
        if let Some(member) = &shared.member {
            let flying = Flying {
                source: &*shared.source,
                reason,
                clock: &shared.clock,
                windows: &shared.limits.windows,
                limit: shared.limits.fetch_timeout,
                events: &shared.events,
            };
            return member.fetch(flying).await;
        }
        Fetched::by_asking(&*shared.source, reason, &shared.clock).await
    }

    fn land(mut self, attempted: Attempted) {
        let Some(take_off) = self.take_off.take() else {
            return;
        };
        let (shared, now) = (&self.shared, self.shared.now());
        let by = attempted.fetched.as_ref().map(|fetched| fetched.by);
        let by = by.unwrap_or(FetchedBy::ThisProcess);
        // The state first: whoever is woken finds the new token there.
        let (outcome, retry_in, dry) = shared.transition(|machine| {
            let outcome = machine.land(&take_off.pilot, attempted.fetched, now);
            (outcome, machine.put_off_for(now), machine.turned_dry())
        });
        let lifetime = match &outcome {
            Ok(held) => Ok(held.over_from().map(|end| now.until(end))),
            Err(error) => Err(error.clone()),
        };
        let waiters = take_off.pilot.land(outcome);
        if let Some(id) = tokio::task::try_id() {
            shared.flight.done(id);
        }
        shared.events.landed(&Landing {
            reason: take_off.reason,
            duration: attempted.duration,
            attempts: attempted.attempts,
            by,
            waiters,
            outcome: lifetime.as_ref().copied(),
            retry_in,
        });
        for dry in &dry {
            shared.events.running_dry(dry);
        }
    }

    /// Ends the flight before it began. The failure isn't remembered: it says nothing of the
    /// source.
    fn abort(mut self, error: Error) {
        let Some(take_off) = self.take_off.take() else {
            return;
        };
        self.lose(&take_off);
        take_off.pilot.land(Err(error));
    }

    fn lose(&self, take_off: &TakeOff) {
        self.shared
            .transition(|machine| machine.lose(&take_off.pilot));
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(take_off) = self.take_off.take() {
            self.lose(&take_off);
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
