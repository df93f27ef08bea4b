//! A trial runs the same steps on a cache and on its model.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use http::Request;
use http_body_util::Full;
use proptest::sample::Index;
use tokio::task::Id;
use tokio::time::advance;
use tokio_test::task::{self, Spawn};
use tower::{Layer, ServiceExt};
use tower_auth::cache::{Clock, ManualClock};
use tower_auth::{Auth, Error, Token, TokenCache};
use tower_auth_test::{Fetch, Fetches, controlled_source};
use tower_service::Service;

use super::model::{
    CLOSE_TIMEOUT, Caller, Clocks, FETCH_TIMEOUT, Failure, Fault, FetchResult, Kind, Lifetime,
    Model, Outcome, Refusal, Resource, Rules, Tried,
};
use super::observed::{at, millis, outcome, permanent, pick, request_outcome, since_epoch};
use super::source_and_api::{Api, Notes, Noting, path_of};
use super::steps::{Move, Step};
use crate::support::clocked;

mod checks;

pub(super) struct Trial {
    /// The current step, for failure messages.
    pub(super) doing: String,
    model: Model,
    cache: TokenCache,
    /// The client, which is cloned for a request or used itself.
    client: Auth<Api>,
    api: Api,
    clock: ManualClock,
    fetches: Fetches,
    /// The source's running fetches, each with the index of its flight.
    open: Vec<(usize, Fetch)>,
    /// The index of each flight, by the task that runs it.
    flights: HashMap<Id, usize>,
    /// How many starts and how many requests were already checked.
    checked_starts: usize,
    called: usize,
    /// The model's index of the token that was current at the last check.
    held: Option<usize>,
    tokens: Vec<Token>,
    /// The latest expiry that the source has ever stated for each token.
    ends: HashMap<usize, Option<Clocks>>,
    failures: usize,
    callers: Vec<Caller>,
    futures: Vec<Called>,
    notes: Arc<Mutex<Notes>>,
}

struct Called {
    future: Spawn<Pin<Box<dyn Future<Output = Outcome>>>>,
    is_late: bool,
}

