//! A server whose closure responds to each request.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::watch;
use tower_auth::BoxError;
use tower_service::Service;

use super::body::{ScriptedBody, reset};
use super::request::{Outcome, RecordedRequest};
use super::response::{Action, ScriptedResponse};
use crate::difference::assert_lines;
use crate::lock::lock;

/// A server whose closure responds to each request. It records what it received.
///
/// It is a Tower service for requests with any body: the inner service of a layer, or the
/// `transport` of a token source. Clones share everything.
///
/// # Example
///
/// A login endpoint of an API, and the request that it received:
///
/// ```
/// use tower_auth::{Reason, TokenSource};
/// use tower_auth::login::JsonLogin;
/// use tower_auth_test::{ScriptedResponse, ScriptedServer};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
/// let server = ScriptedServer::new(|request| match request.path() {
///     "/login" => ScriptedResponse::json(200, r#"{"access_token":"abc"}"#),
///     _ => ScriptedResponse::new(404),
/// });
/// let source = JsonLogin::new("https://api.example.com/login", "me", "a-password")?
///     .transport(server.clone());
/// assert_eq!(source.fetch(Reason::First).await?.secret(), "abc");
/// assert_eq!(server.requests()[0].param("email").as_deref(), Some("me"));
/// # Ok(()) }
/// ```
///
/// An outage:
///
/// ```
/// use http::Request;
/// use tower::ServiceExt;
/// use tower_auth_test::{ScriptedResponse, ScriptedServer};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
/// let server = ScriptedServer::new(|_| ScriptedResponse::new(200));
/// server.assert_no_requests();
/// server.respond_next(ScriptedResponse::new(500));
/// server.respond_always(ScriptedResponse::new(503));
/// let request = || Request::get("https://api.example.com/notes").body(String::new());
/// for _ in 0..3 {
///     server.clone().oneshot(request()?).await?;
/// }
/// server.respond_as_usual();
/// server.clone().oneshot(request()?).await?;
/// server.assert_requests([
///     "GET /notes - -> 500",
///     "GET /notes - -> 503",
///     "GET /notes - -> 503",
///     "GET /notes - -> 200",
/// ]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ScriptedServer {
    inner: Arc<Inner>,
}

struct Inner {
    respond: Box<dyn Fn(&RecordedRequest) -> ScriptedResponse + Send + Sync>,
    state: Mutex<State>,
    /// How many requests were received.
    received: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    next: VecDeque<ScriptedResponse>,
    always: Option<ScriptedResponse>,
    requests: Vec<RecordedRequest>,
}

