//! Single hyper connections without a pool. The tests cover connections that close with the
//! refusal, and the credential on the wire.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_auth::BoxError;
use tower_auth_test::{Api, ScriptedSource};
use tower_service::Service;

use crate::support::{call, credentials};

type Sent = Request<Full<Bytes>>;
type ResponseFuture = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

/// A connection as a service.
struct Http1(conn::http1::SendRequest<Full<Bytes>>);

impl Service<Sent> for Http1 {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Sent) -> ResponseFuture {
        Box::pin(self.0.send_request(request))
    }
}

#[derive(Clone)]
struct Http2(conn::http2::SendRequest<Full<Bytes>>);

impl Service<Sent> for Http2 {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Sent) -> ResponseFuture {
        Box::pin(self.0.send_request(request))
    }
}

async fn http2(address: SocketAddr) -> Http2 {
    let stream = TcpStream::connect(address).await.unwrap();
    let handshake = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    Http2(sender)
}

fn get(address: SocketAddr) -> Sent {
    let request = Request::get(format!("http://{address}/"));
    request.body(Full::default()).unwrap()
}

/// HTTP/1 takes one request at a time. The connection is ready for the replay once the refusal's
/// body has been read or dropped.
#[tokio::test]
async fn one_http1_connection_behind_a_buffer_takes_the_replay_after_the_refusal() {
    let api = Api::accepting(["token-2"]);
    let server = api.serve().await.unwrap();
    let address = server.address();
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let client = ServiceBuilder::new()
        .layer(crate::support::layer(ScriptedSource::default()))
        .buffer(4)
        .service(Http1(sender));
    for _ in 0..2 {
        let response = client.clone().oneshot(get(address)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    let tokens = [1, 2, 2].map(|n| format!("Bearer token-{n}"));
    assert_eq!(credentials(&api), tokens);
}

#[tokio::test]
async fn one_http2_connection_takes_refusals_and_replays_of_many_at_once() {
    let api = Api::accepting(["token-2"]);
    let server = api.serve().await.unwrap();
    let address = server.address();
    let source = ScriptedSource::default();
    let client = crate::support::layer(source.clone()).layer(http2(address).await);
    let callers = (0..20).map(|_| client.clone().oneshot(get(address)));
    for response in futures_util::future::join_all(callers).await {
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(source.tokens_issued(), 2);
}

/// Serves connections that end with their first response, through `Connection: close` or `GOAWAY`.
/// Returns the address and the number of connections.
async fn serve_once_each(http2: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(one_response(stream, http2));
        }
    });
    (address, connections)
}

async fn one_response(stream: TcpStream, http2: bool) {
    let (asked, ends) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let tells = (Arc::clone(&asked), Arc::clone(&ends));
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (asked, ends) = tells.clone();
        async move {
            let credential = request.headers().get(AUTHORIZATION);
            let mut response = Response::new(Full::<Bytes>::from("done"));
            if credential.map(HeaderValue::as_bytes) != Some(b"Bearer token-2") {
                *response.status_mut() = StatusCode::UNAUTHORIZED;
            }
            if http2 {
                // The `GOAWAY` must arrive before the response.
                asked.notify_one();
                ends.notified().await;
            } else {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, hyper::Error>(response)
        }
    });
    let stream = TokioIo::new(stream);
    if !http2 {
        let server = hyper::server::conn::http1::Builder::new();
        server.serve_connection(stream, service).await.ok();
        return;
    }
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let mut served = std::pin::pin!(server.serve_connection(stream, service));
    tokio::select! {
        _ = &mut served => return,
        () = asked.notified() => served.as_mut().graceful_shutdown(),
    }
    ends.notify_one();
    served.await.ok();
}

#[tokio::test]
async fn a_connection_that_ends_with_the_refusal_is_replaced_for_the_replay() {
    for http2 in [false, true] {
        let (address, connections) = serve_once_each(http2).await;
        let pool = Client::builder(TokioExecutor::new())
            .http2_only(http2)
            .build_http::<Full<Bytes>>();
        let source = ScriptedSource::default();
        let client = crate::support::layer(source.clone()).layer(pool);
        let response = client.oneshot(get(address)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            (source.tokens_issued(), connections.load(Ordering::SeqCst)),
            (2, 2)
        );
    }
}

/// Without a pool there is no second connection, so the replay fails. The caller immediately gets
/// the refusal or the connection's error.
#[tokio::test]
async fn without_another_connection_the_caller_gets_the_refusal_or_the_connections_error() {
    let (address, connections) = serve_once_each(true).await;
    let client = crate::support::layer(ScriptedSource::default()).layer(http2(address).await);
    match client.oneshot(get(address)).await {
        Ok(response) => assert_eq!(response.status(), StatusCode::UNAUTHORIZED),
        Err(error) => assert!(error.is::<hyper::Error>(), "{error}"),
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

/// Returns the type and the content of the next frame.
async fn next_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.unwrap();
    (head[3], payload)
}

/// `authorization` is entry 23 of HPACK's static table (RFC 7541, appendix A). A never-indexed
/// literal begins with the bits 0001 (§6.2.3). The index 23 is encoded as 15 and 8.
const NEVER_INDEXED: [u8; 2] = [0x1f, 0x08];

#[tokio::test]
async fn over_http2_the_credential_is_never_indexed() {
    const HEADERS: u8 = 1;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let wire = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        loop {
            let (kind, payload) = next_frame(&mut stream).await;
            if kind == HEADERS {
                return payload;
            }
        }
    });
    let attached = service_fn(move |request: Sent| async move {
        let mut connection = http2(address).await;
        let response = call(&mut connection, request).await;
        Ok::<_, BoxError>(response?)
    });
    let client = crate::support::layer(ScriptedSource::default()).layer(attached);
    let response = tokio::spawn(client.oneshot(get(address)));
    let block = wire.await.unwrap();
    response.abort();
    let found = block.windows(2).any(|pair| pair == NEVER_INDEXED);
    assert!(found, "{block:02x?}");
}
