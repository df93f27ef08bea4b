//! Whatever happens to a cache, in whatever order: a plain model says what has to come of it, and
//! the rules hold after each step.
//!
//! The callers are polled by hand, and only when they were woken; the clocks and Tokio's timers are
//! moved by hand. So nothing is left to chance but the steps, and the model can be exact: what each
//! caller is told, when each fetch starts and why, what reaches the API, how many tasks there are,
//! and all that `Status` says.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body_util::Full;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::{Id, yield_now};
use tokio::time::advance;
use tokio_test::task::{self, Spawn};
use tower::{Layer, ServiceExt};
use tower_auth::{
    Auth, AuthLayer, BoxError, Error, NotReplayed, Origin, Reason, Status, Token, TokenCache,
    TokenSource,
};
use tower_service::Service;

use self::model::{
    Answer, Asked, CLOSE_TIMEOUT, Caller, Clocks, FETCH_TIMEOUT, Failure, Fault, Kind, Lifetime,
    Model, Rules, Standing, Told, Why,
};
use crate::support::{Fetch, Fetches, Hands, source};

mod model;

proptest! {
    #[test]
    fn whatever_happens_in_whatever_order_the_rules_hold(
        rules in any_rules(1),
        steps in any_steps(),
    ) {
        follow(rules, &steps);
    }

    /// Two, and not three: the pause before a third is 400 ms and some nanoseconds, for it is doubled
    /// as a fraction, and the model counts in milliseconds.
    #[test]
    fn with_two_attempts_a_flight_they_hold_as_well(
        rules in any_rules(2),
        steps in any_steps(),
    ) {
        follow(rules, &steps);
    }
}

/// What happens next. What can't, such as the answer to a fetch that nobody asked for, doesn't.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody needs a token; one who is late isn't polled again until `Poll`.
    Ask {
        is_late: bool,
    },
    /// Somebody wants a new one.
    Refresh {
        is_late: bool,
    },
    /// A request, through a clone of the client or through the one that is used again and again.
    /// A slow API answers when told to, the other at once.
    Request {
        is_slow: bool,
        is_late: bool,
        is_clone: bool,
    },
    /// A caller, late or not, is looked after.
    Poll(Index),
    /// A caller goes away.
    Drop(Index),
    /// The slow API answers.
    Respond {
        call: Index,
        status: u16,
    },
    /// The source issues a token, a new one or the last one again. One that is not good is refused.
    Issue {
        fetch: Index,
        lifetime: Lifetime,
        is_new: bool,
        is_good: bool,
    },
    Fail {
        fetch: Index,
        kind: Kind,
        retry_after: Option<i64>,
    },
    Panic(Index),
    /// The API refuses one of the latest tokens from now on, or accepts it.
    Revoke(Index),
    Admit(Index),
    /// Somebody says that one of the latest tokens was refused, or accepted.
    Reject(Index),
    Accept(Index),
    /// The API isn't ready, or is again.
    Busy(bool),
    /// Time passes.
    Pass(i64, Move),
    /// It passes just up to what the clocks decide on next, or nearly.
    PassUpTo {
        edge: Index,
        is_early: bool,
        way: Move,
    },
    /// The wall clock is set.
    SetWall(i64),
    Close,
}

/// Which clocks go on.
#[derive(Clone, Copy, Debug)]
enum Move {
    All,
    /// The timers stand still: their runtime isn't driven.
    NoTimer,
    /// Only the wall clock: the machine sleeps.
    Wall,
}

fn any_rules(attempts: u32) -> impl Strategy<Value = Rules> {
    let window = || {
        let set = select(vec![0, 8_000, 60_000, 400_000]);
        option::weighted(0.2, set)
    };
    let floor = prop_oneof![5 => Just(1_000), 1 => Just(0), 2 => Just(10_000)];
    (floor, window(), window()).prop_map(move |(floor, refresh_before, expiry_margin)| Rules {
        attempts,
        floor,
        refresh_before,
        expiry_margin,
    })
}

