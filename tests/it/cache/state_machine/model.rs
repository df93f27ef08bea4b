//! What a cache, its source and its callers do, in plain words: no lock, no task, no waker, and not
//! a line of the crate's. Written from the rules; where it and the cache differ, one is wrong.
//!
//! Times are in whole milliseconds.

use std::collections::HashSet;

use tower_auth::{Phase, Reason};

mod callers;
mod fetches;
mod status;
mod time;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;

/// What the clocks say. The timers' is Tokio's, and stands still when a runtime isn't driven.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) clocks: Clocks,
    pub(crate) timers: i64,
    /// How far the wall clock went in all, whenever it wasn't set back.
    pub(crate) forward: i64,
}

/// What the two clocks say that the cache reads, or are to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clocks {
    pub(crate) monotonic: i64,
    pub(crate) wall: i64,
}

impl Clocks {
    pub(crate) fn plus(self, span: i64) -> Self {
        Self {
            monotonic: self.monotonic + span,
            wall: self.wall + span,
        }
    }

    /// A deadline has come when either clock says so.
    pub(crate) fn reached(self, deadline: Self) -> bool {
        self.until(deadline) == 0
    }

    pub(crate) fn until(self, deadline: Self) -> i64 {
        let monotonic = deadline.monotonic - self.monotonic;
        let wall = deadline.wall - self.wall;
        monotonic.min(wall).max(0)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The most attempts of one flight.
    pub(crate) attempts: u32,
    pub(crate) floor: i64,
    pub(crate) refresh_before: Option<i64>,
    pub(crate) expiry_margin: Option<i64>,
}

pub(crate) const FETCH_TIMEOUT: i64 = 30 * SECOND;
/// A flight is given up so long after it should have begun, by whoever finds that out.
const OVERDUE: i64 = 35 * SECOND;
/// Odd, where all else is even: it never ends at once with anything.
pub(crate) const CLOSE_TIMEOUT: i64 = 4_999;

/// An error, as far as one can be told from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Source(Failure),
    Timeout,
    Panic,
    /// The token was over on arrival.
    Expired,
    Closed,
    /// The flights of so many in a row were given up under one who waited.
    Runtime,
}

/// What the source said, and which time: no two are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) nth: usize,
    pub(crate) kind: Kind,
    pub(crate) retry_after: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Transient,
    Unknown,
    Permanent,
}

impl Fault {
    fn is_transient(self) -> bool {
        matches!(self, Self::Source(failure) if failure.kind == Kind::Transient)
    }

    fn is_permanent(self) -> bool {
        matches!(self, Self::Source(failure) if failure.kind == Kind::Permanent)
    }

    fn retry_after(self) -> i64 {
        match self {
            Self::Source(failure) => failure.retry_after.unwrap_or(0),
            _ => 0,
        }
    }
}

/// What the source answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Token { token: usize, lifetime: Lifetime },
    Fault(Fault),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Lifetime {
    Endless,
    /// From when it was asked for.
    In(i64),
    /// Until a time that was so far away when the answer came.
    Dated(i64),
}

/// A token as it was issued once. A source may issue the same one again.
#[derive(Clone, Copy, Debug)]
struct Held {
    token: usize,
    requested: Clocks,
    windows: Option<Windows>,
    is_accepted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Windows {
    stale: Clocks,
    expired: Clocks,
    over: Clocks,
}

struct Flight {
    reason: Reason,
    overdue: Clocks,
    task: Task,
    attempts: u32,
    end: Option<End>,
}

/// What the flight's task does. It goes on when the flight was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Delayed { until: i64 },
    Asking { requested: Clocks, deadline: i64 },
    Pausing { until: i64, deadline: i64 },
    Done,
}

/// What a flight came to for those who wait.
#[derive(Clone, Copy, Debug)]
enum End {
    Landed(Result<usize, Fault>),
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct PutOff {
    fault: Fault,
    until: Clocks,
}

/// Tokens refused that nobody ever accepted.
#[derive(Default)]
struct Latch {
    strikes: u32,
    /// How often it fell.
    falls: u32,
    /// The last token it fell for, and until when that is kept.
    on: Option<(usize, Clocks)>,
}

struct Closing {
    last: Option<usize>,
    flight: Option<usize>,
    deadline: i64,
}

/// A flight was decided on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakeOff {
    pub(crate) reason: Reason,
    /// By how far the wall clock has gone in all.
    pub(crate) start: i64,
}

