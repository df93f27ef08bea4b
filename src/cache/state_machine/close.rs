//! What follows when the cache is closed.

use std::sync::Arc;

use super::machine::{CloseProgress, Outcome, StateMachine, TokenState};
use crate::cache::expiry::CachedToken;
use crate::cache::single_flight::Flight;

/// What was left when the cache was closed.
pub(crate) struct RemainingWork {
    pub(crate) cached: Option<Arc<CachedToken>>,
    pub(crate) flight: Option<Flight<Outcome>>,
}

impl StateMachine {
    /// No more tokens. A running fetch may complete, for the callers that wait for it already. `None` if
    /// the cache was closed before.
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

    /// The source is closed, and the shutdown finished.
    pub(crate) fn finish_close(&mut self) {
        self.state = TokenState::Closed(CloseProgress::Finished);
        self.version += 1;
    }
}
