//! The state machine of one token: what is in hand, what is in the air, what failed.
//!
//! Pure: it is told the time and what happened, and answers what to do. The [`hub`](crate::cache::published_state)
//! puts a lock around it.
//!
//! ```text
//!            ask                land(Ok)
//!   Empty ────────▶ Fetching ────────────▶ Holding ◀─┐ land(Ok), land(Err): kept
//!     ▲                │  ▲                 │  │  │   │
//!     │       land(Err)│  │ ask, after the  │  │  └───┘ ask when stale: refresh behind
//!     │                ▼  │ hold-off        │  │
//!     │              Failed ◀───────────────│──┤ ask when expired, and a refresh has just failed
//!     │                                     │  └─ ask when expired ─▶ Fetching
//!     └───── reject, unless latched ────────┘     (joins the refresh, if one is in the air)
//!
//!   any ─── close ──▶ Closed
//! ```

use std::sync::Arc;
use std::time::Duration;

use crate::cache::expiry::{Fetched, FetchedBy, Freshness, Held, Windows};
use crate::cache::failure_backoff::Setbacks;
use crate::cache::quota_tracker::{Dry, Ledger};
use crate::cache::refusal_budget::{Latch, Strike};
use crate::cache::single_flight::{Flight, Pilot};
use crate::cache::status::{InHand, Phase, Status};
use crate::clock::Moment;
use crate::error::{Error, Kind};
#[cfg(feature = "metrics")]
use crate::quota::Quota;
use crate::source::token_source::Reason;

/// What one fetch comes to, for everyone who waited for it.
pub(crate) type Outcome = Result<Arc<Held>, Error>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) windows: Windows,
    /// The most a flight may take, all its attempts together.
    pub(crate) fetch_timeout: Duration,
    /// The least time from the start of one flight to the next.
    pub(crate) attempt_floor: Duration,
}

/// A flight that hasn't landed this long after its timeout was abandoned by its runtime: the
/// timeout runs on that runtime's timer, so a runtime nobody drives can't end it.
const OVERDUE_GRACE: Duration = Duration::from_secs(5);

pub(crate) struct Machine {
    state: State,
    limits: Limits,
    /// Why the next flight takes off.
    reason: Reason,
    /// When the last one did.
    last_take_off: Moment,
    setbacks: Setbacks,
    latch: Latch,
    ledger: Ledger,
    /// How many changes there were.
    version: u64,
}

enum State {
    Empty,
    Fetching(InAir),
    Holding { held: Arc<Held>, next: Next },
    Failed(Setback),
    Closed(End),
}

/// How far closing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The flight in the air may still land, and the source is to be told.
    Near,
    Over,
}

/// What is known of the token after the one in hand.
enum Next {
    Unasked,
    InAir(InAir),
    PutOff(Setback),
}

struct InAir {
    flight: Flight<Outcome>,
    reason: Reason,
    /// When it is given up for lost.
    overdue: Moment,
}

struct Setback {
    error: Error,
    until: Moment,
}

/// What the one who asked is to do.
pub(crate) enum Answer {
    Serve(Arc<Held>),
    Join(Flight<Outcome>),
    Fail(Error),
}

/// A flight that the one who asked has to put on a task.
pub(crate) struct TakeOff {
    pub(crate) pilot: Pilot<Outcome>,
    pub(crate) reason: Reason,
    /// How long to wait before the first attempt.
    pub(crate) delay: Duration,
    /// The abandoned flight that this one replaces. To be given up outside of the lock, since
    /// that wakes those who wait for it.
    pub(crate) replaces: Option<Flight<Outcome>>,
}

/// What a refusal of a token comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is rejected: the next who asks starts a fetch.
    Rejected,
    /// It isn't the one in hand: old news.
    Outdated,
    /// It is kept: a new one would be refused as well.
    Latched,
    /// The same, and this is the refusal that made it so.
    Latches { strikes: u32, wait: Duration },
}

/// What there was when the cache was closed.
pub(crate) struct LeftBehind {
    pub(crate) held: Option<Arc<Held>>,
    pub(crate) flight: Option<Flight<Outcome>>,
}

/// When the machine is to be asked although nobody needs a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    In(Duration),
    /// When something has changed.
    OnChange,
    /// It is closed.
    Never,
}

impl Machine {
    pub(crate) fn new(limits: Limits) -> Self {
        let jitter = limits.windows.has_jitter();
        Self {
            state: State::Empty,
            limits,
            reason: Reason::First,
            last_take_off: Moment::START,
            setbacks: Setbacks::new(jitter),
            latch: Latch::new(jitter),
            ledger: Ledger::default(),
            version: 0,
        }
    }