/// What kind of a day it is. No one kind leads everywhere: a latch falls for the third time only if
/// nothing is accepted for long, and a backoff is long only if nothing is issued.
#[derive(Clone, Copy, Debug)]
struct Day {
    /// How many of the tokens are new, and how many of them the API accepts.
    new: f64,
    good: f64,
    /// How often the source answers, and how often it fails.
    issues: u32,
    failures: u32,
    /// How often its tokens are good for no longer than a second or two.
    shorts: u32,
    /// How often the API isn't ready, and how often no timer runs.
    busy: u32,
    stalls: u32,
}

const FAIR: Day = Day {
    new: 0.9,
    good: 0.8,
    issues: 30,
    failures: 6,
    shorts: 3,
    busy: 3,
    stalls: 1,
};

/// Nothing is accepted, the source is down, no timer runs, tokens end before they are sent.
const DAYS: [Day; 5] = [
    FAIR,
    Day {
        new: 0.5,
        good: 0.0,
        ..FAIR
    },
    Day {
        issues: 4,
        failures: 30,
        ..FAIR
    },
    Day {
        issues: 8,
        stalls: 20,
        ..FAIR
    },
    Day {
        good: 0.4,
        shorts: 30,
        busy: 15,
        ..FAIR
    },
];

/// In the end, and not in every case, the cache is closed; and it goes on.
fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    select(DAYS.to_vec()).prop_flat_map(|day| {
        let after = option::weighted(0.4, vec(any_step(day), 0..12));
        (vec(any_step(day), 1..100), after).prop_map(|(mut steps, after)| {
            if let Some(after) = after {
                steps.push(Step::Close);
                steps.extend(after);
            }
            steps
        })
    })
}

fn any_step(day: Day) -> impl Strategy<Value = Step> {
    use Step::*;
    let rarely = || prop::bool::weighted(0.15);
    let good = prop::bool::weighted(day.good);
    let index = || any::<Index>();
    prop_oneof![
        10 => rarely().prop_map(|is_late| Ask { is_late }),
        3 => rarely().prop_map(|is_late| Refresh { is_late }),
        14 => (prop::bool::weighted(0.3), rarely(), any::<bool>()).prop_map(
            |(is_slow, is_late, is_clone)| Request { is_slow, is_late, is_clone }
        ),
        3 => index().prop_map(Poll),
        2 => index().prop_map(Drop),
        6 => (index(), select(vec![200, 401, 401, 500]))
            .prop_map(|(call, status)| Respond { call, status }),
        day.issues => (index(), any_lifetime(day), prop::bool::weighted(day.new), good).prop_map(
            |(fetch, lifetime, is_new, is_good)| Issue { fetch, lifetime, is_new, is_good }
        ),
        day.failures => (index(), any_kind(), option::weighted(0.2, any_wait())).prop_map(
            |(fetch, kind, retry_after)| Fail { fetch, kind, retry_after }
        ),
        1 => index().prop_map(Panic),
        3 => index().prop_map(Revoke),
        1 => index().prop_map(Admit),
        3 => index().prop_map(Reject),
        1 => index().prop_map(Accept),
        day.busy => any::<bool>().prop_map(Busy),
        5 => (any_wait(), any_move(day)).prop_map(|(span, way)| Pass(span, way)),
        16 => (index(), any::<bool>(), any_move(day)).prop_map(
            |(edge, is_early, way)| PassUpTo { edge, is_early, way }
        ),
        2 => select(vec![-86_400, -3_600, -60, -10, -1, 1, 10, 60, 3_600])
            .prop_map(|seconds| SetWall(seconds * 1_000)),
    ]
}

fn any_move(day: Day) -> impl Strategy<Value = Move> {
    prop_oneof![8 => Just(Move::All), day.stalls => Just(Move::NoTimer), 1 => Just(Move::Wall)]
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![3 => Just(Kind::Transient), 2 => Just(Kind::Unknown), 1 => Just(Kind::Permanent)]
}

