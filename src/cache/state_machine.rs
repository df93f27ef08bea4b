//! The state machine of one token: what is in hand, what is in the air, what failed.
//!
//! Pure: it is told the time and what happened, and answers what to do. The [`state`](crate::cache::published_state)
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

use super::expiry::{CachedToken, ExpiryPolicy, FetchedBy, FetchedToken, Freshness};
use super::failure_backoff::FailureBackoff;
use super::quota_tracker::{LowQuota, QuotaTracker};
use super::refusal_budget::{BudgetDecision, RefusalBudget};
use super::single_flight::{Completer, Flight};
use super::status::{CachedTokenStatus, Phase, Status};
use crate::clock::Moment;
use crate::error::{Error, Kind};
#[cfg(feature = "metrics")]
use crate::quota::Quota;
use crate::source::token_source::Reason;

/// What one fetch comes to, for everyone who waited for it.
pub(crate) type Outcome = Result<Arc<CachedToken>, Error>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) expiry_policy: ExpiryPolicy,
    /// The most a flight may take, all its attempts together.
    pub(crate) fetch_timeout: Duration,
    /// The least time from the start of one flight to the next.
    pub(crate) attempt_floor: Duration,
}

/// A flight that hasn't landed this long after its timeout was abandoned by its runtime: the
/// timeout runs on that runtime's timer, so a runtime nobody drives can't end it.
const OVERDUE_GRACE: Duration = Duration::from_secs(5);

pub(crate) struct StateMachine {
    state: TokenState,
    limits: Limits,
    /// Why the next flight takes off.
    reason: Reason,
    /// When the last one did.
    last_fetch_at: Moment,
    failure_backoff: FailureBackoff,
    refusal_budget: RefusalBudget,
    quota_tracker: QuotaTracker,
    /// How many changes there were.
    version: u64,
}

enum TokenState {
    Empty,
    Fetching(RunningFetch),
    Holding {
        cached: Arc<CachedToken>,
        refresh: Refresh,
    },
    Failed(CachedError),
    Closed(CloseProgress),
}

/// How far closing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CloseProgress {
    /// The flight in the air may still land, and the source is to be told.
    Closing,
    Closed,
}

/// What is known of the token after the one in hand.
enum Refresh {
    NotStarted,
    InFlight(RunningFetch),
    Failed(CachedError),
}

struct RunningFetch {
    flight: Flight<Outcome>,
    reason: Reason,
    /// When it is given up for lost.
    overdue: Moment,
}

struct CachedError {
    error: Error,
    until: Moment,
}

/// What the one who asked is to do.
pub(crate) enum Decision {
    Serve(Arc<CachedToken>),
    Join(Flight<Outcome>),
    Fail(Error),
}

/// A flight that the one who asked has to put on a task.
pub(crate) struct FetchStart {
    pub(crate) completer: Completer<Outcome>,
    pub(crate) reason: Reason,
    /// How long to wait before the first attempt.
    pub(crate) delay: Duration,
    /// The abandoned flight that this one replaces. To be given up outside of the lock, since
    /// that wakes those who wait for it.
    pub(crate) replaces: Option<Flight<Outcome>>,
}

/// What a refusal of a token comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// It is rejected: the next who asks starts a fetch.
    Rejected,
    /// It isn't the one in hand: old news.
    Outdated,
    /// It is kept: a new one would be refused as well.
    Limited,
    /// The same, and this is the refusal that made it so.
    NowLimited { refused: u32, wait: Duration },
}

/// What there was when the cache was closed.
pub(crate) struct RemainingWork {
    pub(crate) cached: Option<Arc<CachedToken>>,
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

impl StateMachine {
    pub(crate) fn new(limits: Limits) -> Self {
        let jitter = limits.expiry_policy.has_jitter();
        Self {
            state: TokenState::Empty,
            limits,
            reason: Reason::First,
            last_fetch_at: Moment::START,
            failure_backoff: FailureBackoff::new(jitter),
            refusal_budget: RefusalBudget::new(jitter),
            quota_tracker: QuotaTracker::default(),
            version: 0,
        }
    }

