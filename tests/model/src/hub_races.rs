//! Asking, landing, refusing and closing, all at once.
//!
//! What is promised to those who read without the lock:
//!
//! - Who finds that its token isn't in hand any more and then reads what is finds another one, or
//!   none, and never its own again. So a private copy is renewed by what replaced it.
//! - Once a change has returned, whoever comes after it sees what it left: a refused token is
//!   served neither by the hub nor by a private copy of it.
//!
//! While a change is being made, the token that it takes away may still be served. The other way
//! round nothing is promised: a token that was read may not be known to be in hand yet.

use std::sync::Arc;
use std::time::Duration;

use crate::Scenario;
use crate::cache::expiry::{Fetched, FetchedBy, Held, Windows};
use crate::cache::published_state::Hub;
use crate::cache::single_flight::{Flight, Lost, Pilot};
use crate::cache::state_machine::{Answer, Limits, Machine, Outcome, TakeOff, Verdict};
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
        let hub = hub();
        let ask = |hub: &Hub| {
            let acquired = acquire(hub, START);
            assert!(is_in_hand(hub, &acquired.held()), "woken before its time");
            acquired
        };
        let other = spawn({
            let hub = Arc::clone(&hub);
            move || ask(&hub)
        });
        let (one, other) = (ask(&hub), other.join().unwrap());
        assert_eq!(one.take_offs + other.take_offs, 1);
        assert!(Arc::ptr_eq(&one.held(), &other.held()));
    });
}

fn a_stale_token_is_served_to_both_and_refreshed_once() {
    in_every_order(|| {
        let (hub, old) = holding();
        let other = spawn({
            let hub = Arc::clone(&hub);
            move || acquire(&hub, stale())
        });
        let (one, other) = (acquire(&hub, stale()), other.join().unwrap());
        assert_eq!(one.take_offs + other.take_offs, 1);
        for served in [one.held(), other.held()] {
            assert!(Arc::ptr_eq(&served, &old) || is_in_hand(&hub, &served));
        }
        assert!(!is_in_hand(&hub, &old));
    });
}

fn a_token_refused_twice_costs_one_flight() {
    in_every_order(|| {
        let (hub, old) = holding();
        let other = spawn({
            let (hub, old) = (Arc::clone(&hub), Arc::clone(&old));
            move || refused(&hub, &old)
        });
        let (one, other) = (refused(&hub, &old), other.join().unwrap());
        assert_eq!(one.take_offs + other.take_offs, 1);
        assert!(Arc::ptr_eq(&one.held(), &other.held()));
        assert!(is_in_hand(&hub, &one.held()));
    });
}

fn a_refused_token_is_replaced_by_the_refresh_in_the_air() {
    in_every_order(|| {
        let (hub, old) = holding();
        let refresh = take_off(&hub, stale());
        let landing = spawn({
            let hub = Arc::clone(&hub);
            move || launch(&hub, refresh, stale())
        });
        let new = refused(&hub, &old);
        landing.join().unwrap();
        assert_eq!(new.take_offs, 0);
        assert!(is_in_hand(&hub, &new.held()));
    });
}

fn who_finds_its_token_replaced_reads_another_one_or_none() {
    in_orders_of(4, || {
        let (hub, old) = holding();
        let refusing = [(); 2].map(|()| {
            let (hub, old) = (Arc::clone(&hub), Arc::clone(&old));
            spawn(move || refused(&hub, &old))
        });
        let is_replaced = !hub.is_in_hand(&old);
        let current = hub.current();
        let is_old = current.is_some_and(|held| Arc::ptr_eq(&held, &old));
        assert!(!(is_replaced && is_old), "replaced, and there again");

        let [one, other] = refusing.map(|refused| refused.join().unwrap());
        assert_eq!(one.take_offs + other.take_offs, 1);
        assert!(is_in_hand(&hub, &one.held()));
    });
}