/// From milliseconds to hours, in even ones.
fn any_wait() -> impl Strategy<Value = i64> {
    prop_oneof![
        1 => 1..500_i64,
        2 => 500..5_000_i64,
        3 => 5_000..40_000_i64,
        2 => 40_000..400_000_i64,
        1 => 400_000..8_000_000_i64,
    ]
    .prop_map(|wait| wait * 2)
}

fn any_lifetime(day: Day) -> impl Strategy<Value = Lifetime> {
    // A fourth of it is in even milliseconds too.
    let span = prop_oneof![
        1 => Just(0),
        day.shorts => 1..200_i64,
        2 => 200..8_000_i64,
        4 => 8_000..150_000_i64,
        4 => Just(3_600_000 / 8),
    ];
    let span = span.prop_map(|eighths| eighths * 8);
    prop_oneof![
        1 => Just(Lifetime::Endless),
        6 => span.clone().prop_map(Lifetime::In),
        2 => span.prop_map(|span| Lifetime::Dated(span - 8)),
    ]
}

fn follow(rules: Rules, steps: &[Step]) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut trial = Trial::new(rules);
        for (nth, step) in steps.iter().enumerate() {
            trial.doing = format!("at step {nth}, {step:?}");
            trial.take(step).await;
            trial.settle().await;
        }
        trial.end().await;
    });
}

/// A cache and the model of it, side by side.
struct Trial {
    /// For those who read a failure.
    doing: String,
    model: Model,
    cache: TokenCache,
    /// Cloned for a request, or used itself.
    client: Auth<Api>,
    api: Api,
    hands: Hands,
    fetches: Fetches,
    /// The fetches that were not answered yet, each with its flight.
    open: Vec<(usize, Fetch)>,
    /// The flights, by the tasks that they are on.
    flights: HashMap<Id, usize>,
    /// How many of the flights and requests were checked.
    taken_off: usize,
    called: usize,
    tokens: Vec<Token>,
    /// The latest that each token is good until, by all that its source ever said.
    ends: HashMap<usize, Option<Clocks>>,
    failures: usize,
    callers: Vec<Caller>,
    futures: Vec<Called>,
    notes: Arc<Mutex<Notes>>,
}

/// A caller's future.
struct Called {
    future: Spawn<Pin<Box<dyn Future<Output = Told>>>>,
    is_late: bool,
}

