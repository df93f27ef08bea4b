//! A model of a cache, its source and its callers. The model has no locks, tasks or wakers, and
//! uses no code of the crate. The model was written from the rules. If the model and the cache
//! differ, the model or the cache is wrong.
//!
//! Times are in whole milliseconds.

use std::collections::{HashMap, HashSet};

use tower_auth::Reason;
use tower_auth::cache::Phase;

mod callers;
mod fetches;
mod refusals;
mod status;
mod time;

use self::refusals::Refusals;
pub(crate) use self::refusals::{Refusal, Rejected};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;

/// The time on all three clocks. `timers` is Tokio's time, which stops while a runtime isn't
/// driven.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) clocks: Clocks,
    pub(crate) timers: i64,
    /// The sum of all forward moves of the wall clock. Backward moves don't count.
    pub(crate) forward: i64,
}

/// A time on the two clocks that the cache reads.
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

    /// Returns whether either clock has reached the deadline.
    pub(crate) fn reached(self, deadline: Self) -> bool {
        self.until(deadline) == 0
    }

    /// Returns whether either clock is later than the deadline.
    pub(crate) fn passed(self, deadline: Self) -> bool {
        self.monotonic > deadline.monotonic || self.wall > deadline.wall
    }

    pub(crate) fn until(self, deadline: Self) -> i64 {
        let monotonic = deadline.monotonic - self.monotonic;
        let wall = deadline.wall - self.wall;
        monotonic.min(wall).max(0)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The maximum number of attempts in one fetch.
    pub(crate) attempts: u32,
    pub(crate) floor: i64,
    pub(crate) refresh_before: Option<i64>,
    pub(crate) expiry_margin: Option<i64>,
}

pub(crate) const FETCH_TIMEOUT: i64 = 30 * SECOND;
/// The age at which a fetch is overdue. The next caller then abandons the fetch.
const OVERDUE: i64 = 35 * SECOND;
/// How long a request pauses before it is sent again with the same token.
const PAUSE: i64 = SECOND;
/// The assumed send time of a request that was sent outside a watch.
const BEFORE_ALL: i64 = -1;
/// This is the only odd time, so that it never coincides with another event.
pub(crate) const CLOSE_TIMEOUT: i64 = 4_999;

/// An error, reduced to what callers can distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Source(Failure),
    Timeout,
    Panic,
    /// The new token had already expired on its arrival.
    Expired,
    Closed,
    /// Too many fetches in a row were abandoned while the caller waited.
    Runtime,
}

/// An error of the source. The number makes each failure unique.
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

/// The result that the source returns.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FetchResult {
    Token { token: usize, lifetime: Lifetime },
    Fault(Fault),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Lifetime {
    Endless,
    /// A lifetime that counts from the request for the token.
    In(i64),
    /// The token expires at a fixed time. When the source returned, that time was this far away.
    Dated(i64),
}

/// A token and the times of one issue. A source may issue the same token again.
#[derive(Clone, Copy, Debug)]
struct CachedToken {
    token: usize,
    requested: Clocks,
    arrived: Clocks,
    deadlines: Option<Deadlines>,
    is_accepted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Deadlines {
    refresh_at: Clocks,
    /// The last moment at which the token is served, if this is before `ends_at`.
    served_until: Clocks,
    ends_at: Clocks,
}

struct Flight {
    reason: Reason,
    /// Which callers wait for this fetch even if there is a token.
    withdrawn: Withdrawn,
    /// Whether this fetch was started by refusals that prove a revocation.
    is_proven: bool,
    overdue: Clocks,
    task: Task,
    attempts: u32,
    end: Option<End>,
}

/// The state of a fetch's task. The task continues even if the fetch is abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Delayed { until: i64 },
    Asking { requested: Clocks, deadline: i64 },
    Pausing { until: i64, deadline: i64 },
    Done,
}

/// The result of a fetch for its waiting callers.
#[derive(Clone, Copy, Debug)]
enum End {
    Completed(Result<usize, Fault>),
    Abandoned,
}

#[derive(Clone, Copy, Debug)]
struct CachedError {
    fault: Fault,
    until: Clocks,
}

