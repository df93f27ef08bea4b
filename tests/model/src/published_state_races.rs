//! Asking, summary, refusing and closing, all at once.
//!
//! What is promised to those who read without the lock:
//!
//! - Who finds that its token isn't in hand any more and then reads what is finds another one, or
//!   none, and never its own again. So a private copy is renewed by what replaced it.
//! - Once a change has returned, whoever comes after it sees what it left: a refused token is
//!   served neither by the state nor by a private copy of it.
//!
//! While a change is being made, the token that it takes away may still be served. The other way
//! round nothing is promised: a token that was read may not be known to be in hand yet.

use std::sync::Arc;
use std::time::Duration;

use crate::Scenario;
use crate::cache::expiry::{CachedToken, ExpiryPolicy, FetchedBy, FetchedToken};
use crate::cache::published_state::PublishedState;
use crate::cache::single_flight::{Abandoned, Completer, Flight};
use crate::cache::state_machine::{Decision, FetchStart, Limits, Outcome, Rejection, StateMachine};
use crate::clock::{Clock, Moment};
use crate::error::Error;
use crate::threads::{block_on, in_every_order, in_orders_of, spawn};
use crate::token::issued_token::Token;

pub(crate) const ALL: &[Scenario] = crate::scenarios![
    two_who_ask_at_once_share_one_flight,
    a_stale_token_is_served_to_both_and_refreshed_once,
    a_token_refused_twice_costs_one_flight,
    a_refused_token_is_replaced_by_the_refresh_in_the_air,
    who_finds_its_token_replaced_reads_another_one_or_none,
    an_abandoned_flight_replaces_nothing_that_came_after_it,
    nobody_waits_for_an_abandoned_flight_once_another_is_in_the_air,
    a_lost_flight_is_lost_once,
    after_the_close_there_is_no_token,
    the_failure_of_a_refresh_brings_no_refused_token_back,
];

fn two_who_ask_at_once_share_one_flight() {
    in_every_order(|| {
        let state = state();
        let ask = |state: &PublishedState| {
            let acquired = acquire(state, START);
            assert!(
                is_current(state, &acquired.cached()),
                "woken before its time"
            );
            acquired
        };
        let other = spawn({
            let state = Arc::clone(&state);
            move || ask(&state)
        });
        let (one, other) = (ask(&state), other.join().unwrap());
        assert_eq!(one.take_offs + other.take_offs, 1);
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
        assert_eq!(one.take_offs + other.take_offs, 1);
        for served in [one.cached(), other.cached()] {
            assert!(Arc::ptr_eq(&served, &old) || is_current(&state, &served));
        }
        assert!(!is_current(&state, &old));
    });
}

fn a_token_refused_twice_costs_one_flight() {
    in_every_order(|| {
        let (state, old) = holding();
        let other = spawn({
            let (state, old) = (Arc::clone(&state), Arc::clone(&old));
            move || refused(&state, &old)
        });
        let (one, other) = (refused(&state, &old), other.join().unwrap());
        assert_eq!(one.take_offs + other.take_offs, 1);
        assert!(Arc::ptr_eq(&one.cached(), &other.cached()));
        assert!(is_current(&state, &one.cached()));
    });
}

fn a_refused_token_is_replaced_by_the_refresh_in_the_air() {
    in_every_order(|| {
        let (state, old) = holding();
        let refresh = start(&state, stale());
        let summary = spawn({
            let state = Arc::clone(&state);
            move || launch(&state, refresh, stale())
        });
        let new = refused(&state, &old);
        summary.join().unwrap();
        assert_eq!(new.take_offs, 0);
        assert!(is_current(&state, &new.cached()));
    });
}

fn who_finds_its_token_replaced_reads_another_one_or_none() {
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
        assert_eq!(one.take_offs + other.take_offs, 1);
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
            move || launch(&state, abandoned, overdue())
        });
        let acquired = acquire(&state, overdue());
        late.join().unwrap();
        // The late one, if it landed before anyone asked; else the one that replaced it.
        assert!(acquired.take_offs <= 1);
        assert!(is_current(&state, &acquired.cached()));
        // Those who joined the abandoned one are not left behind, and may be served by it.
        waiting.join().unwrap();
    });
}

fn nobody_waits_for_an_abandoned_flight_once_another_is_in_the_air() {
    in_every_order(|| {
        let state = state();
        // On a runtime that nobody drives: it neither lands nor is dropped.
        let abandoned = start(&state, START);
        let joined = join(&state, START);
        let waiting = spawn({
            let state = Arc::clone(&state);
            move || {
                assert!(block_on(joined.wait()).is_err(), "nobody landed it");
                acquire(&state, overdue())
            }
        });
        let acquired = acquire(&state, overdue());
        let waited = waiting.join().unwrap();
        assert_eq!(acquired.take_offs + waited.take_offs, 1);
        assert!(Arc::ptr_eq(&acquired.cached(), &waited.cached()));
        assert!(is_current(&state, &acquired.cached()));
        drop(abandoned);
    });
}