    /// Somebody needs a token.
    pub(crate) fn request(&mut self, now: Moment) -> (Decision, Option<FetchStart>) {
        if let TokenState::Holding { cached, .. } = &self.state {
            match cached.freshness(now) {
                Freshness::Fresh => return (Decision::Serve(Arc::clone(cached)), None),
                Freshness::Stale => {
                    let cached = Arc::clone(cached);
                    let is_due = cached.may_refresh(now);
                    let start = is_due.then(|| self.start_fetch(Reason::Stale, now).1);
                    return (Decision::Serve(cached), start);
                }
                Freshness::Expired => self.discard(Reason::Expired),
            }
        }
        match &self.state {
            TokenState::Fetching(running) if !now.reached(running.overdue) => {
                (Decision::Join(running.flight.clone()), None)
            }
            TokenState::Failed(cached_error) if !now.reached(cached_error.until) => {
                (Decision::Fail(cached_error.error.clone()), None)
            }
            TokenState::Closed(_) => (Decision::Fail(closed()), None),
            TokenState::Empty
            | TokenState::Fetching(_)
            | TokenState::Failed(_)
            | TokenState::Holding { .. } => {
                let (flight, start) = self.start_fetch(self.reason, now);
                (Decision::Join(flight), Some(start))
            }
        }
    }

    /// Somebody wants a new token, whatever there is and whatever was put off.
    pub(crate) fn force_refresh(&mut self, now: Moment) -> (Decision, Option<FetchStart>) {
        if let TokenState::Closed(_) = self.state {
            return (Decision::Fail(closed()), None);
        }
        if let Some(running) = self.running()
            && !now.reached(running.overdue)
        {
            return (Decision::Join(running.flight.clone()), None);
        }
        let (flight, start) = self.start_fetch(Reason::Forced, now);
        (Decision::Join(flight), Some(start))
    }

    fn running(&self) -> Option<&RunningFetch> {
        match &self.state {
            TokenState::Fetching(running)
            | TokenState::Holding {
                refresh: Refresh::InFlight(running),
                ..
            } => Some(running),
            TokenState::Empty
            | TokenState::Failed(_)
            | TokenState::Holding { .. }
            | TokenState::Closed(_) => None,
        }
    }

    fn start_fetch(&mut self, reason: Reason, now: Moment) -> (Flight<Outcome>, FetchStart) {
        let delay = match reason {
            // A token that is good for less than the floor would be fetched without a pause. All
            // other flights are rarer than that by other means: a refresh is held off, a refusal
            // latched, and the first is the first.
            Reason::Expired => now.until(self.last_fetch_at.plus(self.limits.attempt_floor)),
            Reason::First | Reason::Stale | Reason::Refused | Reason::Forced => Duration::ZERO,
        };
        let (flight, completer) = Flight::start();
        let start = now.plus(delay);
        let overdue = start.plus(self.limits.fetch_timeout).plus(OVERDUE_GRACE);
        let replaces = self.running().map(|abandoned| abandoned.flight.clone());
        let running = RunningFetch {
            flight: flight.clone(),
            reason,
            overdue,
        };
        match &mut self.state {
            TokenState::Holding { cached, refresh } => {
                cached.delay_refresh_until(overdue);
                *refresh = Refresh::InFlight(running);
            }
            state => *state = TokenState::Fetching(running),
        }
        self.last_fetch_at = start;
        self.version += 1;
        let start = FetchStart {
            completer,
            reason,
            delay,
            replaces,
        };
        (flight, start)
    }

    /// The token is gone. A refresh that was in the air behind it is now waited for.
    fn discard(&mut self, reason: Reason) {
        let TokenState::Holding { refresh, .. } = &mut self.state else {
            return;
        };
        self.state = match (std::mem::replace(refresh, Refresh::NotStarted), reason) {
            (Refresh::InFlight(running), _) => TokenState::Fetching(running),
            // What protects a good token from being fetched for too often doesn't protect one that
            // was refused.
            (Refresh::Failed(cached_error), Reason::Expired) => TokenState::Failed(cached_error),
            (Refresh::Failed(_) | Refresh::NotStarted, _) => TokenState::Empty,
        };
        self.reason = reason;
        self.version += 1;
    }

    /// A server refused the token of this generation. Only the token in hand can be rejected; of
    /// any other it is old news.
    pub(crate) fn reject(&mut self, generation: u64, now: Moment) -> Rejection {
        let TokenState::Holding { cached, .. } = &self.state else {
            return Rejection::Outdated;
        };
        if cached.token().generation() != generation {
            return Rejection::Outdated;
        }
        if !cached.is_accepted() {
            match self.refusal_budget.record_refusal(generation, now) {
                BudgetDecision::Fetch => {}
                BudgetDecision::Limited => return Rejection::Limited,
                BudgetDecision::NowLimited { refused, wait } => {
                    self.version += 1;
                    return Rejection::NowLimited { refused, wait };
                }
            }
        }
        self.discard(Reason::Refused);
        Rejection::Rejected
    }

