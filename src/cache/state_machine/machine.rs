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
    /// The reason for the next fetch.
    pub(super) reason: Reason,
    /// When the last fetch started.
    pub(super) last_fetch_at: Moment,
    pub(super) failure_backoff: FailureBackoff,
    /// The history of refusals. `None` while there are no refusals.
    pub(super) refusals: Option<Box<RefusalHistory>>,
    /// Whether a server accepted the previous token.
    pub(super) was_accepted: bool,
    pub(super) quota_tracker: QuotaTracker,
    /// The number of changes so far.
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
    /// The running fetch may still complete. The source isn't closed yet.
    InProgress,
    Finished,
}

/// The refresh of the current token.
pub(super) enum Refresh {
    NotStarted,
    /// The token was refused. The next request starts a fetch. The token stays in use until its
    /// successor arrives.
    Wanted {
        withdrawn_from: WithdrawnFrom,
    },
    InFlight(RunningFetch),
    Failed(CachedError),
}

/// The callers that wait for the successor of a refused token. If the fetch of the successor fails,
/// these callers get the refused token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WithdrawnFrom {
    /// No callers wait, because the refusal may be about the resource.
    Nobody,
    /// The token is revoked. Callers that can't replay a refused request wait.
    CannotReplay,
    /// The server ended the token, or the user rejected it. All callers wait.
    Everyone,
}

pub(super) struct RunningFetch {
    pub(super) flight: Flight<Outcome>,
    pub(super) reason: Reason,
    pub(super) withdrawn_from: WithdrawnFrom,
    /// The fetch counts as abandoned from this moment on.
    pub(super) overdue_at: Moment,
}

/// The error of the last fetch. Callers get this error until the next attempt.
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

    /// Returns a clone of the cached error. Dropping a user's error runs user code. So a caller
    /// that changes the state keeps this clone until the lock is released.
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

    /// Returns the buckets that became low since the last call.
    pub(crate) fn take_newly_low(&mut self) -> Vec<LowQuota> {
        self.quota_tracker.take_newly_low()
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn quotas(&self) -> Arc<[Quota]> {
        self.quota_tracker.quotas()
    }

    /// Returns the number of changes so far.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// If the last attempt failed, returns the time until the next attempt.
    pub(crate) fn retry_in(&self, now: Moment) -> Option<Duration> {
        self.cached_error()
            .map(|cached_error| now.until(cached_error.until))
    }

    /// Returns whether the current token is being replaced after a refusal.
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

    /// Returns whether acceptances must be recorded, because there are refusals.
    pub(crate) fn is_watching(&self) -> bool {
        let refusals = self.refusals.as_ref();
        refusals.is_some_and(|refusals| refusals.is_watching())
    }

    /// Drops the expired token. If a refresh is running, callers wait for the refresh from now on.
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