/// A fetch that the source was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) flight: usize,
    pub(crate) reason: Reason,
}

/// A request that reached the API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) token: usize,
    /// What it was answered.
    pub(crate) status: Option<u16>,
}

/// What a caller gets in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Token(usize),
    Fault(Fault),
    Response(u16, Option<Why>),
    Closed,
}

/// Why a refusal stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    RefusalBudget,
    Fetch(Fault),
    SameToken,
    Again,
}

/// A caller, by what it waits for.
#[derive(Debug)]
pub(crate) enum Caller {
    Token(Acquire),
    Request { is_slow: bool, stage: Stage },
    Close,
}

#[derive(Debug, Default)]
pub(crate) struct Acquire {
    is_forced: bool,
    waits_for: Option<usize>,
    losses: u32,
}

#[derive(Debug)]
pub(crate) enum Stage {
    /// For the API to be ready.
    Uncalled,
    Acquiring(Acquire),
    Readying(usize),
    Sent {
        held: usize,
        call: usize,
    },
    Renewing {
        acquire: Acquire,
        refused: usize,
    },
    ReadyingAgain {
        held: usize,
        refused: usize,
    },
    Resent {
        held: usize,
        call: usize,
    },
}

impl Caller {
    pub(crate) fn token() -> Self {
        Self::Token(Acquire::default())
    }

    pub(crate) fn refresh_now() -> Self {
        Self::Token(Acquire {
            is_forced: true,
            ..Acquire::default()
        })
    }

    pub(crate) fn request(is_slow: bool) -> Self {
        Self::Request {
            is_slow,
            stage: Stage::Uncalled,
        }
    }

    pub(crate) fn waits_for(&self) -> Option<usize> {
        match self {
            Self::Token(acquire)
            | Self::Request {
                stage: Stage::Acquiring(acquire) | Stage::Renewing { acquire, .. },
                ..
            } => acquire.waits_for,
            _ => None,
        }
    }
}

/// What there is for one who asks.
enum Lookup {
    Now(usize),
    Later(usize),
    Never(Fault),
}

/// How things stand, as `Status` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) phase: Phase,
    pub(crate) fetching: Option<Reason>,
    pub(crate) waiting: usize,
    pub(crate) requested_at: Option<i64>,
    pub(crate) refresh_at: Option<i64>,
    pub(crate) expires_at: Option<i64>,
    pub(crate) is_accepted: bool,
    pub(crate) last_error: Option<Fault>,
    pub(crate) failures: u32,
    pub(crate) next_attempt_at: Option<i64>,
    pub(crate) refusals_limited_until: Option<i64>,
}

pub(crate) struct Model {
    pub(crate) now: Now,
    pub(crate) rules: Rules,

    // The cache. At most one of `in_the_air` and `put_off` is there.
    in_hand: Option<usize>,
    in_the_air: Option<usize>,
    put_off: Option<PutOff>,
    closing: Option<Closing>,
    pub(crate) is_over: bool,
    /// Why the next flight takes off.
    reason: Reason,
    last_start: Option<Clocks>,
    /// Until when a stale token isn't refreshed, by the clock that nobody sets.
    hold_off: i64,
    failures: u32,
    /// How many delays of the backoff are behind us.
    backoffs: u32,
    latch: Latch,

    // All that ever were.
    issues: Vec<Held>,
    flights: Vec<Flight>,
    pub(crate) take_offs: Vec<TakeOff>,
    /// What the source was just asked for.
    pub(crate) asked: Vec<Asked>,

    // The API.
    pub(crate) is_busy: bool,
    /// The tokens it accepts.
    pub(crate) accepted: HashSet<usize>,
    pub(crate) calls: Vec<Call>,

    /// What the source was told at the end.
    pub(crate) farewells: Vec<Option<usize>>,
}

impl Model {
    pub(crate) fn new(rules: Rules, wall: i64) -> Self {
        Self {
            now: Now {
                clocks: Clocks { monotonic: 0, wall },
                timers: 0,
                forward: 0,
            },
            rules,
            in_hand: None,
            in_the_air: None,
            put_off: None,
            closing: None,
            is_over: false,
            reason: Reason::First,
            last_start: None,
            hold_off: 0,
            failures: 0,
            backoffs: 0,
            latch: Latch::default(),
            issues: Vec::new(),
            flights: Vec::new(),
            take_offs: Vec::new(),
            asked: Vec::new(),
            is_busy: false,
            accepted: HashSet::new(),
            calls: Vec::new(),
            farewells: Vec::new(),
        }
    }

