//! The same layer in front of the clients that people use, over loopback, with no type changed.
//!
//! Each of them is taken through the same scenarios, which are methods of [`Scene`].

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request as Received, State};
use axum::response::{IntoResponse, Response as Answer};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::header::{AUTHORIZATION, LOCATION, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tower::{Layer, ServiceExt};
use tower_auth::{AuthLayer, AuthRequest, BoxError, NotReplayed};
use tower_service::Service;

use crate::support::Counting;

const CHUNK: usize = 8 * 1024;

/// Chunks of which no two are alike, nor any two bytes next to each other.
fn chunks(count: usize) -> Vec<Bytes> {
    let chunk = |n: usize| (0..CHUNK).map(move |i| ((n * 7 + i) % 251) as u8);
    (0..count).map(|n| chunk(n).collect()).collect()
}

/// 40 KiB: fits in the limit of 64 KiB.
fn small() -> Vec<Bytes> {
    chunks(5)
}

/// 200 KiB: doesn't.
fn large() -> Vec<Bytes> {
    chunks(25)
}

fn whole(chunks: &[Bytes]) -> Bytes {
    chunks.concat().into()
}

/// The chunks as a stream, whose length nobody knows.
fn streamed(chunks: Vec<Bytes>) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
    stream::iter(chunks.into_iter().map(Ok))
}

fn boxed(
    stream: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
) -> UnsyncBoxBody<Bytes, BoxError> {
    UnsyncBoxBody::new(StreamBody::new(stream.map(|data| data.map(Frame::data))))
}

/// An API on loopback that accepts one token at a time and remembers all it was sent. It stops
/// with the runtime of the test.
///
/// - `/things` reads the body before it answers, and `/unread` only if it accepts the token.
/// - `/drained` is `/unread`, but for what it does with a body that it doesn't want: it lets it come
///   and doesn't end the connection, so that nothing but the answer tells the client to stop.
/// - `/moved?<address>` redirects there with a 307, if it accepts the token.
#[derive(Clone)]
struct Api {
    shared: Arc<Shared>,
}

struct Shared {
    accepted: Mutex<String>,
    seen: Mutex<Vec<Seen>>,
    /// Gets a permit with every request that is accepted, before its body is read.
    accepting: Semaphore,
    /// What comes of the bodies that `/drained` doesn't want.
    unwanted: Mutex<Vec<JoinHandle<Result<Bytes, axum::Error>>>>,
}

/// A request as it arrived.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    path: String,
    version: Version,
    /// `-` for none.
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

    /// What has arrived since the last time.
    fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.seen.lock().unwrap())
    }

    /// The length of the body that `/drained` didn't want, or how it broke off.
    #[cfg(any(feature = "axum", feature = "reqwest"))]
    async fn the_unwanted_body(&self) -> Result<usize, axum::Error> {
        let body = self.shared.unwanted.lock().unwrap().pop();
        let body = body.expect("there was none").await.unwrap();
        body.map(|body| body.len())
    }

    fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    /// Serves HTTP/1 and HTTP/2, whichever the client begins with.
    async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = axum::serve(listener, self.router());
        tokio::spawn(async move { server.await.unwrap() });
        address
    }

    /// The chunks, of which all but the first are made only once the API has accepted a request.
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

