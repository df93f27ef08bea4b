//! Time passes: by which clocks, and up to what.

use super::*;

impl Model {
    /// The next time, by the timers, at which something happens by itself.
    pub(crate) fn next_timer(&self) -> Option<i64> {
        let flights = self.flights.iter().filter_map(|flight| match flight.task {
            Task::Delayed { until } | Task::Pausing { until, .. } => Some(until),
            Task::Asking { deadline, .. } => Some(deadline),
            Task::Done => None,
        });
        let closing = self.closing.iter().map(|closing| closing.deadline);
        flights.chain(closing).min()
    }

    /// Time passes, and nobody runs the timers.
    pub(crate) fn pass_without_timers(&mut self, span: i64) {
        self.now.clocks = self.now.clocks.plus(span);
        self.now.forward += span;
    }

    pub(crate) fn set_wall(&mut self, span: i64) {
        self.now.clocks.wall += span;
        self.now.forward += span.max(0);
    }

    /// Time passes by all clocks, and not past the next timer.
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
                    self.land(flight, Err(Fault::Timeout));
                }
                _ => {}
            }
        }
        if let Some(closing) = self.closing.as_ref()
            && closing.deadline <= timers
        {
            let last = closing.last;
            if let Some(flight) = closing.flight {
                // Its task is aborted.
                self.flights[flight].task = Task::Done;
                self.flights[flight].end = Some(End::Lost);
            }
            self.say_farewell(last);
        }
    }

    /// How long it is until the flight in the air begins, or begins again.
    pub(crate) fn delay(&self) -> Option<i64> {
        match self.flights[self.in_the_air?].task {
            Task::Delayed { until } | Task::Pausing { until, .. } => Some(until - self.now.timers),
            Task::Asking { .. } | Task::Done => None,
        }
    }

    /// How far it is to all that the clocks decide on.
    pub(crate) fn edges(&self) -> Vec<i64> {
        let now = self.now.clocks;
        let mut deadlines = Vec::new();
        if let Some(held) = self.in_hand
            && let Some(windows) = self.issues[held].windows
        {
            deadlines.extend([windows.stale, windows.expired, windows.over]);
        }
        deadlines.extend(self.put_off.map(|put_off| put_off.until));
        deadlines.extend(self.latch.on.map(|(_, until)| until));
        deadlines.extend(self.last_start.map(|start| start.plus(self.rules.floor)));
        if let Some(flight) = self.in_the_air {
            deadlines.push(self.flights[flight].overdue);
        }
        let hold_off = self.hold_off - now.monotonic;
        let tasks = self.flights.iter().filter_map(|flight| match flight.task {
            Task::Asking { deadline, .. } => Some(deadline - self.now.timers),
            _ => None,
        });
        let lefts = deadlines.into_iter().map(|deadline| now.until(deadline));
        lefts
            .chain([hold_off])
            .chain(tasks)
            .filter(|left| *left > 0)
            .collect()
    }
}
