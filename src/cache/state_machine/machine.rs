//! The states of one token, and what is read of them.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::expiry::{CachedToken, ExpiryPolicy};
use crate::cache::failure_backoff::FailureBackoff;
use crate::cache::quota_tracker::{LowQuota, QuotaTracker};
use crate::cache::refusal_budget::RefusalBudget;
use crate::cache::single_flight::Flight;
use crate::clock::Moment;
use crate::error::Error;
#[cfg(feature = "metrics")]
use crate::quota::Quota;
use crate::source::token_source::Reason;

/// The result of one fetch, for all callers that waited for it.
pub(crate) type Outcome = Result<Arc<CachedToken>, Error>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) expiry_policy: ExpiryPolicy,
    /// The most that a fetch may take, all its attempts together.
    pub(crate) fetch_timeout: Duration,
    /// The least time from the start of one fetch to the next.
    pub(crate) attempt_floor: Duration,
}

pub(crate) struct StateMachine {
    pub(super) state: TokenState,
    pub(super) limits: Limits,
    /// Why the next fetch will start.
    pub(super) reason: Reason,
    /// When the last fetch started.
    pub(super) last_fetch_at: Moment,
    pub(super) failure_backoff: FailureBackoff,
    pub(super) refusal_budget: RefusalBudget,
    pub(super) quota_tracker: QuotaTracker,
    /// How many changes there were.
    pub(super) version: u64,
}

pub(super) enum TokenState {
    Empty,
    Fetching(RunningFetch),
    Holding {
        cached: Arc<CachedToken>,
        refresh: Refresh,
    },
    Failed(CachedError),
    Closed(CloseProgress),
}

/// How far a shutdown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseProgress {
    /// The running fetch may still complete, and the source is to be closed.
    InProgress,
    Finished,
}

/// The refresh of the current token.
pub(super) enum Refresh {
    NotStarted,
    InFlight(RunningFetch),
    Failed(CachedError),
}

pub(super) struct RunningFetch {
    pub(super) flight: Flight<Outcome>,
    pub(super) reason: Reason,
    /// From when on it counts as abandoned.
    pub(super) overdue_at: Moment,
}

/// The error of the last fetch: callers get it until the next attempt.
pub(super) struct CachedError {
    pub(super) error: Error,
    pub(super) until: Moment,
}

impl StateMachine {
    pub(crate) fn new(limits: Limits) -> Self {
        let jitter = limits.expiry_policy.has_jitter();
        Self {
            state: TokenState::Empty,
            limits,
            reason: Reason::First,
            last_fetch_at: Moment::START,
            failure_backoff: FailureBackoff::new(jitter),
            refusal_budget: RefusalBudget::new(jitter),
            quota_tracker: QuotaTracker::default(),
            version: 0,
        }
    }

    pub(super) fn running(&self) -> Option<&RunningFetch> {
        match &self.state {
            TokenState::Fetching(running)
            | TokenState::Holding {
                refresh: Refresh::InFlight(running),
                ..
            } => Some(running),
            _ => None,
        }
    }

    /// The cached error. A caller that changes the state keeps a clone until it has released the lock:
    /// the error may contain a user's, whose drop is the user's code.
    pub(crate) fn last_error(&self) -> Option<Error> {
        self.cached_error()
            .map(|cached_error| cached_error.error.clone())
    }

    pub(super) fn cached_error(&self) -> Option<&CachedError> {
        match &self.state {
            TokenState::Failed(cached_error)
            | TokenState::Holding {
                refresh: Refresh::Failed(cached_error),
                ..
            } => Some(cached_error),
            _ => None,
        }
    }

    /// The current token, fresh or not.
    pub(crate) fn cached(&self) -> Option<&Arc<CachedToken>> {
        match &self.state {
            TokenState::Holding { cached, .. } => Some(cached),
            _ => None,
        }
    }

    /// The buckets that have become low since the last call.
    pub(crate) fn take_newly_low(&mut self) -> Vec<LowQuota> {
        self.quota_tracker.take_newly_low()
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn quotas(&self) -> Arc<[Quota]> {
        self.quota_tracker.quotas()
    }

    /// How many changes there were so far.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// How long it is until the next attempt, after one that failed.
    pub(crate) fn retry_in(&self, now: Moment) -> Option<Duration> {
        self.cached_error()
            .map(|cached_error| now.until(cached_error.until))
    }

    /// Drops the current token. Callers now wait for its refresh, if one is running.
    pub(super) fn discard(&mut self, reason: Reason) {
        let TokenState::Holding { refresh, .. } = &mut self.state else {
            return;
        };
        self.state = match (std::mem::replace(refresh, Refresh::NotStarted), reason) {
            (Refresh::InFlight(running), _) => TokenState::Fetching(running),
            // The backoff limits refreshes of a token that is served. A refused token isn't.
            (Refresh::Failed(cached_error), Reason::Expired) => TokenState::Failed(cached_error),
            (Refresh::Failed(_) | Refresh::NotStarted, _) => TokenState::Empty,
        };
        self.reason = reason;
        self.version += 1;
    }
}