impl Trial {
    fn new(rules: Rules) -> Self {
        let (inner, fetches) = source();
        let notes = Arc::default();
        let source = Noting {
            inner,
            notes: Arc::clone(&notes),
        };
        let hands = Hands::default();
        let mut cache = hands
            .cache(source)
            .fetch_attempts(rules.attempts)
            .attempt_floor(millis(rules.floor))
            .close_timeout(millis(CLOSE_TIMEOUT))
            .fetch_timeout(millis(FETCH_TIMEOUT));
        if let Some(window) = rules.refresh_before {
            cache = cache.refresh_before(millis(window));
        }
        if let Some(margin) = rules.expiry_margin {
            cache = cache.expiry_margin(millis(margin));
        }
        let (cache, api) = (cache.build(), Api::default());
        Self {
            doing: String::new(),
            model: Model::new(rules, since_epoch(hands.clock().now().wall())),
            client: AuthLayer::from(cache.clone()).layer(api.clone()),
            cache,
            api,
            hands,
            fetches,
            open: Vec::new(),
            flights: HashMap::new(),
            taken_off: 0,
            called: 0,
            tokens: Vec::new(),
            ends: HashMap::new(),
            failures: 0,
            callers: Vec::new(),
            futures: Vec::new(),
            notes,
        }
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Ask { is_late } => self.ask(is_late),
            Step::Refresh { is_late } => {
                let asking = self.cache.refresh_now();
                let future = async { told(asking.await) };
                self.call(Caller::refresh_now(), future, is_late);
            }
            Step::Request {
                is_slow,
                is_late,
                is_clone,
            } => self.request(is_slow, is_late, is_clone),
            Step::Poll(caller) => {
                if let Some(caller) = pick(caller, self.callers.len()) {
                    self.poll(caller);
                }
            }
            Step::Drop(caller) => {
                if let Some(caller) = pick(caller, self.callers.len()) {
                    self.callers.remove(caller);
                    self.futures.remove(caller);
                }
            }
            Step::Respond { call, status } => self.respond(call, status),
            Step::Issue {
                fetch,
                lifetime,
                is_new,
                is_good,
            } => self.issue(fetch, lifetime, is_new, is_good).await,
            Step::Fail {
                fetch,
                kind,
                retry_after,
            } => self.fail(fetch, kind, retry_after).await,
            Step::Panic(fetch) => {
                if let Some((flight, fetch)) = self.open(fetch).await {
                    fetch.panic();
                    self.model.answer(flight, Answer::Fault(Fault::Panic));
                }
            }
            Step::Revoke(token) => {
                if let Some(token) = self.token(token) {
                    self.model.accepted.remove(&token);
                    self.api.revoke(token);
                }
            }
            Step::Admit(token) => {
                if let Some(token) = self.token(token) {
                    self.model.accepted.insert(token);
                    self.api.admit(token);
                }
            }
            Step::Reject(token) => {
                if let Some(token) = self.token(token) {
                    self.cache.reject(&self.tokens[token]);
                    self.model.reject(token);
                }
            }
            Step::Accept(token) => {
                if let Some(token) = self.token(token) {
                    self.cache.accept(&self.tokens[token]);
                    self.model.accept(token);
                }
            }
            Step::Busy(is_busy) => {
                self.model.is_busy = is_busy;
                self.api.set_busy(is_busy);
            }
            Step::Pass(span, way) => self.pass(span, way).await,
            Step::PassUpTo {
                edge,
                is_early,
                way,
            } => {
                let edges = self.model.edges();
                if let Some(edge) = pick(edge, edges.len()) {
                    let early = if is_early { 2 } else { 0 };
                    self.pass(edges[edge] - early, way).await;
                }
            }
            Step::SetWall(span) => self.set_wall(span),
            Step::Close => {
                let cache = self.cache.clone();
                let future = async move {
                    cache.close().await;
                    Told::Closed
                };
                self.call(Caller::Close, future, false);
            }
        }
    }

    // ---- callers

    fn ask(&mut self, is_late: bool) {
        let (asking, is_valid) = (self.cache.token(), self.model.is_valid());
        let future = async { told(asking.await) };
        let told = self.call(Caller::token(), future, is_late);
        // Whatever is in the air, failed or latched: nobody waits while there is a good token.
        let is_served = matches!(told, Some(Told::Token(_)));
        assert!(is_served || !is_valid, "{}: {told:?}", self.doing);
        let is_turned_away = told == Some(Told::Fault(Fault::Closed));
        assert_eq!(is_turned_away, self.model.is_closed(), "{}", self.doing);
    }

    fn request(&mut self, is_slow: bool, is_late: bool, is_clone: bool) {
        let path = if is_slow { "slow" } else { "quick" };
        let request = Request::post(format!("https://api.example.com/{path}"))
            .body(Full::from("a thing"))
            .unwrap();
        let caller = Caller::request(is_slow);
        // One that isn't ready must not be called.
        if is_clone || self.model.is_busy {
            let response = self.client.clone().oneshot(request);
            self.call(caller, async { answered(response.await) }, is_late);
        } else {
            let mut context = Context::from_waker(Waker::noop());
            let ready = self.client.poll_ready(&mut context);
            assert!(matches!(ready, Poll::Ready(Ok(()))), "{}", self.doing);
            let response = self.client.call(request);
            self.call(caller, async { answered(response.await) }, is_late);
        }
    }

    fn call(
        &mut self,
        caller: Caller,
        future: impl Future<Output = Told> + 'static,
        is_late: bool,
    ) -> Option<Told> {
        self.callers.push(caller);
        self.futures.push(Called {
            future: task::spawn(Box::pin(future)),
            is_late,
        });
        self.poll(self.callers.len() - 1)
    }

    /// Polls a caller, and sees that it is told what it has to be.
    fn poll(&mut self, caller: usize) -> Option<Told> {
        let is = match self.futures[caller].future.poll() {
            Poll::Ready(told) => Some(told),
            Poll::Pending => None,
        };
        let should = self.model.poll(&mut self.callers[caller]);
        assert_eq!(
            is, should,
            "{}: {:?} is told",
            self.doing, self.callers[caller]
        );
        if is.is_some() {
            self.callers.remove(caller);
            self.futures.remove(caller);
        }
        if let Some(Told::Token(token)) = is {
            assert!(self.is_good(token), "{}: {token} is over", self.doing);
        }
        is
    }

    /// Whether the token's own end is still to come, by both clocks.
    fn is_good(&self, token: usize) -> bool {
        let now = self.model.now.clocks;
        self.ends[&token].is_none_or(|end| !now.reached(end))
    }

    fn respond(&mut self, call: Index, status: u16) {
        let calls = self.model.calls.iter().enumerate();
        let open: Vec<usize> = calls
            .filter(|(_, call)| call.status.is_none())
            .map(|(nth, _)| nth)
            .collect();
        if let Some(call) = pick(call, open.len()) {
            self.model.calls[open[call]].status = Some(status);
            self.api.respond(open[call], status);
        }
    }

    // ---- the source

    /// Takes one of the open fetches. If there is none, somebody asks first, and it is waited for.
    async fn open(&mut self, fetch: Index) -> Option<(usize, Fetch)> {
        if self.open.is_empty() {
            self.ask(false);
            self.settle().await;
            if let Some(delay) = self.model.delay() {
                self.pass_all(delay).await;
            }
        }
        let fetch = pick(fetch, self.open.len())?;
        Some(self.open.remove(fetch))
    }

    /// One of the latest three tokens.
    fn token(&self, token: Index) -> Option<usize> {
        let last = self.tokens.len().checked_sub(1)?;
        last.checked_sub(token.index(3))
    }

    async fn issue(&mut self, fetch: Index, lifetime: Lifetime, is_new: bool, is_good: bool) {
        let Some((flight, fetch)) = self.open(fetch).await else {
            return;
        };
        if is_new || self.tokens.is_empty() {
            let secret = format!("token-{}", self.tokens.len());
            self.tokens.push(Token::bearer(secret).unwrap());
        }
        let token = self.tokens.len() - 1;
        if is_good {
            self.model.accepted.insert(token);
            self.api.admit(token);
        }
        let issued = self.tokens[token].clone();
        let issued = match lifetime {
            Lifetime::Endless => issued,
            Lifetime::In(span) => issued.expires_in(millis(span)),
            Lifetime::Dated(span) => issued.expires_at(at(self.model.now.clocks.wall + span)),
        };
        let end = self.model.end_of(flight, lifetime);
        let latest = self.ends.entry(token).or_insert(end);
        *latest = match (*latest, end) {
            (Some(latest), Some(end)) => Some(Clocks {
                monotonic: latest.monotonic.max(end.monotonic),
                wall: latest.wall.max(end.wall),
            }),
            _ => None,
        };
        fetch.answer(Ok(issued));
        self.model.answer(flight, Answer::Token { token, lifetime });
    }

    async fn fail(&mut self, fetch: Index, kind: Kind, retry_after: Option<i64>) {
        let Some((flight, fetch)) = self.open(fetch).await else {
            return;
        };
        self.failures += 1;
        let message = self.failures.to_string();
        let error = match kind {
            Kind::Transient => Error::transient(message),
            Kind::Unknown => Error::other(message),
            Kind::Permanent => permanent(),
        };
        let failure = Failure {
            nth: match kind {
                Kind::Transient | Kind::Unknown => self.failures,
                // All that can be made from outside are the same.
                Kind::Permanent => 0,
            },
            kind,
            retry_after,
        };
        fetch.answer(Err(match retry_after {
            Some(wait) => error.with_retry_after(millis(wait)),
            None => error,
        }));
        let fault = Fault::Source(failure);
        self.model.answer(flight, Answer::Fault(fault));
    }

    // ---- time

    async fn pass(&mut self, span: i64, way: Move) {
        match way {
            Move::All => self.pass_all(span).await,
            Move::NoTimer => {
                self.hands.pass(millis(span));
                self.model.pass_without_timers(span);
            }
            Move::Wall => self.set_wall((span + 999) / 1_000 * 1_000),
        }
    }

    /// From one timer to the next.
    async fn pass_all(&mut self, span: i64) {
        let end = self.model.now.timers + span;
        loop {
            let next = self.model.next_timer().filter(|next| *next <= end);
            let span = next.unwrap_or(end) - self.model.now.timers;
            self.hands.pass(millis(span));
            self.model.pass(span);
            advance(millis(span)).await;
            self.settle().await;
            if next.is_none() {
                return;
            }
        }
    }

    fn set_wall(&mut self, span: i64) {
        self.hands.step_wall(span / 1_000);
        self.model.set_wall(span);
    }

    // ---- after each step

    /// Lets every task and every caller that can go on do so, and looks at what came of it.
    async fn settle(&mut self) {
        loop {
            for _ in 0..8 {
                yield_now().await;
            }
            self.receive();
            let is_awake = |called: &Called| called.future.is_woken() && !called.is_late;
            let awake: Vec<bool> = self.futures.iter().map(is_awake).collect();
            if !awake.contains(&true) {
                break;
            }
            let mut gone = 0;
            for (nth, is_awake) in awake.into_iter().enumerate() {
                if is_awake && self.poll(nth - gone).is_some() {
                    gone += 1;
                }
            }
        }
        self.check();
    }

    /// Takes in the fetches that were asked for: those of the model, and no other.
    fn receive(&mut self) {
        while let Some(fetch) = self.fetches.try_next() {
            let task = self.notes.lock().unwrap().tasks.pop_front().unwrap();
            // Which of two that were asked for at once is first, nobody has said.
            let is_it = |asked: &Asked| match self.flights.get(&task) {
                Some(flight) => *flight == asked.flight,
                None => !self.flights.values().any(|known| *known == asked.flight),
            };
            let Some(nth) = self.model.asked.iter().position(is_it) else {
                panic!("{}: nobody needs it, {}", self.doing, fetch.reason);
            };
            let asked = self.model.asked.remove(nth);
            assert_eq!(fetch.reason, asked.reason, "{}", self.doing);
            self.flights.insert(task, asked.flight);
            self.open.push((asked.flight, fetch));
        }
        self.open.retain(|(_, fetch)| !fetch.is_dropped());
    }

    fn check(&mut self) {
        let doing = &self.doing;
        let standing = self.model.standing(&self.callers);
        assert_eq!(stands(&self.cache.status()), standing, "{doing}");
        assert_eq!(self.model.asked, [], "{doing}: fetches");
        let tasks = Handle::current().metrics().num_alive_tasks();
        assert_eq!(tasks, self.model.tasks(), "{doing}: tasks");
        assert_eq!(self.said(), self.model.farewells, "{doing}: farewells");
        self.check_flights();
        self.check_callers();
        self.check_calls();
    }

    fn check_flights(&mut self) {
        let doing = &self.doing;
        let mut open: Vec<usize> = self.open.iter().map(|(flight, _)| *flight).collect();
        open.sort_unstable();
        let asking: Vec<usize> = self.model.asking().collect();
        assert_eq!(open, asking, "{doing}: in the air");
        let is_up = |flight: &&usize| !self.model.is_given_up(**flight);
        assert!(open.iter().filter(is_up).count() <= 1, "{doing}: {open:?}");

        // None follows within the floor, but for a reason that doesn't wait. By the clock that is
        // ahead: a wait is over as soon as either says so, and one that was set back and forth has
        // seen more time than there was.
        for pair in self.model.take_offs[self.taken_off..].windows(2) {
            let next = match pair[1].reason {
                Reason::Refused | Reason::Forced => continue,
                _ => pair[1],
            };
            let floor = self.model.rules.floor;
            assert!(next.start >= pair[0].start + floor, "{doing}: {pair:?}");
        }
        self.taken_off = self.model.take_offs.len().saturating_sub(1);
    }

    fn check_callers(&self) {
        for (caller, called) in self.callers.iter().zip(&self.futures) {
            if called.is_late {
                continue;
            }
            assert!(self.model.is_blocked(caller), "{}: {caller:?}", self.doing);
            let ended = caller.waits_for().filter(|it| self.model.has_ended(*it));
            assert_eq!(ended, None, "{}: {caller:?}", self.doing);
        }
    }

    /// Each request that reached the API had a credential, and one that was good.
    fn check_calls(&mut self) {
        let credentials = self.api.credentials();
        assert_eq!(credentials.len(), self.model.calls.len(), "{}", self.doing);
        for (credential, call) in credentials.iter().zip(&self.model.calls).skip(self.called) {
            let expected = format!("Bearer token-{}", call.token);
            assert_eq!(*credential, expected, "{}", self.doing);
            assert!(self.is_good(call.token), "{}: {credential}", self.doing);
        }
        self.called = credentials.len();
    }

    fn said(&self) -> Vec<Option<usize>> {
        let notes = self.notes.lock().unwrap();
        let said = notes.farewells.iter();
        said.map(|last| last.as_ref().map(|token| number(token.secret())))
            .collect()
    }

    /// Everybody lets go of it, and nothing is left.
    async fn end(mut self) {
        self.doing = String::from("at the end");
        self.callers.clear();
        self.futures.clear();
        self.settle().await;
        self.pass_all(FETCH_TIMEOUT + 10_000 + self.model.rules.floor)
            .await;
        let Self {
            cache,
            client,
            fetches,
            notes,
            ..
        } = self;
        drop((cache, client, fetches));
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
        assert_eq!(Arc::strong_count(&notes), 1, "the source is still there");
    }
}

