//! Concurrent requests, completions, refusals and shutdowns.
//!
//! The guarantees for readers without the lock:
//!
//! - A reader that finds its token isn't the current one any more, and then reads the current one, gets
//!   another token or none, and never its own again. So a private copy is replaced by its successor.
//! - Once a change has returned, later readers see its result: a refused token is served neither by the
//!   state nor by a private copy of it.
//!
//! During a change, the token that it removes may still be served. There is no guarantee the other way
//! round: a token that was read may not be known as the current one yet.

use std::sync::Arc;
use std::time::Duration;

use crate::Scenario;
use crate::cache::expiry::{CachedToken, ExpiryPolicy, FetchedBy, FetchedToken};
use crate::cache::published_state::PublishedState;
use crate::cache::refusal_budget::Rejection;
use crate::cache::single_flight::{Abandoned, Completer, Flight};
use crate::cache::state_machine::machine::{Limits, Outcome, StateMachine};
use crate::cache::state_machine::request::{Decision, FetchStart};
use crate::clock::{Clock, Moment};
use crate::error::Error;
use crate::threads::{block_on, in_every_order, in_orders_of, spawn};
use crate::token::issued_token::Token;

pub(crate) const ALL: &[Scenario] = crate::scenarios![
    two_concurrent_requests_share_one_flight,
    a_stale_token_is_served_to_both_and_refreshed_once,
    a_token_refused_twice_starts_one_fetch,
    a_refused_token_is_replaced_by_the_running_refresh,
    a_reader_whose_token_was_replaced_reads_another_one_or_none,
    an_abandoned_flight_replaces_nothing_that_came_after_it,
    nobody_waits_for_an_abandoned_flight_once_another_has_started,
    an_aborted_flight_is_abandoned_once,
    after_the_close_there_is_no_token,
    the_failure_of_a_refresh_brings_no_refused_token_back,
];

fn two_concurrent_requests_share_one_flight() {
    in_every_order(|| {
        let state = state();
        let request = |state: &PublishedState| {
            let acquired = acquire(state, START);
            assert!(
                is_current(state, &acquired.cached()),
                "woken before the token was published"
            );
            acquired
        };
        let other = spawn({
            let state = Arc::clone(&state);
            move || request(&state)
        });
        let (one, other) = (request(&state), other.join().unwrap());
        assert_eq!(one.fetches + other.fetches, 1);
        assert!(Arc::ptr_eq(&one.cached(), &other.cached()));
    });
}

fn a_stale_token_is_served_to_both_and_refreshed_once() {
    in_every_order(|| {
        let (state, old) = holding();
        let other = spawn({
            let state = Arc::clone(&state);
            move || acquire(&state, stale())
        });
        let (one, other) = (acquire(&state, stale()), other.join().unwrap());
        assert_eq!(one.fetches + other.fetches, 1);
        for served in [one.cached(), other.cached()] {
            assert!(Arc::ptr_eq(&served, &old) || is_current(&state, &served));
        }
        assert!(!is_current(&state, &old));
    });
}

fn a_token_refused_twice_starts_one_fetch() {
    in_every_order(|| {
        let (state, old) = holding();
        let other = spawn({
            let (state, old) = (Arc::clone(&state), Arc::clone(&old));
            move || refused(&state, &old)
        });
        let (one, other) = (refused(&state, &old), other.join().unwrap());
        assert_eq!(one.fetches + other.fetches, 1);
        assert!(Arc::ptr_eq(&one.cached(), &other.cached()));
        assert!(is_current(&state, &one.cached()));
    });
}

fn a_refused_token_is_replaced_by_the_running_refresh() {
    in_every_order(|| {
        let (state, old) = holding();
        let refresh = start(&state, stale());
        let completing = spawn({
            let state = Arc::clone(&state);
            move || run_fetch(&state, refresh, stale())
        });
        let new = refused(&state, &old);
        completing.join().unwrap();
        assert_eq!(new.fetches, 0);
        assert!(is_current(&state, &new.cached()));
    });
}

fn a_reader_whose_token_was_replaced_reads_another_one_or_none() {
    in_orders_of(4, || {
        let (state, old) = holding();
        let refusing = [(); 2].map(|()| {
            let (state, old) = (Arc::clone(&state), Arc::clone(&old));
            spawn(move || refused(&state, &old))
        });
        let is_replaced = !state.is_current(&old);
        let current = state.current();
        let is_old = current.is_some_and(|cached| Arc::ptr_eq(&cached, &old));
        assert!(!(is_replaced && is_old), "replaced, and there again");

        let [one, other] = refusing.map(|refused| refused.join().unwrap());
        assert_eq!(one.fetches + other.fetches, 1);
        assert!(is_current(&state, &one.cached()));
    });
}