async fn answer(State(api): State<Api>, request: Received) -> Answer {
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

/// An API, the source of its tokens, and the layer to put in front of a client.
struct Scene {
    api: Api,
    address: SocketAddr,
    source: Counting,
    layer: AuthLayer,
}

impl Scene {
    async fn new() -> Self {
        let api = Api::new();
        let source = Counting::default();
        Self {
            address: api.serve().await,
            api,
            layer: AuthLayer::new(source.clone()),
            source,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends three requests, and revokes the token before the second: that one is refused and
    /// replayed, which costs one fetch, and each try brings the whole body.
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
        let fetched = self.source.issued();
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
            self.api.accept_only(valid);
            let response = client.clone().oneshot(request()).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert!(response.extensions().get::<NotReplayed>().is_none());
            let text = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(text, "accepted");
            assert_eq!(self.api.take_seen(), arrivals);
            assert_eq!(self.source.issued() - fetched, fetches);
        }
        // So that the next one begins without a token.
        let token = self.layer.cache().token().await.unwrap();
        self.layer.cache().reject(&token);
    }

    /// Sends a request whose body can't be kept: the refusal comes back as the server sent it,
    /// with nothing fetched for it.
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
        assert_eq!(self.source.issued(), 1);
    }

    /// Sends a request that is refused before its body was read. Either it is replayed with the
    /// whole body, or the refusal comes back as it was sent; which of them, is returned.
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

mod of_hyper_util {
    use super::*;

    fn http1<B>() -> Client<hyper_util::client::legacy::connect::HttpConnector, B>
    where
        B: Body<Data: Send> + Send,
    {
        Client::builder(TokioExecutor::new()).build_http()
    }

    fn http2<B>() -> Client<hyper_util::client::legacy::connect::HttpConnector, B>
    where
        B: Body<Data: Send> + Send,
    {
        Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build_http()
    }

    /// From no byte to more than is kept of a stream: what is in memory is replayed whatever its
    /// size.
    const SIZES: [usize; 3] = [0, 1, 25];

    #[tokio::test]
    async fn a_body_in_memory_over_http1_is_sent_again() {
        let scene = Scene::new().await;
        for body in SIZES.map(chunks) {
            let request = || {
                let request = Request::put(scene.url("/things"));
                request.body(Full::new(whole(&body))).unwrap()
            };
            scene
                .a_revoked_token_goes_unnoticed(http1(), Version::HTTP_11, request, &body)
                .await;
        }
    }

    #[tokio::test]
    async fn a_body_in_memory_over_http2_is_sent_again() {
        let scene = Scene::new().await;
        for body in SIZES.map(chunks) {
            let request = || {
                let request = Request::put(scene.url("/things"));
                request.body(Full::new(whole(&body))).unwrap()
            };
            scene
                .a_revoked_token_goes_unnoticed(http2(), Version::HTTP_2, request, &body)
                .await;
        }
    }

    #[tokio::test]
    async fn a_boxed_stream_within_the_limit_is_sent_again() {
        let scene = Scene::new().await;
        let request = || {
            let request = Request::post(scene.url("/things"));
            request.body(boxed(streamed(small()))).unwrap()
        };
        scene
            .a_revoked_token_goes_unnoticed(http1(), Version::HTTP_11, request, &small())
            .await;
        scene
            .a_revoked_token_goes_unnoticed(http2(), Version::HTTP_2, request, &small())
            .await;
    }

    #[tokio::test]
    async fn a_boxed_stream_over_the_limit_gets_the_refusal() {
        for client in [http1(), http2()] {
            let scene = Scene::new().await;
            let request = Request::post(scene.url("/things"));
            let request = request.body(boxed(streamed(large()))).unwrap();
            scene
                .the_refusal_comes_back(client, request, &large())
                .await;
        }
    }

    #[tokio::test]
    async fn a_boxed_stream_that_was_refused_unread_is_sent_again_whole_or_not_at_all() {
        let scene = Scene::new().await;
        let body = chunks(128);
        let request = Request::post(scene.url("/unread"));
        let request = request.body(boxed(streamed(body.clone()))).unwrap();
        scene
            .a_refusal_of_an_unread_body(http2(), request, &body)
            .await;
    }

    /// A body can't be broken off over HTTP/1 but with its connection. As long as that is there, it
    /// is still being sent, and a box can't be told to stop.
    #[tokio::test]
    async fn a_boxed_stream_that_is_still_being_sent_over_http1_gets_the_refusal() {
        let scene = Scene::new().await;
        let body = chunks(128);
        let rest_when_accepted = scene.api.streamed_when_accepted(body.clone());
        let request = Request::post(scene.url("/drained"));
        let request = request.body(boxed(rest_when_accepted)).unwrap();
        let status = scene
            .a_refusal_of_an_unread_body(http1(), request, &body)
            .await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }

    /// The server ends the connection with its answer. Whether the client knows by the time that
    /// the new token is there, and lets go of the body, is anyone's guess.
    #[tokio::test]
    async fn a_boxed_stream_whose_connection_was_closed_over_http1_is_sent_again_whole_or_not_at_all()
     {
        let scene = Scene::new().await;
        let body = chunks(128);
        let rest_when_accepted = scene.api.streamed_when_accepted(body.clone());
        let request = Request::post(scene.url("/unread"));
        let request = request.body(boxed(rest_when_accepted)).unwrap();
        scene
            .a_refusal_of_an_unread_body(http1(), request, &body)
            .await;
    }

    /// As much of it is sent before the refusal as the connection takes, which may be more than is
    /// kept.
    #[cfg(feature = "axum")]
    #[tokio::test]
    async fn axums_body_that_was_refused_unread_over_http1_is_sent_again_whole_or_not_at_all() {
        let scene = Scene::new().await;
        let body = chunks(128);
        let request = Request::post(scene.url("/drained"));
        let request = request
            .body(axum::body::Body::from_stream(streamed(body.clone())))
            .unwrap();
        scene
            .a_refusal_of_an_unread_body(http1(), request, &body)
            .await;
    }

    #[cfg(feature = "axum")]
    #[tokio::test]
    async fn axums_body_that_was_refused_unread_goes_on_where_it_was_over_http1() {
        let scene = Scene::new().await;
        let body = chunks(128);
        let rest_when_accepted = scene.api.streamed_when_accepted(body.clone());
        let request = Request::post(scene.url("/drained"));
        let request = request
            .body(axum::body::Body::from_stream(rest_when_accepted))
            .unwrap();
        let status = scene
            .a_refusal_of_an_unread_body(http1(), request, &body)
            .await;
        assert_eq!(status, StatusCode::OK);
        // What was begun over the first connection doesn't end there as if it were whole.
        scene.api.the_unwanted_body().await.unwrap_err();
    }

    #[cfg(feature = "axum")]
    #[tokio::test]
    async fn axums_body_that_was_refused_unread_goes_on_where_it_was_over_http2() {
        let scene = Scene::new().await;
        let body = chunks(128);
        let rest_when_accepted = scene.api.streamed_when_accepted(body.clone());
        let request = Request::post(scene.url("/unread"));
        let request = request
            .body(axum::body::Body::from_stream(rest_when_accepted))
            .unwrap();
        let status = scene
            .a_refusal_of_an_unread_body(http2(), request, &body)
            .await;
        assert_eq!(status, StatusCode::OK);
    }

    /// As a proxy does: what comes from one connection goes out on another.
    #[cfg(feature = "hyper")]
    #[tokio::test]
    async fn a_body_that_comes_from_a_connection_is_passed_on_once_and_never_sent_again() {
        let scene = Scene::new().await;
        let upstream = Api::new();
        upstream.accept_only("upstream");
        let upstream = format!("http://{}/", upstream.serve().await);
        let incoming = async || {
            let request = Request::get(&upstream)
                .header(AUTHORIZATION, "Bearer upstream")
                .body(Full::<Bytes>::default())
                .unwrap();
            let response = http1().request(request).await.unwrap();
            let body: hyper::body::Incoming = response.into_body();
            Request::post(scene.url("/things")).body(body).unwrap()
        };
        let body = [Bytes::from("accepted")];

        scene.api.accept_only("token-1");
        let client = scene.layer.layer(http1());
        let response = client.oneshot(incoming().await).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(scene.api.take_seen()[0].body, body[0]);

        let request = incoming().await;
        scene.the_refusal_comes_back(http1(), request, &body).await;
    }
}

#[cfg(feature = "reqwest")]
mod of_reqwest {
    use super::*;

    fn http1() -> reqwest::Client {
        reqwest::Client::builder().no_proxy().build().unwrap()
    }

    fn http2() -> reqwest::Client {
        reqwest::Client::builder()
            .no_proxy()
            .http2_prior_knowledge()
            .build()
            .unwrap()
    }

    fn post(url: String, body: impl Into<reqwest::Body>) -> reqwest::Request {
        http1().post(url).body(body).build().unwrap()
    }

    /// What the scenarios look at.
    fn seen_as_http(
        client: reqwest::Client,
    ) -> impl Service<reqwest::Request, Response = Response<reqwest::Body>, Error = reqwest::Error> + Clone
    {
        client.map_response(Response::from)
    }

    #[tokio::test]
    async fn the_layer_takes_and_returns_reqwests_own_types() {
        let scene = Scene::new().await;
        scene.api.accept_only("token-2");
        let mut client = scene.layer.layer(http1());
        let request = post(scene.url("/things"), "hello");
        let response: reqwest::Response =
            client.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.text().await.unwrap(), "accepted");
    }

    #[tokio::test]
    async fn a_body_in_memory_is_sent_again_whatever_its_size() {
        let scene = Scene::new().await;
        for body in [small(), large()] {
            let request = || post(scene.url("/things"), whole(&body));
            let client = seen_as_http(http1());
            scene
                .a_revoked_token_goes_unnoticed(client, Version::HTTP_11, request, &body)
                .await;
        }
    }

    #[tokio::test]
    async fn a_request_without_a_body_is_sent_again() {
        let scene = Scene::new().await;
        let request = || http1().get(scene.url("/things")).build().unwrap();
        let client = seen_as_http(http1());
        scene
            .a_revoked_token_goes_unnoticed(client, Version::HTTP_11, request, &[])
            .await;
    }

    #[tokio::test]
    async fn a_stream_within_the_limit_is_sent_again() {
        let scene = Scene::new().await;
        let stream = || reqwest::Body::wrap_stream(streamed(small()));
        let body = || {
            let frames = small()
                .into_iter()
                .map(|data| Ok::<_, BoxError>(Frame::data(data)));
            reqwest::Body::wrap(StreamBody::new(stream::iter(frames)))
        };
        for make in [&stream as &dyn Fn() -> reqwest::Body, &body] {
            let request = || post(scene.url("/things"), make());
            for (client, version) in [(http1(), Version::HTTP_11), (http2(), Version::HTTP_2)] {
                let client = seen_as_http(client);
                scene
                    .a_revoked_token_goes_unnoticed(client, version, request, &small())
                    .await;
            }
        }
    }

    #[tokio::test]
    async fn a_stream_over_the_limit_gets_the_refusal() {
        for client in [http1(), http2()] {
            let scene = Scene::new().await;
            let body = reqwest::Body::wrap_stream(streamed(large()));
            let request = post(scene.url("/things"), body);
            let client = seen_as_http(client);
            scene
                .the_refusal_comes_back(client, request, &large())
                .await;
        }
    }

    #[tokio::test]
    async fn a_stream_that_was_refused_unread_goes_on_where_it_was_over_http1() {
        let scene = Scene::new().await;
        let body = chunks(128);
        let rest_when_accepted = scene.api.streamed_when_accepted(body.clone());
        let request = post(
            scene.url("/drained"),
            reqwest::Body::wrap_stream(rest_when_accepted),
        );
        let client = seen_as_http(http1());
        let status = scene
            .a_refusal_of_an_unread_body(client, request, &body)
            .await;
        assert_eq!(status, StatusCode::OK);
        // What was begun over the first connection doesn't end there as if it were whole.
        scene.api.the_unwanted_body().await.unwrap_err();
    }

    #[tokio::test]
    async fn a_stream_that_was_refused_unread_goes_on_where_it_was_over_http2() {
        let scene = Scene::new().await;
        let body = chunks(128);
        let rest_when_accepted = scene.api.streamed_when_accepted(body.clone());
        let request = post(
            scene.url("/unread"),
            reqwest::Body::wrap_stream(rest_when_accepted),
        );
        let client = seen_as_http(http2());
        let status = scene
            .a_refusal_of_an_unread_body(client, request, &body)
            .await;
        assert_eq!(status, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_stream_that_was_refused_unread_is_sent_again_whole_or_not_at_all() {
        let scene = Scene::new().await;
        let body = chunks(128);
        let stream = reqwest::Body::wrap_stream(streamed(body.clone()));
        let request = post(scene.url("/unread"), stream);
        let client = seen_as_http(http2());
        scene
            .a_refusal_of_an_unread_body(client, request, &body)
            .await;
    }

    #[tokio::test]
    async fn a_redirect_of_a_post_is_followed_with_its_body_and_its_credential() {
        let scene = Scene::new().await;
        let client = scene.layer.layer(http1());
        let url = scene.url(&format!("/moved?{}", scene.url("/things")));
        for valid in ["token-1", "token-2"] {
            scene.api.accept_only(valid);
            let request = post(url.clone(), "hello");
            let response = client.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.url().as_str(), scene.url("/things"));
            let mut seen = scene.api.take_seen();
            // The second time, the first try is refused.
            if valid == "token-2" {
                let refused = seen.remove(0);
                assert_eq!(refused.credential, "Bearer token-1");
                assert_eq!(
                    (refused.path.as_str(), &refused.body[..]),
                    ("/moved", &b"hello"[..])
                );
            }
            for (seen, path) in seen.iter().zip(["/moved", "/things"]) {
                assert_eq!(seen.path, path);
                assert_eq!(seen.credential, format!("Bearer {valid}"));
                assert_eq!(seen.body, "hello");
            }
            assert_eq!(seen.len(), 2);
        }
        assert_eq!(scene.source.issued(), 2);
    }

    #[tokio::test]
    async fn a_redirect_to_another_origin_is_followed_without_the_credential() {
        let scene = Scene::new().await;
        let other = Api::new();
        // Accepts those who have no credential.
        *other.shared.accepted.lock().unwrap() = String::from("-");
        let url = scene.url(&format!("/moved?http://{}/things", other.serve().await));
        let client = scene.layer.layer(http1());
        // The second time, the redirect is what the replay gets.
        for valid in ["token-1", "token-2"] {
            scene.api.accept_only(valid);
            let request = post(url.clone(), "hello");
            let response = client.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let seen = other.take_seen();
            assert_eq!(seen.len(), 1);
            assert_eq!(
                (seen[0].credential.as_str(), &seen[0].body[..]),
                ("-", &b"hello"[..])
            );
        }
    }

    #[tokio::test]
    async fn a_refusal_of_another_origin_that_a_redirect_led_to_costs_no_token() {
        let scene = Scene::new().await;
        let other = Api::new();
        other.accept_only("nobody-has-this");
        let url = scene.url(&format!("/moved?http://{}/things", other.serve().await));
        scene.api.accept_only("token-1");
        let client = scene.layer.layer(http1());
        let response = client.oneshot(post(url, "hello")).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let why = response.extensions().get::<NotReplayed>();
        assert!(matches!(why, Some(NotReplayed::Elsewhere)), "{why:?}");
        assert_eq!(other.take_seen().len(), 1);
        scene.layer.cache().token().await.unwrap();
        assert_eq!(scene.source.issued(), 1);
    }
}

#[cfg(feature = "axum")]
mod of_axum {
    use super::*;

    fn request(path: &str, body: axum::body::Body) -> Request<axum::body::Body> {
        Request::post(path).body(body).unwrap()
    }

    #[tokio::test]
    async fn a_router_in_process_gets_a_stream_again() {
        let scene = Scene::new().await;
        let request = || {
            let body = axum::body::Body::from_stream(streamed(small()));
            request("/things", body)
        };
        let router = scene.api.router();
        scene
            .a_revoked_token_goes_unnoticed(router, Version::HTTP_11, request, &small())
            .await;
    }

    #[tokio::test]
    async fn a_router_in_process_gets_a_body_in_memory_and_none_again() {
        let scene = Scene::new().await;
        for body in [small(), Vec::new()] {
            let request = || request("/things", whole(&body).into());
            let router = scene.api.router();
            scene
                .a_revoked_token_goes_unnoticed(router, Version::HTTP_11, request, &body)
                .await;
        }
    }

    #[tokio::test]
    async fn a_stream_over_the_limit_gets_the_refusal() {
        let scene = Scene::new().await;
        let body = axum::body::Body::from_stream(streamed(large()));
        let router = scene.api.router();
        scene
            .the_refusal_comes_back(router, request("/things", body), &large())
            .await;
    }

    /// Nothing of it was read and so nothing is kept: all of it, far over the limit, is replayed.
    #[tokio::test]
    async fn a_stream_that_was_refused_unread_is_sent_again_whole() {
        let scene = Scene::new().await;
        let chunks = chunks(128);
        let body = axum::body::Body::from_stream(streamed(chunks.clone()));
        let router = scene.api.router();
        let status = scene
            .a_refusal_of_an_unread_body(router, request("/unread", body), &chunks)
            .await;
        assert_eq!(status, StatusCode::OK);
    }
}

#[cfg(feature = "tonic")]
mod of_tonic {
    use bytes::{Buf, BufMut};
    use http::uri::PathAndQuery;
    use tonic::client::Grpc;
    use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
    use tonic::service::Routes;
    use tonic::transport::server::TcpIncoming;
    use tonic::transport::{Channel, Server};
    use tonic::{Code, Status, Streaming};
    use tower::ServiceBuilder;
    use tower_auth::Auth;

    use super::*;

    /// Messages that are bytes.
    #[derive(Clone, Copy, Default)]
    struct Raw;

    impl Codec for Raw {
        type Encode = Bytes;
        type Decode = Bytes;
        type Encoder = Self;
        type Decoder = Self;

        fn encoder(&mut self) -> Self {
            Self
        }

        fn decoder(&mut self) -> Self {
            Self
        }
    }

    impl Encoder for Raw {
        type Item = Bytes;
        type Error = Status;

        fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
            buffer.put(message);
            Ok(())
        }
    }

    impl Decoder for Raw {
        type Item = Bytes;
        type Error = Status;

        fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
            Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
        }
    }

    /// `/test/Read` answers with the number of messages once it has read them; a token that it
    /// doesn't know it refuses after that. `/test/Unread` refuses before.
    async fn answer(State(api): State<Api>, request: Received) -> Response<tonic::body::Body> {
        let seen = Seen {
            path: request.uri().path().to_owned(),
            version: request.version(),
            credential: credential(&request),
            body: Bytes::new(),
        };
        let accepted = *api.shared.accepted.lock().unwrap() == seen.credential;
        if !accepted && seen.path == "/test/Unread" {
            api.shared.seen.lock().unwrap().push(seen);
            return Status::unauthenticated("refused").into_http();
        }
        let service = tower::service_fn(move |request: tonic::Request<Streaming<Bytes>>| {
            let (api, mut seen) = (api.clone(), seen.clone());
            async move {
                let mut messages = Vec::new();
                let mut stream = request.into_inner();
                while let Some(message) = stream.message().await? {
                    messages.push(message);
                }
                seen.body = whole(&messages);
                api.shared.seen.lock().unwrap().push(seen);
                if !accepted {
                    return Err(Status::unauthenticated("refused"));
                }
                Ok(tonic::Response::new(Bytes::from(
                    messages.len().to_string(),
                )))
            }
        });
        let mut grpc = tonic::server::Grpc::new(Raw);
        grpc.client_streaming(service, request).await
    }

    struct Grpcs {
        api: Api,
        source: Counting,
        client: Auth<Channel>,
        origin: http::Uri,
    }

    impl Grpcs {
        async fn new() -> Self {
            let api = Api::new();
            let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let origin = format!("http://{}", incoming.local_addr().unwrap());
            let router = Router::new().fallback(answer).with_state(api.clone());
            let server = Server::builder().add_routes(Routes::from(router));
            tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });

            let source = Counting::default();
            let channel = Channel::from_shared(origin.clone()).unwrap().connect_lazy();
            let client = ServiceBuilder::new()
                .layer(AuthLayer::new(source.clone()))
                .service(channel);
            Self {
                api,
                source,
                client,
                origin: origin.parse().unwrap(),
            }
        }

        async fn grpc(&self) -> Grpc<Auth<Channel>> {
            let mut grpc = Grpc::with_origin(self.client.clone(), self.origin.clone());
            grpc.ready().await.unwrap();
            grpc
        }

        fn arrived(&self) -> Vec<(String, Bytes)> {
            let seen = self.api.take_seen().into_iter();
            seen.map(|s| (s.credential, s.body)).collect()
        }
    }

    const READ: &str = "/test/Read";

    fn bearer(secret: &str, body: &[Bytes]) -> (String, Bytes) {
        (format!("Bearer {secret}"), whole(body))
    }

    #[tokio::test]
    async fn unary_and_streaming_calls_are_sent_again_when_the_token_was_revoked() {
        let scene = Grpcs::new().await;
        let path = PathAndQuery::from_static(READ);
        scene.api.accept_only("token-1");
        let message = whole(&small());
        let unary = async || {
            let request = tonic::Request::new(message.clone());
            scene.grpc().await.unary(request, path.clone(), Raw).await
        };
        assert_eq!(unary().await.unwrap().into_inner(), "1");
        assert_eq!(scene.arrived(), [bearer("token-1", &small())]);

        scene.api.accept_only("token-2");
        assert_eq!(unary().await.unwrap().into_inner(), "1");
        let [old, new] = ["token-1", "token-2"].map(|secret| bearer(secret, &small()));
        assert_eq!(scene.arrived(), [old, new]);
        assert_eq!(scene.source.issued(), 2);

        scene.api.accept_only("token-3");
        let request = tonic::Request::new(stream::iter(small()));
        let response: tonic::Response<Bytes> = scene
            .grpc()
            .await
            .client_streaming(request, path.clone(), Raw)
            .await
            .unwrap();
        assert_eq!(response.into_inner(), "5");
        let [old, new] = ["token-2", "token-3"].map(|secret| bearer(secret, &small()));
        assert_eq!(scene.arrived(), [old, new]);
        assert_eq!(scene.source.issued(), 3);
    }

    #[tokio::test]
    async fn a_stream_that_was_refused_unread_goes_on_where_it_was() {
        let scene = Grpcs::new().await;
        scene.api.accept_only("token-2");
        let path = PathAndQuery::from_static("/test/Unread");
        let request = tonic::Request::new(stream::iter(small()));
        let response: tonic::Response<Bytes> = scene
            .grpc()
            .await
            .client_streaming(request, path, Raw)
            .await
            .unwrap();
        assert_eq!(response.into_inner(), "5");
        let [old, new] = [bearer("token-1", &[]), bearer("token-2", &small())];
        assert_eq!(scene.arrived(), [old, new]);
    }

    #[tokio::test]
    async fn a_stream_over_the_limit_gets_the_refusal() {
        let scene = Grpcs::new().await;
        scene.api.accept_only("another");
        let path = PathAndQuery::from_static(READ);
        let request = tonic::Request::new(stream::iter(large()));
        let result: Result<tonic::Response<Bytes>, Status> = scene
            .grpc()
            .await
            .client_streaming(request, path, Raw)
            .await;
        let status = result.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unauthenticated, "refused")
        );
        assert_eq!(scene.arrived(), [bearer("token-1", &large())]);
        assert_eq!(scene.source.issued(), 1);
    }

    /// What a refusal looks like on the wire, and that the reason is with it.
    #[tokio::test]
    async fn a_refusal_is_an_http_200_that_has_only_trailers() {
        let scene = Grpcs::new().await;
        let message = |data: &Bytes| {
            let mut frame = vec![0];
            frame.extend_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
            frame.extend_from_slice(data);
            Bytes::from(frame)
        };
        let messages: Vec<_> = large().iter().map(message).collect();
        let request = Request::post(format!("{}test/Read", scene.origin))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(tonic::body::Body::new(boxed(streamed(messages))))
            .unwrap();
        let response = scene.client.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "16");
        let why = response.extensions().get();
        assert!(matches!(why, Some(NotReplayed::Body)), "{why:?}");
        assert_eq!(scene.arrived(), [bearer("token-1", &large())]);
    }
}
