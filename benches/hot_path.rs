//! Compares a request with a cached token to the cheapest possible alternative.
//!
//! Every figure is *net*: the benchmark also sends the same requests through the bare service, and
//! subtracts their time. The measured service and the bare service alternate, in turns of a
//! thousand requests. For the tables at the end, all services take turns in one run.
//! `benches/peers` compares other crates too.
//!
//! `cargo bench -p tower-auth-benches --bench hot_path`
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "support/look_for_401.rs"]
mod look_for_401;
#[path = "support/meeting.rs"]
mod meeting;

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use tower::Layer;
use tower::retry::{Policy, Retry};
use tower_auth::tenants::Tenants;
use tower_auth::{AuthLayer, Token};
use tower_http::set_header::{SetRequestHeader, SetRequestHeaderLayer};
use tower_service::Service;

use look_for_401::LookFor401;
use meeting::Meeting;

type Body = Full<Bytes>;

/// The client below the layer, which only takes a request and returns a response.
#[derive(Clone)]
struct Bare;

/// A future that makes the response only when polled, like a response from a network.
struct Answer;

impl Future for Answer {
    type Output = Result<Response<()>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(Response::new(())))
    }
}

impl Service<Request<Body>> for Bare {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        drop(black_box(request));
        Answer
    }
}

/// A hand-written policy that retries once after a 401.
#[derive(Clone)]
struct OnceOn401;

impl Policy<Request<Body>, Response<()>, Infallible> for OnceOn401 {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Body>,
        result: &mut Result<Response<()>, Infallible>,
    ) -> Option<Ready<()>> {
        let refused = matches!(result, Ok(r) if r.status() == StatusCode::UNAUTHORIZED);
        refused.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Some(request.clone())
    }
}

fn secret() -> String {
    "a".repeat(1_000)
}

fn static_header() -> SetRequestHeader<Bare, HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", secret())).unwrap();
    value.set_sensitive(true);
    SetRequestHeaderLayer::overriding(AUTHORIZATION, value).layer(Bare)
}

fn auth() -> AuthLayer {
    with_token(|| Token::bearer(secret()).unwrap())
}

fn with_token(token: fn() -> Token) -> AuthLayer {
    let layer = AuthLayer::new(move |_| ready(Ok(token().expires_in(Duration::from_secs(86_400)))));
    let layer = layer.only_to(["https://api.example.com"]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(layer.cache().token()).unwrap();
    layer
}

/// Builds requests as a client does: header by header. A cloned request has a header map without
/// room for another header. The cost of growing the map depends on the allocator, not on the
/// service.
struct Template {
    uri: Uri,
}

impl Template {
    fn new() -> Self {
        let uri = Uri::from_static("https://api.example.com/v1/things");
        Self { uri }
    }

    fn request(&self) -> Request<Body> {
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        let mut request = Request::new(Full::from("{}"));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(ACCEPT, JSON);
        request.headers_mut().insert(CONTENT_TYPE, JSON);
        request
    }
}

/// How the requests share a service.
#[derive(Clone, Copy)]
enum Use {
    /// Each thread uses one clone for all requests.
    OneClone,
    /// Each request uses its own clone, as with hyper and tonic.
    ClonePerRequest,
}

impl Use {
    fn name(self) -> &'static str {
        match self {
            Self::OneClone => "one clone",
            Self::ClonePerRequest => "a clone per request",
        }
    }
}

fn send<S>(service: &mut S, request: Request<Body>)
where
    S: Service<Request<Body>>,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let response = pin!(service.call(request));
    assert!(black_box(response.poll(&mut cx)).is_ready());
}

fn rounds<S>(service: &mut S, how: Use, template: &Template, count: u64) -> Duration
where
    S: Service<Request<Body>> + Clone,
{
    let start = Instant::now();
    match how {
        Use::OneClone => (0..count).for_each(|_| send(service, template.request())),
        Use::ClonePerRequest => {
            for _ in 0..count {
                send(&mut service.clone(), template.request());
            }
        }
    }
    start.elapsed()
}

const TURN: u64 = 1_000;

/// Returns the net cost of `iterations` requests through `service`.
fn net<S>(service: &S, how: Use, iterations: u64, threads: usize) -> Duration
where
    S: Service<Request<Body>> + Clone + Send + Sync,
{
    let turns = iterations.div_ceil(TURN);
    let meeting = Meeting::of(threads);
    let one_thread = || {
        let (mut bare, mut service) = (Bare, service.clone());
        let template = Template::new();
        let mut net = 0.0;
        for _ in 0..turns {
            meeting.wait();
            let below = rounds(&mut bare, how, &template, TURN);
            meeting.wait();
            net += rounds(&mut service, how, &template, TURN).as_secs_f64() - below.as_secs_f64();
        }
        net
    };
    let total: f64 = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one_thread)).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    let per_request = total.max(1e-12) / (threads as f64 * turns as f64 * TURN as f64);
    Duration::from_secs_f64(per_request * iterations as f64)
}

