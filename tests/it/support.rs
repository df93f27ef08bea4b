//! A token source whose every fetch the test completes by hand, and an API that accepts the tokens
//! it is told to.

use std::collections::HashSet;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tower_auth::cache::{Clock, Moment, TokenCacheBuilder};
use tower_auth::{AuthLayer, Error, Reason, Token, TokenCache, TokenSource};
use tower_service::Service;

#[cfg(feature = "fleet")]
pub(crate) mod breakable_store;
#[cfg(feature = "file")]
pub(crate) mod child_process;
#[cfg(feature = "reqwest")]
pub(crate) mod digest_server;
pub(crate) mod echo;
pub(crate) mod form_server;
#[cfg(feature = "redis")]
mod free_port;
pub(crate) mod house;
#[cfg(feature = "jwt")]
pub(crate) mod keys;
pub(crate) mod log;
pub(crate) mod login_server;
#[cfg(feature = "metrics")]
pub(crate) mod recorder;
#[cfg(feature = "redis")]
pub(crate) mod redis_server;
pub(crate) mod refresh_store;
pub(crate) mod scenarios;
pub(crate) mod secret_finder;
pub(crate) mod serving;
#[cfg(feature = "cookies")]
pub(crate) mod session_site;
pub(crate) mod test_names;
pub(crate) mod token_server;
pub(crate) mod tree;
pub(crate) mod web;

/// A layer whose token may go to any origin over `https`, and to loopback.
pub(crate) fn layer(source: impl TokenSource) -> AuthLayer {
    AuthLayer::new(source).any_https()
}

/// The same layer, with a cache that the test keeps.
pub(crate) fn layer_from(cache: TokenCache) -> AuthLayer {
    AuthLayer::from(cache).any_https()
}

/// A source that hands each of its fetches to the test. A fetch that the test drops hangs.
pub(crate) fn source() -> (impl TokenSource, Fetches) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let source = move |reason| {
        let (complete, completed) = oneshot::channel();
        let asked = sender.send(Fetch { reason, complete });
        async move {
            asked.expect("the test is over");
            match completed.await {
                Ok(result) => result(),
                Err(_) => std::future::pending().await,
            }
        }
    };
    (source, Fetches { receiver })
}

type FetchResult = Box<dyn FnOnce() -> Result<Token, Error> + Send>;

/// The fetches that a source was asked for.
pub(crate) struct Fetches {
    receiver: mpsc::UnboundedReceiver<Fetch>,
}

/// A fetch in flight.
pub(crate) struct Fetch {
    pub(crate) reason: Reason,
    complete: oneshot::Sender<FetchResult>,
}

impl Fetches {
    /// Waits for the next fetch to be asked for.
    pub(crate) async fn next(&mut self) -> Fetch {
        self.receiver.recv().await.expect("the source is gone")
    }

    /// The next fetch, if it was asked for by now.
    pub(crate) fn try_next(&mut self) -> Option<Fetch> {
        self.receiver.try_recv().ok()
    }

    /// Asks for a token, completes the fetch with one of this lifetime, and waits until it
    /// is the current one.
    pub(crate) async fn issued(&mut self, cache: &TokenCache, secret: &str, lifetime: Duration) {
        let caller = tokio::spawn(cache.token());
        self.next().await.issue_for(secret, lifetime);
        caller.await.unwrap().unwrap();
    }

    /// Lets every task that can run do so, and then asserts that no fetch was asked for.
    pub(crate) async fn none(&mut self) {
        run_until_idle().await;
        if let Some(fetch) = self.try_next() {
            panic!("a fetch that nobody needed: {}", fetch.reason);
        }
    }
}

impl Fetch {
    pub(crate) fn complete(self, result: Result<Token, Error>) {
        self.with(move || result);
    }

    /// Completes it with a bearer token that never expires.
    pub(crate) fn issue(self, secret: &str) {
        self.complete(Token::bearer(secret));
    }

    /// Completes it with a bearer token of this lifetime.
    pub(crate) fn issue_for(self, secret: &str, lifetime: Duration) {
        self.complete(Token::bearer(secret).map(|token| token.expires_in(lifetime)));
    }

    pub(crate) fn fail(self, message: &str) {
        self.complete(Err(Error::other(message)));
    }

    /// Lets the source panic, as the test wants it and nobody needs to read.
    pub(crate) fn panic(self) {
        self.with(|| resume_unwind(Box::new("a source that panics")));
    }

    /// Whether whoever asked has stopped waiting.
    pub(crate) fn is_dropped(&self) -> bool {
        self.complete.is_closed()
    }

    fn with(self, result: impl FnOnce() -> Result<Token, Error> + Send + 'static) {
        assert!(
            self.complete.send(Box::new(result)).is_ok(),
            "the fetch was dropped"
        );
    }
}

/// A runtime of one thread, for a test that has several or drops one.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Lets every other task run until all wait. On a runtime of one thread.
pub(crate) async fn run_until_idle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// A cache whose clocks are Tokio's, which a test pauses.
pub(crate) fn paused(source: impl TokenSource) -> TokenCacheBuilder {
    TokenCache::builder(source)
        .jitter(0.0)
        .clock(paused_clock())
}

pub(crate) fn paused_clock() -> Clock {
    let start = tokio::time::Instant::now();
    Clock::custom(move || {
        let now = Duration::from_secs(1_000_000) + start.elapsed();
        Moment::new(now, UNIX_EPOCH + now)
    })
}