    /// A server accepted the token of this generation; once is enough. Whether that lifted the
    /// latch.
    pub(crate) fn accept(&mut self, generation: u64) -> bool {
        match &self.state {
            TokenState::Holding { cached, .. }
                if cached.token().generation() == generation && !cached.is_accepted() =>
            {
                cached.accept();
                self.version += 1;
                self.refusal_budget.reset()
            }
            _ => false,
        }
    }

    /// What a flight was told of the quotas, with its token or its error. What another process has
    /// fetched cost this one nothing.
    fn record_quotas(&mut self, fetched: &Result<FetchedToken, Error>, now: Moment) {
        let quotas = match fetched {
            Ok(fetched) if fetched.by == FetchedBy::AnotherProcess => {
                return self.quota_tracker.learn_from_other(fetched.token.quotas());
            }
            Ok(fetched) => Some(fetched.token.quotas()),
            Err(error) => error.quotas(),
        };
        if let Some(reason) = self.running().map(|running| running.reason) {
            self.quota_tracker.count_fetch(reason);
        }
        if let Some(quotas) = quotas {
            self.quota_tracker.record(quotas, now);
        }
    }

    /// The buckets that have turned dry since this was asked the last time.
    pub(crate) fn take_newly_low(&mut self) -> Vec<LowQuota> {
        self.quota_tracker.take_newly_low()
    }

    /// A flight has ended, and this is what came of it. One that was given up changes nothing.
    pub(crate) fn complete(
        &mut self,
        completer: &Completer<Outcome>,
        fetched: Result<FetchedToken, Error>,
        now: Moment,
    ) -> Outcome {
        let is_running = self.is_running(completer);
        if is_running {
            self.record_quotas(&fetched, now);
        }
        let expiry_policy = &self.limits.expiry_policy;
        let cached = fetched.map(|fetched| {
            let mut cached = expiry_policy.cache(fetched, now);
            if let Some(low_for) = self.quota_tracker.low_for(now) {
                cached.postpone_refresh(expiry_policy, low_for, now);
            }
            cached
        });
        let outcome = cached.and_then(|cached| match cached.has_expired(now) {
            true => Err(expired_on_arrival()),
            false => Ok(Arc::new(cached)),
        });
        if !is_running {
            return outcome;
        }
        self.version += 1;
        match &outcome {
            Ok(cached) => self.store(Arc::clone(cached)),
            Err(error) => self.record_failure(error.clone(), now),
        }
        outcome
    }

    fn store(&mut self, cached: Arc<CachedToken>) {
        cached.delay_refresh_until(cached.requested().plus(self.limits.attempt_floor));
        self.failure_backoff.reset();
        self.state = TokenState::Holding {
            cached,
            refresh: Refresh::NotStarted,
        };
    }

    /// A token that is still good stays. Without one, all who ask are told the error.
    fn record_failure(&mut self, error: Error, now: Moment) {
        let left = self
            .cached()
            .and_then(|cached| cached.serve_until())
            .filter(|end| !now.reached(*end))
            .map(|end| now.until(end));
        let floor = self.limits.attempt_floor;
        let wait = self.failure_backoff.wait_after(&error, left, floor);
        let late = self.cached().and_then(|cached| cached.latest_refresh_at());
        let dear = self.quota_tracker.low_for(now).zip(late);
        let wait = wait.max(dear.map_or(Duration::ZERO, |(dear, late)| dear.min(now.until(late))));
        let until = now.plus(wait);
        let cached_error = CachedError { error, until };
        match &mut self.state {
            TokenState::Holding { cached, refresh } => {
                cached.delay_refresh_until(until);
                *refresh = Refresh::Failed(cached_error);
            }
            state => *state = TokenState::Failed(cached_error),
        }
    }

    /// A flight's task was dropped before it ended: the next one who asks starts another.
    pub(crate) fn abort(&mut self, completer: &Completer<Outcome>) {
        if !self.is_running(completer) {
            return;
        }
        self.version += 1;
        match &mut self.state {
            TokenState::Holding { cached, refresh } => {
                *refresh = Refresh::NotStarted;
                cached.allow_refresh();
            }
            state => *state = TokenState::Empty,
        }
    }

    fn is_running(&self, completer: &Completer<Outcome>) -> bool {
        let running = self.running();
        running.is_some_and(|running| running.flight.is_completed_by(completer))
    }

