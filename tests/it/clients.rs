//! The same layer in front of common HTTP clients, over loopback. The types of the clients stay the
//! same.
//!
//! Each client runs the same scenarios: the methods of [`Scenario`].

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as Received, State};
use axum::response::{IntoResponse, Response as ServerResponse};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::header::{AUTHORIZATION, LOCATION, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tower::{Layer, ServiceExt};
use tower_auth::cache::{Clock, ManualClock};
use tower_auth::layer::AuthRequest;
use tower_auth::{AuthLayer, BoxError, NotReplayed};
use tower_auth_test::ScriptedSource;
use tower_service::Service;

use crate::support::clocked;

#[cfg(feature = "axum")]
mod of_axum;
mod of_hyper_util;
#[cfg(feature = "reqwest")]
mod of_reqwest;
#[cfg(feature = "tonic")]
mod of_tonic;

const CHUNK: usize = 8 * 1024;

/// After this time the refusal budget is reset.
const LONG: Duration = Duration::from_secs(600);

/// Returns chunks that all differ. Adjacent bytes in a chunk differ too.
fn chunks(count: usize) -> Vec<Bytes> {
    let chunk = |n: usize| (0..CHUNK).map(move |i| ((n * 7 + i) % 251) as u8);
    (0..count).map(|n| chunk(n).collect()).collect()
}

/// 40 KiB, which fits into the limit of 64 KiB.
fn small() -> Vec<Bytes> {
    chunks(5)
}

/// 200 KiB, which exceeds the limit.
fn large() -> Vec<Bytes> {
    chunks(25)
}

fn whole(chunks: &[Bytes]) -> Bytes {
    chunks.concat().into()
}

/// Returns the chunks as a stream of unknown length.
fn streamed(chunks: Vec<Bytes>) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
    stream::iter(chunks.into_iter().map(Ok))
}

fn boxed(
    stream: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
) -> UnsyncBoxBody<Bytes, BoxError> {
    UnsyncBoxBody::new(StreamBody::new(stream.map(|data| data.map(Frame::data))))
}

/// An API on loopback that accepts one token at a time and records every request. The API stops
/// with the test's runtime.
///
/// - `/things` reads the body before it responds.
/// - `/unread` reads the body only if the API accepts the token.
/// - `/drained` is like `/unread`, but it reads refused bodies in the background. The connection
///   stays open, so only the response tells the client to stop.
/// - `/moved?<address>` redirects to the address with a 307, if the API accepts the token.
#[derive(Clone)]
struct Api {
    shared: Arc<Shared>,
}

struct Shared {
    accepted: Mutex<String>,
    seen: Mutex<Vec<Seen>>,
    /// The API adds a permit when it accepts a request, before it reads the body.
    accepting: Semaphore,
    /// The refused bodies of `/drained`.
    unwanted: Mutex<Vec<JoinHandle<Result<Bytes, axum::Error>>>>,
}

/// A request as it arrived.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    path: String,
    version: Version,
    /// The `Authorization` header, or `-` for none.
    credential: String,
    body: Bytes,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            version,
            credential,
            body,
        } = self;
        let bytes = body.len();
        write!(
            f,
            "{path} over {version:?} with {credential} and {bytes} bytes"
        )
    }
}

impl Api {
    fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                accepted: Mutex::default(),
                seen: Mutex::default(),
                accepting: Semaphore::new(0),
                unwanted: Mutex::default(),
            }),
        }
    }

    fn accept_only(&self, secret: &str) {
        *self.shared.accepted.lock().unwrap() = format!("Bearer {secret}");
    }

    /// Returns the requests since the last call.
    fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.seen.lock().unwrap())
    }

    /// Returns the length of the body that `/drained` refused, or the error that cut it off.
    #[cfg(any(feature = "axum", feature = "reqwest"))]
    async fn the_unwanted_body(&self) -> Result<usize, axum::Error> {
        let body = self.shared.unwanted.lock().unwrap().pop();
        let body = body.expect("there was none").await.unwrap();
        body.map(|body| body.len())
    }

    fn router(&self) -> Router {
        Router::new().fallback(respond).with_state(self.clone())
    }

    /// Serves HTTP/1 and HTTP/2, as the client chooses.
    async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = axum::serve(listener, self.router());
        tokio::spawn(async move { server.await.unwrap() });
        address
    }

    /// Returns the chunks as a stream. After the first chunk, the stream waits until the API has
    /// accepted a request.
    fn streamed_when_accepted(
        &self,
        chunks: Vec<Bytes>,
    ) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        stream::iter(chunks).enumerate().then(move |(n, chunk)| {
            let shared = Arc::clone(&shared);
            async move {
                if n > 0 {
                    drop(shared.accepting.acquire().await);
                }
                Ok(chunk)
            }
        })
    }
}

fn credential<B>(request: &Request<B>) -> String {
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let credential = values.next().map_or("-", |value| value.to_str().unwrap());
    assert!(values.next().is_none(), "two credentials");
    credential.to_owned()
}

