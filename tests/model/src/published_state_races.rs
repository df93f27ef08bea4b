//! Concurrent requests, completions, refusals and shutdowns.
//!
//! The guarantees for readers without the lock:
//!
//! - A reader notices when its token is no longer current. If there are no refusals, it reads the
//!   current token next. It gets another token or no token, and never its own token again. So a
//!   private copy is replaced by the next token.
//! - After a refusal has returned, no token is served without the lock, neither from the state nor
//!   from a private copy. This lasts until the watch for acceptances ends. After the watch, the
//!   current token is served again.
//! - After a change has returned, later readers see its result.
//!
//! During a change, readers may still get the token that the change removes. The reverse is not
//! guaranteed: a reader may have a token before the state reports it as current.

use std::sync::Arc;
use std::time::Duration;

use crate::Scenario;
use crate::cache::expiry::{CachedToken, ExpiryPolicy, FetchedBy, FetchedToken, Freshness};
use crate::cache::published_state::PublishedState;
use crate::cache::refusal_evidence::{Resource, SentRequest};
use crate::cache::single_flight::{Abandoned, Completer, Flight};
use crate::cache::state_machine::machine::{Limits, Outcome, StateMachine};
use crate::cache::state_machine::reject::{Attempt, Refusal, Rejection};
use crate::cache::state_machine::request::{Caller, Decision, FetchStart};
use crate::cache::status::Phase;
use crate::clock::{Clock, Moment};
use crate::error::Error;
use crate::threads::{block_on, in_every_order, in_orders_of, spawn};
use crate::token::issued_token::Token;

pub(crate) const ALL: &[Scenario] = crate::scenarios![
    two_concurrent_requests_share_one_flight,
    a_stale_token_is_served_to_both_and_refreshed_once,
    two_concurrent_first_refusals_start_one_fetch_and_one_watch,
    a_refused_token_is_replaced_by_the_running_refresh,
    a_reader_whose_token_was_replaced_reads_another_one_or_none,
    a_private_copy_is_not_current_while_watched_and_its_successor_is_afterwards,
    a_watch_that_ends_misses_no_concurrent_refusal,
    an_abandoned_flight_replaces_nothing_that_came_after_it,
    nobody_waits_for_an_abandoned_flight_once_another_has_started,
    an_aborted_flight_is_abandoned_once,
    after_the_close_there_is_no_token,
    the_failure_of_a_refresh_leaves_a_refused_token_in_use,
    all_who_wait_instead_of_a_withdrawn_token_get_it_if_the_fetch_fails,
    a_token_withdrawn_during_a_refresh_that_fails_is_replaced_or_served,
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

fn two_concurrent_first_refusals_start_one_fetch_and_one_watch() {
    in_every_order(|| {
        let (state, old) = holding();
        let other = spawn({
            let (state, old) = (Arc::clone(&state), Arc::clone(&old));
            move || refused(&state, &old, stale())
        });
        let (one, other) = (refused(&state, &old, stale()), other.join().unwrap());
        assert_eq!(one.fetches + other.fetches, 1);
        // The other refusal changed nothing. There is one watch, and one fetch that counts.
        assert_eq!(one.changes + other.changes, 1);
        assert!(Arc::ptr_eq(&one.cached(), &other.cached()));
        assert!(state.is_watching());
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
        let new = refused(&state, &old, stale());
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
            spawn(move || refused(&state, &old, stale()))
        });
        let is_replaced = !state.is_current(&old) && !state.is_watching();
        let current = state.current();
        let is_old = current.is_some_and(|cached| Arc::ptr_eq(&cached, &old));
        assert!(!(is_replaced && is_old), "replaced, and there again");

        let [one, other] = refusing.map(|refused| refused.join().unwrap());
        assert_eq!(one.fetches + other.fetches, 1);
        assert!(is_current(&state, &one.cached()));
    });
}

