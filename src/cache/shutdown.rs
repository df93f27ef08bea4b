//! The end of a cache: no more tokens, and a word to the source.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::cache_inner::CacheInner;
use super::single_flight::Flight;
use super::state_machine::{Outcome, RemainingWork, StateMachine};
use crate::error::{Error, Kind};
use crate::token::issued_token::Token;

/// What is left to do once the state says `Closed`.
pub(crate) struct Closing {
    shared: Arc<CacheInner>,
    left_behind: RemainingWork,
    deadline: Instant,
}

impl Closing {
    pub(crate) fn new(shared: &Arc<CacheInner>, left_behind: RemainingWork) -> Self {
        Self {
            shared: Arc::clone(shared),
            left_behind,
            deadline: Instant::now() + shared.close_timeout,
        }
    }

    /// Lets the flight in the air end, and then closes the source, all within one deadline.
    pub(crate) async fn finish(self) {
        let deadline = self.deadline;
        let RemainingWork { cached, flight } = self.left_behind;
        let mut last = cached.map(|cached| cached.token().clone());
        if let Some(flight) = flight
            && let Some(newer) = landed(&self.shared, &flight, deadline).await
        {
            last = Some(newer);
        }
        // What other processes use isn't this one's to revoke.
        let last = last.filter(|_| !self.shared.is_of_a_fleet());
        close_source(&self.shared, last, deadline).await;
        self.shared.transition(StateMachine::finish_close);
    }

    /// Without a runtime there is nobody to do it.
    pub(crate) fn skip(self) {
        let message = "there is no Tokio runtime to close the token source on";
        let error = Error::new(Kind::Runtime, message);
        self.shared.telemetry.close_failed(&error);
        self.shared.transition(StateMachine::finish_close);
    }
}

/// The token that the flight in the air brought, if it did so in time.
async fn landed(shared: &CacheInner, flight: &Flight<Outcome>, deadline: Instant) -> Option<Token> {
    match tokio::time::timeout_at(deadline, flight.wait()).await {
        Ok(landed) => Some(landed.ok()?.ok()?.token().clone()),
        Err(_) => {
            // Those who wait for it ask again, and are told that the cache is closed.
            shared.flight.abort();
            flight.abandon();
            None
        }
    }
}

async fn close_source(shared: &CacheInner, last: Option<Token>, deadline: Instant) {
    let close = AssertUnwindSafe(async { shared.source.close(last).await }).catch_unwind();
    let closed = match tokio::time::timeout_at(deadline, close).await {
        Ok(Ok(closed)) => closed,
        Ok(Err(_panic)) => Err(Error::new(Kind::Panic, "the token source panicked")),
        Err(_) => Err(late(shared.close_timeout)),
    };
    if let Err(error) = closed {
        shared.telemetry.close_failed(&error);
    }
}

fn late(limit: Duration) -> Error {
    let message = format!("the token source was not closed within {limit:?}");
    Error::new(Kind::Timeout, message)
}