fn a_lost_flight_is_lost_once() {
    in_every_order(|| {
        let state = state();
        let doomed = start(&state, START);
        let losing = spawn({
            let state = Arc::clone(&state);
            move || lose(&state, doomed.completer)
        });
        let acquired = acquire(&state, START);
        losing.join().unwrap();
        assert_eq!(acquired.take_offs, 1);
        assert!(acquired.losses <= 1, "it was joined after it was lost");
        assert!(is_current(&state, &acquired.cached()));
    });
}

fn after_the_close_there_is_no_token() {
    in_every_order(|| {
        let state = state();
        let flight = start(&state, START);
        let waiting = join(&state, START);
        let summary = spawn({
            let state = Arc::clone(&state);
            move || launch(&state, flight, START)
        });
        let closing = spawn({
            let state = Arc::clone(&state);
            move || {
                let (left_behind, _) = state.transition(StateMachine::close);
                assert!(acquire(&state, START).failed_as(Error::is_closed));
                assert!(shows(&state, None));
                left_behind.unwrap()
            }
        });
        let landed = block_on(waiting.wait()).unwrap().unwrap();
        summary.join().unwrap();
        let last = closing.join().unwrap();
        // The source is told of the last token either way.
        let last = match (last.cached, last.flight) {
            (Some(cached), None) => cached,
            (None, Some(flight)) => block_on(flight.wait()).unwrap().unwrap(),
            _ => panic!("the flight was not in the air, and had not landed"),
        };
        assert!(Arc::ptr_eq(&last, &landed));
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
            move || land(&state, refresh.completer, Err(Error::other("no")), stale())
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

/// What one who asked came by.
struct Acquired {
    outcome: Outcome,
    /// How many flights it put on a task.
    take_offs: usize,
    /// How many were lost while it waited.
    losses: usize,
}

impl Acquired {
    fn cached(&self) -> Arc<CachedToken> {
        self.outcome.clone().unwrap()
    }

    fn failed_as(&self, is_it: fn(&Error) -> bool) -> bool {
        self.outcome.as_ref().is_err_and(is_it)
    }
}

/// As `src/acquire.rs` does it.
fn acquire(state: &PublishedState, now: Moment) -> Acquired {
    let (mut take_offs, mut losses) = (0, 0);
    let outcome = loop {
        if let Some(cached) = state.servable(&clock(now)) {
            break Ok(cached);
        }
        let ((answer, start), _) = state.transition(|machine| machine.request(now));
        if let Some(start) = start {
            take_offs += 1;
            launch(state, start, now);
        }
        match answer {
            Decision::Serve(cached) => break Ok(cached),
            Decision::Fail(error) => break Err(error),
            Decision::Join(flight) => match block_on(flight.wait()) {
                Ok(outcome) => break outcome,
                Err(Abandoned) => losses += 1,
            },
        }
    };
    Acquired {
        outcome,
        take_offs,
        losses,
    }
}

/// As one who sent `old`, was refused, and sends again, and this time is not.
fn refused(state: &PublishedState, old: &Arc<CachedToken>) -> Acquired {
    reject(state, old.token().generation());
    assert!(!state.is_current(old));
    let old = old.token().generation();
    let acquired = acquire(state, stale());
    let new = acquired.cached().token().generation();
    assert_ne!(new, old);
    // Or else the latch would keep it from being refused.
    state.transition(|machine| machine.accept(new));
    acquired
}

/// The flight's task, as `src/fetch.rs` has it.
fn launch(state: &PublishedState, start: FetchStart, now: Moment) {
    if let Some(abandoned) = start.replaces {
        abandoned.abandon();
    }
    let token = Token::bearer("secret").unwrap().expires_in(LIFETIME);
    land(state, start.completer, Ok(token), now);
}

fn land(
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

/// The same for one that is dropped before its end.
fn lose(state: &PublishedState, completer: Completer<Outcome>) {
    state.transition(|machine| machine.abort(&completer));
    drop(completer);
}

fn reject(state: &PublishedState, generation: u64) -> Rejection {
    let (verdict, _) = state.transition(|machine| machine.reject(generation, stale()));
    verdict
}

/// The first to ask.
fn start(state: &PublishedState, now: Moment) -> FetchStart {
    let ((_, start), _) = state.transition(|machine| machine.request(now));
    start.unwrap()
}

/// One of those who ask after it.
fn join(state: &PublishedState, now: Moment) -> Flight<Outcome> {
    let (asked, _) = state.transition(|machine| machine.request(now));
    match asked {
        (Decision::Join(flight), None) => flight,
        _ => panic!("there is no flight to join"),
    }
}

/// Whether the state and both that is shown of it agree on `held`.
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

/// When a flight that took off at the start is given up for lost.
fn overdue() -> Moment {
    START.plus(Duration::from_secs(60))
}

/// When a token that was fetched at the start is refreshed.
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

/// A state, and the token that it holds from the start.
fn holding() -> (Arc<PublishedState>, Arc<CachedToken>) {
    let state = state();
    let cached = acquire(&state, START).cached();
    (state, cached)
}