    // ---- the token

    fn freshness(&self, held: usize) -> Phase {
        let now = self.now.clocks;
        match self.issues[held].windows {
            Some(windows) if now.reached(windows.expired) => Phase::Expired,
            Some(windows) if now.reached(windows.stale) => Phase::Stale,
            Some(_) | None => Phase::Fresh,
        }
    }

    /// Past its own end, where nobody may send it any more.
    fn is_over(&self, held: usize) -> bool {
        let windows = self.issues[held].windows;
        windows.is_some_and(|windows| self.now.clocks.reached(windows.over))
    }

    /// Whether there is a token that anybody who asks has to be served.
    pub(crate) fn is_valid(&self) -> bool {
        self.in_hand
            .is_some_and(|held| self.freshness(held) != Phase::Expired)
    }

    fn ask(&mut self) -> Lookup {
        if self.is_closed() {
            return Lookup::Never(Fault::Closed);
        }
        if let Some(held) = self.in_hand {
            match self.freshness(held) {
                Phase::Expired => {
                    self.in_hand = None;
                    self.reason = Reason::Expired;
                }
                Phase::Stale if self.now.clocks.monotonic >= self.hold_off => {
                    self.take_off(Reason::Stale);
                    return Lookup::Now(held);
                }
                _ => return Lookup::Now(held),
            }
        }
        if let Some(flight) = self.joinable() {
            return Lookup::Later(flight);
        }
        match self.put_off {
            Some(put_off) if !self.now.clocks.reached(put_off.until) => {
                Lookup::Never(put_off.fault)
            }
            _ => Lookup::Later(self.take_off(self.reason)),
        }
    }

    fn force(&mut self) -> Lookup {
        if self.is_closed() {
            return Lookup::Never(Fault::Closed);
        }
        let joined = self.joinable();
        Lookup::Later(joined.unwrap_or_else(|| self.take_off(Reason::Forced)))
    }

    fn joinable(&self) -> Option<usize> {
        self.in_the_air
            .filter(|flight| !self.now.clocks.reached(self.flights[*flight].overdue))
    }

    /// A server refused the token. Whether it is kept all the same.
    pub(crate) fn reject(&mut self, token: usize) -> bool {
        let Some(held) = self.in_hand.map(|held| self.issues[held]) else {
            return false;
        };
        if held.token != token {
            return false;
        }
        if !held.is_accepted && self.strikes(token) {
            return true;
        }
        // What put the next attempt off protected a token that was good.
        self.put_off = None;
        self.in_hand = None;
        self.reason = Reason::Refused;
        false
    }

    fn strikes(&mut self, token: usize) -> bool {
        let now = self.now.clocks;
        match self.latch.on {
            Some((on, until)) if on == token => {
                let holds = !now.reached(until);
                if !holds {
                    self.latch.on = None;
                }
                holds
            }
            _ => {
                self.latch.strikes += 1;
                if self.latch.strikes == 1 {
                    return false;
                }
                let wait = doubled(5 * SECOND, self.latch.falls, 5 * MINUTE);
                self.latch.falls += 1;
                self.latch.on = Some((token, now.plus(wait)));
                true
            }
        }
    }

    /// A server accepted the token.
    pub(crate) fn accept(&mut self, token: usize) {
        if let Some(held) = self.in_hand
            && self.issues[held].token == token
        {
            self.issues[held].is_accepted = true;
            self.latch = Latch::default();
        }
    }

    // ---- the end

    pub(crate) fn is_closed(&self) -> bool {
        self.is_over || self.closing.is_some()
    }

    /// Whether this is what closes it.
    fn close(&mut self) -> bool {
        if self.is_closed() {
            return false;
        }
        let last = self.in_hand.take().map(|held| self.issues[held].token);
        let flight = self.in_the_air.take();
        self.put_off = None;
        self.closing = Some(Closing {
            last,
            flight,
            deadline: self.now.timers + CLOSE_TIMEOUT,
        });
        if flight.is_none() {
            self.say_farewell(last);
        }
        true
    }

    fn say_farewell(&mut self, last: Option<usize>) {
        self.farewells.push(last);
        self.closing = None;
        self.is_over = true;
    }
}

/// A delay that doubles from a first to a longest.
fn doubled(first: i64, times: u32, longest: i64) -> i64 {
    first.saturating_mul(1 << times.min(30)).min(longest)
}