fn a_private_copy_is_not_current_while_watched_and_its_successor_is_afterwards() {
    in_every_order(|| {
        let (state, old) = holding();
        let refusing = spawn({
            let (state, old) = (Arc::clone(&state), Arc::clone(&old));
            move || {
                let new = refused(&state, &old, stale()).cached();
                for copy in [&old, &new] {
                    assert!(!state.is_current(copy), "while watched");
                }
                end_watch(&state, after_watch());
                assert!(state.is_current(&new));
                new
            }
        });
        // If `old` isn't current and there is no watch, the watch has ended. So the successor has
        // arrived.
        let is_replaced = !state.is_current(&old) && !state.is_watching();
        let current = state.current().unwrap();
        assert!(
            !(is_replaced && Arc::ptr_eq(&current, &old)),
            "replaced, and there again"
        );
        let new = refusing.join().unwrap();
        assert!(is_current(&state, &new));
        let served = state.servable(&clock(after_watch())).unwrap();
        assert!(Arc::ptr_eq(&served, &new));
        assert!(!state.is_current(&old));
    });
}

fn a_watch_that_ends_misses_no_concurrent_refusal() {
    in_every_order(|| {
        let (state, first) = holding();
        let second = refused(&state, &first, stale()).cached();
        assert!(state.is_watching());
        let ending = spawn({
            let state = Arc::clone(&state);
            move || acquire(&state, after_watch())
        });
        let third = refused(&state, &second, after_watch());
        let acquired = ending.join().unwrap();
        assert_eq!(acquired.fetches + third.fetches, 1);
        for served in [acquired.cached(), third.cached()] {
            assert!(Arc::ptr_eq(&served, &second) || is_current(&state, &served));
        }
        // Either the first watch goes on, or another has begun.
        assert!(state.is_watching());
        assert!(!state.is_current(&second));
        end_watch(&state, after_watch());
        assert!(state.is_watching(), "ended too early");
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
        // If the late fetch completed before the request, the token is from that fetch. Otherwise
        // it is from the fetch that replaced it.
        assert!(acquired.fetches <= 1);
        assert!(is_current(&state, &acquired.cached()));
        // A caller that joined the abandoned flight still gets a token. The token may be from that
        // flight.
        waiting.join().unwrap();
    });
}

fn nobody_waits_for_an_abandoned_flight_once_another_has_started() {
    in_every_order(|| {
        let state = state();
        // The runtime isn't driven. So the fetch is neither completed nor dropped.
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
        // Whether the fetch completed before the close or after, the source gets its token.
        let last = match (last.cached, last.flight) {
            (Some(cached), None) => cached,
            (None, Some(flight)) => block_on(flight.wait()).unwrap().unwrap(),
            _ => panic!("the flight was neither running nor completed"),
        };
        assert!(Arc::ptr_eq(&last, &completed));
        assert!(acquire(&state, START).failed_as(Error::is_closed));
        assert!(shows(&state, None));
        // The fetch that completed during the close hasn't changed the phase.
        let phase = || state.look(|machine| machine.status(START).phase());
        assert_eq!(phase(), Phase::Closing);
        state.transition(StateMachine::finish_close);
        assert_eq!(phase(), Phase::Closed);
    });
}

fn the_failure_of_a_refresh_leaves_a_refused_token_in_use() {
    in_every_order(|| {
        let (state, old) = holding();
        let refresh = start(&state, stale());
        let failing = spawn({
            let state = Arc::clone(&state);
            move || complete(&state, refresh.completer, Err(Error::other("no")), stale())
        });
        // Either the refresh is in flight, or it has failed and another fetch is wanted.
        let (rejection, _) = reject(&state, &refusal(&old), stale());
        assert!(matches!(rejection, Rejection::SuccessorWanted));
        assert!(shows(&state, Some(&old)));
        failing.join().unwrap();
        assert!(shows(&state, Some(&old)));
        assert!(Arc::ptr_eq(&acquire(&state, stale()).cached(), &old));
    });
}

fn all_who_wait_instead_of_a_withdrawn_token_get_it_if_the_fetch_fails() {
    in_orders_of(4, || {
        let (state, old) = holding();
        withdraw(&state, &old, soon());
        let others = [(); 2].map(|()| {
            let state = Arc::clone(&state);
            spawn(move || acquire_from(&state, fails, Want::Any, soon()))
        });
        let all = others.map(|other| other.join().unwrap());
        assert_eq!(
            all.iter().map(|acquired| acquired.fetches).sum::<usize>(),
            1
        );
        for acquired in all {
            assert!(Arc::ptr_eq(&acquired.cached(), &old));
        }
        assert!(is_current(&state, &old));
        // The caller whose request was refused gets the error of the fetch instead of the old
        // token.
        let generation = old.token().generation();
        let renewed = acquire_from(&state, fails, Want::InsteadOf(generation), soon());
        assert!(renewed.failed_as(Error::is_source));
        assert_eq!(renewed.fetches, 0);
    });
}