const STATIC: &str = "static header";
const LOOK: &str = "static header + a look for 401";
const OFF: &str = "auth, replay off";
const RETRY: &str = "retry + static header";
const ON: &str = "auth, replay on";

fn hot_path(criterion: &mut Criterion) {
    for how in [Use::OneClone, Use::ClonePerRequest] {
        for threads in [1, 2] {
            let mut group = criterion.benchmark_group(group_name(how, threads));
            let auth = auth();
            let off = auth.clone().retry(false).layer(Bare);
            let on = auth.layer(Bare);
            let retry = Retry::new(OnceOn401, static_header());
            macro_rules! bench {
                ($name:expr, $service:expr) => {
                    let service = $service;
                    group.bench_function(BenchmarkId::from_parameter($name), |bencher| {
                        bencher.iter_custom(|n| net(&service, how, n, threads));
                    });
                };
            }
            bench!(STATIC, static_header());
            bench!(LOOK, LookFor401(static_header()));
            bench!(OFF, off);
            bench!(RETRY, retry);
            bench!(ON, on);
            group.finish();
        }
    }
}

fn group_name(how: Use, threads: usize) -> String {
    format!("{}, {threads} thread(s)", how.name())
}

/// The number of turns of each service in the table.
const TURNS: usize = 1_000;

