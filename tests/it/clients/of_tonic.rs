//! tonic's channel, with calls of every kind.

use axum::Router;
use axum::extract::{Request as Received, State};
use bytes::{Buf, BufMut, Bytes};
use futures_util::stream;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Status, Streaming};
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::cache::{Clock, ManualClock};
use tower_auth::{Auth, NotReplayed};
use tower_auth_test::ScriptedSource;

use super::{Api, LONG, Seen, boxed, credential, large, small, streamed, whole};
use crate::support::clocked;

/// A codec for messages that are bytes.
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

/// `/test/Read` first reads all messages. The method then refuses the token or responds with the
/// number of messages. `/test/Unread` refuses before it reads.
async fn respond(State(api): State<Api>, request: Received) -> Response<tonic::body::Body> {
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
    source: ScriptedSource,
    clock: ManualClock,
    client: Auth<Channel>,
    origin: http::Uri,
}

impl Grpcs {
    async fn new() -> Self {
        let api = Api::new();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let origin = format!("http://{}", incoming.local_addr().unwrap());
        let router = Router::new().fallback(respond).with_state(api.clone());
        let server = Server::builder().add_routes(Routes::from(router));
        tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });

        let (source, clock) = (ScriptedSource::default(), Clock::manual());
        let channel = Channel::from_shared(origin.clone()).unwrap().connect_lazy();
        let client = ServiceBuilder::new()
            .layer(crate::support::layer_from(
                clocked(source.clone(), &clock).build(),
            ))
            .service(channel);
        Self {
            api,
            clock,
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
    let scenario = Grpcs::new().await;
    let path = PathAndQuery::from_static(READ);
    scenario.api.accept_only("token-1");
    let message = whole(&small());
    let unary = async || {
        let request = tonic::Request::new(message.clone());
        scenario
            .grpc()
            .await
            .unary(request, path.clone(), Raw)
            .await
    };
    assert_eq!(unary().await.unwrap().into_inner(), "1");
    assert_eq!(scenario.arrived(), [bearer("token-1", &small())]);

    scenario.api.accept_only("token-2");
    assert_eq!(unary().await.unwrap().into_inner(), "1");
    let [old, new] = ["token-1", "token-2"].map(|secret| bearer(secret, &small()));
    assert_eq!(scenario.arrived(), [old, new]);
    assert_eq!(scenario.source.tokens_issued(), 2);

    scenario.clock.advance(LONG);
    scenario.api.accept_only("token-3");
    let request = tonic::Request::new(stream::iter(small()));
    let response: tonic::Response<Bytes> = scenario
        .grpc()
        .await
        .client_streaming(request, path.clone(), Raw)
        .await
        .unwrap();
    assert_eq!(response.into_inner(), "5");
    let [old, new] = ["token-2", "token-3"].map(|secret| bearer(secret, &small()));
    assert_eq!(scenario.arrived(), [old, new]);
    assert_eq!(scenario.source.tokens_issued(), 3);
}

#[tokio::test]
async fn a_stream_that_was_refused_unread_goes_on_where_it_was() {
    let scenario = Grpcs::new().await;
    scenario.api.accept_only("token-2");
    let path = PathAndQuery::from_static("/test/Unread");
    let request = tonic::Request::new(stream::iter(small()));
    let response: tonic::Response<Bytes> = scenario
        .grpc()
        .await
        .client_streaming(request, path, Raw)
        .await
        .unwrap();
    assert_eq!(response.into_inner(), "5");
    let [old, new] = [bearer("token-1", &[]), bearer("token-2", &small())];
    assert_eq!(scenario.arrived(), [old, new]);
}

#[tokio::test]
async fn a_stream_over_the_limit_gets_the_refusal() {
    let scenario = Grpcs::new().await;
    scenario.api.accept_only("another");
    let path = PathAndQuery::from_static(READ);
    let request = tonic::Request::new(stream::iter(large()));
    let result: Result<tonic::Response<Bytes>, Status> = scenario
        .grpc()
        .await
        .client_streaming(request, path, Raw)
        .await;
    let status = result.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unauthenticated, "refused")
    );
    assert_eq!(scenario.arrived(), [bearer("token-1", &large())]);
    assert_eq!(scenario.source.tokens_issued(), 1);
}

/// The caller gets the refusal as the server sent it, with the reason in its extensions.
#[tokio::test]
async fn a_refusal_is_an_http_200_that_has_only_trailers() {
    let scenario = Grpcs::new().await;
    let message = |data: &Bytes| {
        let mut frame = vec![0];
        frame.extend_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(data);
        Bytes::from(frame)
    };
    let messages: Vec<_> = large().iter().map(message).collect();
    let request = Request::post(format!("{}test/Read", scenario.origin))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(boxed(streamed(messages))))
        .unwrap();
    let response = scenario.client.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["grpc-status"], "16");
    let why = response.extensions().get();
    assert!(matches!(why, Some(NotReplayed::Body)), "{why:?}");
    assert_eq!(scenario.arrived(), [bearer("token-1", &large())]);
}