/// The current token was refused, and the next caller starts a fetch.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    withdrawn: Withdrawn,
    is_proven: bool,
}

/// Which callers wait for the successor of a refused token. All other callers still get the refused
/// token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Withdrawn {
    No,
    /// Callers that can send their request only once.
    WithOneTry,
    All,
}

/// How often a caller can send its request. The caller states this when it asks for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tries {
    One,
    Several,
}

/// A path of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Resource {
    /// A slow resource responds when the test says so.
    pub(crate) is_slow: bool,
    pub(crate) nth: usize,
}

/// How a resource treats a token that the API accepts. A resource refuses all other tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    #[default]
    Fair,
    RefusesAll,
    /// Refuses every second request.
    ByTurns,
}

/// Why a request was sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tried {
    pub(crate) new_token: bool,
    pub(crate) pause: bool,
}

/// A request that was sent, and its token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    cached: usize,
    /// When the request was sent, if refusals were being watched then.
    watched: Option<i64>,
    tried: Tried,
}

struct Shutdown {
    last: Option<usize>,
    flight: Option<usize>,
    deadline: i64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    pub(crate) reason: Reason,
    /// The value of `forward` when the fetch started.
    pub(crate) start: i64,
    pub(crate) is_proven: bool,
    /// When the last fetch after a refusal ended before this start, measured like `start`.
    pub(crate) last_refused_end: Option<i64>,
}

/// A call of the source's `fetch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) flight: usize,
    pub(crate) reason: Reason,
}

/// A request that reached the API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) token: usize,
    /// The status of the response, once the response has arrived.
    pub(crate) status: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Token(usize),
    Fault(Fault),
    Response(u16, Option<Why>),
    Closed,
}

/// Why a refusal isn't replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    RefusalBudget,
    Resource,
    Fetch(Fault),
    SameToken,
    Again,
}

/// A caller. The variant says what the caller wants.
#[derive(Debug)]
pub(crate) enum Caller {
    Token(Acquire),
    Request { resource: Resource, stage: Stage },
    Close,
}

#[derive(Debug, Default)]
pub(crate) struct Acquire {
    wants: Wants,
    waits_for: Option<usize>,
    abandonments: u32,
}

/// Which token satisfies the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wants {
    #[default]
    Any,
    Newer,
    /// Any token except this refused token.
    Other(usize),
}

#[derive(Debug)]
pub(crate) enum Stage {
    /// Waits for the API to be ready.
    Uncalled,
    Acquiring(Acquire),
    Readying(usize),
    Sent {
        sent: Sent,
        call: usize,
    },
    Renewing {
        acquire: Acquire,
        refused: Sent,
    },
    /// Pauses until this time on Tokio's timers.
    Pausing {
        until: i64,
        refused: Sent,
    },
    ReadyingAgain {
        cached: usize,
        refused: Sent,
    },
}

impl Caller {
    pub(crate) fn token() -> Self {
        Self::Token(Acquire::default())
    }

    pub(crate) fn refresh_now() -> Self {
        Self::Token(Acquire {
            wants: Wants::Newer,
            ..Acquire::default()
        })
    }

