//! Measures the credential's share of a whole call. hyper's client sends over HTTP/1.1, without
//! TLS, to an idle server on loopback. No real call is cheaper.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tower::{BoxError, Service};

use super::{Effort, figure, median, runtime};
use crate::client::{Body, Call};
use crate::contenders::{Contender, Visitor, all};
use crate::issuer::{Issuer, Terms};
use crate::report::{Column, Part};

pub fn ask(effort: Effort) -> Vec<Column> {
    let rounds = effort.of(400, 5);
    let server = runtime(1);
    let to = server.block_on(listen());
    let client = Builder::new_current_thread().enable_all().build();
    let mut racers = Racers {
        runtime: client.expect("a runtime"),
        client: Hyper::new(to),
        racers: Vec::new(),
    };
    all(&mut racers);
    let Racers {
        runtime,
        mut racers,
        ..
    } = racers;
    let mut round = || {
        racers
            .iter_mut()
            .map(|(_, turn)| turn(&runtime))
            .collect::<Vec<_>>()
    };
    round();
    let rounds: Vec<Vec<[f64; 2]>> = (0..rounds).map(|_| round()).collect();
    let of =
        |at: usize, which: usize| median(rounds.iter().map(|round| round[at][which]).collect());
    let cell = |(at, name)| {
        let (call, net) = (of(at, 0), of(at, 1));
        (name, format!("{} ({net:+.1})", figure(call, " µs")))
    };
    let names: Vec<_> = racers.iter().map(|(name, _)| *name).collect();
    vec![Column {
        part: Part::Cost,
        head: "a whole call (its credential)".into(),
        cells: names.into_iter().enumerate().map(cell).collect(),
    }]
}

/// The number of calls in a turn.
const TURN: u32 = 50;

/// Returns the microseconds per call, and how many of them the credential added.
type Turn = Box<dyn FnMut(&Runtime) -> [f64; 2]>;

struct Racers {
    runtime: Runtime,
    client: Hyper,
    racers: Vec<(&'static str, Turn)>,
}

impl Visitor for Racers {
    fn visit<C: Contender>(&mut self) {
        let (mut below, mut over) = self.runtime.block_on(async {
            let contender = C::new(&Issuer::new(Terms::DAY)).await;
            (
                C::below(self.client.clone()),
                contender.over(self.client.clone()),
            )
        });
        let turn = move |runtime: &Runtime| {
            let bare = time(runtime, &mut below);
            let call = time(runtime, &mut over);
            [call, call - bare]
        };
        self.racers.push((C::NAME, Box::new(turn)));
    }
}

fn time(runtime: &Runtime, call: &mut impl Call) -> f64 {
    let start = Instant::now();
    runtime.block_on(async {
        for _ in 0..TURN {
            call.call().await.expect("an answer");
        }
    });
    start.elapsed().as_secs_f64() * 1e6 / f64::from(TURN)
}

/// Starts a server that accepts everything, and runs as long as its runtime.
async fn listen() -> Uri {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let answer = service_fn(|request: Request<Incoming>| async {
                request.into_body().collect().await.ok();
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Uri::try_from(format!("http://{address}/v1/things")).expect("an address")
}

/// hyper's client over HTTP/1.1. The client sends to one server on loopback, whatever the request's
/// URI says, because some contenders require `https`.
#[derive(Clone)]
struct Hyper {
    client: Client<HttpConnector, Body>,
    to: Uri,
}

impl Hyper {
    fn new(to: Uri) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, to }
    }
}

impl Service<Request<Body>> for Hyper {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<()>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        *request.uri_mut() = self.to.clone();
        let answer = self.client.request(request);
        Box::pin(async move {
            let (head, body) = answer.await?.into_parts();
            body.collect().await?;
            Ok(Response::from_parts(head, ()))
        })
    }
}
