//! An API and a token endpoint in virtual time. The API refuses revoked tokens, and everything else
//! that the test chooses.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, COOKIE, WWW_AUTHENTICATE};
use http::{Method, Request, Response};
use tokio::time::{Instant, sleep};
use tower_auth::layer::Replay;
use tower_auth::{Error, Reason, Token, TokenSource};
use tower_service::Service;

/// How long the token endpoint takes.
pub(super) const FETCH: Duration = Duration::from_millis(200);

/// Issues `token-1`, `token-2`, …, and records the time of each request and each token.
#[derive(Clone)]
pub(super) struct Issuer {
    pub(super) start: Instant,
    lifetime: Duration,
    book: Arc<Mutex<Issued>>,
}

#[derive(Default)]
pub(super) struct Issued {
    asked: Vec<Duration>,
    issued: Vec<Duration>,
    /// All tokens up to this number are revoked.
    revoked: usize,
    is_down: bool,
}

impl Issuer {
    pub(super) fn lasting(lifetime: Duration) -> Self {
        Self {
            start: Instant::now(),
            lifetime,
            book: Arc::default(),
        }
    }

    /// Issues a token and returns its number.
    pub(super) async fn issue(&self) -> Result<usize, Error> {
        self.book().asked.push(self.start.elapsed());
        sleep(FETCH).await;
        let mut book = self.book();
        if book.is_down {
            return Err(Error::other("down"));
        }
        book.issued.push(self.start.elapsed());
        Ok(book.issued.len())
    }

    /// Records a request for which no token is issued.
    pub(super) fn refuse(&self) {
        self.book().asked.push(self.start.elapsed());
    }

    fn book(&self) -> MutexGuard<'_, Issued> {
        self.book.lock().unwrap()
    }

    /// Returns the number of requests so far.
    pub(super) fn count(&self) -> usize {
        self.book().asked.len()
    }

    pub(super) fn count_in(&self, span: Range<Duration>) -> usize {
        let book = self.book();
        book.asked.iter().filter(|&at| span.contains(at)).count()
    }

    /// Returns the time since the last request.
    pub(super) fn idle(&self) -> Duration {
        let last = self.book().asked.last().copied();
        self.start.elapsed() - last.unwrap_or_default()
    }

    /// Returns the time of each request.
    pub(super) fn asked(&self) -> Vec<Duration> {
        self.book().asked.clone()
    }

    /// Returns the number of issued tokens.
    pub(super) fn issued(&self) -> usize {
        self.book().issued.len()
    }

    /// Returns when the first token was issued.
    pub(super) fn first_issued(&self) -> Duration {
        self.book().issued[0]
    }

    pub(super) fn revoke_all(&self) {
        let mut book = self.book();
        book.revoked = book.issued.len();
    }

    pub(super) fn set_down(&self, is_down: bool) {
        self.book().is_down = is_down;
    }
}

impl TokenSource for Issuer {
    async fn fetch(&self, _: Reason) -> Result<Token, Error> {
        let token = Token::bearer(format!("token-{}", self.issue().await?))?;
        Ok(token.expires_in(self.lifetime))
    }
}

/// A request as the API sees it.
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    /// The number of the token in the request.
    pub(super) token: usize,
    /// The time since the request's token was issued.
    pub(super) age: Duration,
    /// The number of earlier requests.
    pub(super) number: usize,
}

/// An API that refuses revoked tokens, and everything else that the test chooses.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) issuer: Issuer,
    asked: Arc<AtomicUsize>,
    accepts: Arc<dyn Fn(&Asked<'_>) -> bool + Send + Sync>,
    takes: Arc<dyn Fn(&Asked<'_>) -> Duration + Send + Sync>,
    refusal: fn() -> Response<&'static str>,
}

impl Api {
    pub(super) fn new(
        issuer: &Issuer,
        accepts: impl Fn(&Asked<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            issuer: issuer.clone(),
            asked: Arc::default(),
            accepts: Arc::new(accepts),
            takes: Arc::new(|_| Duration::ZERO),
            refusal: || {
                let response = Response::builder().status(401);
                let response = response.header(WWW_AUTHENTICATE, r#"Bearer realm="api""#);
                response.body("who are you?").unwrap()
            },
        }
    }

    pub(super) fn taking(
        self,
        takes: impl Fn(&Asked<'_>) -> Duration + Send + Sync + 'static,
    ) -> Self {
        let takes = Arc::new(takes);
        Self { takes, ..self }
    }

    /// Returns the number of requests so far.
    pub(super) fn requests(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn refusing_with(self, refusal: fn() -> Response<&'static str>) -> Self {
        Self { refusal, ..self }
    }
}

/// Returns the number at the end of a credential, such as `Bearer token-7` or the cookie `sid=7`.
fn token_of<B>(request: &Request<B>) -> usize {
    let headers = request.headers();
    let credential = headers.get(AUTHORIZATION).or_else(|| headers.get(COOKIE));
    let credential = credential.expect("a credential").to_str().unwrap();
    let (_, number) = credential.rsplit_once(['-', '=']).unwrap();
    number.parse().unwrap()
}

impl Service<Request<Payload>> for Api {
    type Response = Response<&'static str>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    /// The API decides when the request arrives. Its response may come later.
    fn call(&mut self, request: Request<Payload>) -> Self::Future {
        let token = token_of(&request);
        let (issued, revoked) = {
            let book = self.issuer.book();
            (book.issued[token - 1], book.revoked)
        };
        let asked = Asked {
            method: request.method(),
            path: request.uri().path(),
            token,
            age: self.issuer.start.elapsed() - issued,
            number: self.asked.fetch_add(1, Ordering::SeqCst),
        };
        let response = match token > revoked && (self.accepts)(&asked) {
            true => Response::new("accepted"),
            false => (self.refusal)(),
        };
        let takes = (self.takes)(&asked);
        Box::pin(async move {
            if !takes.is_zero() {
                sleep(takes).await;
            }
            Ok(response)
        })
    }
}

/// A body that can or can't be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    Whole,
    /// The layer knows before the first try that it can't replay the body.
    Stream,
    /// The layer learns during the first try that the body is too long for a replay.
    TooLong,
}

impl Replay for Payload {
    type Copy = Self;

    fn record(&mut self, _: usize) -> Option<Self> {
        (*self != Self::Stream).then_some(*self)
    }

    fn replay(copy: Self) -> Option<Self> {
        (copy == Self::Whole).then_some(copy)
    }
}