fn a_token_withdrawn_during_a_refresh_that_fails_is_replaced_or_served() {
    in_every_order(|| {
        let (state, old) = holding();
        let refresh = start(&state, stale());
        let failing = spawn({
            let state = Arc::clone(&state);
            move || complete(&state, refresh.completer, Err(Error::other("no")), stale())
        });
        withdraw(&state, &old, stale());
        let acquired = acquire(&state, stale());
        failing.join().unwrap();
        let cached = acquired.cached();
        // If the failure comes last, the old token is served again. If the withdrawal comes last,
        // the caller waits for the successor, and so starts a fetch.
        assert_eq!(Arc::ptr_eq(&cached, &old), acquired.fetches == 0);
        assert!(is_current(&state, &cached));
    });
}

/// The result of a caller.
struct Acquired {
    outcome: Outcome,
    /// How many fetches the caller started.
    fetches: usize,
    /// How many flights were abandoned while the caller waited.
    abandoned: usize,
    /// How many of the caller's refusals had an effect.
    changes: usize,
}

/// Which token satisfies a caller.
#[derive(Clone, Copy)]
enum Want {
    Any,
    /// Any token except the refused token of this generation.
    InsteadOf(u64),
}

type Source = fn() -> Result<Token, Error>;

fn issues() -> Result<Token, Error> {
    Ok(Token::bearer("secret").unwrap().expires_in(LIFETIME))
}

fn fails() -> Result<Token, Error> {
    Err(Error::other("no"))
}

impl Acquired {
    fn cached(&self) -> Arc<CachedToken> {
        self.outcome.clone().unwrap()
    }

    fn failed_as(&self, is_it: fn(&Error) -> bool) -> bool {
        self.outcome.as_ref().is_err_and(is_it)
    }
}

fn acquire(state: &PublishedState, now: Moment) -> Acquired {
    acquire_from(state, issues, Want::Any, now)
}

/// Acts like `src/cache/acquire.rs`.
fn acquire_from(state: &PublishedState, source: Source, want: Want, now: Moment) -> Acquired {
    let (mut fetches, mut abandoned) = (0, 0);
    let outcome = loop {
        let ((decision, start), _) = match want {
            Want::Any => {
                if let Some(cached) = state.servable(&clock(now)) {
                    break Ok(cached);
                }
                end_watch(state, now);
                state.transition(|machine| machine.request(Caller::CannotReplay, now))
            }
            Want::InsteadOf(generation) => {
                state.transition(|machine| machine.renew(generation, now))
            }
        };
        if let Some(start) = start {
            fetches += 1;
            run_fetch_from(state, source, start, now);
        }
        match (decision, want) {
            (Decision::Serve(cached), _) => break Ok(cached),
            (Decision::Fail(error), _) => break Err(error),
            (Decision::Join(flight), _) => match (block_on(flight.wait()), want) {
                (Ok(Err(error)), Want::Any) => break fallback(state, now).ok_or(error),
                (Ok(outcome), _) => break outcome,
                (Err(Abandoned), _) => abandoned += 1,
            },
        }
    };
    Acquired {
        outcome,
        fetches,
        abandoned,
        changes: 0,
    }
}

fn fallback(state: &PublishedState, now: Moment) -> Option<Arc<CachedToken>> {
    let is_served = |cached: &Arc<CachedToken>| cached.freshness(now) != Freshness::Expired;
    state.current().filter(is_served)
}

fn end_watch(state: &PublishedState, now: Moment) {
    if state.is_watching() {
        state.transition(|machine| machine.end_watch(now));
    }
}