fn an_abandoned_flight_replaces_nothing_that_came_after_it() {
    in_orders_of(4, || {
        let state = state();
        let abandoned = start(&state, START);
        let joined = join(&state, START);
        let waiting = spawn({
            let state = Arc::clone(&state);
            move || match block_on(joined.wait()) {
                Ok(outcome) => outcome.unwrap(),
                Err(Abandoned) => acquire(&state, overdue()).cached(),
            }
        });
        let late = spawn({
            let state = Arc::clone(&state);
            move || run_fetch(&state, abandoned, overdue())
        });
        let acquired = acquire(&state, overdue());
        late.join().unwrap();
        // The late fetch, if it completed before the request; else the one that replaced it.
        assert!(acquired.fetches <= 1);
        assert!(is_current(&state, &acquired.cached()));
        // A caller that joined the abandoned flight still gets a token, maybe from it.
        waiting.join().unwrap();
    });
}

fn nobody_waits_for_an_abandoned_flight_once_another_has_started() {
    in_every_order(|| {
        let state = state();
        // On a runtime that isn't driven: it is neither completed nor dropped.
        let abandoned = start(&state, START);
        let joined = join(&state, START);
        let waiting = spawn({
            let state = Arc::clone(&state);
            move || {
                assert!(block_on(joined.wait()).is_err(), "nobody completed it");
                acquire(&state, overdue())
            }
        });
        let acquired = acquire(&state, overdue());
        let waited = waiting.join().unwrap();
        assert_eq!(acquired.fetches + waited.fetches, 1);
        assert!(Arc::ptr_eq(&acquired.cached(), &waited.cached()));
        assert!(is_current(&state, &acquired.cached()));
        drop(abandoned);
    });
}

fn an_aborted_flight_is_abandoned_once() {
    in_every_order(|| {
        let state = state();
        let aborted = start(&state, START);
        let aborting = spawn({
            let state = Arc::clone(&state);
            move || abort(&state, aborted.completer)
        });
        let acquired = acquire(&state, START);
        aborting.join().unwrap();
        assert_eq!(acquired.fetches, 1);
        assert!(
            acquired.abandoned <= 1,
            "it was joined after it was abandoned"
        );
        assert!(is_current(&state, &acquired.cached()));
    });
}

fn after_the_close_there_is_no_token() {
    in_every_order(|| {
        let state = state();
        let flight = start(&state, START);
        let waiting = join(&state, START);
        let completing = spawn({
            let state = Arc::clone(&state);
            move || run_fetch(&state, flight, START)
        });
        let closing = spawn({
            let state = Arc::clone(&state);
            move || {
                let (remaining, _) = state.transition(StateMachine::close);
                assert!(acquire(&state, START).failed_as(Error::is_closed));
                assert!(shows(&state, None));
                remaining.unwrap()
            }
        });
        let completed = block_on(waiting.wait()).unwrap().unwrap();
        completing.join().unwrap();
        let last = closing.join().unwrap();
        // The source is told of the last token either way.
        let last = match (last.cached, last.flight) {
            (Some(cached), None) => cached,
            (None, Some(flight)) => block_on(flight.wait()).unwrap().unwrap(),
            _ => panic!("the flight was neither running nor completed"),
        };
        assert!(Arc::ptr_eq(&last, &completed));
        assert!(acquire(&state, START).failed_as(Error::is_closed));
        assert!(shows(&state, None));
    });
}

fn the_failure_of_a_refresh_brings_no_refused_token_back() {
    in_every_order(|| {
        let (state, old) = holding();
        let refresh = start(&state, stale());
        let failing = spawn({
            let state = Arc::clone(&state);
            move || complete(&state, refresh.completer, Err(Error::other("no")), stale())
        });
        assert_eq!(
            reject(&state, old.token().generation()),
            Rejection::Rejected
        );
        assert!(shows(&state, None));
        failing.join().unwrap();
        assert!(shows(&state, None));
    });
}

/// What a caller got.
struct Acquired {
    outcome: Outcome,
    /// How many fetches it started.
    fetches: usize,
    /// How many flights were abandoned while it waited.
    abandoned: usize,
}

impl Acquired {
    fn cached(&self) -> Arc<CachedToken> {
        self.outcome.clone().unwrap()
    }

    fn failed_as(&self, is_it: fn(&Error) -> bool) -> bool {
        self.outcome.as_ref().is_err_and(is_it)
    }
}

