//! Limits the fetches that refusals cause.
//!
//! A token that was accepted once and is refused now was revoked, and a new one will be accepted. A
//! token that was never accepted may have the wrong audience or issuer, so that this API never accepts
//! its like. After the first such refusal there is a fetch at once, because the token may have been
//! revoked between its issue and its use. From the second on refusals are *limited*: the refused token
//! stays the current one, and is replaced only after a wait that doubles each time.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::clock::Moment;

/// Two fetches at once, and then one after 5, 10, 20, … seconds: five in the first minute.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(5 * 60);

pub(crate) struct RefusalBudget {
    /// How many tokens in a row were refused and never accepted.
    refused: u32,
    /// The generation of the last of them, if it is still the current one.
    limited_generation: Option<u64>,
    until: Moment,
    backoff: Backoff,
}

/// What follows when a token is refused that was never accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BudgetDecision {
    /// Another token may be fetched.
    Fetch,
    /// The token stays: with this refusal the budget is used up.
    NowLimited { refused: u32, wait: Duration },
    /// The token stays: the budget was used up before.
    Limited,
}

impl RefusalBudget {
    pub(crate) fn new(jitter: bool) -> Self {
        Self {
            refused: 0,
            limited_generation: None,
            until: Moment::START,
            backoff: Backoff::new(FIRST, LONGEST, jitter),
        }
    }

    /// A token was refused that was never accepted.
    pub(crate) fn record_refusal(&mut self, generation: u64, now: Moment) -> BudgetDecision {
        if self.limited_generation == Some(generation) {
            if !now.reached(self.until) {
                return BudgetDecision::Limited;
            }
            // Its successor may be the same token again, and counts as another.
            self.limited_generation = None;
            return BudgetDecision::Fetch;
        }
        self.refused = self.refused.saturating_add(1);
        if self.refused == 1 {
            return BudgetDecision::Fetch;
        }
        let wait = self.backoff.next();
        self.limited_generation = Some(generation);
        self.until = now.plus(wait);
        BudgetDecision::NowLimited {
            refused: self.refused,
            wait,
        }
    }

    /// A token was accepted: the budget is full again. Returns whether refusals were limited.
    pub(crate) fn reset(&mut self) -> bool {
        let was_limited = self.refused > 1;
        self.refused = 0;
        self.limited_generation = None;
        self.backoff.reset();
        was_limited
    }

    /// Until when the token of this generation stays the current one though it was refused.
    pub(crate) fn limited_until(&self, generation: u64, now: Moment) -> Option<Moment> {
        let is_limited = self.limited_generation == Some(generation) && !now.reached(self.until);
        is_limited.then_some(self.until)
    }
}