/// Acts like a caller that sent `old` and was refused. The caller then sends a new token, which is
/// accepted.
fn refused(state: &PublishedState, old: &Arc<CachedToken>, now: Moment) -> Acquired {
    let (rejection, has_changed) = reject(state, &refusal(old), now);
    assert!(!state.is_current(old));
    // If the successor has already arrived, the refusal isn't watched.
    let is_outdated = matches!(rejection, Rejection::Outdated);
    let is_served = state.servable(&clock(now)).is_some();
    assert!(!is_served || is_outdated, "there are refusals");
    let old = old.token().generation();
    let acquired = acquire_from(state, issues, Want::InsteadOf(old), now);
    let new = acquired.cached().token().generation();
    assert_ne!(new, old);
    let sent = SentRequest {
        resource: Resource::UNKNOWN,
        at: now,
    };
    state.transition(|machine| machine.accept(new, sent));
    Acquired {
        changes: usize::from(has_changed),
        ..acquired
    }
}

/// Acts like the task in `src/cache/fetch_task.rs`.
fn run_fetch(state: &PublishedState, start: FetchStart, now: Moment) {
    run_fetch_from(state, issues, start, now);
}

fn run_fetch_from(state: &PublishedState, source: Source, start: FetchStart, now: Moment) {
    if let Some(abandoned) = start.replaces {
        abandoned.abandon();
    }
    complete(state, start.completer, source(), now);
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

/// Acts like a fetch task that is dropped before its end.
fn abort(state: &PublishedState, completer: Completer<Outcome>) {
    state.transition(|machine| machine.abort(&completer));
    drop(completer);
}

/// Rejects a token. Also returns whether anything has changed.
fn reject(state: &PublishedState, refusal: &Refusal, now: Moment) -> (Rejection, bool) {
    state.transition(|machine| machine.reject(refusal, now))
}

/// Returns a refusal that may be about the resource.
fn refusal(of: &CachedToken) -> Refusal {
    Refusal {
        generation: of.token().generation(),
        sent: SentRequest {
            resource: Resource::UNKNOWN,
            at: START,
        },
        is_final: false,
        attempt: Attempt::First,
        can_pause: false,
    }
}

/// Rejects the token as the user does. Then all callers wait for the successor.
fn withdraw(state: &PublishedState, cached: &CachedToken, now: Moment) {
    let refusal = Refusal {
        is_final: true,
        ..refusal(cached)
    };
    let (rejection, _) = reject(state, &refusal, now);
    assert!(matches!(rejection, Rejection::SuccessorWanted));
}

/// Makes the first request, which starts the fetch.
fn start(state: &PublishedState, now: Moment) -> FetchStart {
    let ((_, start), _) = state.transition(|machine| machine.request(Caller::CannotReplay, now));
    start.unwrap()
}

/// Makes a later request, which joins the fetch.
fn join(state: &PublishedState, now: Moment) -> Flight<Outcome> {
    let (decided, _) = state.transition(|machine| machine.request(Caller::CannotReplay, now));
    match decided {
        (Decision::Join(flight), None) => flight,
        _ => panic!("there is no flight to join"),
    }
}

/// Returns whether the state machine and both published values agree on `cached`. During a watch,
/// one of the two published values shows only the watch.
fn is_current(state: &PublishedState, cached: &Arc<CachedToken>) -> bool {
    shows(state, Some(cached))
}

fn shows(state: &PublishedState, expected: Option<&Arc<CachedToken>>) -> bool {
    let is_it =
        |cached: Option<&Arc<CachedToken>>| cached.map(Arc::as_ptr) == expected.map(Arc::as_ptr);
    state.look(|machine| is_it(machine.cached()))
        && is_it(state.current().as_ref())
        && expected.is_none_or(|cached| state.is_current(cached) != state.is_watching())
}

const LIFETIME: Duration = Duration::from_secs(3600);

const START: Moment = Moment::START;

/// Returns when a fetch that started at `START` is overdue.
fn overdue() -> Moment {
    START.plus(Duration::from_secs(60))
}

/// Returns when a token that was fetched at `START` is stale.
fn stale() -> Moment {
    START.plus(LIFETIME - Duration::from_secs(120))
}

/// Returns a time at which a token that was fetched at `START` is fresh.
fn soon() -> Moment {
    START.plus(Duration::from_secs(10))
}

/// Returns when the watch that began at `stale` ends, if there is no refusal in the meantime.
fn after_watch() -> Moment {
    stale().plus(Duration::from_secs(60))
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

/// Returns a state with a current token.
fn holding() -> (Arc<PublishedState>, Arc<CachedToken>) {
    let state = state();
    let cached = acquire(&state, START).cached();
    (state, cached)
}