impl ScriptedServer {
    /// Makes a server that responds to each request as the closure says.
    pub fn new(
        respond: impl Fn(&RecordedRequest) -> ScriptedResponse + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                respond: Box::new(respond),
                state: Mutex::default(),
                received: watch::Sender::default(),
            }),
        }
    }

    /// Responds to the next request like this, instead of as usual. Called several times, it sets
    /// the responses to as many requests, in order.
    pub fn respond_next(&self, response: ScriptedResponse) {
        lock(&self.inner.state).next.push_back(response);
    }

    /// Responds to every request like this, after those of [`respond_next`](Self::respond_next),
    /// until [`respond_as_usual`](Self::respond_as_usual).
    pub fn respond_always(&self, response: ScriptedResponse) {
        lock(&self.inner.state).always = Some(response);
    }

    /// Ends what [`respond_next`](Self::respond_next) and [`respond_always`](Self::respond_always)
    /// have set.
    pub fn respond_as_usual(&self) {
        let mut state = lock(&self.inner.state);
        state.next.clear();
        state.always = None;
    }

    /// Waits until the server has received this many requests since it was made. They may still wait
    /// for their responses. If they don't come, this waits for ever: use `tokio::time::timeout`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    ///
    /// # Example
    ///
    /// A client gives up while the server stalls:
    ///
    /// ```
    /// use tower_auth_test::{ScriptedResponse, ScriptedServer};
    ///
    /// # #[cfg(feature = "loopback")]
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
    /// let server = ScriptedServer::new(|_| ScriptedResponse::stall());
    /// let running = server.serve().await?;
    /// let client = tokio::spawn(reqwest::get(running.url("/slow")));
    /// server.wait_for_requests(1).await;
    /// client.abort();
    /// server.assert_requests(["GET /slow - -> …"]);
    /// # Ok(()) }
    /// # #[cfg(not(feature = "loopback"))] fn main() {}
    /// ```
    pub async fn wait_for_requests(&self, count: usize) {
        let mut received = self.inner.received.subscribe();
        // The sender is in `self`, so it isn't dropped meanwhile.
        let _ = received.wait_for(|received| *received >= count).await;
    }

    /// Returns all requests so far, in the order of their arrival. A request has arrived when its
    /// body is complete.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        lock(&self.inner.state).requests.clone()
    }

    /// Asserts that the server received exactly these requests, as [`RecordedRequest`] displays
    /// them.
    ///
    /// # Panics
    ///
    /// If it received others. The message shows the difference.
    #[track_caller]
    pub fn assert_requests<I>(&self, expected: I)
    where
        I: IntoIterator<Item: Into<String>>,
    {
        assert_lines(
            "the server received other requests",
            expected,
            self.requests(),
        );
    }

    /// Asserts that the server received no request.
    ///
    /// # Panics
    ///
    /// If it received requests. The message lists them.
    #[track_caller]
    pub fn assert_no_requests(&self) {
        self.assert_requests(std::iter::empty::<String>());
    }

    /// Starts the same server on a free port of 127.0.0.1. It serves HTTP/1 and HTTP/2 without TLS,
    /// until the returned [`Loopback`](crate::Loopback) is dropped.
    ///
    /// Don't pause Tokio's time while a client uses the port. While all tasks wait for the network,
    /// Tokio advances paused time to the next timer, so a timeout may end the request. For expiry on
    /// loopback, use [`Clock::manual`](tower_auth::cache::Clock::manual).
    ///
    /// # Errors
    ///
    /// If the system has no free port.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth_test::{ScriptedResponse, ScriptedServer};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
    /// let server = ScriptedServer::new(|_| ScriptedResponse::new(204));
    /// let running = server.serve().await?;
    /// assert_eq!(reqwest::get(running.url("/ping")).await?.status(), 204);
    /// server.assert_requests(["GET /ping - -> 204"]);
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "loopback")]
    pub async fn serve(&self) -> std::io::Result<crate::Loopback> {
        super::loopback::Loopback::start(self.clone()).await
    }

    /// Records the request, and returns its number and the response to it.
    fn receive(&self, mut request: RecordedRequest) -> (usize, ScriptedResponse) {
        let scripted = {
            let mut state = lock(&self.inner.state);
            request.set_number(state.requests.len() + 1);
            state.requests.push(request.clone());
            state.next.pop_front().or_else(|| state.always.clone())
        };
        self.inner.received.send_modify(|received| *received += 1);
        // Without the lock: the closure may ask this server for its requests.
        let usual = || (self.inner.respond)(&request);
        let response = match scripted {
            Some(scripted) => scripted.or_as_usual(usual),
            None => usual(),
        };
        (request.number(), response)
    }

    fn record(&self, number: usize, outcome: Outcome) {
        if let Some(request) = lock(&self.inner.state).requests.get_mut(number - 1) {
            request.set_outcome(outcome);
        }
    }

    async fn respond<B>(self, request: Request<B>) -> Result<Response<ScriptedBody>, BoxError>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(Into::into)?.to_bytes();
        let (number, response) = self.receive(RecordedRequest::new(head, body));
        match response.run().await {
            Action::Respond(response) => {
                self.record(number, Outcome::of(&response));
                Ok(response)
            }
            Action::Stall => pending().await,
            Action::Reset => {
                self.record(number, Outcome::Reset);
                Err(reset())
            }
        }
    }
}

/// The future of a response of a fake server.
pub type ServerFuture =
    Pin<Box<dyn Future<Output = Result<Response<ScriptedBody>, BoxError>> + Send>>;

impl<B> Service<Request<B>> for ScriptedServer
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<ScriptedBody>;
    type Error = BoxError;
    type Future = ServerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ServerFuture {
        Box::pin(self.clone().respond(request))
    }
}

impl fmt::Debug for ScriptedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedServer")
            .field("requests", &lock(&self.inner.state).requests.len())
            .finish_non_exhaustive()
    }
}