/// Returns the net cost of a request through each service, in nanoseconds. Each cost is the median
/// of many turns. All services run in each turn, so that noise on the machine affects all of them.
fn side_by_side(how: Use, threads: usize) -> [f64; 5] {
    let auth = auth();
    let (fixed, look) = (static_header(), LookFor401(static_header()));
    let retry = Retry::new(OnceOn401, static_header());
    let (off, on) = (auth.clone().retry(false).layer(Bare), auth.layer(Bare));
    let meeting = Meeting::of(threads);
    let one_thread = || {
        let template = Template::new();
        let (mut bare, mut fixed, mut look) = (Bare, fixed.clone(), look.clone());
        let (mut retry, mut off, mut on) = (retry.clone(), off.clone(), on.clone());
        let turn = |_| {
            let go = |below: Option<f64>, rounds: &mut dyn FnMut() -> Duration| {
                meeting.wait();
                rounds().as_secs_f64() * 1e9 / TURN as f64 - below.unwrap_or(0.0)
            };
            let below = Some(go(None, &mut || rounds(&mut bare, how, &template, TURN)));
            [
                go(below, &mut || rounds(&mut fixed, how, &template, TURN)),
                go(below, &mut || rounds(&mut look, how, &template, TURN)),
                go(below, &mut || rounds(&mut off, how, &template, TURN)),
                go(below, &mut || rounds(&mut retry, how, &template, TURN)),
                go(below, &mut || rounds(&mut on, how, &template, TURN)),
            ]
        };
        (0..TURNS).map(turn).collect::<Vec<_>>()
    };
    let turns: Vec<[f64; 5]> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one_thread)).collect();
        running
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    [0, 1, 2, 3, 4].map(|service| {
        let mut times: Vec<f64> = turns.iter().map(|turn| turn[service]).collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

/// Prints the net costs and their ratios as a table.
fn table() {
    println!(
        "\n| service | static header | + a look for 401 | auth, replay off | retry + static header \
         | auth, replay on |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for how in [Use::OneClone, Use::ClonePerRequest] {
        for threads in [1, 2] {
            let [fixed, look, off, retry, on] = side_by_side(how, threads);
            println!(
                "| {} | {fixed:.0} ns | {look:.0} ns, {:.2} × | {off:.0} ns, {:.2} × / {:.2} × \
                 | {retry:.0} ns | {on:.0} ns, {:.2} × |",
                group_name(how, threads),
                look / fixed,
                off / fixed,
                off / look,
                on / retry,
            );
        }
    }
}

/// The tenant of a request.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Tenant(Arc<str>);

/// A turn this short usually ends before the system schedules another thread.
const SHORT_TURN: u64 = 200;

/// Makes a key with as many characters as most API keys have.
fn api_key() -> String {
    "k".repeat(40)
}

fn header_key() -> Token {
    Token::header("x-api-key".parse().unwrap(), api_key()).unwrap()
}

fn query_key() -> Token {
    Token::query("api_key", api_key()).unwrap()
}

/// A row of the table of tenants and keys. Some rows compare `Tenants` with the layer below it.
/// Other rows compare a key in the query with a key in a header. The rows take turns. The requests
/// of all rows carry a tenant in their extensions.
struct Row {
    name: &'static str,
    rounds: Box<dyn FnMut() -> Duration>,
    net: Vec<f64>,
}

impl Row {
    /// Makes a row whose requests alternate between the first `tenants` tenants.
    fn new<S>(name: &'static str, mut service: S, how: Use, uri: &str, tenants: usize) -> Self
    where
        S: Service<Request<Body>> + Clone + 'static,
    {
        let template = Template {
            uri: uri.parse().unwrap(),
        };
        let names: Vec<Tenant> = ["acme", "globex"].map(|name| Tenant(name.into())).into();
        let rounds = move || {
            let start = Instant::now();
            for tenant in names.iter().take(tenants).cycle().take(SHORT_TURN as usize) {
                let mut request = template.request();
                request.extensions_mut().insert(tenant.clone());
                match how {
                    Use::OneClone => send(&mut service, request),
                    Use::ClonePerRequest => send(&mut service.clone(), request),
                }
            }
            start.elapsed()
        };
        Self {
            name,
            rounds: Box::new(rounds),
            net: Vec::new(),
        }
    }

    fn turn(&mut self, below: f64) -> f64 {
        let net = (self.rounds)().as_secs_f64() * 1e9 / SHORT_TURN as f64 - below;
        self.net.push(net);
        net
    }

    fn median(&mut self) -> f64 {
        self.net.sort_by(f64::total_cmp);
        self.net[self.net.len() / 2]
    }
}

fn tenants_and_keys() {
    const URI: &str = "https://api.example.com/v1/things";
    const WITH_QUERY: &str = "https://api.example.com/v1/things?page=2&limit=100";

    let alone = auth();
    let off = alone.clone().retry(false);
    let tenants_of = |layer: &AuthLayer| {
        let layer = layer.clone();
        Tenants::new(move |_: &Tenant| Ok(layer.clone())).by_extension()
    };
    let (tenants, tenants_off) = (tenants_of(&alone), tenants_of(&off));
    let (header, query) = (with_token(header_key), with_token(query_key));
    let (one, each) = (Use::OneClone, Use::ClonePerRequest);
    let mut bare = Row::new("bare", Bare, one, URI, 1);
    let mut rows = [
        Row::new("the layer, one clone", alone.layer(Bare), one, URI, 1),
        Row::new("tenants, one clone", tenants.layer(Bare), one, URI, 1),
        Row::new("tenants, two by turns", tenants.layer(Bare), one, URI, 2),
        Row::new(
            "the layer, a clone per request",
            alone.layer(Bare),
            each,
            URI,
            1,
        ),
        Row::new(
            "tenants, a clone per request",
            tenants.layer(Bare),
            each,
            URI,
            1,
        ),
        Row::new("the layer, replay off", off.layer(Bare), one, URI, 1),
        Row::new("tenants, replay off", tenants_off.layer(Bare), one, URI, 1),
        Row::new("a key in a header", header.layer(Bare), one, URI, 1),
        Row::new("a key in the query", query.layer(Bare), one, URI, 1),
        Row::new(
            "a key in a header, beside a query",
            header.layer(Bare),
            one,
            WITH_QUERY,
            1,
        ),
        Row::new(
            "a key in the query, behind others",
            query.layer(Bare),
            one,
            WITH_QUERY,
            1,
        ),
    ];
    for _ in 0..TURNS {
        let below = bare.turn(0.0);
        for row in &mut rows {
            row.turn(below);
        }
    }
    println!("\n| service | net | beside |\n| --- | --- | --- |");
    let net: Vec<f64> = rows.iter_mut().map(Row::median).collect();
    let beside = [0, 0, 0, 3, 3, 5, 5, 7, 7, 9, 9];
    for (at, beside) in beside.into_iter().enumerate() {
        let (row, other) = (net[at], net[beside]);
        let (ratio, more) = (row / other, row - other);
        println!(
            "| {} | {row:.0} ns | {ratio:.2} ×, {more:+.0} ns |",
            rows[at].name
        );
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    hot_path(&mut criterion);
    criterion.final_summary();
    if !std::env::args().any(|arg| arg == "--test") {
        tenants_and_keys();
        table();
    }
}
