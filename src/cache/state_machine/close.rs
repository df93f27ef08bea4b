//! Transitions of a cache that is closed.

use std::sync::Arc;

use super::machine::{CloseProgress, Outcome, StateMachine, TokenState};
use crate::cache::expiry::CachedToken;
use crate::cache::single_flight::Flight;

/// The token and the flight that were left when the cache was closed.
pub(crate) struct RemainingWork {
    pub(crate) cached: Option<Arc<CachedToken>>,
    pub(crate) flight: Option<Flight<Outcome>>,
}

impl StateMachine {
    /// Closes the cache. A closed cache gives out no tokens. A running fetch may still complete for
    /// callers that already wait for it. Returns `None` if the cache was already closed.
    pub(crate) fn close(&mut self) -> Option<RemainingWork> {
        if let TokenState::Closed(_) = self.state {
            return None;
        }
        let remaining = RemainingWork {
            cached: self.cached().cloned(),
            flight: self.running().map(|running| running.flight.clone()),
        };
        self.state = TokenState::Closed(CloseProgress::InProgress);
        self.version += 1;
        Some(remaining)
    }

    /// Records that the shutdown has finished. The source is closed, or its `close` has failed.
    pub(crate) fn finish_close(&mut self) {
        self.state = TokenState::Closed(CloseProgress::Finished);
        self.version += 1;
    }
}
