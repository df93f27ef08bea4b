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

impl RefusalBudget {
    pub(crate) fn new(jitter: bool) -> Self {
        Self {
            refused: 0,
            limited_generation: None,
            until: Moment::START,
            backoff: Backoff::new(FIRST, LONGEST, jitter),
        }
    }

    /// The current token was refused, and was never accepted.
    pub(crate) fn record_refusal(&mut self, generation: u64, now: Moment) -> Rejection {
        if self.limited_generation == Some(generation) {
            if !now.reached(self.until) {
                return Rejection::Limited;
            }
            // Its successor may be the same token again, and counts as another.
            self.limited_generation = None;
            return Rejection::Rejected;
        }
        self.refused = self.refused.saturating_add(1);
        if self.refused == 1 {
            return Rejection::Rejected;
        }
        let wait = self.backoff.next();
        self.limited_generation = Some(generation);
        self.until = now.plus(wait);
        Rejection::NowLimited {
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
