//! The states of one token, and the functions that read them.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::expiry::{CachedToken, ExpiryPolicy};
use crate::cache::failure_backoff::FailureBackoff;
use crate::cache::quota_tracker::{LowQuota, QuotaTracker};
use crate::cache::refusal_history::RefusalHistory;
use crate::cache::single_flight::Flight;
use crate::clock::Moment;
use crate::error::Error;
#[cfg(feature = "metrics")]
use crate::quota::Quota;
use crate::source::token_source::Reason;

/// The result of one fetch, which all waiting callers get.
pub(crate) type Outcome = Result<Arc<CachedToken>, Error>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) expiry_policy: ExpiryPolicy,
    /// The maximum time of a fetch, including all its attempts.
    pub(crate) fetch_timeout: Duration,
    /// The minimum time from the start of one fetch to the start of the next.
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
    /// `None` while there are no refusals.
    pub(super) refusals: Option<Box<RefusalHistory>>,
    /// Whether the token before the current one was accepted.
    pub(super) was_accepted: bool,
    pub(super) quota_tracker: QuotaTracker,
    /// How many changes there have been.
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

/// The progress of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseProgress {
    /// The running fetch may still complete, and the source isn't closed yet.
    InProgress,
    Finished,
}

/// The refresh of the current token.
pub(super) enum Refresh {
    NotStarted,
    /// The token was refused, and the next request starts a fetch. The token stays in use until its
    /// successor arrives.
    Wanted {
        withdrawn_from: WithdrawnFrom,
    },
    InFlight(RunningFetch),
    Failed(CachedError),
}

/// Which callers wait for the successor of a refused token. If its fetch fails, they get the
/// refused token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WithdrawnFrom {
    /// No caller waits, because the refusal may be about the resource.
    Nobody,
    /// Callers that can't replay a refused request wait, because the token is revoked.
    CannotReplay,
    /// All callers wait, because the server has ended the token or the user rejected it.
    Everyone,
}

pub(super) struct RunningFetch {
    pub(super) flight: Flight<Outcome>,
    pub(super) reason: Reason,
    pub(super) withdrawn_from: WithdrawnFrom,
    /// From this moment on, the fetch counts as abandoned.
    pub(super) overdue_at: Moment,
}

/// The error of the last fetch, which callers get until the next attempt.
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
            refusals: None,
            was_accepted: false,
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

    /// Returns a clone of the cached error. A caller that changes the state keeps the clone until
    /// it has released the lock, because dropping a user's error runs user code.
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

    /// Returns the current token, even if it has expired.
    pub(crate) fn cached(&self) -> Option<&Arc<CachedToken>> {
        match &self.state {
            TokenState::Holding { cached, .. } => Some(cached),
            _ => None,
        }
    }

    /// Returns the buckets that have become low since the last call.
    pub(crate) fn take_newly_low(&mut self) -> Vec<LowQuota> {
        self.quota_tracker.take_newly_low()
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn quotas(&self) -> Arc<[Quota]> {
        self.quota_tracker.quotas()
    }

    /// Returns how many changes there have been.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Returns the time until the next attempt, if the last one failed.
    pub(crate) fn retry_in(&self, now: Moment) -> Option<Duration> {
        self.cached_error()
            .map(|cached_error| now.until(cached_error.until))
    }

    /// Returns whether the current token was refused, and its successor is wanted or being fetched.
    pub(super) fn is_replacing(&self) -> bool {
        match &self.state {
            TokenState::Holding { refresh, .. } => match refresh {
                Refresh::Wanted { .. } => true,
                Refresh::InFlight(running) => {
                    running.reason == Reason::Refused
                        || running.withdrawn_from != WithdrawnFrom::Nobody
                }
                Refresh::NotStarted | Refresh::Failed(_) => false,
            },
            _ => false,
        }
    }

    /// Returns which callers wait for the wanted or the running fetch.
    pub(super) fn withdrawn_from(&self) -> WithdrawnFrom {
        match &self.state {
            TokenState::Holding {
                refresh: Refresh::Wanted { withdrawn_from },
                ..
            } => *withdrawn_from,
            _ => self
                .running()
                .map_or(WithdrawnFrom::Nobody, |running| running.withdrawn_from),
        }
    }

    /// Returns whether acceptances are recorded, because there are refusals.
    pub(crate) fn is_watching(&self) -> bool {
        let refusals = self.refusals.as_ref();
        refusals.is_some_and(|refusals| refusals.is_watching())
    }

    /// Drops the expired token. If its refresh is running, callers now wait for that.
    pub(super) fn discard_expired(&mut self) {
        let TokenState::Holding { cached, refresh } = &mut self.state else {
            return;
        };
        self.was_accepted = cached.is_accepted();
        self.state = match std::mem::replace(refresh, Refresh::NotStarted) {
            Refresh::InFlight(running) => TokenState::Fetching(running),
            Refresh::Failed(cached_error) => TokenState::Failed(cached_error),
            Refresh::NotStarted | Refresh::Wanted { .. } => TokenState::Empty,
        };
        self.reason = Reason::Expired;
        self.version += 1;
    }
}
