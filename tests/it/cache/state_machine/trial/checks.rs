//! After each step, these checks compare the cache with its model.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::yield_now;
use tower_auth::Reason;

use super::super::model::{Asked, FETCH_TIMEOUT};
use super::super::observed::{number, observed_status};
use super::{Called, Trial};

impl Trial {
    /// Lets every ready task and caller run, and then runs all checks.
    pub(in crate::cache::state_machine) async fn run_until_idle(&mut self) {
        loop {
            for _ in 0..8 {
                yield_now().await;
            }
            self.receive();
            let is_awake = |called: &Called| called.future.is_woken() && !called.is_late;
            let awake: Vec<bool> = self.futures.iter().map(is_awake).collect();
            if !awake.contains(&true) {
                break;
            }
            let mut gone = 0;
            for (nth, is_awake) in awake.into_iter().enumerate() {
                if is_awake && self.poll(nth - gone).is_some() {
                    gone += 1;
                }
            }
        }
        self.check();
    }

    /// Receives the started fetches. Checks that the model has exactly the same fetches.
    fn receive(&mut self) {
        while let Some(fetch) = self.fetches.try_next() {
            let task = self.notes.lock().unwrap().tasks.pop_front().unwrap();
            // Two fetches that start at the same time may arrive in either order.
            let is_it = |asked: &Asked| match self.flights.get(&task) {
                Some(flight) => *flight == asked.flight,
                None => !self.flights.values().any(|known| *known == asked.flight),
            };
            let Some(nth) = self.model.asked.iter().position(is_it) else {
                panic!("{}: nobody needs it, {}", self.doing, fetch.reason());
            };
            let asked = self.model.asked.remove(nth);
            assert_eq!(fetch.reason(), asked.reason, "{}", self.doing);
            self.flights.insert(task, asked.flight);
            self.open.push((asked.flight, fetch));
        }
        self.open.retain(|(_, fetch)| !fetch.is_dropped());
    }

    fn check(&mut self) {
        let doing = &self.doing;
        let status = self.model.status(&self.callers);
        assert_eq!(observed_status(&self.cache.status()), status, "{doing}");
        assert_eq!(self.model.asked, [], "{doing}: fetches");
        let tasks = Handle::current().metrics().num_alive_tasks();
        assert_eq!(tasks, self.model.tasks(), "{doing}: tasks");
        assert_eq!(self.said(), self.model.closed_with, "{doing}: farewells");
        self.check_token();
        self.check_flights();
        self.check_callers();
        self.check_calls();
    }

    /// Asserts that the token stays until its successor arrives. Neither a refusal nor a failure
    /// removes it.
    fn check_token(&mut self) {
        let held = self.held.take();
        let is_kept = self.cache.status().requested_at().is_some();
        if let Some(held) = held.filter(|_| !is_kept) {
            let is_over = self.model.is_over(held) || self.model.is_closed();
            assert!(is_over, "{}: the token is gone", self.doing);
        }
        self.held = self.model.current();
    }

    fn check_flights(&mut self) {
        let doing = &self.doing;
        let mut open: Vec<usize> = self.open.iter().map(|(flight, _)| *flight).collect();
        open.sort_unstable();
        let asking: Vec<usize> = self.model.asking().collect();
        assert_eq!(open, asking, "{doing}: in flight");
        let is_live = |flight: &&usize| !self.model.is_abandoned(**flight);
        assert!(
            open.iter().filter(is_live).count() <= 1,
            "{doing}: {open:?}"
        );

        // Between two fetches after refusals, at least the first wait of their budget passes.
        for start in &self.model.starts[self.checked_starts..] {
            let wait = if start.is_proven { 1_000 } else { 5_000 };
            let is_due = |end: i64| start.start >= end + wait;
            let is_allowed = start.last_refused_end.is_none_or(is_due);
            let is_after_refusal = start.reason == Reason::Refused;
            assert!(is_allowed || !is_after_refusal, "{doing}: {start:?}");
        }

        // Two fetches are separated by at least the attempt floor. Some reasons don't wait for the
        // floor. A wait ends as soon as either clock reaches its end, so this check uses the
        // clock that is ahead. A wall clock that was set back and forth shows more time than has
        // passed.
        for pair in self.model.starts[self.checked_starts..].windows(2) {
            let next = match pair[1].reason {
                Reason::Refused | Reason::Forced => continue,
                _ => pair[1],
            };
            let floor = self.model.rules.floor;
            assert!(next.start >= pair[0].start + floor, "{doing}: {pair:?}");
        }
        self.checked_starts = self.model.starts.len().saturating_sub(1);
    }

    fn check_callers(&self) {
        for (caller, called) in self.callers.iter().zip(&self.futures) {
            if called.is_late {
                continue;
            }
            assert!(self.model.is_blocked(caller), "{}: {caller:?}", self.doing);
            let is_needless = self.model.waits_needlessly(caller);
            assert!(!is_needless, "{}: {caller:?} waits", self.doing);
            let ended = caller.waits_for().filter(|it| self.model.has_ended(*it));
            assert_eq!(ended, None, "{}: {caller:?}", self.doing);
        }
    }

    /// Asserts that each request that reached the API had a credential that was still valid.
    fn check_calls(&mut self) {
        let credentials = self.api.credentials();
        assert_eq!(credentials.len(), self.model.calls.len(), "{}", self.doing);
        for (credential, call) in credentials.iter().zip(&self.model.calls).skip(self.called) {
            let expected = format!("Bearer token-{}", call.token);
            assert_eq!(*credential, expected, "{}", self.doing);
            assert!(self.is_good(call.token), "{}: {credential}", self.doing);
        }
        self.called = credentials.len();
    }

    fn said(&self) -> Vec<Option<usize>> {
        let notes = self.notes.lock().unwrap();
        let said = notes.closed_with.iter();
        said.map(|last| last.as_ref().map(|token| number(token.secret())))
            .collect()
    }

    /// Drops every handle, and asserts that nothing remains.
    pub(in crate::cache::state_machine) async fn end(mut self) {
        self.doing = String::from("at the end");
        self.callers.clear();
        self.futures.clear();
        self.run_until_idle().await;
        self.pass_all(FETCH_TIMEOUT + 10_000 + self.model.rules.floor)
            .await;
        let Self {
            cache,
            client,
            fetches,
            notes,
            ..
        } = self;
        drop((cache, client, fetches));
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
        assert_eq!(Arc::strong_count(&notes), 1, "the source is still there");
    }
}