    /// Somebody needs a token.
    pub(crate) fn ask(&mut self, now: Moment) -> (Answer, Option<TakeOff>) {
        if let State::Holding { held, .. } = &self.state {
            match held.freshness(now) {
                Freshness::Fresh => return (Answer::Serve(Arc::clone(held)), None),
                Freshness::Stale => {
                    let held = Arc::clone(held);
                    let is_due = held.may_refresh(now);
                    let take_off = is_due.then(|| self.take_off(Reason::Stale, now).1);
                    return (Answer::Serve(held), take_off);
                }
                Freshness::Expired => self.let_go(Reason::Expired),
            }
        }
        match &self.state {
            State::Fetching(in_air) if !now.reached(in_air.overdue) => {
                (Answer::Join(in_air.flight.clone()), None)
            }
            State::Failed(setback) if !now.reached(setback.until) => {
                (Answer::Fail(setback.error.clone()), None)
            }
            State::Closed(_) => (Answer::Fail(closed()), None),
            State::Empty | State::Fetching(_) | State::Failed(_) | State::Holding { .. } => {
                let (flight, take_off) = self.take_off(self.reason, now);
                (Answer::Join(flight), Some(take_off))
            }
        }
    }

    /// Somebody wants a new token, whatever there is and whatever was put off.
    pub(crate) fn force(&mut self, now: Moment) -> (Answer, Option<TakeOff>) {
        if let State::Closed(_) = self.state {
            return (Answer::Fail(closed()), None);
        }
        if let Some(in_air) = self.in_air()
            && !now.reached(in_air.overdue)
        {
            return (Answer::Join(in_air.flight.clone()), None);
        }
        let (flight, take_off) = self.take_off(Reason::Forced, now);
        (Answer::Join(flight), Some(take_off))
    }

    fn in_air(&self) -> Option<&InAir> {
        match &self.state {
            State::Fetching(in_air)
            | State::Holding {
                next: Next::InAir(in_air),
                ..
            } => Some(in_air),
            State::Empty | State::Failed(_) | State::Holding { .. } | State::Closed(_) => None,
        }
    }

    fn take_off(&mut self, reason: Reason, now: Moment) -> (Flight<Outcome>, TakeOff) {
        let delay = match reason {
            // A token that is good for less than the floor would be fetched without a pause. All
            // other flights are rarer than that by other means: a refresh is held off, a refusal
            // latched, and the first is the first.
            Reason::Expired => now.until(self.last_take_off.plus(self.limits.attempt_floor)),
            Reason::First | Reason::Stale | Reason::Refused | Reason::Forced => Duration::ZERO,
        };
        let (flight, pilot) = Flight::take_off();
        let start = now.plus(delay);
        let overdue = start.plus(self.limits.fetch_timeout).plus(OVERDUE_GRACE);
        let replaces = self.in_air().map(|abandoned| abandoned.flight.clone());
        let in_air = InAir {
            flight: flight.clone(),
            reason,
            overdue,
        };
        match &mut self.state {
            State::Holding { held, next } => {
                held.hold_off_until(overdue);
                *next = Next::InAir(in_air);
            }
            state => *state = State::Fetching(in_air),
        }
        self.last_take_off = start;
        self.version += 1;
        let take_off = TakeOff {
            pilot,
            reason,
            delay,
            replaces,
        };
        (flight, take_off)
    }

    /// The token is gone. A refresh that was in the air behind it is now waited for.
    fn let_go(&mut self, reason: Reason) {
        let State::Holding { next, .. } = &mut self.state else {
            return;
        };
        self.state = match (std::mem::replace(next, Next::Unasked), reason) {
            (Next::InAir(in_air), _) => State::Fetching(in_air),
            // What protects a good token from being fetched for too often doesn't protect one that
            // was refused.
            (Next::PutOff(setback), Reason::Expired) => State::Failed(setback),
            (Next::PutOff(_) | Next::Unasked, _) => State::Empty,
        };
        self.reason = reason;
        self.version += 1;
    }