fn pick(which: Index, among: usize) -> Option<usize> {
    (among > 0).then(|| which.index(among))
}

fn millis(span: i64) -> Duration {
    Duration::from_millis(span.try_into().unwrap())
}

fn since_epoch(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}

fn at(wall: i64) -> SystemTime {
    UNIX_EPOCH + millis(wall)
}

/// The only kind of permanent error that can be made without a server.
fn permanent() -> Error {
    "no origin".parse::<Origin>().unwrap_err()
}

fn number(secret: &str) -> usize {
    secret.strip_prefix("token-").unwrap().parse().unwrap()
}

fn told(outcome: Result<Token, Error>) -> Told {
    match outcome {
        Ok(token) => Told::Token(number(token.secret())),
        Err(error) => Told::Fault(fault(&error)),
    }
}

fn answered(outcome: Result<Response<()>, BoxError>) -> Told {
    match outcome {
        Err(error) => Told::Fault(fault(error.downcast_ref().unwrap())),
        Ok(response) => {
            let why = response.extensions().get().map(|why| match why {
                NotReplayed::Latched => Why::Latched,
                NotReplayed::Fetch(error) => Why::Fetch(fault(error)),
                NotReplayed::SameToken => Why::SameToken,
                NotReplayed::Again => Why::Again,
                other => panic!("{other}"),
            });
            Told::Response(response.status().as_u16(), why)
        }
    }
}

