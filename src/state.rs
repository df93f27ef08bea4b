//! The state machine of one token: what is in hand, what is in the air, what failed.
//!
//! Pure: it is told the time and what happened, and answers what to do. The
//! [`cache`](crate::cache) puts a lock around it and does as it says.
//!
//! ```text
//!            ask                land(Ok)
//!   Empty ────────▶ Fetching ────────────▶ Holding ◀─┐ land(Ok), land(Err): kept
//!     ▲                │  ▲                 │  │  │   │
//!     │       land(Err)│  │ ask, after the  │  │  └───┘ ask when stale: refresh behind
//!     │                ▼  │ hold-off        │  │
//!     │              Failed                 │  └─ ask when expired ─▶ Fetching
//!     └──────────────── reject ─────────────┘     (joins the refresh, if one is in the air)
//! ```

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::error::{Error, Kind};
use crate::flight::{Flight, Pilot};
use crate::freshness::{Freshness, Held, Windows};
use crate::source::Reason;
use crate::token::Token;

/// What one fetch comes to, for everyone who waited for it.
pub(crate) type Outcome = Result<Arc<Held>, Error>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) windows: Windows,
    /// The most a fetch may take.
    pub(crate) fetch_timeout: Duration,
    /// The least time from a failed attempt to the next.
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
}

enum State {
    Empty,
    Fetching(InAir),
    Holding {
        held: Arc<Held>,
        refresh: Option<InAir>,
    },
    Failed {
        error: Error,
        until: Moment,
    },
}

struct InAir {
    flight: Flight<Outcome>,
    /// When it is given up for lost.
    overdue: Moment,
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
    /// Expiry is counted from here: the server can't have issued the token earlier.
    pub(crate) requested: Moment,
    /// The abandoned flight that this one replaces. To be given up outside of the lock, since
    /// that wakes those who wait for it.
    pub(crate) replaces: Option<Flight<Outcome>>,
}

impl Machine {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            state: State::Empty,
            limits,
            reason: Reason::First,
        }
    }

    /// Somebody needs a token.
    pub(crate) fn ask(&mut self, now: Moment) -> (Answer, Option<TakeOff>) {
        match &mut self.state {
            State::Holding { held, refresh } => match held.freshness(now) {
                Freshness::Fresh => (Answer::Serve(Arc::clone(held)), None),
                Freshness::Stale => {
                    let held = Arc::clone(held);
                    let take_off = held.may_refresh(now).then(|| {
                        // Nobody waits for the one it may replace: there is a token in hand.
                        let (in_air, take_off) = self.limits.take_off(Reason::Stale, now, None);
                        held.hold_off_until(in_air.overdue);
                        *refresh = Some(in_air);
                        take_off
                    });
                    (Answer::Serve(held), take_off)
                }
                Freshness::Expired => {
                    self.state = State::without_token(refresh.take());
                    self.reason = Reason::Expired;
                    self.join(now)
                }
            },
            State::Failed { error, until } if !now.reached(*until) => {
                (Answer::Fail(error.clone()), None)
            }
            State::Empty | State::Fetching(_) | State::Failed { .. } => self.join(now),
        }
    }

    /// Without a token to serve: joins the flight that is in the air, or starts one.
    fn join(&mut self, now: Moment) -> (Answer, Option<TakeOff>) {
        let abandoned = match &self.state {
            State::Fetching(in_air) if !now.reached(in_air.overdue) => {
                return (Answer::Join(in_air.flight.clone()), None);
            }
            State::Fetching(in_air) => Some(in_air.flight.clone()),
            State::Empty | State::Holding { .. } | State::Failed { .. } => None,
        };
        let (in_air, take_off) = self.limits.take_off(self.reason, now, abandoned);
        let answer = Answer::Join(in_air.flight.clone());
        self.state = State::Fetching(in_air);
        (answer, Some(take_off))
    }

    /// A server refused the token of this generation. Only the token in hand can be rejected; of
    /// any other it is old news.
    pub(crate) fn reject(&mut self, generation: u64) {
        let State::Holding { held, refresh } = &mut self.state else {
            return;
        };
        if held.token().generation() != generation {
            return;
        }
        self.reason = Reason::Refused;
        self.state = State::without_token(refresh.take());
    }

    /// A flight has ended, and this is what came of it. One that was given up changes nothing.
    pub(crate) fn land(
        &mut self,
        take_off: &TakeOff,
        fetched: Result<Token, Error>,
        now: Moment,
    ) -> Outcome {
        let windows = &self.limits.windows;
        let held = fetched.map(|token| windows.hold(token, take_off.requested, now));
        let outcome = held.and_then(|held| match held.is_over(now) {
            true => Err(over_on_arrival()),
            false => Ok(Arc::new(held)),
        });
        if !self.is_in_air(&take_off.pilot) {
            return outcome;
        }
        let next = now.plus(self.limits.attempt_floor);
        match (&outcome, &mut self.state) {
            (Ok(held), state) => {
                *state = State::Holding {
                    held: Arc::clone(held),
                    refresh: None,
                };
            }
            (Err(_), State::Holding { held, refresh }) => {
                *refresh = None;
                held.hold_off_until(next);
            }
            (Err(error), state) => {
                *state = State::Failed {
                    error: error.clone(),
                    until: next,
                };
            }
        }
        outcome
    }

    /// A flight's task was dropped before it ended: the next one who asks starts another.
    pub(crate) fn lose(&mut self, pilot: &Pilot<Outcome>) {
        if !self.is_in_air(pilot) {
            return;
        }
        match &mut self.state {
            State::Holding { held, refresh } => {
                *refresh = None;
                held.refresh_at_once();
            }
            state => *state = State::Empty,
        }
    }

    /// The failure that is told again. Kept by whoever changes the state until the lock is
    /// released: its source is a user's, and so is what runs when that is dropped.
    pub(crate) fn failure(&self) -> Option<Error> {
        match &self.state {
            State::Failed { error, .. } => Some(error.clone()),
            State::Empty | State::Fetching(_) | State::Holding { .. } => None,
        }
    }

    /// The token in hand, fresh or not.
    pub(crate) fn held(&self) -> Option<&Arc<Held>> {
        match &self.state {
            State::Holding { held, .. } => Some(held),
            State::Empty | State::Fetching(_) | State::Failed { .. } => None,
        }
    }

    fn is_in_air(&self, pilot: &Pilot<Outcome>) -> bool {
        match &self.state {
            State::Fetching(in_air) => in_air.flight.is_flown_by(pilot),
            State::Holding { refresh, .. } => {
                let refresh = refresh.as_ref();
                refresh.is_some_and(|in_air| in_air.flight.is_flown_by(pilot))
            }
            State::Empty | State::Failed { .. } => false,
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

impl State {
    /// The token is gone, and the refresh that was in the air behind it is now waited for.
    fn without_token(refresh: Option<InAir>) -> Self {
        refresh.map_or(Self::Empty, Self::Fetching)
    }
}

impl Limits {
    fn take_off(
        &self,
        reason: Reason,
        now: Moment,
        replaces: Option<Flight<Outcome>>,
    ) -> (InAir, TakeOff) {
        let (flight, pilot) = Flight::take_off();
        let overdue = now.plus(self.fetch_timeout).plus(OVERDUE_GRACE);
        let take_off = TakeOff {
            pilot,
            reason,
            requested: now,
            replaces,
        };
        (InAir { flight, overdue }, take_off)
    }
}