async fn respond(State(api): State<Api>, request: Received) -> ServerResponse {
    let credential = credential(&request);
    let accepted = *api.shared.accepted.lock().unwrap() == credential;
    let (parts, body) = request.into_parts();
    if accepted {
        api.shared.accepting.add_permits(1);
    }
    let path = parts.uri.path().to_owned();
    let body = if accepted || !matches!(path.as_str(), "/unread" | "/drained") {
        match axum::body::to_bytes(body, usize::MAX).await {
            Ok(body) => body,
            Err(_) => return StatusCode::BAD_REQUEST.into_response(),
        }
    } else {
        if path == "/drained" {
            let drained = tokio::spawn(axum::body::to_bytes(body, usize::MAX));
            api.shared.unwanted.lock().unwrap().push(drained);
        }
        Bytes::new()
    };
    let moved = path == "/moved";
    api.shared.seen.lock().unwrap().push(Seen {
        path,
        version: parts.version,
        credential,
        body,
    });
    if !accepted {
        let challenge = [(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")];
        return (StatusCode::UNAUTHORIZED, challenge, "refused").into_response();
    }
    if moved {
        let to = parts.uri.query().unwrap().to_owned();
        return (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, to)]).into_response();
    }
    "accepted".into_response()
}

/// An API, the source of its tokens, and the layer for a client.
struct Scenario {
    api: Api,
    address: SocketAddr,
    source: ScriptedSource,
    layer: AuthLayer,
    clock: ManualClock,
}

impl Scenario {
    async fn new() -> Self {
        let api = Api::new();
        let (source, clock) = (ScriptedSource::default(), Clock::manual());
        Self {
            address: api.serve().await,
            api,
            layer: crate::support::layer_from(clocked(source.clone(), &clock).build()),
            clock,
            source,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends three requests, and revokes the token before the second. The second request is refused
    /// and replayed. The replay costs one fetch, and each try sends the whole body.
    async fn a_revoked_token_goes_unnoticed<S, Req, B>(
        &self,
        client: S,
        version: Version,
        request: impl Fn() -> Req,
        body: &[Bytes],
    ) where
        S: Service<Req, Response = Response<B>> + Clone,
        S::Error: fmt::Debug + Into<BoxError>,
        Req: AuthRequest,
        B: Body<Error: fmt::Debug>,
    {
        let fetched = self.source.tokens_issued();
        let client = self.layer.layer(client);
        let (old, new) = (
            format!("token-{}", fetched + 1),
            format!("token-{}", fetched + 2),
        );
        let arrives = |secret: &str| Seen {
            path: String::from("/things"),
            version,
            credential: format!("Bearer {secret}"),
            body: whole(body),
        };
        for (valid, arrivals, fetches) in [
            (&old, vec![arrives(&old)], 1),
            (&new, vec![arrives(&old), arrives(&new)], 2),
            (&new, vec![arrives(&new)], 2),
        ] {
            self.clock.advance(LONG);
            self.api.accept_only(valid);
            let response = client.clone().oneshot(request()).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert!(response.extensions().get::<NotReplayed>().is_none());
            let text = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(text, "accepted");
            assert_eq!(self.api.take_seen(), arrivals);
            assert_eq!(self.source.tokens_issued() - fetched, fetches);
        }
        // The next scenario has to start without a valid token.
        self.clock.advance(LONG);
        let token = self.layer.cache().token().await.unwrap();
        self.layer.cache().reject(&token);
    }

    /// Sends a request whose body can't be recorded. The caller gets the unchanged refusal, and no
    /// fetch starts.
    async fn the_refusal_comes_back<S, Req, B>(&self, client: S, request: Req, body: &[Bytes])
    where
        S: Service<Req, Response = Response<B>> + Clone,
        S::Error: fmt::Debug + Into<BoxError>,
        Req: AuthRequest,
        B: Body<Error: fmt::Debug>,
    {
        self.api.accept_only("another");
        let client = self.layer.layer(client);
        let response = client.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let why = response.extensions().get();
        assert!(matches!(why, Some(NotReplayed::Body)), "{why:?}");
        let challenge = &response.headers()[WWW_AUTHENTICATE];
        assert_eq!(challenge, "Bearer error=\"invalid_token\"");
        let text = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text, "refused");
        let bodies: Vec<_> = self.api.take_seen().into_iter().map(|s| s.body).collect();
        assert_eq!(bodies, [whole(body)]);
        assert_eq!(self.source.tokens_issued(), 1);
    }

    /// Sends a request that is refused before its body is read. Either the request is replayed with
    /// the whole body, or the caller gets the unchanged refusal. The returned status shows which of
    /// the two happened.
    async fn a_refusal_of_an_unread_body<S, Req, B>(
        &self,
        client: S,
        request: Req,
        body: &[Bytes],
    ) -> StatusCode
    where
        S: Service<Req, Response = Response<B>> + Clone,
        S::Error: fmt::Debug + Into<BoxError>,
        Req: AuthRequest,
        B: Body<Error: fmt::Debug>,
    {
        self.api.accept_only("token-2");
        let client = self.layer.layer(client);
        let response = client.oneshot(request).await.unwrap();
        let seen = self.api.take_seen();
        let credentials: Vec<_> = seen.iter().map(|s| s.credential.as_str()).collect();
        let status = response.status();
        match status {
            StatusCode::OK => {
                assert_eq!(credentials, ["Bearer token-1", "Bearer token-2"]);
                assert!(seen[1].body == whole(body), "the body was cut: {seen:?}");
            }
            StatusCode::UNAUTHORIZED => {
                assert_eq!(credentials, ["Bearer token-1"]);
                let why = response.extensions().get();
                assert!(matches!(why, Some(NotReplayed::Body)), "{why:?}");
                let challenge = &response.headers()[WWW_AUTHENTICATE];
                assert_eq!(challenge, "Bearer error=\"invalid_token\"");
                let text = response.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(text, "refused");
            }
            other => panic!("{other}: {seen:?}"),
        }
        status
    }
}
