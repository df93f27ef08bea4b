//! Compares the cost of a DPoP proof with the cost of a bearer token on the same request.
//!
//! `cargo bench -p tower-auth-benches --bench dpop`
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::convert::Infallible;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::Criterion;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, Service, service_fn};
use tower_auth::oauth2::{Client, ClientCredentials, DpopKey};
use tower_auth::{AuthLayer, Token};

type Body = Full<Bytes>;

fn bare()
-> impl Service<Request<Body>, Response = Response<()>, Error = Infallible, Future: Send> + Clone {
    service_fn(|request: Request<Body>| {
        drop(black_box(request));
        std::future::ready(Ok(Response::new(())))
    })
}

const API: &str = "https://api.example.com";

fn bound() -> AuthLayer {
    let issuer = service_fn(|_: Request<Body>| {
        let reply = r#"{"access_token":"a-token","token_type":"DPoP","expires_in":3600}"#;
        std::future::ready(Ok::<_, Infallible>(Response::new(Body::from(reply))))
    });
    let client = Client::new("https://id.example.com/token", "id", "secret")
        .unwrap()
        .transport(issuer);
    let client = client.dpop(DpopKey::generate().unwrap());
    AuthLayer::new(ClientCredentials::with_client(client))
        .only_to([API])
        .unwrap()
}

/// Sends `count` requests, one after the other.
async fn send(layer: &AuthLayer, count: u32) -> Duration {
    let mut client = layer.layer(bare());
    let started = Instant::now();
    for _ in 0..count {
        let request = Request::get("https://api.example.com/v1/notes");
        let response = client.call(request.body(Body::default()).unwrap());
        black_box(response.await.unwrap());
    }
    started.elapsed()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.unwrap();
    let layers = [
        (
            "bearer token",
            AuthLayer::new(|_| async { Token::bearer("a-token") })
                .only_to([API])
                .unwrap(),
        ),
        ("DPoP", bound()),
    ];
    for (_, layer) in &layers {
        runtime.block_on(layer.cache().token()).unwrap();
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("a request with");
    for (name, layer) in &layers {
        group.bench_function(*name, |bench| {
            bench.iter_custom(|count| {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                runtime.block_on(send(layer, count))
            });
        });
    }
    group.finish();
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    // The two layers alternate, so that other work on the machine affects both.
    const ROUNDS: u32 = 50;
    const EACH: u32 = 200;
    let mut took = [Duration::ZERO; 2];
    for _ in 0..ROUNDS {
        for ((_, layer), took) in layers.iter().zip(&mut took) {
            *took += runtime.block_on(send(layer, EACH));
        }
    }
    let [bearer, dpop] = took.map(|took| took / (ROUNDS * EACH));
    println!("a request with a bearer token: {bearer:?}; with a DPoP proof: {dpop:?}");
    println!("a proof costs {:?}", dpop.saturating_sub(bearer));
}
