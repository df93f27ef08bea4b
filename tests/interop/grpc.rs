//! The layer over tonic's channel. It calls tonic and grpcio servers that require a bearer token.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::Uri;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::ServiceBuilder;
use tower_auth::cache::{Clock, ManualClock};
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Auth, AuthLayer, TokenCache};

use crate::free_port::free_port;
use crate::grpc_servers::{By, GrpcServer};
use crate::nginx::Nginx;
use crate::support::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, Servers};
use crate::tls::Authority;

/// A server, an authorization server for its tokens, and a client of both.
struct Scene {
    server: GrpcServer,
    servers: Servers,
    origin: Uri,
    client: Auth<Channel>,
    time: ManualClock,
}

impl Scene {
    async fn new(by: By, authority: Option<&Authority>) -> Self {
        let server = GrpcServer::start(by, authority);
        let origin = server.origin();
        Self::through(origin, server, authority).await
    }

    /// Builds a client for this origin. The client's calls reach `server`.
    async fn through(origin: String, server: GrpcServer, authority: Option<&Authority>) -> Self {
        let servers = Servers::start().await.unwrap();
        let url = servers.authorization.token_url();
        let source = ClientCredentials::new(url, CLIENT_ID, CLIENT_SECRET).unwrap();
        let endpoint = Channel::from_shared(origin.clone()).unwrap();
        let endpoint = match authority {
            Some(authority) => {
                let root = Certificate::from_pem(authority.root());
                let tls = ClientTlsConfig::new().ca_certificate(root);
                endpoint.tls_config(tls).unwrap()
            }
            None => endpoint,
        };
        let channel = endpoint.connect_lazy();
        let time = Clock::manual();
        let cache = TokenCache::builder(source.audience(AUDIENCE)).clock(&time);
        let layer = AuthLayer::from(cache.build());
        Self {
            server,
            servers,
            client: ServiceBuilder::new()
                .layer(layer.only_to([&origin]).unwrap())
                .service(channel),
            origin: origin.parse().unwrap(),
            time,
        }
    }

    async fn grpc(&self) -> Grpc<Auth<Channel>> {
        let mut grpc = Grpc::with_origin(self.client.clone(), self.origin.clone());
        grpc.ready().await.unwrap();
        grpc
    }

    async fn unary(&self, path: &'static str, text: &str) -> Result<String, Status> {
        let request = Request::new(text.to_owned());
        let path = PathAndQuery::from_static(path);
        let mut grpc = self.grpc().await;
        let response = grpc.unary(request, path, Codec::default());
        response.await.map(Response::into_inner)
    }

    async fn split(&self, text: &str) -> Result<Vec<String>, Status> {
        let request = Request::new(text.to_owned());
        let path = PathAndQuery::from_static("/test.Words/Split");
        let mut grpc = self.grpc().await;
        let response = grpc.server_streaming(request, path, Codec::default());
        let words: Streaming<String> = response.await?.into_inner();
        let words: Vec<Result<String, Status>> = words.collect().await;
        words.into_iter().collect()
    }

    async fn join(&self, words: &[&str]) -> Result<String, Status> {
        let words: Vec<_> = words.iter().copied().map(str::to_owned).collect();
        let request = Request::new(stream::iter(words));
        let path = PathAndQuery::from_static("/test.Words/Join");
        let mut grpc = self.grpc().await;
        let response = grpc.client_streaming(request, path, Codec::default());
        response.await.map(Response::into_inner)
    }

    /// Makes the server refuse all tokens issued so far. The pause is long enough that a refusal
    /// may start another fetch.
    fn revoke_all(&self) {
        self.time.advance(Duration::from_secs(10));
        self.server.revoke(&self.issued());
    }

    fn issued(&self) -> Vec<String> {
        self.servers.authorization.tokens().issued()
    }

    /// Checks which calls the server got since the last check. Asserts that accepted calls had the
    /// newest token.
    fn saw(&self, calls: &[&str]) {
        let issued = self.issued();
        let newest = issued.last().unwrap();
        let old = &issued[..issued.len() - 1];
        let seen = self.server.take_seen();
        let lines: Vec<_> = seen.iter().map(|(line, _)| line.as_str()).collect();
        assert_eq!(lines, calls);
        for (line, credential) in seen {
            let token = credential.strip_prefix("Bearer ").unwrap().to_owned();
            match line.ends_with(" UNAUTHENTICATED") {
                true => assert!(old.contains(&token), "{line}"),
                false => assert_eq!(token, *newest, "{line}"),
            }
        }
    }

