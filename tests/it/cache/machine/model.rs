//! What a cache, its source and its callers do, in plain words: no lock, no task, no waker, and not
//! a line of the crate's. Written from the rules; where it and the cache differ, one is wrong.
//!
//! Times are in whole milliseconds.

use std::collections::HashSet;

use tower_auth::{Phase, Reason};

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
    Latched,
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
    pub(crate) latched_until: Option<i64>,
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

    // ---- time

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

    // ---- flights

    fn take_off(&mut self, reason: Reason) -> usize {
        let delay = match (reason, self.last_start) {
            (Reason::Expired, Some(last)) => self.now.clocks.until(last.plus(self.rules.floor)),
            _ => 0,
        };
        if let Some(abandoned) = self.in_the_air {
            self.flights[abandoned].end = Some(End::Lost);
        }
        let start = self.now.clocks.plus(delay);
        let overdue = start.plus(OVERDUE);
        let until = self.now.timers + delay;
        self.flights.push(Flight {
            reason,
            overdue,
            task: Task::Delayed { until },
            attempts: 0,
            end: None,
        });
        let flight = self.flights.len() - 1;
        self.in_the_air = Some(flight);
        self.put_off = None;
        self.hold_off = overdue.monotonic;
        self.last_start = Some(start);
        self.take_offs.push(TakeOff {
            reason,
            start: self.now.forward + delay,
        });
        if delay == 0 {
            self.attempt(flight, self.now.timers + FETCH_TIMEOUT);
        }
        flight
    }

    fn attempt(&mut self, flight: usize, deadline: i64) {
        let requested = self.now.clocks;
        let flown = &mut self.flights[flight];
        flown.attempts += 1;
        flown.task = Task::Asking {
            requested,
            deadline,
        };
        let reason = flown.reason;
        self.asked.push(Asked { flight, reason });
    }

    /// The flights whose fetch the source has yet to answer.
    pub(crate) fn asking(&self) -> impl Iterator<Item = usize> {
        let is_asking = |flight: &usize| matches!(self.flights[*flight].task, Task::Asking { .. });
        (0..self.flights.len()).filter(is_asking)
    }

    pub(crate) fn is_given_up(&self, flight: usize) -> bool {
        matches!(self.flights[flight].end, Some(End::Lost))
    }

    pub(crate) fn has_ended(&self, flight: usize) -> bool {
        self.flights[flight].end.is_some()
    }

    /// How many tasks there are.
    pub(crate) fn tasks(&self) -> usize {
        let flights = self.flights.iter();
        let flying = flights.filter(|flight| flight.task != Task::Done).count();
        flying + usize::from(self.closing.is_some())
    }

    /// By when a token of this flight would be over that lasts so long.
    pub(crate) fn end_of(&self, flight: usize, lifetime: Lifetime) -> Option<Clocks> {
        match (lifetime, self.flights[flight].task) {
            (Lifetime::In(lifetime), Task::Asking { requested, .. }) => {
                Some(requested.plus(lifetime))
            }
            (Lifetime::Dated(lifetime), _) => Some(self.now.clocks.plus(lifetime.max(0))),
            _ => None,
        }
    }

    pub(crate) fn answer(&mut self, flight: usize, answer: Answer) {
        let Task::Asking {
            requested,
            deadline,
        } = self.flights[flight].task
        else {
            return;
        };
        match answer {
            Answer::Token { token, lifetime } => {
                let windows = self.windows(requested, lifetime);
                self.issues.push(Held {
                    token,
                    requested,
                    windows,
                    is_accepted: false,
                });
                let held = self.issues.len() - 1;
                let is_over = self.is_over(held);
                self.land(
                    flight,
                    if is_over {
                        Err(Fault::Expired)
                    } else {
                        Ok(held)
                    },
                );
            }
            Answer::Fault(fault) => {
                let attempts = self.flights[flight].attempts;
                let pause = doubled(200, attempts - 1, 5 * SECOND).max(fault.retry_after());
                let until = self.now.timers + pause;
                if fault.is_transient() && attempts < self.rules.attempts && until < deadline {
                    self.flights[flight].task = Task::Pausing { until, deadline };
                } else {
                    self.land(flight, Err(fault));
                }
            }
        }
    }

    fn windows(&self, requested: Clocks, lifetime: Lifetime) -> Option<Windows> {
        let (from, lifetime) = match lifetime {
            Lifetime::Endless => return None,
            Lifetime::In(lifetime) => (requested, lifetime),
            Lifetime::Dated(lifetime) => (self.now.clocks, lifetime.max(0)),
        };
        let margin = match self.rules.expiry_margin {
            Some(margin) => margin.min(lifetime / 2),
            None => (30 * SECOND).min(lifetime / 4),
        };
        let default = if lifetime >= 20 * MINUTE {
            5 * MINUTE
        } else {
            lifetime / 4
        };
        let before = self.rules.refresh_before.unwrap_or(default);
        let before = before.max(2 * margin).min(lifetime / 2);
        Some(Windows {
            stale: from.plus(lifetime - before),
            expired: from.plus(lifetime - margin),
            over: from.plus(lifetime),
        })
    }

    fn land(&mut self, flight: usize, landed: Result<usize, Fault>) {
        self.flights[flight].task = Task::Done;
        if self.flights[flight].end.is_none() {
            self.flights[flight].end = Some(End::Landed(landed));
        }
        if self.in_the_air == Some(flight) {
            self.in_the_air = None;
            match landed {
                Ok(held) => self.hold(held),
                Err(fault) => self.put_off(fault),
            }
        }
        if let Some(closing) = &self.closing
            && closing.flight == Some(flight)
        {
            let newer = landed.ok().map(|held| self.issues[held].token);
            self.say_farewell(newer.or(closing.last));
        }
    }

    fn hold(&mut self, held: usize) {
        self.hold_off = self.issues[held].requested.monotonic + self.rules.floor;
        self.in_hand = Some(held);
        self.failures = 0;
        self.backoffs = 0;
    }

    fn put_off(&mut self, fault: Fault) {
        let now = self.now.clocks;
        self.failures += 1;
        // The end of a token that is still good is worth an attempt.
        let end = self
            .in_hand
            .and_then(|held| self.issues[held].windows)
            .map(|windows| now.until(windows.expired))
            .filter(|left| *left > 0)
            .unwrap_or(i64::MAX);
        let backoff = doubled(SECOND, self.backoffs, MINUTE);
        let own = if fault.is_permanent() {
            MINUTE.min(end)
        } else if backoff < end {
            self.backoffs += 1;
            backoff
        } else {
            end
        };
        let wait = own
            .max(fault.retry_after().min(5 * MINUTE))
            .max(self.rules.floor);
        let until = now.plus(wait);
        self.hold_off = until.monotonic;
        self.put_off = Some(PutOff { fault, until });
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

    // ---- callers

    /// Goes on with a caller for as far as it goes. What it is told, if that is its end.
    pub(crate) fn poll(&mut self, caller: &mut Caller) -> Option<Told> {
        match caller {
            Caller::Token(acquire) => Some(match self.acquire(acquire)? {
                Ok(held) => Told::Token(self.issues[held].token),
                Err(fault) => Told::Fault(fault),
            }),
            Caller::Request { is_slow, stage } => loop {
                match self.go_on(stage, *is_slow) {
                    Next::Stage(next) => *stage = next,
                    Next::Wait => return None,
                    Next::End(told) => return Some(told),
                }
            },
            Caller::Close => {
                // The rest is done by a task, which takes its turn.
                let is_first = self.close();
                (self.is_over && !is_first).then_some(Told::Closed)
            }
        }
    }

    /// Whether it would go no further.
    pub(crate) fn is_blocked(&self, caller: &Caller) -> bool {
        let waits = |acquire: &Acquire| {
            let flight = acquire.waits_for;
            flight.is_some_and(|flight| self.flights[flight].end.is_none())
        };
        match caller {
            Caller::Token(acquire) => waits(acquire),
            Caller::Close => !self.is_over,
            Caller::Request { stage, .. } => match stage {
                Stage::Acquiring(acquire) | Stage::Renewing { acquire, .. } => waits(acquire),
                Stage::Uncalled | Stage::Readying(_) | Stage::ReadyingAgain { .. } => self.is_busy,
                Stage::Sent { call, .. } | Stage::Resent { call, .. } => {
                    self.calls[*call].status.is_none()
                }
            },
        }
    }

    /// A token that is good, or why there is none; `None` to wait.
    fn acquire(&mut self, acquire: &mut Acquire) -> Option<Result<usize, Fault>> {
        loop {
            let Some(flight) = acquire.waits_for.take() else {
                let lookup = match acquire.is_forced {
                    true => self.force(),
                    false => self.ask(),
                };
                match lookup {
                    Lookup::Now(held) => return Some(Ok(held)),
                    Lookup::Never(fault) => return Some(Err(fault)),
                    Lookup::Later(flight) => acquire.waits_for = Some(flight),
                }
                continue;
            };
            match self.flights[flight].end {
                None => {
                    acquire.waits_for = Some(flight);
                    return None;
                }
                // Looked at long after it came.
                Some(End::Landed(Ok(held))) if self.is_over(held) => {}
                Some(End::Landed(landed)) => return Some(landed),
                Some(End::Lost) if acquire.losses == 3 => return Some(Err(Fault::Runtime)),
                Some(End::Lost) => acquire.losses += 1,
            }
        }
    }

    fn go_on(&mut self, stage: &mut Stage, is_slow: bool) -> Next {
        match stage {
            Stage::Uncalled | Stage::Readying(_) | Stage::ReadyingAgain { .. } if self.is_busy => {
                Next::Wait
            }
            Stage::Uncalled => match self.ask() {
                Lookup::Now(held) => self.send(held, is_slow),
                Lookup::Later(flight) => Next::Stage(Stage::Acquiring(joined(flight))),
                Lookup::Never(fault) => Next::End(Told::Fault(fault)),
            },
            Stage::Acquiring(acquire) => match self.acquire(acquire) {
                None => Next::Wait,
                Some(Ok(held)) => Next::Stage(Stage::Readying(held)),
                Some(Err(fault)) => Next::End(Told::Fault(fault)),
            },
            // It took so long for the API to become ready.
            Stage::Readying(held) if self.is_over(*held) => Next::Stage(Stage::Uncalled),
            Stage::Readying(held) => self.send(*held, is_slow),
            Stage::Sent { held, call } => match self.calls[*call].status {
                None => Next::Wait,
                Some(401) => self.refused(*held),
                Some(status) => self.answered(*held, status),
            },
            Stage::Renewing { acquire, refused } => match self.acquire(acquire) {
                None => Next::Wait,
                Some(renewed) => self.renewed(renewed, *refused),
            },
            Stage::ReadyingAgain { held, refused } if self.is_over(*held) => self.renew(*refused),
            Stage::ReadyingAgain { held, .. } => {
                let (held, call) = (*held, self.call(*held, is_slow));
                Next::Stage(Stage::Resent { held, call })
            }
            Stage::Resent { held, call } => match self.calls[*call].status {
                None => Next::Wait,
                Some(401) => {
                    self.reject(self.issues[*held].token);
                    Next::End(Told::Response(401, Some(Why::Again)))
                }
                Some(status) => self.answered(*held, status),
            },
        }
    }

    fn send(&mut self, held: usize, is_slow: bool) -> Next {
        let call = self.call(held, is_slow);
        Next::Stage(Stage::Sent { held, call })
    }

    fn call(&mut self, held: usize, is_slow: bool) -> usize {
        let token = self.issues[held].token;
        let status = match self.accepted.contains(&token) {
            _ if is_slow => None,
            true => Some(200),
            false => Some(401),
        };
        self.calls.push(Call { token, status });
        self.calls.len() - 1
    }

    fn answered(&mut self, held: usize, status: u16) -> Next {
        if status == 200 && !self.issues[held].is_accepted {
            self.issues[held].is_accepted = true;
            self.accept(self.issues[held].token);
        }
        Next::End(Told::Response(status, None))
    }

    fn refused(&mut self, held: usize) -> Next {
        if self.reject(self.issues[held].token) {
            return Next::End(Told::Response(401, Some(Why::Latched)));
        }
        self.renew(held)
    }

    fn renew(&mut self, refused: usize) -> Next {
        match self.ask() {
            Lookup::Now(held) => self.renewed(Ok(held), refused),
            Lookup::Never(fault) => self.renewed(Err(fault), refused),
            Lookup::Later(flight) => Next::Stage(Stage::Renewing {
                acquire: joined(flight),
                refused,
            }),
        }
    }

    fn renewed(&mut self, renewed: Result<usize, Fault>, refused: usize) -> Next {
        let token = |held: usize| self.issues[held].token;
        let why = match renewed {
            Err(fault) => Why::Fetch(fault),
            Ok(held) if token(held) == token(refused) => Why::SameToken,
            Ok(held) => return Next::Stage(Stage::ReadyingAgain { held, refused }),
        };
        Next::End(Told::Response(401, Some(why)))
    }

    // ---- how it stands

    pub(crate) fn standing(&self, callers: &[Caller]) -> Standing {
        let held = self.in_hand.map(|held| self.issues[held]);
        let waits = |caller: &&Caller| caller.waits_for() == self.in_the_air;
        let latched = self.latch.on.filter(|(token, until)| {
            held.is_some_and(|held| held.token == *token) && !self.now.clocks.reached(*until)
        });
        Standing {
            phase: self.phase(),
            fetching: self.in_the_air.map(|flight| self.flights[flight].reason),
            waiting: match self.in_the_air {
                Some(_) => callers.iter().filter(waits).count(),
                None => 0,
            },
            requested_at: held.map(|held| held.requested.wall),
            refresh_at: held.and_then(|held| Some(held.windows?.stale.wall)),
            expires_at: held.and_then(|held| Some(held.windows?.over.wall)),
            is_accepted: held.is_some_and(|held| held.is_accepted),
            last_error: self.put_off.map(|put_off| put_off.fault),
            failures: self.failures,
            next_attempt_at: self.put_off.map(|put_off| put_off.until.wall),
            latched_until: latched.map(|(_, until)| until.wall),
        }
    }

    fn phase(&self) -> Phase {
        match self.in_hand {
            _ if self.is_closed() => Phase::Closed,
            Some(held) => self.freshness(held),
            None if self.in_the_air.is_some() => Phase::Fetching,
            None if self.put_off.is_some() => Phase::Failed,
            None => Phase::Empty,
        }
    }
}

enum Next {
    Stage(Stage),
    Wait,
    End(Told),
}

fn joined(flight: usize) -> Acquire {
    Acquire {
        waits_for: Some(flight),
        ..Acquire::default()
    }
}

/// A delay that doubles from a first to a longest.
fn doubled(first: i64, times: u32, longest: i64) -> i64 {
    first.saturating_mul(1 << times.min(30)).min(longest)
}