    /// A server refused the token of this generation. Only the token in hand can be rejected; of
    /// any other it is old news.
    pub(crate) fn reject(&mut self, generation: u64, now: Moment) -> Verdict {
        let State::Holding { held, .. } = &self.state else {
            return Verdict::Outdated;
        };
        if held.token().generation() != generation {
            return Verdict::Outdated;
        }
        if !held.is_accepted() {
            match self.latch.strike(generation, now) {
                Strike::Passes => {}
                Strike::Latched => return Verdict::Latched,
                Strike::Latches { strikes, wait } => {
                    self.version += 1;
                    return Verdict::Latches { strikes, wait };
                }
            }
        }
        self.let_go(Reason::Refused);
        Verdict::Rejected
    }

    /// A server accepted the token of this generation; once is enough. Whether that lifted the
    /// latch.
    pub(crate) fn accept(&mut self, generation: u64) -> bool {
        match &self.state {
            State::Holding { held, .. }
                if held.token().generation() == generation && !held.is_accepted() =>
            {
                held.accept();
                self.version += 1;
                self.latch.lift()
            }
            _ => false,
        }
    }

    /// What a flight was told of the quotas, with its token or its error. What another process has
    /// fetched cost this one nothing.
    fn note_quotas(&mut self, fetched: &Result<Fetched, Error>, now: Moment) {
        let quotas = match fetched {
            Ok(fetched) if fetched.by == FetchedBy::Another => {
                return self.ledger.hear(fetched.token.quotas());
            }
            Ok(fetched) => fetched.token.quotas(),
            Err(error) => error.quotas(),
        };
        if let Some(reason) = self.in_air().map(|in_air| in_air.reason) {
            self.ledger.spend(reason);
        }
        self.ledger.note(quotas, now);
    }

    /// The buckets that have turned dry since this was asked the last time.
    pub(crate) fn turned_dry(&mut self) -> Vec<Dry> {
        self.ledger.turned_dry()
    }

    /// A flight has ended, and this is what came of it. One that was given up changes nothing.
    pub(crate) fn land(
        &mut self,
        pilot: &Pilot<Outcome>,
        fetched: Result<Fetched, Error>,
        now: Moment,
    ) -> Outcome {
        let is_in_air = self.is_in_air(pilot);
        if is_in_air {
            self.note_quotas(&fetched, now);
        }
        let windows = &self.limits.windows;
        let held = fetched.map(|fetched| {
            let mut held = windows.hold(fetched, now);
            if let Some(dry_for) = self.ledger.dry_for(now) {
                held.put_off(windows, dry_for, now);
            }
            held
        });
        let outcome = held.and_then(|held| match held.is_over(now) {
            true => Err(over_on_arrival()),
            false => Ok(Arc::new(held)),
        });
        if !is_in_air {
            return outcome;
        }
        self.version += 1;
        match &outcome {
            Ok(held) => self.hold(Arc::clone(held)),
            Err(error) => self.put_off(error.clone(), now),
        }
        outcome
    }

    fn hold(&mut self, held: Arc<Held>) {
        held.hold_off_until(held.requested().plus(self.limits.attempt_floor));
        self.setbacks.reset();
        self.state = State::Holding {
            held,
            next: Next::Unasked,
        };
    }

    /// A token that is still good stays. Without one, all who ask are told the error.
    fn put_off(&mut self, error: Error, now: Moment) {
        let left = self
            .held()
            .and_then(|held| held.expired_from())
            .filter(|end| !now.reached(*end))
            .map(|end| now.until(end));
        let floor = self.limits.attempt_floor;
        let wait = self.setbacks.wait_after(&error, left, floor);
        let late = self.held().and_then(|held| held.late_from());
        let dear = self.ledger.dry_for(now).zip(late);
        let wait = wait.max(dear.map_or(Duration::ZERO, |(dear, late)| dear.min(now.until(late))));
        let until = now.plus(wait);
        let setback = Setback { error, until };
        match &mut self.state {
            State::Holding { held, next } => {
                held.hold_off_until(until);
                *next = Next::PutOff(setback);
            }
            state => *state = State::Failed(setback),
        }
    }

    /// A flight's task was dropped before it ended: the next one who asks starts another.
    pub(crate) fn lose(&mut self, pilot: &Pilot<Outcome>) {
        if !self.is_in_air(pilot) {
            return;
        }
        self.version += 1;
        match &mut self.state {
            State::Holding { held, next } => {
                *next = Next::Unasked;
                held.refresh_at_once();
            }
            state => *state = State::Empty,
        }
    }

    fn is_in_air(&self, pilot: &Pilot<Outcome>) -> bool {
        let in_air = self.in_air();
        in_air.is_some_and(|in_air| in_air.flight.is_flown_by(pilot))
    }

