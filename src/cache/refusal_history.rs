//! The evidence about refusals and the two refusal budgets of a cache.

use std::time::Duration;

use super::refusal_budget::RefusalBudget;
use super::refusal_evidence::{Evidence, RefusedToken, SentRequest, Shown};
use crate::clock::Moment;

/// The minimum time for which acceptances are recorded after the last refusal.
const WATCH: Duration = Duration::from_secs(60);

pub(crate) struct RefusalHistory {
    budget: RefusalBudget,
    revocation_budget: RefusalBudget,
    /// The running watch. `None` if there has been no refusal for a while.
    watch: Option<Watch>,
}

/// The evidence from refusals and acceptances since refusals began.
struct Watch {
    evidence: Evidence,
    until: Moment,
    /// Whether the budget prevented or delayed a fetch after a refusal. Also, whether this was
    /// already reported for the current token.
    limited: Limited,
    /// How many tokens in a row were refused before any server accepted them.
    tokens_refused: u32,
    last_refused: u64,
    /// Whether a log event already reported that one resource refuses a token that other resources
    /// accept.
    has_reported_resource: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Limited {
    Never,
    Before,
    Reported,
}

/// The end of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WatchEnd {
    /// Whether the budget prevented or delayed a fetch during the watch.
    pub(crate) was_limited: bool,
}

impl RefusalHistory {
    pub(crate) fn new(jitter: bool) -> Self {
        Self {
            budget: RefusalBudget::new(jitter),
            revocation_budget: RefusalBudget::for_revocations(jitter),
            watch: None,
        }
    }

    pub(crate) fn is_watching(&self) -> bool {
        self.watch.is_some()
    }

    /// Resets the budgets if the current token has lasted for the current wait without a refusal.
    ///
    /// The cache calls this method only for a token that a server has accepted. A token that no
    /// request has used proves nothing.
    pub(crate) fn reset_if_unrefused(&mut self, now: Moment) {
        for budget in self.budgets() {
            budget.reset_if_unrefused(now);
        }
    }

    /// Records a refusal of the current token, and returns what the refusal shows.
    pub(crate) fn refused(&mut self, token: RefusedToken, sent: SentRequest, now: Moment) -> Shown {
        for budget in self.budgets() {
            budget.token_refused();
        }
        let longest = self.budget.wait().max(self.revocation_budget.wait());
        let until = now.plus(longest.max(WATCH));
        let watch = self.watch.get_or_insert_with(|| Watch {
            evidence: Evidence::new(),
            until,
            limited: Limited::Never,
            tokens_refused: 0,
            last_refused: 0,
            has_reported_resource: false,
        });
        watch.until = until;
        if token.is_accepted {
            watch.tokens_refused = 0;
        } else if watch.last_refused != token.generation {
            watch.tokens_refused = watch.tokens_refused.saturating_add(1);
        }
        watch.last_refused = token.generation;
        watch.evidence.refused(token, sent)
    }

    /// Records that the current token was accepted.
    pub(crate) fn accepted(&mut self, generation: u64, sent: SentRequest) {
        if let Some(watch) = &mut self.watch {
            watch.evidence.accepted(generation, sent);
        }
    }

    pub(crate) fn allows_fetch(&self, is_revoked: bool, now: Moment) -> bool {
        self.budget.allows_fetch(now) || (is_revoked && self.revocation_budget.allows_fetch(now))
    }

    /// Counts a fetch that is about to start.
    pub(crate) fn count_fetch(&mut self, is_revoked: bool, now: Moment) {
        match is_revoked && self.revocation_budget.allows_fetch(now) {
            true => self.revocation_budget.count_fetch(),
            false => self.budget.count_fetch(),
        }
        if let Some(watch) = &mut self.watch
            && watch.limited == Limited::Reported
        {
            watch.limited = Limited::Before;
        }
    }

    /// Returns whether a counted fetch is running.
    pub(crate) fn is_fetching(&self) -> bool {
        self.budget.is_fetching() || self.revocation_budget.is_fetching()
    }

    /// Records the end of a fetch that a refusal caused.
    pub(crate) fn fetch_ended(&mut self, now: Moment) {
        for budget in self.budgets() {
            budget.fetch_ended(now);
        }
    }

    /// Records that a new token became current.
    pub(crate) fn token_arrived(&mut self, now: Moment) {
        for budget in self.budgets() {
            budget.token_arrived(now);
        }
        if let Some(watch) = &mut self.watch {
            watch.evidence.token_arrived();
        }
    }

    /// Records that the budget prevented or delayed a fetch after a refusal.
    ///
    /// Returns how many tokens in a row were refused, and the wait until the next fetch. Returns
    /// `None` if there is nothing to report. There is at most one report per token.
    pub(crate) fn report_limited(&mut self, now: Moment) -> Option<(u32, Duration)> {
        let watch = self.watch.as_mut()?;
        let is_news = watch.limited != Limited::Reported && watch.tokens_refused > 1;
        let until = self.budget.limited_until(now).filter(|_| is_news)?;
        watch.limited = Limited::Reported;
        Some((watch.tokens_refused, now.until(until)))
    }

    /// Records that the budget prevented or delayed a fetch after one resource refused the token.
    /// Other resources accept this token. Returns whether to report the refusal.
    pub(crate) fn report_resource(&mut self) -> bool {
        let Some(watch) = &mut self.watch else {
            return false;
        };
        watch.limited = watch.limited.max(Limited::Before);
        !std::mem::replace(&mut watch.has_reported_resource, true)
    }

    /// Ends the watch if there has been no refusal for a while.
    pub(crate) fn end_watch(&mut self, now: Moment) -> Option<WatchEnd> {
        let watch = self.watch.take_if(|watch| now.reached(watch.until))?;
        Some(WatchEnd {
            was_limited: watch.limited != Limited::Never,
        })
    }

    /// Returns whether the history contains nothing worth keeping.
    pub(crate) fn is_empty(&self) -> bool {
        self.watch.is_none() && self.budget.is_unused() && self.revocation_budget.is_unused()
    }

    /// Returns when a budget allows the next fetch. Until then, the refused token stays in use.
    pub(crate) fn limited_until(&self, now: Moment) -> Option<Moment> {
        self.budget.limited_until(now)
    }

    fn budgets(&mut self) -> [&mut RefusalBudget; 2] {
        [&mut self.budget, &mut self.revocation_budget]
    }
}
