//! tonic's channels over TLS, with several servers, and without a token.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request as Received, State};
use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;
use http::{Request, Response};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig,
};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tower::{Layer, ServiceExt};
use tower_auth::{Auth, AuthLayer, Error};
use tower_auth_test::ScriptedSource;

use crate::support::{paused, token_server};

/// A server that accepts the tokens that the test names. The server records all tokens.
#[derive(Clone, Default)]
struct Peer {
    accepts: Arc<Mutex<HashSet<String>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    fn accept_only(&self, secrets: &[&str]) {
        let secrets = secrets.iter().map(|secret| format!("Bearer {secret}"));
        *self.accepts.lock().unwrap() = secrets.collect();
    }

    fn take_seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// Serves until the test's runtime ends, and returns the port.
    fn serve(&self, tls: Option<ServerTlsConfig>) -> u16 {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = incoming.local_addr().unwrap().port();
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let router = Router::new().fallback(respond).with_state(self.clone());
        let server = server.add_routes(Routes::from(router));
        tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        port
    }
}

async fn respond(State(peer): State<Peer>, request: Received) -> Response<Body> {
    let credential = request.headers()[AUTHORIZATION]
        .to_str()
        .unwrap()
        .to_owned();
    let accepted = peer.accepts.lock().unwrap().contains(&credential);
    peer.seen.lock().unwrap().push(credential);
    if accepted {
        Status::ok("").into_http()
    } else {
        Status::unauthenticated("refused").into_http()
    }
}

/// Returns the gRPC status of one call.
async fn status(client: &Auth<Channel>) -> String {
    let request = Request::post("/test/Call")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::empty())
        .unwrap();
    let response = client.clone().oneshot(request).await.unwrap();
    response.headers()["grpc-status"]
        .to_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn over_tls_a_refused_call_is_replayed_as_in_the_clear() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new([String::from("localhost")]).unwrap();
    let own = own.signed_by(&key, &authority).unwrap();
    let identity = Identity::from_pem(own.pem(), key.serialize_pem());

    let peer = Peer::default();
    let port = peer.serve(Some(ServerTlsConfig::new().identity(identity)));
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    let endpoint = Endpoint::from_shared(format!("https://localhost:{port}")).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let client = crate::support::layer(ScriptedSource::default()).layer(channel);

    for (accepted, seen) in [
        ("token-1", &["token-1"][..]),
        ("token-2", &["token-1", "token-2"]),
    ] {
        peer.accept_only(&[accepted]);
        assert_eq!(status(&client).await, "0");
        let seen: Vec<_> = seen.iter().map(|token| format!("Bearer {token}")).collect();
        assert_eq!(peer.take_seen(), seen);
    }
}

/// The channel picks one of two servers at random. With this many calls, both are picked.
const CALLS: usize = 64;

async fn balanced(peers: &[Peer; 2]) -> (Auth<Channel>, ScriptedSource) {
    let endpoints = peers.iter().map(|peer| {
        let port = peer.serve(None);
        Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap()
    });
    let source = ScriptedSource::default();
    let channel = Channel::balance_list(endpoints);
    (crate::support::layer(source.clone()).layer(channel), source)
}

async fn many(client: &Auth<Channel>) {
    let calls = (0..CALLS).map(|_| status(client));
    let statuses: HashSet<_> = join_all(calls).await.into_iter().collect();
    assert_eq!(statuses, HashSet::from([String::from("0")]));
}

#[tokio::test]
async fn servers_behind_one_channel_share_the_token_and_their_refusals_are_one() {
    let peers = [Peer::default(), Peer::default()];
    let (client, source) = balanced(&peers).await;
    for (token, fetches) in [("token-1", 1), ("token-2", 2)] {
        for peer in &peers {
            peer.accept_only(&[token]);
        }
        many(&client).await;
        assert_eq!(source.tokens_issued(), fetches);
        for peer in &peers {
            assert!(peer.take_seen().contains(&format!("Bearer {token}")));
        }
    }
}

/// One server knows that the token was revoked, but the other doesn't.
#[tokio::test]
async fn the_refusal_of_one_server_rejects_the_token_once_for_both() {
    let peers = [Peer::default(), Peer::default()];
    let (client, source) = balanced(&peers).await;
    for peer in &peers {
        peer.accept_only(&["token-1"]);
    }
    many(&client).await;
    let [hears, lags] = &peers;
    hears.accept_only(&["token-2"]);
    lags.accept_only(&["token-1", "token-2"]);
    for peer in &peers {
        peer.take_seen();
    }
    many(&client).await;
    many(&client).await;
    assert_eq!(source.tokens_issued(), 2);
    for peer in &peers {
        assert!(peer.take_seen().contains(&String::from("Bearer token-2")));
    }
}

/// Makes a call with a generated client, and returns the status of its error.
async fn generated_call(client: Auth<Channel>) -> Status {
    let mut grpc = Grpc::with_origin(client, "http://127.0.0.1:1".parse().unwrap());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test/Call");
    let codec = ProstCodec::<(), ()>::default();
    let response = grpc.unary(tonic::Request::new(()), path, codec).await;
    response.map(drop).unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn a_generated_client_without_a_token_has_the_code_that_says_whether_to_try_again() {
    let channel = || Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
    let denied = token_server::fetch(401, r#"{"error":"invalid_client"}"#).await;
    let denied = denied.unwrap_err();
    for (error, code) in [
        (denied, Code::Unauthenticated),
        (Error::other("the vault is sealed"), Code::Unavailable),
        (Error::transient("the vault is busy"), Code::Unavailable),
    ] {
        let text = error.to_string();
        let source = ScriptedSource::from_fn(move |_| error.clone());
        let client = crate::support::layer_from(paused(source).build()).layer(channel());
        // The second call gets the cached error.
        for _ in 0..2 {
            let status = generated_call(client.clone()).await;
            assert_eq!(status.code(), code, "{status}");
            let found = Error::find(&status).map(ToString::to_string);
            assert_eq!(found.as_ref(), Some(&text));
        }
    }

    let hanging = paused(|_| std::future::pending()).build();
    let client = crate::support::layer_from(hanging.clone()).layer(channel());
    let status = generated_call(client.clone()).await;
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(Error::find(&status).is_some_and(Error::is_timeout));
    hanging.close().await;
    let status = generated_call(client).await;
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(Error::find(&status).is_some_and(Error::is_closed));

    let elsewhere = AuthLayer::new(ScriptedSource::default());
    let elsewhere = elsewhere.only_to(["https://notes.example.com"]).unwrap();
    let status = generated_call(elsewhere.layer(channel())).await;
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert!(Error::find(&status).is_some_and(Error::is_origin));
}