    /// No more tokens. What is in the air may land, for those who wait for it already.
    /// `None` if it was closed before.
    pub(crate) fn close(&mut self) -> Option<LeftBehind> {
        if let State::Closed(_) = self.state {
            return None;
        }
        let left_behind = LeftBehind {
            held: self.held().cloned(),
            flight: self.in_air().map(|in_air| in_air.flight.clone()),
        };
        self.state = State::Closed(End::Near);
        self.version += 1;
        Some(left_behind)
    }

    /// All is done that closing takes.
    pub(crate) fn end(&mut self) {
        self.state = State::Closed(End::Over);
        self.version += 1;
    }

    /// The failure that is told again. Kept by whoever changes the state until the lock is
    /// released: its source is a user's, and so is what runs when that is dropped.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.setback().map(|setback| setback.error.clone())
    }

    fn setback(&self) -> Option<&Setback> {
        match &self.state {
            State::Failed(setback)
            | State::Holding {
                next: Next::PutOff(setback),
                ..
            } => Some(setback),
            State::Empty | State::Fetching(_) | State::Holding { .. } | State::Closed(_) => None,
        }
    }

    /// How long there is no attempt, after one that failed.
    pub(crate) fn put_off_for(&self, now: Moment) -> Option<Duration> {
        self.setback().map(|setback| now.until(setback.until))
    }

    /// The token in hand, fresh or not.
    pub(crate) fn held(&self) -> Option<&Arc<Held>> {
        match &self.state {
            State::Holding { held, .. } => Some(held),
            State::Empty | State::Fetching(_) | State::Failed(_) | State::Closed(_) => None,
        }
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn quotas(&self) -> Arc<[Quota]> {
        self.ledger.quotas()
    }

    /// How many changes there were so far.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// When the machine is to be asked so that there always is a token.
    pub(crate) fn due(&self, now: Moment) -> Due {
        match (&self.state, self.in_air()) {
            (State::Closed(_), _) => Due::Never,
            (_, Some(in_air)) => Due::In(now.until(in_air.overdue)),
            (State::Holding { held, .. }, None) => match (held.stale_from(), held.expired_from()) {
                (Some(stale), Some(expired)) => {
                    let refresh = now.until(stale).max(held.held_off_for(now));
                    Due::In(refresh.min(now.until(expired)))
                }
                _ => Due::OnChange,
            },
            (State::Failed(setback), None) => Due::In(now.until(setback.until)),
            (State::Empty | State::Fetching(_), None) => Due::OnChange,
        }
    }

    /// How things stand, for those who only want to know.
    pub(crate) fn status(&self, now: Moment) -> Status {
        let held = self.held();
        let setback = self.setback();
        let latched = held.and_then(|held| self.latch.holds(held.token().generation(), now));
        Status {
            version: self.version,
            phase: self.phase(now),
            fetching: self.in_air().map(|in_air| in_air.reason),
            waiting: self.in_air().map_or(0, |in_air| in_air.flight.waiting()),
            token: held.map(|held| InHand {
                requested_at: held.requested().wall(),
                refresh_at: held.stale_from().map(Moment::wall),
                expires_at: held.over_from().map(Moment::wall),
                scope: held.token().shared_scope(),
                is_accepted: held.is_accepted(),
            }),
            setback: setback.map(|setback| setback.error.clone()),
            failures: self.setbacks.count(),
            next_attempt_at: setback.map(|setback| setback.until.wall()),
            latched_until: latched.map(Moment::wall),
            quotas: self.ledger.quotas(),
            is_over: matches!(self.state, State::Closed(End::Over)),
        }
    }

    fn phase(&self, now: Moment) -> Phase {
        match &self.state {
            State::Empty => Phase::Empty,
            State::Fetching(_) => Phase::Fetching,
            State::Holding { held, .. } => match held.freshness(now) {
                Freshness::Fresh => Phase::Fresh,
                Freshness::Stale => Phase::Stale,
                Freshness::Expired => Phase::Expired,
            },
            State::Failed(_) => Phase::Failed,
            State::Closed(_) => Phase::Closed,
        }
    }
}

/// It would be refused, and the one after it as well: an error is told again for a while, where
/// a token that is no good would be fetched anew by each who asks.
#[cold]
fn over_on_arrival() -> Error {
    let message = "the token had expired by the time it was here; \
                   check what the token source returns, and this machine's clock";
    Error::new(Kind::Expired, message)
}

#[cold]
fn closed() -> Error {
    Error::new(
        Kind::Closed,
        "the token cache was closed; there are no more tokens",
    )
}