fn an_abandoned_flight_replaces_nothing_that_came_after_it() {
    in_orders_of(4, || {
        let hub = hub();
        let abandoned = take_off(&hub, START);
        let joined = join(&hub, START);
        let waiting = spawn({
            let hub = Arc::clone(&hub);
            move || match block_on(joined.wait()) {
                Ok(outcome) => outcome.unwrap(),
                Err(Lost) => acquire(&hub, overdue()).held(),
            }
        });
        let late = spawn({
            let hub = Arc::clone(&hub);
            move || launch(&hub, abandoned, overdue())
        });
        let acquired = acquire(&hub, overdue());
        late.join().unwrap();
        // The late one, if it landed before anyone asked; else the one that replaced it.
        assert!(acquired.take_offs <= 1);
        assert!(is_in_hand(&hub, &acquired.held()));
        // Those who joined the abandoned one are not left behind, and may be served by it.
        waiting.join().unwrap();
    });
}

fn nobody_waits_for_an_abandoned_flight_once_another_is_in_the_air() {
    in_every_order(|| {
        let hub = hub();
        // On a runtime that nobody drives: it neither lands nor is dropped.
        let abandoned = take_off(&hub, START);
        let joined = join(&hub, START);
        let waiting = spawn({
            let hub = Arc::clone(&hub);
            move || {
                assert!(block_on(joined.wait()).is_err(), "nobody landed it");
                acquire(&hub, overdue())
            }
        });
        let acquired = acquire(&hub, overdue());
        let waited = waiting.join().unwrap();
        assert_eq!(acquired.take_offs + waited.take_offs, 1);
        assert!(Arc::ptr_eq(&acquired.held(), &waited.held()));
        assert!(is_in_hand(&hub, &acquired.held()));
        drop(abandoned);
    });
}

fn a_lost_flight_is_lost_once() {
    in_every_order(|| {
        let hub = hub();
        let doomed = take_off(&hub, START);
        let losing = spawn({
            let hub = Arc::clone(&hub);
            move || lose(&hub, doomed.pilot)
        });
        let acquired = acquire(&hub, START);
        losing.join().unwrap();
        assert_eq!(acquired.take_offs, 1);
        assert!(acquired.losses <= 1, "it was joined after it was lost");
        assert!(is_in_hand(&hub, &acquired.held()));
    });
}

fn after_the_close_there_is_no_token() {
    in_every_order(|| {
        let hub = hub();
        let flight = take_off(&hub, START);
        let waiting = join(&hub, START);
        let landing = spawn({
            let hub = Arc::clone(&hub);
            move || launch(&hub, flight, START)
        });
        let closing = spawn({
            let hub = Arc::clone(&hub);
            move || {
                let (left_behind, _) = hub.transition(Machine::close);
                assert!(acquire(&hub, START).failed_as(Error::is_closed));
                assert!(shows(&hub, None));
                left_behind.unwrap()
            }
        });
        let landed = block_on(waiting.wait()).unwrap().unwrap();
        landing.join().unwrap();
        let last = closing.join().unwrap();
        // The source is told of the last token either way.
        let last = match (last.held, last.flight) {
            (Some(held), None) => held,
            (None, Some(flight)) => block_on(flight.wait()).unwrap().unwrap(),
            _ => panic!("the flight was not in the air, and had not landed"),
        };
        assert!(Arc::ptr_eq(&last, &landed));
        assert!(acquire(&hub, START).failed_as(Error::is_closed));
        assert!(shows(&hub, None));
    });
}

