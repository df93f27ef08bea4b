//! Transitions when a caller needs a token.

use std::sync::Arc;
use std::time::Duration;

use super::machine::{Outcome, Refresh, RunningFetch, StateMachine, TokenState, WithdrawnFrom};
use crate::cache::expiry::{CachedToken, Freshness};
use crate::cache::single_flight::{Completer, Flight};
use crate::clock::Moment;
use crate::error::{Error, Kind};
use crate::source::token_source::Reason;

/// What a caller gets.
pub(crate) enum Decision {
    Serve(Arc<CachedToken>),
    Join(Flight<Outcome>),
    Fail(Error),
}

/// A fetch for which the caller must start a task.
pub(crate) struct FetchStart {
    pub(crate) completer: Completer<Outcome>,
    pub(crate) reason: Reason,
    /// The wait before the first attempt.
    pub(crate) delay: Duration,
    /// The overdue flight that this fetch replaces. It must be abandoned outside the lock, because
    /// abandoning a flight wakes waiting callers.
    pub(crate) replaces: Option<Flight<Outcome>>,
}

/// How long after its timeout a fetch counts as abandoned. The timeout needs the timer of the
/// fetch's runtime. If that runtime is no longer polled, the fetch never ends.
const OVERDUE_GRACE: Duration = Duration::from_secs(5);

/// Whether a caller can replay a refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The request can be replayed, so the caller accepts a token that is probably revoked.
    CanReplay,
    /// The request can't be replayed, so the caller waits for the successor of a revoked token.
    CannotReplay,
}

impl Caller {
    fn waits(self, withdrawn_from: WithdrawnFrom) -> bool {
        match withdrawn_from {
            WithdrawnFrom::Nobody => false,
            WithdrawnFrom::CannotReplay => self == Self::CannotReplay,
            WithdrawnFrom::Everyone => true,
        }
    }
}

impl StateMachine {
    /// Decides what a caller that needs a token gets.
    pub(crate) fn request(
        &mut self,
        caller: Caller,
        now: Moment,
    ) -> (Decision, Option<FetchStart>) {
        if let TokenState::Holding { cached, .. } = &self.state {
            let cached = Arc::clone(cached);
            match cached.freshness(now) {
                Freshness::Expired => self.discard_expired(),
                freshness => return self.serve(cached, freshness, caller, now),
            }
        }
        match &self.state {
            TokenState::Fetching(running) if !now.reached(running.overdue_at) => {
                (Decision::Join(running.flight.clone()), None)
            }
            TokenState::Failed(cached_error) if !now.reached(cached_error.until) => {
                (Decision::Fail(cached_error.error.clone()), None)
            }
            TokenState::Closed(_) => (Decision::Fail(closed()), None),
            TokenState::Empty
            | TokenState::Fetching(_)
            | TokenState::Failed(_)
            | TokenState::Holding { .. } => {
                let (flight, start) = self.start_fetch(self.reason, now);
                (Decision::Join(flight), Some(start))
            }
        }
    }

    /// Serves a token that hasn't expired, unless it is withdrawn from this caller.
    fn serve(
        &mut self,
        cached: Arc<CachedToken>,
        freshness: Freshness,
        caller: Caller,
        now: Moment,
    ) -> (Decision, Option<FetchStart>) {
        let TokenState::Holding { refresh, .. } = &self.state else {
            return (Decision::Serve(cached), None);
        };
        match refresh {
            Refresh::Wanted { withdrawn_from } => {
                let waits = caller.waits(*withdrawn_from);
                let (flight, start) = self.start_fetch(Reason::Refused, now);
                let decision = match waits {
                    true => Decision::Join(flight),
                    false => Decision::Serve(cached),
                };
                (decision, Some(start))
            }
            Refresh::InFlight(running) if caller.waits(running.withdrawn_from) => {
                self.join_running(now)
            }
            _ if freshness == Freshness::Stale && cached.may_refresh(now) => {
                let (_, start) = self.start_fetch(Reason::Stale, now);
                (Decision::Serve(cached), Some(start))
            }
            _ => (Decision::Serve(cached), None),
        }
    }

