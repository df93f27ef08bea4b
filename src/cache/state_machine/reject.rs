//! What follows when a server refuses or accepts a token.

use super::machine::{StateMachine, TokenState};
use crate::cache::refusal_budget::Rejection;
use crate::clock::Moment;
use crate::source::token_source::Reason;

impl StateMachine {
    /// A server refused the token of this generation. Only the current token can be rejected.
    pub(crate) fn reject(&mut self, generation: u64, now: Moment) -> Rejection {
        let TokenState::Holding { cached, .. } = &self.state else {
            return Rejection::Outdated;
        };
        if cached.token().generation() != generation {
            return Rejection::Outdated;
        }
        let rejection = match cached.is_accepted() {
            true => Rejection::Rejected,
            false => self.refusal_budget.record_refusal(generation, now),
        };
        match rejection {
            Rejection::Rejected => self.discard(Reason::Refused),
            Rejection::NowLimited { .. } => self.version += 1,
            Rejection::Limited | Rejection::Outdated => {}
        }
        rejection
    }

    /// A server accepted the token of this generation; once is enough. Returns whether refusals were
    /// limited until now.
    pub(crate) fn accept(&mut self, generation: u64) -> bool {
        match &self.state {
            TokenState::Holding { cached, .. }
                if cached.token().generation() == generation && !cached.is_accepted() =>
            {
                cached.accept();
                self.version += 1;
                self.refusal_budget.reset()
            }
            _ => false,
        }
    }
}