fn fault(error: &Error) -> Fault {
    if error.is_timeout() {
        return Fault::Timeout;
    } else if error.is_panic() {
        return Fault::Panic;
    } else if error.is_expired() {
        return Fault::Expired;
    } else if error.is_closed() {
        return Fault::Closed;
    } else if error.is_runtime() {
        return Fault::Runtime;
    }
    let source = std::error::Error::source(error);
    Fault::Source(Failure {
        nth: source.map_or(0, |source| source.to_string().parse().unwrap()),
        kind: match (error.is_transient(), error.is_permanent()) {
            (true, false) => Kind::Transient,
            (false, true) => Kind::Permanent,
            (false, false) => Kind::Unknown,
            (true, true) => panic!("it passes, and it doesn't: {error}"),
        },
        retry_after: error
            .retry_after()
            .map(|wait| wait.as_millis().try_into().unwrap()),
    })
}

fn stands(status: &Status) -> Standing {
    Standing {
        phase: status.phase(),
        fetching: status.fetching(),
        waiting: status.waiting(),
        requested_at: status.requested_at().map(since_epoch),
        refresh_at: status.refresh_at().map(since_epoch),
        expires_at: status.expires_at().map(since_epoch),
        is_accepted: status.is_accepted(),
        last_error: status.last_error().map(fault),
        failures: status.failures(),
        next_attempt_at: status.next_attempt_at().map(since_epoch),
        latched_until: status.latched_until().map(since_epoch),
    }
}