    /// Decides what a caller gets after a server refused the token of this generation.
    pub(crate) fn renew(&mut self, generation: u64, now: Moment) -> (Decision, Option<FetchStart>) {
        let TokenState::Holding { cached, refresh } = &self.state else {
            return self.request(Caller::CannotReplay, now);
        };
        if cached.token().generation() != generation || cached.freshness(now) == Freshness::Expired
        {
            return self.request(Caller::CannotReplay, now);
        }
        match refresh {
            Refresh::Wanted { .. } => {
                let (flight, start) = self.start_fetch(Reason::Refused, now);
                (Decision::Join(flight), Some(start))
            }
            Refresh::InFlight(_) => self.join_running(now),
            Refresh::Failed(cached_error) if !now.reached(cached_error.until) => {
                (Decision::Fail(cached_error.error.clone()), None)
            }
            // Either the source has returned the same token again, or the wait after a failed fetch
            // has ended.
            Refresh::NotStarted | Refresh::Failed(_) => (Decision::Serve(Arc::clone(cached)), None),
        }
    }

    /// Joins the running fetch. If the running fetch is overdue, starts another fetch.
    fn join_running(&mut self, now: Moment) -> (Decision, Option<FetchStart>) {
        match self.running() {
            Some(running) if !now.reached(running.overdue_at) => {
                (Decision::Join(running.flight.clone()), None)
            }
            running => {
                let reason = running.map_or(self.reason, |running| running.reason);
                let (flight, start) = self.start_fetch(reason, now);
                (Decision::Join(flight), Some(start))
            }
        }
    }

    /// Joins the running fetch, or starts a fetch. Does so even if the current token is good or the
    /// next fetch is delayed.
    pub(crate) fn force_refresh(&mut self, now: Moment) -> (Decision, Option<FetchStart>) {
        if let TokenState::Closed(_) = self.state {
            return (Decision::Fail(closed()), None);
        }
        if let Some(running) = self.running()
            && !now.reached(running.overdue_at)
        {
            return (Decision::Join(running.flight.clone()), None);
        }
        let (flight, start) = self.start_fetch(Reason::Forced, now);
        (Decision::Join(flight), Some(start))
    }

    fn start_fetch(&mut self, reason: Reason, now: Moment) -> (Flight<Outcome>, FetchStart) {
        let delay = match reason {
            // Without this delay, a token with a very short lifetime would be fetched again and
            // again without a pause. Other fetches have limits elsewhere: `may_refresh` decides
            // about refreshes, and fetches after refusals have a budget.
            Reason::Expired => now.until(self.last_fetch_at.plus(self.limits.attempt_floor)),
            Reason::First | Reason::Stale | Reason::Refused | Reason::Forced => Duration::ZERO,
        };
        let (flight, completer) = Flight::start();
        let start = now.plus(delay);
        let overdue_at = start.plus(self.limits.fetch_timeout).plus(OVERDUE_GRACE);
        let replaces = self.running().map(|overdue| overdue.flight.clone());
        let withdrawn_from = self.withdrawn_from();
        let running = RunningFetch {
            flight: flight.clone(),
            reason,
            withdrawn_from,
            overdue_at,
        };
        match &mut self.state {
            TokenState::Holding { cached, refresh } => {
                cached.delay_refresh_until(overdue_at);
                *refresh = Refresh::InFlight(running);
            }
            state => *state = TokenState::Fetching(running),
        }
        self.last_fetch_at = start;
        self.version += 1;
        let start = FetchStart {
            completer,
            reason,
            delay,
            replaces,
        };
        (flight, start)
    }
}

#[cold]
fn closed() -> Error {
    Error::new(
        Kind::Closed,
        "the token cache was closed; there are no more tokens",
    )
}
