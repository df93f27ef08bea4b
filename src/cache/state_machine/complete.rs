//! Transitions at the end of a fetch.

use std::sync::Arc;
use std::time::Duration;

use super::machine::{CachedError, Outcome, Refresh, StateMachine, TokenState, WithdrawnFrom};
use crate::cache::expiry::{CachedToken, FetchedBy, FetchedToken, expired_on_arrival};
use crate::cache::single_flight::Completer;
use crate::clock::Moment;
use crate::error::Error;
use crate::source::token_source::Reason;

impl StateMachine {
    /// Stores the result of a fetch. An abandoned fetch changes nothing.
    pub(crate) fn complete(
        &mut self,
        completer: &Completer<Outcome>,
        fetched: Result<FetchedToken, Error>,
        now: Moment,
    ) -> Outcome {
        let is_running = self.is_running(completer);
        if is_running {
            self.record_quotas(&fetched, now);
            self.record_fetch_end(now);
        }
        let expiry_policy = &self.limits.expiry_policy;
        let cached = fetched.map(|fetched| {
            let mut cached = expiry_policy.cache(fetched, now);
            if let Some(before) = self.cached() {
                cached.continue_from(before);
            }
            if let Some(low_for) = self.quota_tracker.low_for(now) {
                cached.postpone_refresh(expiry_policy, low_for, now);
            }
            cached
        });
        let outcome = cached.and_then(|cached| match cached.has_expired(now) {
            // The error is cached, so the next request doesn't fetch again immediately.
            true => Err(expired_on_arrival()),
            false => Ok(Arc::new(cached)),
        });
        if !is_running {
            return outcome;
        }
        self.version += 1;
        match &outcome {
            Ok(cached) => self.store(Arc::clone(cached), now),
            Err(error) => self.record_failure(error.clone(), now),
        }
        outcome
    }

    fn store(&mut self, cached: Arc<CachedToken>, now: Moment) {
        let before = self.cached();
        // A source may return the same credential again. Then earlier refusals of the credential
        // still count.
        let is_same = before.is_some_and(|before| {
            let token = before.token();
            token.is_same_credential(cached.token())
        });
        if let Some(before) = before {
            self.was_accepted = before.is_accepted();
        }
        if let Some(refusals) = self.refusals.as_mut().filter(|_| !is_same) {
            refusals.token_arrived(now);
        }
        cached.delay_refresh_until(cached.requested().plus(self.limits.attempt_floor));
        self.failure_backoff.reset();
        self.state = TokenState::Holding {
            cached,
            refresh: Refresh::NotStarted,
        };
    }

    /// Caches an error. A token that hasn't expired stays in use. If there is no such token, all
    /// callers get the error until the next attempt.
    fn record_failure(&mut self, error: Error, now: Moment) {
        let left = self
            .cached()
            .and_then(|cached| cached.served_for(now))
            .filter(|left| !left.is_zero());
        let floor = self.limits.attempt_floor;
        let wait = self.failure_backoff.wait_after(&error, left, floor);
        let latest = self.cached().and_then(|cached| cached.latest_refresh_at());
        let low = self.quota_tracker.low_for(now).zip(latest);
        let wait = wait.max(low.map_or(Duration::ZERO, |(low_for, latest)| {
            low_for.min(now.until(latest))
        }));
        let until = now.plus(wait);
        let cached_error = CachedError { error, until };
        match &mut self.state {
            TokenState::Holding { cached, refresh } => {
                cached.delay_refresh_until(until);
                *refresh = Refresh::Failed(cached_error);
            }
            state => *state = TokenState::Failed(cached_error),
        }
    }

    /// Ends a fetch whose task stopped early. The next request starts another fetch.
    pub(crate) fn abort(&mut self, completer: &Completer<Outcome>) {
        if !self.is_running(completer) {
            return;
        }
        self.version += 1;
        match &mut self.state {
            TokenState::Holding { cached, refresh } => {
                *refresh = match refresh {
                    Refresh::InFlight(running)
                        if running.reason == Reason::Refused
                            || running.withdrawn_from != WithdrawnFrom::Nobody =>
                    {
                        let withdrawn_from = running.withdrawn_from;
                        Refresh::Wanted { withdrawn_from }
                    }
                    _ => Refresh::NotStarted,
                };
                cached.allow_refresh();
            }
            state => *state = TokenState::Empty,
        }
    }

    /// When a fetch after a refusal ends, starts the wait before the next such fetch. The wait
    /// starts after a success and after a failure.
    fn record_fetch_end(&mut self, now: Moment) {
        let reason = self.running().map(|running| running.reason);
        if let Some(refusals) = &mut self.refusals
            // A forced refresh may have replaced a fetch that the budget counted.
            && (reason == Some(Reason::Refused) || refusals.is_fetching())
        {
            refusals.fetch_ended(now);
        }
    }

    fn is_running(&self, completer: &Completer<Outcome>) -> bool {
        let running = self.running();
        running.is_some_and(|running| running.flight.is_completed_by(completer))
    }

    /// Records the quotas that came with a token or an error. A token from another process doesn't
    /// count as a fetch.
    fn record_quotas(&mut self, fetched: &Result<FetchedToken, Error>, now: Moment) {
        let quotas = match fetched {
            Ok(fetched) if fetched.by == FetchedBy::AnotherProcess => {
                return self
                    .quota_tracker
                    .record_from_other_process(fetched.token.quotas());
            }
            Ok(fetched) => Some(fetched.token.quotas()),
            Err(error) => error.quotas(),
        };
        if let Some(reason) = self.running().map(|running| running.reason) {
            self.quota_tracker.count_fetch(reason);
        }
        if let Some(quotas) = quotas {
            self.quota_tracker.record(quotas, now);
        }
    }
}