    /// Makes each kind of call before and after its token was revoked. A revoked token costs one
    /// fetch and one replay.
    async fn each_kind_of_call_is_sent_again(&self) {
        for revoked in [false, true] {
            let fetched = self.issued().len();
            let spent = |calls| fetched + if revoked { calls } else { 0 };
            let revoke = || {
                if revoked {
                    self.revoke_all();
                }
            };
            let called = |method: &str| {
                let (refused, ok) = (format!("{method} UNAUTHENTICATED"), format!("{method} OK"));
                if revoked { vec![refused, ok] } else { vec![ok] }
            };
            let saw = |method: &str| {
                let calls = called(method);
                self.saw(&calls.iter().map(String::as_str).collect::<Vec<_>>());
            };
            revoke();
            assert_eq!(
                self.unary("/test.Words/Say", "hello").await.unwrap(),
                "HELLO"
            );
            saw("/test.Words/Say");
            revoke();
            let words = ["a", "few", "words"];
            assert_eq!(self.split(&words.join(" ")).await.unwrap(), words);
            saw("/test.Words/Split");
            revoke();
            assert_eq!(self.join(&words).await.unwrap(), "a few words");
            saw("/test.Words/Join");
            let first = usize::from(fetched == 0);
            assert_eq!(self.issued().len(), spent(3) + first);
        }
    }
}

type Codec = ProstCodec<String, String>;

#[tokio::test]
async fn calls_to_tonic_are_sent_again_with_one_new_token_each_time_that_it_was_revoked() {
    let scene = Scene::new(By::Tonic, None).await;
    scene.each_kind_of_call_is_sent_again().await;
}

#[tokio::test]
async fn calls_to_grpcio_are_sent_again_with_one_new_token_each_time_that_it_was_revoked() {
    let scene = Scene::new(By::Grpcio, None).await;
    scene.each_kind_of_call_is_sent_again().await;
}

#[tokio::test]
async fn calls_to_grpcio_over_tls_with_a_private_authority_are_sent_again() {
    let authority = Authority::new().unwrap();
    let scene = Scene::new(By::Grpcio, Some(&authority)).await;
    assert_eq!(scene.origin.scheme_str(), Some("https"));
    scene.each_kind_of_call_is_sent_again().await;
}

#[tokio::test]
async fn calls_through_nginx_are_sent_again_be_it_nginx_that_refuses_them_or_the_server_behind_it()
{
    let authority = Authority::new().unwrap();
    let server = GrpcServer::start(By::Grpcio, None);
    let (port, upstream) = (free_port(), server.origin().replace("http:", "grpc:"));
    let front = format!(
        "map_hash_bucket_size 1024;
        map $http_authorization $is_revoked {{ default 0; include revoked; }}
        server {{
            listen 127.0.0.1:{port} ssl http2;
            ssl_certificate server.pem;
            ssl_certificate_key server.pem;
            location / {{ if ($is_revoked) {{ return 401; }} grpc_pass {upstream}; }}
        }}"
    );
    let certificate = authority.issue("localhost").unwrap();
    let nginx = Nginx::start(&front, &[("server.pem", &certificate), ("revoked", "")]);
    let origin = format!("https://localhost:{port}");
    let scene = Scene::through(origin, server, Some(&authority)).await;
    // The gRPC server refuses these calls with a gRPC status.
    scene.each_kind_of_call_is_sent_again().await;
    let before = nginx.lines().await.len();
    let issued = scene.issued();

    // nginx refuses the next call with an HTTP status.
    let revoked = format!("\"Bearer {}\" 1;", issued.last().unwrap());
    nginx.replace("revoked", &revoked).await;
    scene.time.advance(Duration::from_secs(10));
    assert_eq!(
        scene.unary("/test.Words/Say", "hello").await.unwrap(),
        "HELLO"
    );
    let lines = nginx.lines().await;
    let [refused, ok] = ["POST /test.Words/Say 401", "POST /test.Words/Say 200"];
    assert_eq!(lines[before..], [refused, ok]);
    scene.saw(&["/test.Words/Say OK"]);
    assert_eq!(scene.issued().len(), issued.len() + 1);
}

#[tokio::test]
async fn what_a_good_token_may_not_do_is_the_callers_to_see_and_costs_nothing() {
    for by in [By::Tonic, By::Grpcio] {
        let scene = Scene::new(by, None).await;
        let status = scene.unary("/test.Words/Secret", "").await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::PermissionDenied, "not for you")
        );
        scene.saw(&["/test.Words/Secret PERMISSION_DENIED"]);
        assert_eq!(scene.issued().len(), 1);
    }
}

/// The response has begun before this status arrives, so the layer can't replay the call.
#[tokio::test]
async fn a_status_that_comes_after_the_answer_has_begun_is_the_callers_to_see() {
    for by in [By::Tonic, By::Grpcio] {
        let scene = Scene::new(by, None).await;
        assert_eq!(scene.unary("/test.Words/Late", "").await.unwrap(), "late");
        scene.saw(&["/test.Words/Late OK"]);
        scene.revoke_all();
        let status = scene.unary("/test.Words/Late", "").await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        let refused = "/test.Words/Late UNAUTHENTICATED";
        let [(line, _)] = &scene.server.take_seen()[..] else {
            panic!("one call was to be seen");
        };
        assert_eq!(line, refused);
        assert_eq!(scene.issued().len(), 1);
    }
}
