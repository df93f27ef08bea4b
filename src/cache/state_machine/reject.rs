//! What follows when a server refuses or accepts a token.

use std::time::Duration;

use super::machine::{StateMachine, TokenState};
use crate::cache::refusal_budget::BudgetDecision;
use crate::clock::Moment;
use crate::source::token_source::Reason;

/// What the refusal of a token leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// The token is dropped: the next request starts a fetch.
    Rejected,
    /// It isn't the current token any more.
    Outdated,
    /// The refusal budget is used up: the token stays, since a new one would likely be refused too.
    Limited,
    /// The same, and this refusal has used it up.
    NowLimited { refused: u32, wait: Duration },
}

impl StateMachine {
    /// A server refused the token of this generation. Only the current token can be rejected.
    pub(crate) fn reject(&mut self, generation: u64, now: Moment) -> Rejection {
        let TokenState::Holding { cached, .. } = &self.state else {
            return Rejection::Outdated;
        };
        if cached.token().generation() != generation {
            return Rejection::Outdated;
        }
        if !cached.is_accepted() {
            match self.refusal_budget.record_refusal(generation, now) {
                BudgetDecision::Fetch => {}
                BudgetDecision::Limited => return Rejection::Limited,
                BudgetDecision::NowLimited { refused, wait } => {
                    self.version += 1;
                    return Rejection::NowLimited { refused, wait };
                }
            }
        }
        self.discard(Reason::Refused);
        Rejection::Rejected
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
