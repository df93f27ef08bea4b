//! Limits the fetches that refusals cause.
//!
//! A new token helps if the refusal was about the token, and is wasted if it was about the
//! resource. So the first refusal causes a fetch immediately, and the wait before each further
//! fetch doubles.
//!
//! A fetch counts against the budget until a server has accepted a token, and the token has lasted
//! for the current wait without a refusal. Neither a successful replay nor an acceptance elsewhere
//! clears it, because one of three servers may refuse every token.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::clock::Moment;

/// The first wait. Two fetches are immediate, including that of the first token. Others follow
/// after 5, 10, 20, … s: five in the first minute.
const FIRST: Duration = Duration::from_secs(5);
/// Shorter than [`FIRST`], because callers may have no usable token once the token is known to be
/// revoked.
const FIRST_IF_REVOKED: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5 * 60);

pub(crate) struct RefusalBudget {
    first: Duration,
    backoff: Backoff,
    /// How many fetches count against the budget.
    fetches: u32,
    /// Whether a fetch that counts has started and not ended.
    is_fetching: bool,
    /// The current wait, from the end of a fetch to the start of the next.
    wait: Duration,
    next_fetch_at: Moment,
    /// When the current token arrived; `None` if it was refused since then.
    unrefused_since: Option<Moment>,
}

impl RefusalBudget {
    /// Creates the budget for refusals that may be about the resource.
    pub(crate) fn new(jitter: bool) -> Self {
        Self::starting_with(FIRST, jitter)
    }

    /// Creates the budget for refusals that prove a revocation.
    pub(crate) fn for_revocations(jitter: bool) -> Self {
        Self::starting_with(FIRST_IF_REVOKED, jitter)
    }

    fn starting_with(first: Duration, jitter: bool) -> Self {
        Self {
            first,
            backoff: Backoff::new(first, LONGEST, jitter),
            fetches: 0,
            is_fetching: false,
            wait: first,
            next_fetch_at: Moment::START,
            unrefused_since: None,
        }
    }

    pub(crate) fn allows_fetch(&self, now: Moment) -> bool {
        now.reached(self.next_fetch_at)
    }

    /// Counts a fetch that is about to start.
    pub(crate) fn count_fetch(&mut self) {
        self.fetches = self.fetches.saturating_add(1);
        self.is_fetching = true;
        self.wait = self.backoff.next();
    }

    /// Starts the wait after a fetch that a refusal caused.
    ///
    /// A fetch that another budget counted starts a wait here too, because the new token needs time
    /// to be accepted.
    pub(crate) fn fetch_ended(&mut self, now: Moment) {
        let wait = match std::mem::take(&mut self.is_fetching) {
            true => self.wait,
            false => self.first,
        };
        let next = now.plus(wait);
        if next.reached(self.next_fetch_at) {
            self.next_fetch_at = next;
        }
    }

    /// Records that a new token became current.
    pub(crate) fn token_arrived(&mut self, now: Moment) {
        self.unrefused_since = Some(now);
    }

    pub(crate) fn token_refused(&mut self) {
        self.unrefused_since = None;
    }

    /// Resets the count of fetches if the token has lasted for the current wait without a refusal.
    pub(crate) fn reset_if_unrefused(&mut self, now: Moment) {
        let has_lasted = |since: Moment| now.reached(since.plus(self.wait));
        if self.unrefused_since.is_some_and(has_lasted) {
            self.fetches = 0;
            self.wait = self.first;
            self.backoff.reset();
        }
    }

    pub(crate) fn is_fetching(&self) -> bool {
        self.is_fetching
    }

    pub(crate) fn is_unused(&self) -> bool {
        self.fetches == 0
    }

    pub(crate) fn wait(&self) -> Duration {
        self.wait
    }

    /// Returns the time until which the refused token stays in use.
    pub(crate) fn limited_until(&self, now: Moment) -> Option<Moment> {
        let is_limited = self.unrefused_since.is_none() && !self.allows_fetch(now);
        is_limited.then_some(self.next_fetch_at)
    }
}