/// Both clocks, moved by hand.
#[derive(Clone, Default)]
pub(crate) struct ManualClock {
    passed: Arc<AtomicU64>,
    /// How far the wall clock was set, in seconds.
    stepped: Arc<AtomicI64>,
}

impl ManualClock {
    /// A cache on this clock, without jitter.
    pub(crate) fn cache(&self, source: impl TokenSource) -> TokenCacheBuilder {
        TokenCache::builder(source)
            .jitter(0.0)
            .clock(self.as_clock())
    }

    pub(crate) fn as_clock(&self) -> Clock {
        let clock = self.clone();
        Clock::custom(move || {
            let start = Duration::from_secs(1_000_000_000);
            let now = start + Duration::from_nanos(clock.passed.load(Ordering::SeqCst));
            let stepped = clock.stepped.load(Ordering::SeqCst);
            let by = Duration::from_secs(stepped.unsigned_abs());
            let wall = if stepped < 0 { now - by } else { now + by };
            Moment::new(now, UNIX_EPOCH + wall)
        })
    }

    /// Time passes, by both clocks.
    pub(crate) fn pass(&self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap();
        self.passed.fetch_add(nanos, Ordering::SeqCst);
    }

    /// It is so long after the start, by both clocks.
    pub(crate) fn set(&self, since: Duration) {
        let nanos = u64::try_from(since.as_nanos()).unwrap();
        self.passed.store(nanos, Ordering::SeqCst);
    }

    /// The wall clock is set, or went on while the machine slept.
    pub(crate) fn step_wall(&self, seconds: i64) {
        self.stepped.fetch_add(seconds, Ordering::SeqCst);
    }
}

/// A token source that issues `token-1`, `token-2`, …, and counts.
#[derive(Clone, Default)]
pub(crate) struct Counting {
    issued: Arc<Mutex<usize>>,
    lifetime: Option<Duration>,
}

impl Counting {
    /// Its tokens have this lifetime; otherwise they never expire.
    pub(crate) fn lasting(lifetime: Duration) -> Self {
        Self {
            lifetime: Some(lifetime),
            ..Self::default()
        }
    }

    pub(crate) fn issued(&self) -> usize {
        *self.issued.lock().unwrap()
    }
}

impl TokenSource for Counting {
    fn fetch(&self, _: Reason) -> impl Future<Output = Result<Token, Error>> + Send {
        let mut issued = self.issued.lock().unwrap();
        *issued += 1;
        let token = Token::bearer(format!("token-{issued}"));
        ready(match self.lifetime {
            Some(lifetime) => token.map(|token| token.expires_in(lifetime)),
            None => token,
        })
    }
}

/// A source whose nth attempt, counted from 1, has the result that the script says. It counts them.
#[derive(Clone)]
pub(crate) struct ScriptedSource {
    asked: Arc<AtomicU64>,
    script: Arc<dyn Fn(usize) -> Result<Token, Error> + Send + Sync>,
}

impl ScriptedSource {
    pub(crate) fn new(
        script: impl Fn(usize) -> Result<Token, Error> + Send + Sync + 'static,
    ) -> Self {
        Self {
            asked: Arc::default(),
            script: Arc::new(script),
        }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst) as usize
    }
}

impl TokenSource for ScriptedSource {
    fn fetch(&self, _: Reason) -> impl Future<Output = Result<Token, Error>> + Send {
        let attempt = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        ready((self.script)(attempt as usize))
    }
}

/// An API that accepts what it is told to, refuses all else with 401, and remembers what it saw.
#[derive(Clone, Default)]
pub(crate) struct Api {
    inner: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    accepted: HashSet<String>,
    credentials: Vec<String>,
}

impl Api {
    pub(crate) fn accepting<const N: usize>(secrets: [&str; N]) -> Self {
        let api = Self::default();
        for secret in secrets {
            api.accept(secret);
        }
        api
    }

    pub(crate) fn accept(&self, secret: &str) {
        self.inner
            .lock()
            .unwrap()
            .accepted
            .insert(format!("Bearer {secret}"));
    }

    pub(crate) fn revoke(&self, secret: &str) {
        self.inner
            .lock()
            .unwrap()
            .accepted
            .remove(&format!("Bearer {secret}"));
    }

    /// The `Authorization` of every request so far; `-` for none.
    pub(crate) fn credentials(&self) -> Vec<String> {
        self.inner.lock().unwrap().credentials.clone()
    }

    pub(crate) fn requests(&self) -> usize {
        self.inner.lock().unwrap().credentials.len()
    }

    fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let mut seen = self.inner.lock().unwrap();
        let credential = match request.headers().get(AUTHORIZATION) {
            Some(value) => value.to_str().unwrap().to_owned(),
            None => String::from("-"),
        };
        let accepted = seen.accepted.contains(&credential);
        seen.credentials.push(credential);
        let mut response = Response::new(Full::default());
        if !accepted {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            *response.body_mut() = Full::from("who are you?");
        }
        response
    }
}

impl<B> Service<Request<B>> for Api {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.respond(&request)))
    }
}

/// A request with a body in memory, to an API over https.
pub(crate) fn request(body: &'static str) -> Request<Full<Bytes>> {
    Request::post("https://api.example.com/things")
        .body(Full::from(body))
        .unwrap()
}

/// Polls a service ready and calls it, leaving it to be called again.
pub(crate) async fn call<S, Req>(client: &mut S, request: Req) -> Result<S::Response, S::Error>
where
    S: Service<Req>,
{
    std::future::poll_fn(|cx| client.poll_ready(cx)).await?;
    client.call(request).await
}
