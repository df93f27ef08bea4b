//! What a cache remembers of refusals, while there are any: the evidence, and the two budgets.

use std::time::Duration;

use super::refusal_budget::RefusalBudget;
use super::refusal_evidence::{Evidence, RefusedToken, SentRequest, Shown};
use crate::clock::Moment;

/// How long acceptances are recorded after the last refusal, at least.
const WATCH: Duration = Duration::from_secs(60);

pub(crate) struct RefusalHistory {
    budget: RefusalBudget,
    revocation_budget: RefusalBudget,
    /// `None` once there was no refusal for a while.
    watch: Option<Watch>,
}

/// While there are refusals, acceptances are recorded too.
struct Watch {
    evidence: Evidence,
    until: Moment,
    /// Whether a refusal was limited, and whether that was reported for the current token.
    limited: Limited,
    /// How many tokens in a row were refused and never accepted, and the last of them.
    refused_in_row: u32,
    last_refused: u64,
    /// Whether it was reported that a resource refuses a token that others accept.
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
    /// Whether refusals were limited during it.
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

    /// The current token was refused.
    pub(crate) fn refused(&mut self, token: RefusedToken, sent: SentRequest, now: Moment) -> Shown {
        for budget in self.budgets() {
            budget.reset_if_unrefused(now);
            budget.token_refused();
        }
        let longest = self.budget.wait().max(self.revocation_budget.wait());
        let until = now.plus(longest.max(WATCH));
        let watch = self.watch.get_or_insert_with(|| Watch {
            evidence: Evidence::new(),
            until,
            limited: Limited::Never,
            refused_in_row: 0,
            last_refused: 0,
            has_reported_resource: false,
        });
        watch.until = until;
        if token.is_accepted {
            watch.refused_in_row = 0;
        } else if watch.last_refused != token.generation {
            watch.refused_in_row = watch.refused_in_row.saturating_add(1);
        }
        watch.last_refused = token.generation;
        watch.evidence.refused(token, sent)
    }

    /// The current token was accepted.
    pub(crate) fn accepted(&mut self, generation: u64, sent: SentRequest) {
        if let Some(watch) = &mut self.watch {
            watch.evidence.accepted(generation, sent);
        }
    }

    pub(crate) fn allows_fetch(&self, is_revoked: bool, now: Moment) -> bool {
        self.budget.allows_fetch(now) || (is_revoked && self.revocation_budget.allows_fetch(now))
    }

    /// Counts a fetch, which starts next.
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

    /// Whether a fetch that counts was started and has not ended.
    pub(crate) fn is_fetching(&self) -> bool {
        self.budget.is_fetching() || self.revocation_budget.is_fetching()
    }

    /// A fetch that a refusal caused has ended.
    pub(crate) fn fetch_ended(&mut self, now: Moment) {
        for budget in self.budgets() {
            budget.fetch_ended(now);
        }
    }

    /// There is another current token.
    pub(crate) fn token_arrived(&mut self, now: Moment) {
        for budget in self.budgets() {
            budget.token_arrived(now);
        }
        if let Some(watch) = &mut self.watch {
            watch.evidence.token_arrived();
        }
    }

    /// A refusal was limited. Returns how many tokens in a row were refused and how long the next fetch has
    /// to wait, if that is to be reported: for each token once.
    pub(crate) fn report_limited(&mut self, now: Moment) -> Option<(u32, Duration)> {
        let watch = self.watch.as_mut()?;
        let is_news = watch.limited != Limited::Reported && watch.refused_in_row > 1;
        let until = self.budget.limited_until(now).filter(|_| is_news)?;
        watch.limited = Limited::Reported;
        Some((watch.refused_in_row, now.until(until)))
    }

    /// A refusal of a token that others accept was limited. Returns whether that is to be reported.
    pub(crate) fn report_resource(&mut self) -> bool {
        let Some(watch) = &mut self.watch else {
            return false;
        };
        watch.limited = watch.limited.max(Limited::Before);
        !std::mem::replace(&mut watch.has_reported_resource, true)
    }

    /// Ends the watch if there was no refusal for a while.
    pub(crate) fn end_watch(&mut self, now: Moment) -> Option<WatchEnd> {
        let watch = self.watch.take_if(|watch| now.reached(watch.until))?;
        for budget in self.budgets() {
            budget.reset_if_unrefused(now);
        }
        Some(WatchEnd {
            was_limited: watch.limited != Limited::Never,
        })
    }

    /// Whether there is nothing left to remember.
    pub(crate) fn is_empty(&self) -> bool {
        self.watch.is_none() && self.budget.is_unused() && self.revocation_budget.is_unused()
    }

    /// Until when the current token stays in use although it was refused.
    pub(crate) fn limited_until(&self, now: Moment) -> Option<Moment> {
        self.budget.limited_until(now)
    }

    fn budgets(&mut self) -> [&mut RefusalBudget; 2] {
        [&mut self.budget, &mut self.revocation_budget]
    }
}
