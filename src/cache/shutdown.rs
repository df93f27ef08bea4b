//! The end of a cache: no more tokens, and a word to the source.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use crate::cache::cache_inner::Shared;
use crate::cache::single_flight::Flight;
use crate::cache::state_machine::{LeftBehind, Machine, Outcome};
use crate::error::{Error, Kind};
use crate::token::issued_token::Token;

/// What is left to do once the state says `Closed`.
pub(crate) struct Closing {
    shared: Arc<Shared>,
    left_behind: LeftBehind,
    deadline: Instant,
}

impl Closing {
    pub(crate) fn new(shared: &Arc<Shared>, left_behind: LeftBehind) -> Self {
        Self {
            shared: Arc::clone(shared),
            left_behind,
            deadline: Instant::now() + shared.close_timeout,
        }
    }

    /// Lets the flight in the air end, and then closes the source, all within one deadline.
    pub(crate) async fn finish(self) {
        let deadline = self.deadline;
        let LeftBehind { held, flight } = self.left_behind;
        let mut last = held.map(|held| held.token().clone());
        if let Some(flight) = flight
            && let Some(newer) = landed(&self.shared, &flight, deadline).await
        {
            last = Some(newer);
        }
        // What other processes use isn't this one's to revoke.
        let last = last.filter(|_| !self.shared.is_of_a_fleet());
        close_source(&self.shared, last, deadline).await;
        self.shared.transition(Machine::end);
    }

    /// Without a runtime there is nobody to do it.
    pub(crate) fn skip(self) {
        let message = "there is no Tokio runtime to close the token source on";
        let error = Error::new(Kind::Runtime, message);
        self.shared.events.close_failed(&error);
        self.shared.transition(Machine::end);
    }
}

/// The token that the flight in the air brought, if it did so in time.
async fn landed(shared: &Shared, flight: &Flight<Outcome>, deadline: Instant) -> Option<Token> {
    match tokio::time::timeout_at(deadline, flight.wait()).await {
        Ok(landed) => Some(landed.ok()?.ok()?.token().clone()),
        Err(_) => {
            // Those who wait for it ask again, and are told that the cache is closed.
            shared.flight.abort();
            flight.give_up();
            None
        }
    }
}

async fn close_source(shared: &Shared, last: Option<Token>, deadline: Instant) {
    let close = AssertUnwindSafe(async { shared.source.close(last).await }).catch_unwind();
    let closed = match tokio::time::timeout_at(deadline, close).await {
        Ok(Ok(closed)) => closed,
        Ok(Err(_panic)) => Err(Error::new(Kind::Panic, "the token source panicked")),
        Err(_) => Err(late(shared.close_timeout)),
    };
    if let Err(error) = closed {
        shared.events.close_failed(&error);
    }
}

fn late(limit: Duration) -> Error {
    let message = format!("the token source was not closed within {limit:?}");
    Error::new(Kind::Timeout, message)
}