fn the_failure_of_a_refresh_brings_no_refused_token_back() {
    in_every_order(|| {
        let (hub, old) = holding();
        let refresh = take_off(&hub, stale());
        let failing = spawn({
            let hub = Arc::clone(&hub);
            move || land(&hub, refresh.pilot, Err(Error::other("no")), stale())
        });
        assert_eq!(reject(&hub, old.token().generation()), Verdict::Rejected);
        assert!(shows(&hub, None));
        failing.join().unwrap();
        assert!(shows(&hub, None));
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
    fn held(&self) -> Arc<Held> {
        self.outcome.clone().unwrap()
    }

    fn failed_as(&self, is_it: fn(&Error) -> bool) -> bool {
        self.outcome.as_ref().is_err_and(is_it)
    }
}

/// As `src/acquire.rs` does it.
fn acquire(hub: &Hub, now: Moment) -> Acquired {
    let (mut take_offs, mut losses) = (0, 0);
    let outcome = loop {
        if let Some(held) = hub.in_hand(&clock(now)) {
            break Ok(held);
        }
        let ((answer, take_off), _) = hub.transition(|machine| machine.ask(now));
        if let Some(take_off) = take_off {
            take_offs += 1;
            launch(hub, take_off, now);
        }
        match answer {
            Answer::Serve(held) => break Ok(held),
            Answer::Fail(error) => break Err(error),
            Answer::Join(flight) => match block_on(flight.wait()) {
                Ok(outcome) => break outcome,
                Err(Lost) => losses += 1,
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
fn refused(hub: &Hub, old: &Arc<Held>) -> Acquired {
    reject(hub, old.token().generation());
    assert!(!hub.is_in_hand(old));
    let old = old.token().generation();
    let acquired = acquire(hub, stale());
    let new = acquired.held().token().generation();
    assert_ne!(new, old);
    // Or else the latch would keep it from being refused.
    hub.transition(|machine| machine.accept(new));
    acquired
}

/// The flight's task, as `src/fetch.rs` has it.
fn launch(hub: &Hub, take_off: TakeOff, now: Moment) {
    if let Some(abandoned) = take_off.replaces {
        abandoned.give_up();
    }
    let token = Token::bearer("secret").unwrap().expires_in(LIFETIME);
    land(hub, take_off.pilot, Ok(token), now);
}

fn land(hub: &Hub, pilot: Pilot<Outcome>, fetched: Result<Token, Error>, now: Moment) {
    let fetched = fetched.map(|token| Fetched {
        token,
        requested: now,
        by: FetchedBy::ThisProcess,
    });
    let (outcome, _) = hub.transition(|machine| machine.land(&pilot, fetched, now));
    pilot.land(outcome);
}

/// The same for one that is dropped before its end.
fn lose(hub: &Hub, pilot: Pilot<Outcome>) {
    hub.transition(|machine| machine.lose(&pilot));
    drop(pilot);
}

fn reject(hub: &Hub, generation: u64) -> Verdict {
    let (verdict, _) = hub.transition(|machine| machine.reject(generation, stale()));
    verdict
}

/// The first to ask.
fn take_off(hub: &Hub, now: Moment) -> TakeOff {
    let ((_, take_off), _) = hub.transition(|machine| machine.ask(now));
    take_off.unwrap()
}

/// One of those who ask after it.
fn join(hub: &Hub, now: Moment) -> Flight<Outcome> {
    let (asked, _) = hub.transition(|machine| machine.ask(now));
    match asked {
        (Answer::Join(flight), None) => flight,
        _ => panic!("there is no flight to join"),
    }
}

/// Whether the state and both that is shown of it agree on `held`.
fn is_in_hand(hub: &Hub, held: &Arc<Held>) -> bool {
    shows(hub, Some(held))
}

fn shows(hub: &Hub, expected: Option<&Arc<Held>>) -> bool {
    let is_it = |held: Option<&Arc<Held>>| held.map(Arc::as_ptr) == expected.map(Arc::as_ptr);
    hub.look(|machine| is_it(machine.held()))
        && is_it(hub.current().as_ref())
        && expected.is_none_or(|held| hub.is_in_hand(held))
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

fn hub() -> Arc<Hub> {
    Arc::new(Hub::new(Limits {
        windows: Windows {
            refresh_before: None,
            expiry_margin: None,
            jitter: 0.0,
        },
        fetch_timeout: Duration::from_secs(30),
        attempt_floor: Duration::from_secs(1),
    }))
}

/// A hub, and the token that it holds from the start.
fn holding() -> (Arc<Hub>, Arc<Held>) {
    let hub = hub();
    let held = acquire(&hub, START).held();
    (hub, held)
}
