//! How things stand, as `Status` has it.

use super::*;

impl Model {
    pub(crate) fn standing(&self, callers: &[Caller]) -> Standing {
        let held = self.in_hand.map(|held| self.issues[held]);
        let waits = |caller: &&Caller| caller.waits_for() == self.in_the_air;
        let latched = self.latch.on.filter(|(token, until)| {
            held.is_some_and(|held| held.token == *token) && !self.now.clocks.reached(*until)
        });
        Standing {
            phase: self.phase(),
            fetching: self.in_the_air.map(|flight| self.flights[flight].reason),
            waiting: match self.in_the_air {
                Some(_) => callers.iter().filter(waits).count(),
                None => 0,
            },
            requested_at: held.map(|held| held.requested.wall),
            refresh_at: held.and_then(|held| Some(held.windows?.stale.wall)),
            expires_at: held.and_then(|held| Some(held.windows?.over.wall)),
            is_accepted: held.is_some_and(|held| held.is_accepted),
            last_error: self.put_off.map(|put_off| put_off.fault),
            failures: self.failures,
            next_attempt_at: self.put_off.map(|put_off| put_off.until.wall),
            refusals_limited_until: latched.map(|(_, until)| until.wall),
        }
    }

    fn phase(&self) -> Phase {
        match self.in_hand {
            _ if self.is_closed() => Phase::Closed,
            Some(held) => self.freshness(held),
            None if self.in_the_air.is_some() => Phase::Fetching,
            None if self.put_off.is_some() => Phase::Failed,
            None => Phase::Empty,
        }
    }
}