    pub(crate) fn request(resource: Resource) -> Self {
        Self::Request {
            resource,
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

    /// Returns the end of the caller's pause on Tokio's timers.
    pub(crate) fn pause(&self) -> Option<i64> {
        match self {
            Self::Request {
                stage: Stage::Pausing { until, .. },
                ..
            } => Some(*until),
            _ => None,
        }
    }

    /// Returns the fetch that the caller waits for, if the caller accepts any token.
    fn waits_for_any(&self) -> Option<usize> {
        match self {
            Self::Token(acquire)
            | Self::Request {
                stage: Stage::Acquiring(acquire) | Stage::Renewing { acquire, .. },
                ..
            } if acquire.wants == Wants::Any => acquire.waits_for,
            _ => None,
        }
    }
}

/// The answer to a caller that asks for a token.
#[derive(Clone, Copy)]
enum Lookup {
    Now(usize),
    Later(usize),
    Never(Fault),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpectedStatus {
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

    // The cache. At most one of `wanted`, `in_flight` and `cached_error` is `Some`.
    current: Option<usize>,
    /// Set only while there is a token.
    wanted: Option<Wanted>,
    in_flight: Option<usize>,
    cached_error: Option<CachedError>,
    shutdown: Option<Shutdown>,
    pub(crate) has_shut_down: bool,
    /// The reason for the next fetch.
    reason: Reason,
    last_start: Option<Clocks>,
    /// When a stale token may be refreshed again, on the monotonic clock.
    no_refresh_before: i64,
    failures: u32,
    /// How many backoff delays have passed in a row.
    backoffs: u32,
    refusals: Option<Refusals>,
    /// Whether the previous token was accepted.
    was_accepted: bool,
    last_refused_end: Option<i64>,

    // The full history.
    issues: Vec<CachedToken>,
    flights: Vec<Flight>,
    pub(crate) starts: Vec<Started>,
    /// The calls of the source that the test has not yet checked.
    pub(crate) asked: Vec<Asked>,

    // The API.
    pub(crate) is_busy: bool,
    /// The tokens that the API accepts.
    pub(crate) accepted: HashSet<usize>,
    /// How each resource behaves, and how often it was requested.
    pub(crate) manners: HashMap<Resource, Manner>,
    turns: HashMap<Resource, u32>,
    pub(crate) calls: Vec<Call>,

    /// The token that was passed to each call of the source's `close`.
    pub(crate) closed_with: Vec<Option<usize>>,
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
            current: None,
            wanted: None,
            in_flight: None,
            cached_error: None,
            shutdown: None,
            has_shut_down: false,
            reason: Reason::First,
            last_start: None,
            no_refresh_before: 0,
            failures: 0,
            backoffs: 0,
            refusals: None,
            was_accepted: false,
            last_refused_end: None,
            issues: Vec::new(),
            flights: Vec::new(),
            starts: Vec::new(),
            asked: Vec::new(),
            is_busy: false,
            accepted: HashSet::new(),
            manners: HashMap::new(),
            turns: HashMap::new(),
            calls: Vec::new(),
            closed_with: Vec::new(),
        }
    }

    // ---- the token

    fn freshness(&self, cached: usize) -> Phase {
        let now = self.now.clocks;
        match self.issues[cached].deadlines {
            Some(deadlines) if now.reached(deadlines.ends_at) => Phase::Expired,
            Some(deadlines) if now.passed(deadlines.served_until) => Phase::Expired,
            Some(deadlines) if now.reached(deadlines.refresh_at) => Phase::Stale,
            Some(_) | None => Phase::Fresh,
        }
    }

    pub(crate) fn current(&self) -> Option<usize> {
        self.current
    }

    /// Returns whether the token is no longer served.
    pub(crate) fn is_over(&self, cached: usize) -> bool {
        self.freshness(cached) == Phase::Expired
    }

    /// Returns whether the token has passed its own end. Nobody may send such a token.
    fn is_past_its_end(&self, cached: usize) -> bool {
        let deadlines = self.issues[cached].deadlines;
        deadlines.is_some_and(|deadlines| self.now.clocks.reached(deadlines.ends_at))
    }

    /// Returns whether every caller must get the current token at once.
    pub(crate) fn is_valid(&self) -> bool {
        self.withdrawn() == Withdrawn::No && self.has_valid_token()
    }

    pub(crate) fn has_valid_token(&self) -> bool {
        self.current
            .is_some_and(|cached| self.freshness(cached) != Phase::Expired)
    }

    /// Returns which callers wait for the successor of the current token.
    fn withdrawn(&self) -> Withdrawn {
        match (self.wanted, self.in_flight) {
            (Some(wanted), _) => wanted.withdrawn,
            (None, Some(flight)) => self.flights[flight].withdrawn,
            (None, None) => Withdrawn::No,
        }
    }

    /// Returns whether a caller waits without a reason. The caller accepts any token, and the
    /// current token is valid and not withdrawn.
    pub(crate) fn waits_needlessly(&self, caller: &Caller) -> bool {
        let waits_for = caller.waits_for_any();
        waits_for.is_some() && waits_for == self.in_flight && self.is_valid()
    }

    fn request_token(&mut self, tries: Tries) -> Lookup {
        self.end_watch();
        self.decide(tries)
    }

    fn decide(&mut self, tries: Tries) -> Lookup {
        if self.is_closed() {
            return Lookup::Never(Fault::Closed);
        }
        if let Some(cached) = self.current {
            let freshness = self.freshness(cached);
            let waits = match self.withdrawn() {
                Withdrawn::No => false,
                Withdrawn::WithOneTry => tries == Tries::One,
                Withdrawn::All => true,
            };
            if freshness == Phase::Expired {
                self.was_accepted = self.issues[cached].is_accepted;
                self.current = None;
                self.wanted = None;
                self.reason = Reason::Expired;
            } else if self.wanted.is_some() {
                let flight = self.start_fetch(Reason::Refused);
                return match waits {
                    true => Lookup::Later(flight),
                    false => Lookup::Now(cached),
                };
            } else if waits {
                return Lookup::Later(self.join_or_replace());
            } else if freshness == Phase::Stale
                && self.now.clocks.monotonic >= self.no_refresh_before
            {
                self.start_fetch(Reason::Stale);
                return Lookup::Now(cached);
            } else {
                return Lookup::Now(cached);
            }
        }
        if let Some(flight) = self.joinable() {
            return Lookup::Later(flight);
        }
        match self.cached_error {
            Some(cached_error) if !self.now.clocks.reached(cached_error.until) => {
                Lookup::Never(cached_error.fault)
            }
            _ => Lookup::Later(self.start_fetch(self.reason)),
        }
    }

    /// Answers a caller that needs another token because its request was refused.
    fn renew(&mut self, refused: usize) -> Lookup {
        let current = self.current.filter(|cached| {
            self.issues[*cached].token == refused && self.freshness(*cached) != Phase::Expired
        });
        let Some(cached) = current else {
            return self.decide(Tries::One);
        };
        if self.wanted.is_some() {
            return Lookup::Later(self.start_fetch(Reason::Refused));
        }
        if self.in_flight.is_some() {
            return Lookup::Later(self.join_or_replace());
        }
        match self.cached_error {
            Some(cached_error) if !self.now.clocks.reached(cached_error.until) => {
                Lookup::Never(cached_error.fault)
            }
            // The token is still the refused one, because the source issued it again.
            _ => Lookup::Now(cached),
        }
    }

    /// Returns the fetch in flight. If that fetch is overdue, starts and returns a new fetch.
    fn join_or_replace(&mut self) -> usize {
        match (self.joinable(), self.in_flight) {
            (Some(flight), _) => flight,
            (None, Some(overdue)) => self.start_fetch(self.flights[overdue].reason),
            (None, None) => unreachable!("there is none"),
        }
    }

    fn force_refresh(&mut self) -> Lookup {
        if self.is_closed() {
            return Lookup::Never(Fault::Closed);
        }
        let joined = self.joinable();
        Lookup::Later(joined.unwrap_or_else(|| self.start_fetch(Reason::Forced)))
    }

    fn joinable(&self) -> Option<usize> {
        self.in_flight
            .filter(|flight| !self.now.clocks.reached(self.flights[*flight].overdue))
    }

    // ---- shutdown

    pub(crate) fn is_closed(&self) -> bool {
        self.has_shut_down || self.shutdown.is_some()
    }

    /// Closes the cache. Returns whether this call was the first.
    fn close(&mut self) -> bool {
        if self.is_closed() {
            return false;
        }
        let last = self.current.take().map(|cached| self.issues[cached].token);
        let flight = self.in_flight.take();
        self.cached_error = None;
        self.wanted = None;
        self.shutdown = Some(Shutdown {
            last,
            flight,
            deadline: self.now.timers + CLOSE_TIMEOUT,
        });
        if flight.is_none() {
            self.finish_shutdown(last);
        }
        true
    }

    fn finish_shutdown(&mut self, last: Option<usize>) {
        self.closed_with.push(last);
        self.shutdown = None;
        self.has_shut_down = true;
    }
}

/// Returns a delay that doubles from `first` up to `longest`.
fn doubled(first: i64, times: u32, longest: i64) -> i64 {
    first.saturating_mul(1 << times.min(30)).min(longest)
}
