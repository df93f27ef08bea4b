//! Limits the fetches that refusals cause.
//!
//! If a refusal is about the token, a new token helps. If a refusal is about the resource, a new
//! token is useless. So the first refusal causes a fetch immediately, and the wait before each
//! further fetch doubles.
//!
//! Fetches count against the budget until the current token meets two conditions:
//!
//! - A server has accepted the token.
//! - The token has lasted for the current wait without a refusal.
//!
//! A successful replay or an acceptance by another resource isn't enough, because one of three
//! servers may refuse every token.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::clock::Moment;

/// The first wait. The fetch of the first token and the first fetch after a refusal are immediate.
/// Further fetches follow after 5, 10, 20, … s, so there are five fetches in the first minute.
const FIRST: Duration = Duration::from_secs(5);
/// The first wait after a revocation. It is shorter than [`FIRST`], because callers may have no
/// usable token.
const FIRST_IF_REVOKED: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5 * 60);

pub(crate) struct RefusalBudget {
    first: Duration,
    backoff: Backoff,
    /// How many fetches count against the budget.
    fetches: u32,
    /// Whether a counted fetch is running.
    is_fetching: bool,
    /// The current wait between the end of a fetch and the start of the next fetch.
    wait: Duration,
    next_fetch_at: Moment,
    /// When the current token arrived; `None` after a refusal of this token.
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
    /// If the other budget counted the fetch, a wait starts in this budget too. Servers need time
    /// to accept the new token.
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

    /// Returns when the budget allows the next fetch. Until then, the refused token stays in use.
    pub(crate) fn limited_until(&self, now: Moment) -> Option<Moment> {
        let is_limited = self.unrefused_since.is_none() && !self.allows_fetch(now);
        is_limited.then_some(self.next_fetch_at)
    }
}