impl Trial {
    pub(super) fn new(rules: Rules) -> Self {
        let (inner, fetches) = controlled_source();
        let notes = Arc::default();
        let source = Noting {
            inner,
            notes: Arc::clone(&notes),
        };
        let clock = Clock::manual();
        let mut cache = clocked(source, &clock)
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
            model: Model::new(rules, since_epoch(clock.now().wall())),
            client: crate::support::layer_from(cache.clone()).layer(api.clone()),
            cache,
            api,
            clock,
            fetches,
            open: Vec::new(),
            flights: HashMap::new(),
            checked_starts: 0,
            called: 0,
            held: None,
            tokens: Vec::new(),
            ends: HashMap::new(),
            failures: 0,
            callers: Vec::new(),
            futures: Vec::new(),
            notes,
        }
    }

    pub(super) async fn take(&mut self, step: &Step) {
        match *step {
            Step::RequestToken { is_late } => self.request_token(is_late),
            Step::Refresh { is_late } => {
                let asking = self.cache.refresh_now();
                let future = async { outcome(asking.await) };
                self.call(Caller::refresh_now(), future, is_late);
            }
            Step::Request {
                resource,
                is_late,
                is_clone,
            } => self.request(resource, is_late, is_clone),
            Step::Behave(resource, manner) => {
                self.api.behave(resource, manner);
                self.model.manners.insert(resource, manner);
            }
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
                    self.model
                        .complete_attempt(flight, FetchResult::Fault(Fault::Panic));
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
                    self.model.reject(Refusal {
                        token,
                        resource: None,
                        sent: self.model.now.clocks.monotonic,
                        is_final: true,
                        tried: Tried::default(),
                        can_pause: false,
                    });
                }
            }
            Step::Accept(token) => {
                if let Some(token) = self.token(token) {
                    self.cache.accept(&self.tokens[token]);
                    let now = self.model.now.clocks.monotonic;
                    self.model.accept(token, None, now);
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
                let edges = self.model.edges(&self.callers);
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
                    Outcome::Closed
                };
                self.call(Caller::Close, future, false);
            }
        }
    }

    // ---- callers

    fn request_token(&mut self, is_late: bool) {
        let (asking, is_valid) = (self.cache.token(), self.model.is_valid());
        let future = async { outcome(asking.await) };
        let outcome = self.call(Caller::token(), future, is_late);
        // No caller waits while a valid token exists and nothing proves its revocation. The state
        // of fetches and of the budget makes no difference.
        let is_served = matches!(outcome, Some(Outcome::Token(_)));
        assert!(is_served || !is_valid, "{}: {outcome:?}", self.doing);
        let is_turned_away = outcome == Some(Outcome::Fault(Fault::Closed));
        assert_eq!(is_turned_away, self.model.is_closed(), "{}", self.doing);
    }

    fn request(&mut self, resource: Resource, is_late: bool, is_clone: bool) {
        let path = path_of(resource);
        let request = Request::post(format!("https://api.example.com{path}"))
            .body(Full::from("a thing"))
            .unwrap();
        let caller = Caller::request(resource);
        // A service that isn't ready must not be called.
        if is_clone || self.model.is_busy {
            let response = self.client.clone().oneshot(request);
            self.call(caller, async { request_outcome(response.await) }, is_late);
        } else {
            let mut context = Context::from_waker(Waker::noop());
            let ready = self.client.poll_ready(&mut context);
            assert!(matches!(ready, Poll::Ready(Ok(()))), "{}", self.doing);
            let response = self.client.call(request);
            self.call(caller, async { request_outcome(response.await) }, is_late);
        }
    }

    fn call(
        &mut self,
        caller: Caller,
        future: impl Future<Output = Outcome> + 'static,
        is_late: bool,
    ) -> Option<Outcome> {
        self.callers.push(caller);
        self.futures.push(Called {
            future: task::spawn(Box::pin(future)),
            is_late,
        });
        self.poll(self.callers.len() - 1)
    }

    /// Polls a caller. Asserts that the caller gets the result that the model predicts.
    fn poll(&mut self, caller: usize) -> Option<Outcome> {
        let is = match self.futures[caller].future.poll() {
            Poll::Ready(outcome) => Some(outcome),
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
        if let Some(Outcome::Token(token)) = is {
            assert!(self.is_good(token), "{}: {token} is over", self.doing);
        }
        is
    }

    /// Returns whether the token is before its own end on both clocks.
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

    /// Takes one of the running fetches. If no fetch is running, first lets a caller ask for a
    /// token.
    async fn open(&mut self, fetch: Index) -> Option<(usize, Fetch)> {
        if self.open.is_empty() {
            self.request_token(false);
            self.run_until_idle().await;
            if let Some(delay) = self.model.delay() {
                self.pass_all(delay).await;
            }
        }
        let fetch = pick(fetch, self.open.len())?;
        Some(self.open.remove(fetch))
    }

    /// Returns one of the latest three tokens.
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
        fetch.complete(Ok(issued));
        self.model
            .complete_attempt(flight, FetchResult::Token { token, lifetime });
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
                // All permanent errors that a test can create are equal.
                Kind::Permanent => 0,
            },
            kind,
            retry_after,
        };
        fetch.complete(Err(match retry_after {
            Some(wait) => error.with_retry_after(millis(wait)),
            None => error,
        }));
        let fault = Fault::Source(failure);
        self.model
            .complete_attempt(flight, FetchResult::Fault(fault));
    }

    // ---- time

    async fn pass(&mut self, span: i64, way: Move) {
        match way {
            Move::All => self.pass_all(span).await,
            Move::NoTimer => {
                self.clock.advance(millis(span));
                self.model.pass_without_timers(span);
            }
            Move::Wall => self.set_wall(span),
        }
    }

    /// Lets time pass, from one timer to the next.
    async fn pass_all(&mut self, span: i64) {
        let end = self.model.now.timers + span;
        loop {
            let next = self
                .model
                .next_timer(&self.callers)
                .filter(|next| *next <= end);
            let span = next.unwrap_or(end) - self.model.now.timers;
            self.clock.advance(millis(span));
            self.model.pass(span);
            advance(millis(span)).await;
            self.run_until_idle().await;
            if next.is_none() {
                return;
            }
        }
    }

    fn set_wall(&mut self, span: i64) {
        match span {
            0.. => self.clock.suspend(millis(span)),
            _ => self.clock.set_back(millis(-span)),
        }
        self.model.set_wall(span);
    }
}
