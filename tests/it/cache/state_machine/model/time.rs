//! How time passes in the model, on the clocks and on the timers.

use super::*;

impl Model {
    /// Returns when the next of Tokio's timers ends.
    pub(crate) fn next_timer(&self, callers: &[Caller]) -> Option<i64> {
        let flights = self.flights.iter().filter_map(|flight| match flight.task {
            Task::Delayed { until } | Task::Pausing { until, .. } => Some(until),
            Task::Asking { deadline, .. } => Some(deadline),
            Task::Done => None,
        });
        let shutdown = self.shutdown.iter().map(|shutdown| shutdown.deadline);
        let pauses = callers.iter().filter_map(Caller::pause);
        // A late caller may not have noticed that its pause has ended.
        let pauses = pauses.filter(|until| *until > self.now.timers);
        flights.chain(shutdown).chain(pauses).min()
    }

    /// Moves the clocks but not the timers.
    pub(crate) fn pass_without_timers(&mut self, span: i64) {
        self.now.clocks = self.now.clocks.plus(span);
        self.now.forward += span;
    }

    pub(crate) fn set_wall(&mut self, span: i64) {
        self.now.clocks.wall += span;
        self.now.forward += span.max(0);
    }

    /// Moves the clocks and the timers. `span` must not exceed the time until the next timer.
    pub(crate) fn pass(&mut self, span: i64) {
        self.pass_without_timers(span);
        self.now.timers += span;
        let timers = self.now.timers;
        for flight in 0..self.flights.len() {
            match self.flights[flight].task {
                Task::Delayed { until } if until <= timers => {
                    self.attempt(flight, timers + FETCH_TIMEOUT);
                }
                Task::Pausing { until, deadline } if until <= timers => {
                    self.attempt(flight, deadline);
                }
                Task::Asking { deadline, .. } if deadline <= timers => {
                    self.complete(flight, Err(Fault::Timeout));
                }
                _ => {}
            }
        }
        if let Some(shutdown) = self.shutdown.as_ref()
            && shutdown.deadline <= timers
        {
            let last = shutdown.last;
            if let Some(flight) = shutdown.flight {
                // The shutdown aborts the task of the fetch.
                self.flights[flight].task = Task::Done;
                self.flights[flight].end = Some(End::Abandoned);
            }
            self.finish_shutdown(last);
        }
    }

    /// Returns the time until the fetch in flight makes its first or next attempt.
    pub(crate) fn delay(&self) -> Option<i64> {
        match self.flights[self.in_flight?].task {
            Task::Delayed { until } | Task::Pausing { until, .. } => Some(until - self.now.timers),
            Task::Asking { .. } | Task::Done => None,
        }
    }

    /// Returns the time until each event that depends on the clocks.
    pub(crate) fn edges(&self, callers: &[Caller]) -> Vec<i64> {
        let now = self.now.clocks;
        let mut moments = Vec::new();
        if let Some(cached) = self.current
            && let Some(deadlines) = self.issues[cached].deadlines
        {
            moments.extend([
                deadlines.refresh_at,
                deadlines.served_until,
                // All other times are even.
                deadlines.served_until.plus(2),
                deadlines.ends_at,
            ]);
        }
        moments.extend(self.cached_error.map(|cached_error| cached_error.until));
        moments.extend(self.refusals.iter().flat_map(Refusals::edges));
        moments.extend(self.last_start.map(|start| start.plus(self.rules.floor)));
        if let Some(flight) = self.in_flight {
            moments.push(self.flights[flight].overdue);
        }
        let no_refresh_before = self.no_refresh_before - now.monotonic;
        let tasks = self.flights.iter().filter_map(|flight| match flight.task {
            Task::Asking { deadline, .. } => Some(deadline - self.now.timers),
            _ => None,
        });
        let pauses = callers.iter().filter_map(Caller::pause);
        let pauses = pauses.map(|until| until - self.now.timers);
        let lefts = moments.into_iter().map(|deadline| now.until(deadline));
        lefts
            .chain([no_refresh_before])
            .chain(tasks)
            .chain(pauses)
            .filter(|left| *left > 0)
            .collect()
    }
}