/// A source that notes on which task it is asked, and what it is told at the end.
struct Noting<S> {
    inner: S,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Default)]
struct Notes {
    tasks: VecDeque<Id>,
    farewells: Vec<Option<Token>>,
}

impl<S> TokenSource for Noting<S>
where
    S: TokenSource,
{
    fn fetch(&self, reason: Reason) -> impl Future<Output = Result<Token, Error>> + Send {
        self.notes
            .lock()
            .unwrap()
            .tasks
            .push_back(tokio::task::id());
        self.inner.fetch(reason)
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        self.notes.lock().unwrap().farewells.push(last);
        Ok(())
    }
}

/// An API that answers when it is told to or at once, and accepts the tokens that it is told to.
#[derive(Clone, Default)]
struct Api {
    inner: Arc<Mutex<Inside>>,
}

#[derive(Default)]
struct Inside {
    is_busy: bool,
    waiting: Vec<Waker>,
    accepted: Vec<String>,
    credentials: Vec<String>,
    /// Of each request, for the answer of those that wait for it.
    answers: Vec<Option<oneshot::Sender<u16>>>,
}

impl Api {
    fn admit(&self, token: usize) {
        let credential = format!("Bearer token-{token}");
        self.inner.lock().unwrap().accepted.push(credential);
    }

