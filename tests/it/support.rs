//! Helpers that many tests share. The test completes the fetches of the token source [`source`].
//! [`Api`] accepts only the tokens that the test names.

use std::collections::HashSet;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tower_auth::cache::{Clock, ManualClock, TokenCacheBuilder};
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

/// Builds a layer that attaches the token for any `https` origin and for loopback.
pub(crate) fn layer(source: impl TokenSource) -> AuthLayer {
    AuthLayer::new(source).any_https()
}

/// Builds the same layer around a cache that the test keeps.
pub(crate) fn layer_from(cache: TokenCache) -> AuthLayer {
    AuthLayer::from(cache).any_https()
}

/// Returns a source, and the [`Fetches`] that the test completes. A fetch that the test drops never
/// completes.
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

/// Receives the fetches that the cache starts.
pub(crate) struct Fetches {
    receiver: mpsc::UnboundedReceiver<Fetch>,
}

/// A fetch in flight. The test decides how the fetch ends.
pub(crate) struct Fetch {
    pub(crate) reason: Reason,
    complete: oneshot::Sender<FetchResult>,
}

impl Fetches {
    /// Waits until the cache starts the next fetch.
    pub(crate) async fn next(&mut self) -> Fetch {
        self.receiver.recv().await.expect("the source is gone")
    }

    /// Returns the next fetch if the cache has already started it.
    pub(crate) fn try_next(&mut self) -> Option<Fetch> {
        self.receiver.try_recv().ok()
    }

    /// Asks the cache for a token, and completes the fetch with a token of this lifetime. Returns
    /// when this token is the current one.
    pub(crate) async fn issued(&mut self, cache: &TokenCache, secret: &str, lifetime: Duration) {
        let caller = tokio::spawn(cache.token());
        self.next().await.issue_for(secret, lifetime);
        caller.await.unwrap().unwrap();
    }

    /// Lets every ready task run, and then asserts that the cache started no fetch.
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

    /// Completes the fetch with a bearer token that never expires.
    pub(crate) fn issue(self, secret: &str) {
        self.complete(Token::bearer(secret));
    }

    /// Completes the fetch with a bearer token of this lifetime.
    pub(crate) fn issue_for(self, secret: &str, lifetime: Duration) {
        self.complete(Token::bearer(secret).map(|token| token.expires_in(lifetime)));
    }

    pub(crate) fn fail(self, message: &str) {
        self.complete(Err(Error::other(message)));
    }

    /// Makes the source panic. `resume_unwind` skips the panic hook, so the output shows no
    /// message.
    pub(crate) fn panic(self) {
        self.with(|| resume_unwind(Box::new("a source that panics")));
    }

    /// Returns whether the cache has dropped the future of this fetch.
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

/// Builds a single-threaded runtime, for tests that need several runtimes or drop one.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Yields until every other task waits. This works only on a single-threaded runtime.
pub(crate) async fn run_until_idle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// Starts a cache builder with this clock and without jitter.
pub(crate) fn clocked(source: impl TokenSource, clock: impl Into<Clock>) -> TokenCacheBuilder {
    TokenCache::builder(source).jitter(0.0).clock(clock)
}

/// Starts such a builder with a clock that follows Tokio's, which the test pauses.
pub(crate) fn paused(source: impl TokenSource) -> TokenCacheBuilder {
    clocked(source, Clock::tokio())
}

/// The time that a [`manual_clock`] shows first.
pub(crate) fn clock_start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

/// Returns a clock that starts at the same time in each run.
pub(crate) fn manual_clock() -> ManualClock {
    let clock = Clock::manual();
    clock.set_back(Duration::MAX);
    clock.suspend(clock_start().duration_since(UNIX_EPOCH).unwrap());
    clock
}

/// A token source that issues `token-1`, `token-2`, …, and counts them.
#[derive(Clone, Default)]
pub(crate) struct Counting {
    issued: Arc<Mutex<usize>>,
    lifetime: Option<Duration>,
}

impl Counting {
    /// Gives the tokens this lifetime. Without a lifetime, tokens never expire.
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

/// A source whose nth attempt, counted from 1, ends as the script says. It counts the attempts.
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

/// An API that accepts the tokens that the test names, and refuses all others with 401. It records
/// the credentials.
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

    /// Returns the `Authorization` of every request so far. `-` stands for a missing header.
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

/// Builds a request with an in-memory body to an API over `https`.
pub(crate) fn request(body: &'static str) -> Request<Full<Bytes>> {
    Request::post("https://api.example.com/things")
        .body(Full::from(body))
        .unwrap()
}

/// Polls a service ready and calls it. The service can be called again.
pub(crate) async fn call<S, Req>(client: &mut S, request: Req) -> Result<S::Response, S::Error>
where
    S: Service<Req>,
{
    std::future::poll_fn(|cx| client.poll_ready(cx)).await?;
    client.call(request).await
}
