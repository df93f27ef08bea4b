//! The status that the model predicts.

use super::*;

impl Model {
    pub(crate) fn status(&self, callers: &[Caller]) -> ExpectedStatus {
        let cached = self.current.map(|cached| self.issues[cached]);
        let waits = |caller: &&Caller| caller.waits_for() == self.in_flight;
        let refusals = self.refusals.as_ref().filter(|_| cached.is_some());
        let limited = refusals.and_then(|it| it.limited_until(self.now.clocks));
        ExpectedStatus {
            phase: self.phase(),
            fetching: self.in_flight.map(|flight| self.flights[flight].reason),
            waiting: match self.in_flight {
                Some(_) => callers.iter().filter(waits).count(),
                None => 0,
            },
            requested_at: cached.map(|cached| cached.requested.wall),
            refresh_at: cached.and_then(|cached| Some(cached.deadlines?.refresh_at.wall)),
            expires_at: cached.and_then(|cached| Some(cached.deadlines?.ends_at.wall)),
            is_accepted: cached.is_some_and(|cached| cached.is_accepted),
            last_error: self.cached_error.map(|cached_error| cached_error.fault),
            failures: self.failures,
            next_attempt_at: self
                .cached_error
                .map(|cached_error| cached_error.until.wall),
            refusals_limited_until: limited.map(|until| until.wall),
        }
    }

    fn phase(&self) -> Phase {
        match self.current {
            _ if self.shutdown.is_some() => Phase::Closing,
            _ if self.has_shut_down => Phase::Closed,
            Some(cached) => self.freshness(cached),
            None if self.in_flight.is_some() => Phase::Fetching,
            None if self.cached_error.is_some() => Phase::Failed,
            None => Phase::Empty,
        }
    }
}
