//! Tokens live for 200 ms, and a fetch takes 50 ms. 1,000 tasks run on two threads. Each task sends
//! a request, pauses for about 20 ms, and sends the next request. Measures how long a request takes
//! with a client that responds at once.
//!
//! The static header never expires. The figures of the static header show the time that the harness
//! and the machine take. Requests with an expired token are counted. Otherwise a contender that
//! sends expired tokens would look fast.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;
use http::{Request, Response};
use tower::{BoxError, Service};

use super::{Effort, figure, milliseconds, runtime};
use crate::client::{Body, Call};
use crate::contenders::{Contender, Visitor, all};
use crate::issuer::{Issuer, past_its_end};
use crate::report::{Column, Part};

pub fn ask(effort: Effort) -> Vec<Column> {
    let mut loads = Loads {
        lasts: effort.of(Duration::from_secs(10), Duration::from_secs(1)),
        p99: Vec::new(),
        max: Vec::new(),
        past: Vec::new(),
    };
    all(&mut loads);
    let column = |head: &str, cells| Column {
        part: Part::Expiring,
        head: head.into(),
        cells,
    };
    vec![
        column("p99", loads.p99),
        column("the longest", loads.max),
        column("sent after expiry", loads.past),
    ]
}

const CALLERS: usize = 1_000;

struct Loads {
    lasts: Duration,
    p99: Vec<(&'static str, String)>,
    max: Vec<(&'static str, String)>,
    past: Vec<(&'static str, String)>,
}

impl Visitor for Loads {
    fn visit<C: Contender>(&mut self) {
        let lasts = self.lasts;
        let runtime = runtime(2);
        let past = Arc::<AtomicU64>::default();
        let checking = Checking(Arc::clone(&past));
        let load = runtime.spawn(async move {
            let contender = C::new(&Issuer::new(C::short_lived())).await;
            let call = contender.over(checking);
            // Fetches the first token before the measurement. `cold_burst.rs` measures the burst at
            // the start.
            call.clone().call().await.expect("an answer");
            let end = Instant::now() + lasts;
            let callers: Vec<_> = (0..CALLERS)
                .map(|_| tokio::spawn(caller(call.clone(), end)))
                .collect();
            let mut waits = Vec::new();
            for caller in callers {
                waits.extend(caller.await.expect("no panic"));
            }
            waits
        });
        let mut waits = runtime.block_on(load).expect("no panic");
        waits.sort();
        let ms = |wait: Duration| wait.as_secs_f64() * 1e3;
        let (p99, max) = (
            ms(waits[waits.len() * 99 / 100]),
            ms(waits[waits.len() - 1]),
        );
        self.p99.push((C::NAME, milliseconds(p99)));
        self.max.push((C::NAME, milliseconds(max)));
        if C::FETCHES {
            let past = past.load(Ordering::Relaxed) as f64;
            self.past.push((C::NAME, figure(past, "")));
        }
    }
}

/// Returns how long each request took.
async fn caller(mut call: impl Call, end: Instant) -> Vec<Duration> {
    let mut waits = Vec::with_capacity(1_000);
    // A pause of random length, so that the tasks don't send their requests at the same moment.
    tokio::time::sleep(pause()).await;
    while Instant::now() < end {
        let start = Instant::now();
        call.call().await.expect("an answer");
        waits.push(start.elapsed());
        tokio::time::sleep(pause()).await;
    }
    waits
}

fn pause() -> Duration {
    Duration::from_micros(fastrand::u64(10_000..30_000))
}

/// A client that responds at once, and counts requests with an expired token.
#[derive(Clone)]
struct Checking(Arc<AtomicU64>);

impl Service<Request<Body>> for Checking {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Ready<Result<Response<()>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !past_its_end(&request.headers()[AUTHORIZATION]).is_zero() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        ready(Ok(Response::new(())))
    }
}
