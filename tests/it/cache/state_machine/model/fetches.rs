//! Flights: when one takes off, what the source answers, and what comes of it.

use super::*;

impl Model {
    pub(super) fn take_off(&mut self, reason: Reason) -> usize {
        let delay = match (reason, self.last_start) {
            (Reason::Expired, Some(last)) => self.now.clocks.until(last.plus(self.rules.floor)),
            _ => 0,
        };
        if let Some(abandoned) = self.in_the_air {
            self.flights[abandoned].end = Some(End::Lost);
        }
        let start = self.now.clocks.plus(delay);
        let overdue = start.plus(OVERDUE);
        let until = self.now.timers + delay;
        self.flights.push(Flight {
            reason,
            overdue,
            task: Task::Delayed { until },
            attempts: 0,
            end: None,
        });
        let flight = self.flights.len() - 1;
        self.in_the_air = Some(flight);
        self.put_off = None;
        self.hold_off = overdue.monotonic;
        self.last_start = Some(start);
        self.take_offs.push(TakeOff {
            reason,
            start: self.now.forward + delay,
        });
        if delay == 0 {
            self.attempt(flight, self.now.timers + FETCH_TIMEOUT);
        }
        flight
    }

    pub(super) fn attempt(&mut self, flight: usize, deadline: i64) {
        let requested = self.now.clocks;
        let flown = &mut self.flights[flight];
        flown.attempts += 1;
        flown.task = Task::Asking {
            requested,
            deadline,
        };
        let reason = flown.reason;
        self.asked.push(Asked { flight, reason });
    }

    /// The flights whose fetch the source has yet to answer.
    pub(crate) fn asking(&self) -> impl Iterator<Item = usize> {
        let is_asking = |flight: &usize| matches!(self.flights[*flight].task, Task::Asking { .. });
        (0..self.flights.len()).filter(is_asking)
    }

    pub(crate) fn is_given_up(&self, flight: usize) -> bool {
        matches!(self.flights[flight].end, Some(End::Lost))
    }

    pub(crate) fn has_ended(&self, flight: usize) -> bool {
        self.flights[flight].end.is_some()
    }

    /// How many tasks there are.
    pub(crate) fn tasks(&self) -> usize {
        let flights = self.flights.iter();
        let flying = flights.filter(|flight| flight.task != Task::Done).count();
        flying + usize::from(self.closing.is_some())
    }

    /// By when a token of this flight would be over that lasts so long.
    pub(crate) fn end_of(&self, flight: usize, lifetime: Lifetime) -> Option<Clocks> {
        match (lifetime, self.flights[flight].task) {
            (Lifetime::In(lifetime), Task::Asking { requested, .. }) => {
                Some(requested.plus(lifetime))
            }
            (Lifetime::Dated(lifetime), _) => Some(self.now.clocks.plus(lifetime.max(0))),
            _ => None,
        }
    }

    pub(crate) fn answer(&mut self, flight: usize, answer: Answer) {
        let Task::Asking {
            requested,
            deadline,
        } = self.flights[flight].task
        else {
            return;
        };
        match answer {
            Answer::Token { token, lifetime } => {
                let windows = self.windows(requested, lifetime);
                self.issues.push(Held {
                    token,
                    requested,
                    windows,
                    is_accepted: false,
                });
                let held = self.issues.len() - 1;
                let is_over = self.is_over(held);
                self.land(
                    flight,
                    if is_over {
                        Err(Fault::Expired)
                    } else {
                        Ok(held)
                    },
                );
            }
            Answer::Fault(fault) => {
                let attempts = self.flights[flight].attempts;
                let pause = doubled(200, attempts - 1, 5 * SECOND).max(fault.retry_after());
                let until = self.now.timers + pause;
                if fault.is_transient() && attempts < self.rules.attempts && until < deadline {
                    self.flights[flight].task = Task::Pausing { until, deadline };
                } else {
                    self.land(flight, Err(fault));
                }
            }
        }
    }

    fn windows(&self, requested: Clocks, lifetime: Lifetime) -> Option<Windows> {
        let (from, lifetime) = match lifetime {
            Lifetime::Endless => return None,
            Lifetime::In(lifetime) => (requested, lifetime),
            Lifetime::Dated(lifetime) => (self.now.clocks, lifetime.max(0)),
        };
        let margin = match self.rules.expiry_margin {
            Some(margin) => margin.min(lifetime / 2),
            None => (30 * SECOND).min(lifetime / 4),
        };
        let default = if lifetime >= 20 * MINUTE {
            5 * MINUTE
        } else {
            lifetime / 4
        };
        let before = self.rules.refresh_before.unwrap_or(default);
        let before = before.max(2 * margin).min(lifetime / 2);
        Some(Windows {
            stale: from.plus(lifetime - before),
            expired: from.plus(lifetime - margin),
            over: from.plus(lifetime),
        })
    }

    pub(super) fn land(&mut self, flight: usize, landed: Result<usize, Fault>) {
        self.flights[flight].task = Task::Done;
        if self.flights[flight].end.is_none() {
            self.flights[flight].end = Some(End::Landed(landed));
        }
        if self.in_the_air == Some(flight) {
            self.in_the_air = None;
            match landed {
                Ok(held) => self.hold(held),
                Err(fault) => self.put_off(fault),
            }
        }
        if let Some(closing) = &self.closing
            && closing.flight == Some(flight)
        {
            let newer = landed.ok().map(|held| self.issues[held].token);
            self.say_farewell(newer.or(closing.last));
        }
    }

    fn hold(&mut self, held: usize) {
        self.hold_off = self.issues[held].requested.monotonic + self.rules.floor;
        self.in_hand = Some(held);
        self.failures = 0;
        self.backoffs = 0;
    }

    fn put_off(&mut self, fault: Fault) {
        let now = self.now.clocks;
        self.failures += 1;
        // The end of a token that is still good is worth an attempt.
        let end = self
            .in_hand
            .and_then(|held| self.issues[held].windows)
            .map(|windows| now.until(windows.expired))
            .filter(|left| *left > 0)
            .unwrap_or(i64::MAX);
        let backoff = doubled(SECOND, self.backoffs, MINUTE);
        let own = if fault.is_permanent() {
            MINUTE.min(end)
        } else if backoff < end {
            self.backoffs += 1;
            backoff
        } else {
            end
        };
        let wait = own
            .max(fault.retry_after().min(5 * MINUTE))
            .max(self.rules.floor);
        let until = now.plus(wait);
        self.hold_off = until.monotonic;
        self.put_off = Some(PutOff { fault, until });
    }
}