    fn revoke(&self, token: usize) {
        let credential = format!("Bearer token-{token}");
        let mut inside = self.inner.lock().unwrap();
        inside.accepted.retain(|accepted| *accepted != credential);
    }

    fn set_busy(&self, is_busy: bool) {
        let mut inside = self.inner.lock().unwrap();
        inside.is_busy = is_busy;
        if !is_busy {
            inside.waiting.drain(..).for_each(Waker::wake);
        }
    }

    /// Nobody may be left to hear it.
    fn respond(&self, call: usize, status: u16) {
        let answer = self.inner.lock().unwrap().answers[call].take();
        answer.unwrap().send(status).ok();
    }

    /// The `Authorization` of every request so far; `-` for none.
    fn credentials(&self) -> Vec<String> {
        self.inner.lock().unwrap().credentials.clone()
    }
}

impl Service<Request<Full<Bytes>>> for Api {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<()>, Infallible>>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        let mut inside = self.inner.lock().unwrap();
        if inside.is_busy {
            inside.waiting.push(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let mut inside = self.inner.lock().unwrap();
        let credential = match request.headers().get(AUTHORIZATION) {
            Some(value) => value.to_str().unwrap().to_owned(),
            None => String::from("-"),
        };
        let is_accepted = inside.accepted.contains(&credential);
        inside.credentials.push(credential);
        if request.uri().path() != "/slow" {
            inside.answers.push(None);
            return Box::pin(ready(Ok(with_status(if is_accepted { 200 } else { 401 }))));
        }
        let (answer, answered) = oneshot::channel();
        inside.answers.push(Some(answer));
        Box::pin(async { Ok(with_status(answered.await.unwrap())) })
    }
}

fn with_status(status: u16) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status.try_into().unwrap();
    response
}