    /// No more tokens. What is in the air may land, for those who wait for it already.
    /// `None` if it was closed before.
    pub(crate) fn close(&mut self) -> Option<RemainingWork> {
        if let TokenState::Closed(_) = self.state {
            return None;
        }
        let left_behind = RemainingWork {
            cached: self.cached().cloned(),
            flight: self.running().map(|running| running.flight.clone()),
        };
        self.state = TokenState::Closed(CloseProgress::Closing);
        self.version += 1;
        Some(left_behind)
    }

    /// All is done that closing takes.
    pub(crate) fn finish_close(&mut self) {
        self.state = TokenState::Closed(CloseProgress::Closed);
        self.version += 1;
    }

    /// The failure that is told again. Kept by whoever changes the state until the lock is
    /// released: its source is a user's, and so is what runs when that is dropped.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.cached_error()
            .map(|cached_error| cached_error.error.clone())
    }

    fn cached_error(&self) -> Option<&CachedError> {
        match &self.state {
            TokenState::Failed(cached_error)
            | TokenState::Holding {
                refresh: Refresh::Failed(cached_error),
                ..
            } => Some(cached_error),
            TokenState::Empty
            | TokenState::Fetching(_)
            | TokenState::Holding { .. }
            | TokenState::Closed(_) => None,
        }
    }

    /// How long there is no attempt, after one that failed.
    pub(crate) fn retry_in(&self, now: Moment) -> Option<Duration> {
        self.cached_error()
            .map(|cached_error| now.until(cached_error.until))
    }

    /// The token in hand, fresh or not.
    pub(crate) fn cached(&self) -> Option<&Arc<CachedToken>> {
        match &self.state {
            TokenState::Holding { cached, .. } => Some(cached),
            TokenState::Empty
            | TokenState::Fetching(_)
            | TokenState::Failed(_)
            | TokenState::Closed(_) => None,
        }
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn quotas(&self) -> Arc<[Quota]> {
        self.quota_tracker.quotas()
    }

    /// How many changes there were so far.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// When the machine is to be asked so that there always is a token.
    pub(crate) fn due(&self, now: Moment) -> Due {
        match (&self.state, self.running()) {
            (TokenState::Closed(_), _) => Due::Never,
            (_, Some(running)) => Due::In(now.until(running.overdue)),
            (TokenState::Holding { cached, .. }, None) => {
                match (cached.refresh_at(), cached.serve_until()) {
                    (Some(stale), Some(expired)) => {
                        let refresh = now.until(stale).max(cached.refresh_delayed_for(now));
                        Due::In(refresh.min(now.until(expired)))
                    }
                    _ => Due::OnChange,
                }
            }
            (TokenState::Failed(cached_error), None) => Due::In(now.until(cached_error.until)),
            (TokenState::Empty | TokenState::Fetching(_), None) => Due::OnChange,
        }
    }

    /// How things stand, for those who only want to know.
    pub(crate) fn status(&self, now: Moment) -> Status {
        let cached = self.cached();
        let cached_error = self.cached_error();
        let limited_until = cached.and_then(|cached| {
            self.refusal_budget
                .limited_until(cached.token().generation(), now)
        });
        Status {
            version: self.version,
            phase: self.phase(now),
            fetching: self.running().map(|running| running.reason),
            waiting: self.running().map_or(0, |running| running.flight.waiting()),
            token: cached.map(|cached| CachedTokenStatus {
                requested_at: cached.requested().wall(),
                refresh_at: cached.refresh_at().map(Moment::wall),
                expires_at: cached.expires_at().map(Moment::wall),
                scope: cached.token().shared_scope(),
                is_accepted: cached.is_accepted(),
            }),
            cached_error: cached_error.map(|cached_error| cached_error.error.clone()),
            failures: self.failure_backoff.count(),
            next_attempt_at: cached_error.map(|cached_error| cached_error.until.wall()),
            latched_until: limited_until.map(Moment::wall),
            quotas: self.quota_tracker.quotas(),
            is_closed: matches!(self.state, TokenState::Closed(CloseProgress::Closed)),
        }
    }

    fn phase(&self, now: Moment) -> Phase {
        match &self.state {
            TokenState::Empty => Phase::Empty,
            TokenState::Fetching(_) => Phase::Fetching,
            TokenState::Holding { cached, .. } => match cached.freshness(now) {
                Freshness::Fresh => Phase::Fresh,
                Freshness::Stale => Phase::Stale,
                Freshness::Expired => Phase::Expired,
            },
            TokenState::Failed(_) => Phase::Failed,
            TokenState::Closed(_) => Phase::Closed,
        }
    }
}

/// It would be refused, and the one after it as well: an error is told again for a while, where
/// a token that is no good would be fetched anew by each who asks.
#[cold]
fn expired_on_arrival() -> Error {
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