/// Does what `src/cache/acquire.rs` does.
fn acquire(state: &PublishedState, now: Moment) -> Acquired {
    let (mut fetches, mut abandoned) = (0, 0);
    let outcome = loop {
        if let Some(cached) = state.servable(&clock(now)) {
            break Ok(cached);
        }
        let ((decision, start), _) = state.transition(|machine| machine.request(now));
        if let Some(start) = start {
            fetches += 1;
            run_fetch(state, start, now);
        }
        match decision {
            Decision::Serve(cached) => break Ok(cached),
            Decision::Fail(error) => break Err(error),
            Decision::Join(flight) => match block_on(flight.wait()) {
                Ok(outcome) => break outcome,
                Err(Abandoned) => abandoned += 1,
            },
        }
    };
    Acquired {
        outcome,
        fetches,
        abandoned,
    }
}

/// A caller that sent `old`, was refused, and sends a new token, which is accepted.
fn refused(state: &PublishedState, old: &Arc<CachedToken>) -> Acquired {
    reject(state, old.token().generation());
    assert!(!state.is_current(old));
    let old = old.token().generation();
    let acquired = acquire(state, stale());
    let new = acquired.cached().token().generation();
    assert_ne!(new, old);
    // Otherwise the refusal budget would keep it from being rejected.
    state.transition(|machine| machine.accept(new));
    acquired
}

/// Does what the task in `src/cache/fetch_task.rs` does.
fn run_fetch(state: &PublishedState, start: FetchStart, now: Moment) {
    if let Some(abandoned) = start.replaces {
        abandoned.abandon();
    }
    let token = Token::bearer("secret").unwrap().expires_in(LIFETIME);
    complete(state, start.completer, Ok(token), now);
}

fn complete(
    state: &PublishedState,
    completer: Completer<Outcome>,
    fetched: Result<Token, Error>,
    now: Moment,
) {
    let fetched = fetched.map(|token| FetchedToken {
        token,
        requested: now,
        by: FetchedBy::ThisProcess,
    });
    let (outcome, _) = state.transition(|machine| machine.complete(&completer, fetched, now));
    completer.complete(outcome);
}

/// The same for a task that is dropped before its end.
fn abort(state: &PublishedState, completer: Completer<Outcome>) {
    state.transition(|machine| machine.abort(&completer));
    drop(completer);
}

fn reject(state: &PublishedState, generation: u64) -> Rejection {
    let (rejection, _) = state.transition(|machine| machine.reject(generation, stale()));
    rejection
}

/// The first request, which starts the fetch.
fn start(state: &PublishedState, now: Moment) -> FetchStart {
    let ((_, start), _) = state.transition(|machine| machine.request(now));
    start.unwrap()
}

/// A later request, which joins it.
fn join(state: &PublishedState, now: Moment) -> Flight<Outcome> {
    let (decided, _) = state.transition(|machine| machine.request(now));
    match decided {
        (Decision::Join(flight), None) => flight,
        _ => panic!("there is no flight to join"),
    }
}

/// Whether the state machine and both published values agree on `cached`.
fn is_current(state: &PublishedState, cached: &Arc<CachedToken>) -> bool {
    shows(state, Some(cached))
}

fn shows(state: &PublishedState, expected: Option<&Arc<CachedToken>>) -> bool {
    let is_it =
        |cached: Option<&Arc<CachedToken>>| cached.map(Arc::as_ptr) == expected.map(Arc::as_ptr);
    state.look(|machine| is_it(machine.cached()))
        && is_it(state.current().as_ref())
        && expected.is_none_or(|cached| state.is_current(cached))
}

const LIFETIME: Duration = Duration::from_secs(3600);

const START: Moment = Moment::START;

/// When a fetch that started at `START` counts as abandoned.
fn overdue() -> Moment {
    START.plus(Duration::from_secs(60))
}

/// When a token that was fetched at `START` is stale.
fn stale() -> Moment {
    START.plus(LIFETIME - Duration::from_secs(120))
}

fn clock(now: Moment) -> Clock {
    Clock::custom(move || now)
}

fn state() -> Arc<PublishedState> {
    Arc::new(PublishedState::new(Limits {
        expiry_policy: ExpiryPolicy {
            refresh_before: None,
            expiry_margin: None,
            jitter: 0.0,
        },
        fetch_timeout: Duration::from_secs(30),
        attempt_floor: Duration::from_secs(1),
    }))
}

/// A state with a current token.
fn holding() -> (Arc<PublishedState>, Arc<CachedToken>) {
    let state = state();
    let cached = acquire(&state, START).cached();
    (state, cached)
}
