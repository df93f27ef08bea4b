//! Describes the state at one moment, and when the state changes next.

use std::time::Duration;

use super::machine::{CloseProgress, Refresh, StateMachine, TokenState, WithdrawnFrom};
use crate::cache::expiry::Freshness;
use crate::cache::status::{CachedTokenStatus, Phase, Status};
use crate::clock::Moment;

/// When the background refresh requests a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    In(Duration),
    /// The background refresh must ask again after the next change of the state.
    OnChange,
    /// The cache is closed, so the background refresh requests no token.
    Never,
}

impl StateMachine {
    /// Returns when the background refresh must request a token, so that the cache always has a
    /// valid token.
    pub(crate) fn due(&self, now: Moment) -> Due {
        // While the token is fresh, an overdue fetch isn't replaced. So nothing is due before the
        // token becomes stale.
        let is_fresh = self
            .cached()
            .is_some_and(|cached| cached.freshness(now) == Freshness::Fresh);
        let running = self
            .running()
            .filter(|running| !is_fresh || !now.reached(running.overdue_at));
        match (&self.state, running) {
            (TokenState::Closed(_), _) => Due::Never,
            (_, Some(running)) => Due::In(now.until(running.overdue_at)),
            (
                TokenState::Holding {
                    refresh: Refresh::Wanted { .. },
                    ..
                },
                None,
            ) => Due::In(Duration::ZERO),
            (TokenState::Holding { cached, .. }, None) => {
                match (cached.refresh_at(), cached.expired_in(now)) {
                    (Some(stale), Some(expired)) => {
                        let refresh = now.until(stale).max(cached.refresh_delayed_for(now));
                        Due::In(refresh.min(expired))
                    }
                    _ => Due::OnChange,
                }
            }
            (TokenState::Failed(cached_error), None) => Due::In(now.until(cached_error.until)),
            (TokenState::Empty | TokenState::Fetching(_), None) => Due::OnChange,
        }
    }

    /// Returns the status at this moment.
    pub(crate) fn status(&self, now: Moment) -> Status {
        let cached = self.cached();
        let cached_error = self.cached_error();
        let refusals = self.refusals.as_ref();
        let limited_until = cached.and_then(|_| refusals?.limited_until(now));
        Status {
            version: self.version,
            phase: self.phase(now),
            fetching: self.running().map(|running| running.reason),
            waiting: self.running().map_or(0, |running| running.flight.waiting()),
            token: cached.map(|cached| CachedTokenStatus {
                requested_at: cached.requested().wall(),
                refresh_at: cached.refresh_at().map(Moment::wall),
                expires_at: cached.expires_at().map(Moment::wall),
                scope: cached.token().scope_arc(),
                is_accepted: cached.is_accepted(),
            }),
            cached_error: cached_error.map(|cached_error| cached_error.error.clone()),
            failures: self.failure_backoff.count(),
            next_attempt_at: cached_error.map(|cached_error| cached_error.until.wall()),
            refusals_limited_until: limited_until.map(Moment::wall),
            is_withdrawn: self.withdrawn_from() == WithdrawnFrom::Everyone,
            quotas: self.quota_tracker.quotas(),
        }
    }

    fn phase(&self, now: Moment) -> Phase {
        match &self.state {
            TokenState::Empty => Phase::Empty,
            TokenState::Fetching(_) => Phase::Fetching,
            TokenState::Holding { cached, .. } => match cached.freshness(now) {
                Freshness::Fresh => Phase::Fresh,
                Freshness::Stale => Phase::Stale,
                Freshness::Expired => Phase::Expired,
            },
            TokenState::Failed(_) => Phase::Failed,
            TokenState::Closed(CloseProgress::InProgress) => Phase::Closing,
            TokenState::Closed(CloseProgress::Finished) => Phase::Closed,
        }
    }
}
