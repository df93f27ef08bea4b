//! What keeps refusals from costing a fetch each.
//!
//! A token that was accepted once and is refused now was revoked, and a new one will do. One that
//! is refused without ever having been accepted may be of a kind that this API never accepts: of
//! the wrong audience, or of another issuer. The first such gets a second chance, for it may have
//! been revoked between its issue and its use. From the second on they are *latched*: the token
//! stays in hand, refused as it is, and is replaced only when a delay is over that doubles each
//! time.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::clock::Moment;

/// Two fetches at once, and then one after 5, 10, 20, … seconds: five in the first minute.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(5 * 60);

pub(crate) struct RefusalBudget {
    /// How many tokens in a row were refused and never accepted.
    refused: u32,
    /// The generation of the last of them, if it is still in hand.
    limited_generation: Option<u64>,
    until: Moment,
    backoff: Backoff,
}

/// What the refusal of a token that nobody ever accepted comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BudgetDecision {
    /// Another one may be fetched.
    Fetch,
    /// It is kept: with this refusal the latch fell.
    NowLimited { refused: u32, wait: Duration },
    /// It is kept: the latch fell before.
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
            // Its successor may well be the same one again, and counts as another.
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

    /// A token was accepted: all is forgotten. Whether there was a latch to lift.
    pub(crate) fn reset(&mut self) -> bool {
        let was_latched = self.refused > 1;
        self.refused = 0;
        self.limited_generation = None;
        self.backoff.reset();
        was_latched
    }

    /// Until when the token of this generation is kept though it was refused.
    pub(crate) fn limited_until(&self, generation: u64, now: Moment) -> Option<Moment> {
        let is_held = self.limited_generation == Some(generation) && !now.reached(self.until);
        is_held.then_some(self.until)
    }
}
