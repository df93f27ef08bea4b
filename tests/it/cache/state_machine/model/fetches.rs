//! The fetches of the model: their start, the source's result, and the effect of this result.

use super::*;

impl Model {
    pub(super) fn start_fetch(&mut self, reason: Reason) -> usize {
        let delay = match (reason, self.last_start) {
            (Reason::Expired, Some(last)) => self.now.clocks.until(last.plus(self.rules.floor)),
            _ => 0,
        };
        if let Some(abandoned) = self.in_flight {
            self.flights[abandoned].end = Some(End::Abandoned);
        }
        // A withdrawn token stays withdrawn until this fetch ends.
        let (withdrawn, is_proven) = match (self.wanted.take(), self.in_flight) {
            (Some(wanted), _) => (wanted.withdrawn, wanted.is_proven),
            (None, Some(overdue)) => {
                let overdue = &self.flights[overdue];
                (overdue.withdrawn, overdue.is_proven)
            }
            (None, None) => (Withdrawn::No, false),
        };
        let start = self.now.clocks.plus(delay);
        let overdue = start.plus(OVERDUE);
        let until = self.now.timers + delay;
        self.flights.push(Flight {
            reason,
            withdrawn,
            is_proven,
            overdue,
            task: Task::Delayed { until },
            attempts: 0,
            last_fault: None,
            end: None,
        });
        let flight = self.flights.len() - 1;
        self.in_flight = Some(flight);
        self.cached_error = None;
        self.no_refresh_before = overdue.monotonic;
        self.last_start = Some(start);
        self.starts.push(Started {
            reason,
            start: self.now.forward + delay,
            is_proven,
            last_refused_end: self.last_refused_end,
        });
        if delay == 0 {
            self.attempt(flight, self.now.timers + FETCH_TIMEOUT);
        }
        flight
    }

    pub(super) fn attempt(&mut self, flight: usize, deadline: i64) {
        let requested = self.now.clocks;
        let running = &mut self.flights[flight];
        running.attempts += 1;
        running.task = Task::Asking {
            requested,
            deadline,
        };
        let reason = running.reason;
        self.asked.push(Asked { flight, reason });
    }

    /// Returns the fetches that still wait for the source.
    pub(crate) fn asking(&self) -> impl Iterator<Item = usize> {
        let is_asking = |flight: &usize| matches!(self.flights[*flight].task, Task::Asking { .. });
        (0..self.flights.len()).filter(is_asking)
    }

    pub(crate) fn is_abandoned(&self, flight: usize) -> bool {
        matches!(self.flights[flight].end, Some(End::Abandoned))
    }

    pub(crate) fn has_ended(&self, flight: usize) -> bool {
        self.flights[flight].end.is_some()
    }

    /// Returns the number of running tasks.
    pub(crate) fn tasks(&self) -> usize {
        let flights = self.flights.iter();
        let running = flights.filter(|flight| flight.task != Task::Done).count();
        running + usize::from(self.shutdown.is_some())
    }

    /// Returns the expiry of a token of this lifetime that this fetch would return now.
    pub(crate) fn end_of(&self, flight: usize, lifetime: Lifetime) -> Option<Clocks> {
        match (lifetime, self.flights[flight].task) {
            (Lifetime::In(lifetime), Task::Asking { requested, .. }) => {
                Some(requested.plus(lifetime))
            }
            (Lifetime::Dated(lifetime), _) => Some(self.now.clocks.plus(lifetime.max(0))),
            _ => None,
        }
    }

    pub(crate) fn complete_attempt(&mut self, flight: usize, result: FetchResult) {
        let Task::Asking {
            requested,
            deadline,
        } = self.flights[flight].task
        else {
            return;
        };
        let fault = match result {
            FetchResult::Token { token, lifetime } => {
                let deadlines = self.deadlines(requested, lifetime);
                // A token keeps its age when the source returns the token again.
                let before = self.current.map(|before| self.issues[before]);
                let before = before.filter(|before| before.token == token);
                self.issues.push(CachedToken {
                    token,
                    requested,
                    arrived: before.map_or(self.now.clocks, |before| before.arrived),
                    deadlines,
                    is_accepted: false,
                });
                let cached = self.issues.len() - 1;
                if !self.is_past_its_end(cached) {
                    return self.complete(flight, Ok(cached));
                }
                Fault::Expired
            }
            FetchResult::Fault(fault) => fault,
        };
        let (may_pass, shortest_pause) = match fault {
            Fault::Expired => (true, 510),
            fault => (fault.is_transient(), fault.retry_after()),
        };
        let attempts = self.flights[flight].attempts;
        let pause = doubled(200, attempts - 1, 5 * SECOND).max(shortest_pause);
        let until = self.now.timers + pause;
        if may_pass && attempts < self.rules.attempts && until < deadline {
            self.flights[flight].task = Task::Pausing { until, deadline };
            self.flights[flight].last_fault = Some(fault);
        } else {
            self.complete(flight, Err(fault));
        }
    }

    fn deadlines(&self, requested: Clocks, lifetime: Lifetime) -> Option<Deadlines> {
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
        Some(Deadlines {
            refresh_at: from.plus(lifetime - before),
            served_until: from.plus(lifetime - margin),
            ends_at: from.plus(lifetime),
        })
    }

    pub(super) fn complete(&mut self, flight: usize, result: Result<usize, Fault>) {
        self.flights[flight].task = Task::Done;
        if self.flights[flight].end.is_none() {
            self.flights[flight].end = Some(End::Completed(result));
        }
        if self.in_flight == Some(flight) {
            self.in_flight = None;
            let is_after_refusal = self.flights[flight].reason == Reason::Refused;
            if is_after_refusal {
                self.last_refused_end = Some(self.now.forward);
            }
            // A forced fetch may have replaced the fetch that a refusal started.
            if let Some(refusals) = &mut self.refusals
                && (is_after_refusal || refusals.is_fetching())
            {
                refusals.fetch_ended(self.now.clocks);
            }
            match result {
                Ok(cached) => self.cache_token(cached),
                Err(fault) => self.record_failure(fault),
            }
        }
        if let Some(shutdown) = &self.shutdown
            && shutdown.flight == Some(flight)
        {
            let newer = result.ok().map(|cached| self.issues[cached].token);
            self.finish_shutdown(newer.or(shutdown.last));
        }
    }

    fn cache_token(&mut self, cached: usize) {
        if let Some(before) = self.current {
            self.was_accepted = self.issues[before].is_accepted;
        }
        let token = self.issues[cached].token;
        let before = self.current.map(|before| self.issues[before].token);
        // If the source issued the same token again, no new token has arrived.
        if let Some(refusals) = &mut self.refusals
            && before != Some(token)
        {
            refusals.token_arrived(self.now.clocks);
        }
        self.no_refresh_before = self.issues[cached].requested.monotonic + self.rules.floor;
        self.current = Some(cached);
        self.failures = 0;
        self.backoffs = 0;
    }

    fn record_failure(&mut self, fault: Fault) {
        let now = self.now.clocks;
        self.failures += 1;
        // The cache's own backoff never goes beyond the expiry of a valid token.
        let end = self
            .current
            .and_then(|cached| self.issues[cached].deadlines)
            .map(|deadlines| now.until(deadlines.served_until))
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
        self.no_refresh_before = until.monotonic;
        self.cached_error = Some(CachedError { fault, until });
    }
}
