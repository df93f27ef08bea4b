//! Two gRPC servers of the same service. Each has an interceptor that requires a bearer token.
//! tonic runs in this process, and grpcio in its own process. The messages are
//! `google.protobuf.StringValue`, so no generated code is needed.

use std::fs::{self, File};
use std::future::ready;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::{MatchedPath, Request as Received, State};
use axum::routing::post;
use futures_util::{TryStreamExt, stream};
use tempfile::TempDir;
use tonic::server::Grpc;
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::Server as TonicServer;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::process::{Program, Server};
use crate::tls::Authority;

#[derive(Clone, Copy)]
pub(crate) enum By {
    Tonic,
    Grpcio,
}

pub(crate) struct GrpcServer {
    folder: TempDir,
    origin: String,
    _process: Option<Server>,
}

impl GrpcServer {
    /// Starts a server. With an authority, it uses TLS. Only the grpcio server supports this.
    pub(crate) fn start(by: By, authority: Option<&Authority>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("revoked"), "").unwrap();
        fs::write(folder.path().join("seen"), "").unwrap();
        if let Some(authority) = authority {
            let own = authority.issue("localhost").unwrap();
            fs::write(folder.path().join("server.pem"), own).unwrap();
        }
        let (origin, process) = match by {
            By::Tonic => (serve(folder.path()), None),
            By::Grpcio => {
                let program = Program::python("grpcio/serve.py").argument(folder.path());
                let server = Server::start(program);
                let origin = match authority {
                    Some(_) => format!("https://localhost:{}", server.port()),
                    None => server.url(""),
                };
                (origin, Some(server))
            }
        };
        Self {
            folder,
            origin,
            _process: process,
        }
    }

    pub(crate) fn origin(&self) -> String {
        self.origin.clone()
    }

    /// Makes the server refuse these tokens from now on.
    pub(crate) fn revoke(&self, tokens: &[String]) {
        fs::write(self.folder.path().join("revoked"), tokens.join("\n")).unwrap();
    }

    /// Returns each call since the last time, such as `/test.Words/Say OK`, and its credential.
    pub(crate) fn take_seen(&self) -> Vec<(String, String)> {
        let path = self.folder.path().join("seen");
        let seen = fs::read_to_string(&path).unwrap();
        fs::write(&path, "").unwrap();
        let lines = seen.lines().map(|line| {
            let mut words = line.splitn(3, ' ');
            let mut next = || words.next().unwrap();
            (format!("{} {}", next(), next()), next().to_owned())
        });
        lines.collect()
    }
}

/// Serves the same as `servers/grpcio/serve.py`, with tonic.
fn serve(folder: &Path) -> String {
    let words = Words {
        folder: folder.to_owned(),
    };
    let checking = words.clone();
    let check = move |request: Request<()>| {
        if checking.is_good(&request) {
            return Ok(request);
        }
        let path = request.extensions().get::<MatchedPath>().unwrap();
        checking.keep(path.as_str(), &request, "UNAUTHENTICATED");
        Err(refusal())
    };
    let router = Router::new()
        .route("/test.Words/Say", post(say))
        .route("/test.Words/Split", post(split))
        .route("/test.Words/Join", post(join))
        .route("/test.Words/Secret", post(secret))
        .layer(InterceptorLayer::new(check))
        .route("/test.Words/Late", post(late))
        .with_state(words);
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let origin = format!("http://{}", incoming.local_addr().unwrap());
    let server = TonicServer::builder().add_routes(Routes::from(router));
    tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
    origin
}

#[derive(Clone)]
struct Words {
    folder: PathBuf,
}

type Codec = ProstCodec<String, String>;
type Answer = http::Response<tonic::body::Body>;

async fn say(State(words): State<Words>, request: Received) -> Answer {
    let service = service_fn(move |request: Request<String>| {
        words.keep("/test.Words/Say", &request, "OK");
        let text = request.into_inner().to_uppercase();
        ready(Ok::<_, Status>(Response::new(text)))
    });
    Grpc::new(Codec::default()).unary(service, request).await
}

async fn split(State(words): State<Words>, request: Received) -> Answer {
    let service = service_fn(move |request: Request<String>| {
        words.keep("/test.Words/Split", &request, "OK");
        let text = request.into_inner();
        let words: Vec<_> = text.split(' ').map(|word| Ok(word.to_owned())).collect();
        ready(Ok::<_, Status>(Response::new(stream::iter(words))))
    });
    let mut grpc = Grpc::new(Codec::default());
    grpc.server_streaming(service, request).await
}

async fn join(State(words): State<Words>, request: Received) -> Answer {
    let service = service_fn(move |request: Request<Streaming<String>>| {
        let words = words.clone();
        async move {
            words.keep("/test.Words/Join", &request, "OK");
            let texts: Vec<String> = request.into_inner().try_collect().await?;
            Ok(Response::new(texts.join(" ")))
        }
    });
    let mut grpc = Grpc::new(Codec::default());
    grpc.client_streaming(service, request).await
}

async fn secret(State(words): State<Words>, request: Received) -> Answer {
    let service = service_fn(move |request: Request<String>| {
        words.keep("/test.Words/Secret", &request, "PERMISSION_DENIED");
        let refused = Status::permission_denied("not for you");
        ready(Err::<Response<String>, _>(refused))
    });
    Grpc::new(Codec::default()).unary(service, request).await
}

/// Checks the token only after the response has begun.
async fn late(State(words): State<Words>, request: Received) -> Answer {
    let service = service_fn(move |request: Request<String>| {
        let is_good = words.is_good(&request);
        let code = if is_good { "OK" } else { "UNAUTHENTICATED" };
        words.keep("/test.Words/Late", &request, code);
        let item = if is_good {
            Ok(String::from("late"))
        } else {
            Err(refusal())
        };
        ready(Ok::<_, Status>(Response::new(stream::iter([item]))))
    });
    let mut grpc = Grpc::new(Codec::default());
    grpc.server_streaming(service, request).await
}

impl Words {
    fn is_good<T>(&self, request: &Request<T>) -> bool {
        let revoked = fs::read_to_string(self.folder.join("revoked")).unwrap();
        let token = credential(request).strip_prefix("Bearer ");
        token.is_some_and(|token| !revoked.lines().any(|line| line == token))
    }

    fn keep<T>(&self, path: &str, request: &Request<T>, code: &str) {
        let seen = File::options().append(true).open(self.folder.join("seen"));
        writeln!(seen.unwrap(), "{path} {code} {}", credential(request)).unwrap();
    }
}

fn credential<T>(request: &Request<T>) -> &str {
    let value = request.metadata().get("authorization");
    value.map_or("", |value| value.to_str().unwrap())
}

fn refusal() -> Status {
    Status::unauthenticated("no token that is good")
}
