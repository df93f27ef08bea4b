//! Measures the cost of many callers that wait for one fetch. Prints the time from the end of the
//! fetch until the last caller has its token. Also prints the heap for each waiting caller.
//!
//! `cargo bench -p tower-auth-benches --bench cold_burst`
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{Request, Response};
use http_body_util::Full;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::{AuthLayer, Error, Reason, Token, TokenCache, TokenSource};

const CALLERS: [usize; 3] = [100, 1_000, 10_000];

/// A token source whose fetch ends when the benchmark adds a permit to the semaphore.
struct Gated(Arc<Semaphore>);

impl TokenSource for Gated {
    fn fetch(&self, _: Reason) -> impl Future<Output = Result<Token, Error>> + Send {
        let gate = Arc::clone(&self.0);
        async move {
            gate.acquire().await.unwrap().forget();
            Token::bearer("a".repeat(1_000))
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Starts `callers` waiting tasks. Returns the time from the end of the fetch until the last task
/// has its token.
fn burst<F>(callers: usize, task: impl Fn(&TokenCache) -> F) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    let gate = Arc::new(Semaphore::new(0));
    let cache = TokenCache::new(Gated(Arc::clone(&gate)));
    runtime().block_on(async {
        let tasks = waiting(callers, || task(&cache)).await;
        gate.add_permits(1);
        let start = Instant::now();
        for task in tasks {
            task.await.unwrap();
        }
        start.elapsed()
    })
}

/// Starts the tasks, and returns when each task has run once. This takes several turns of the
/// runtime, because it polls only about 60 tasks per turn.
async fn waiting<F>(callers: usize, task: impl Fn() -> F) -> Vec<JoinHandle<()>>
where
    F: Future<Output = ()> + Send + 'static,
{
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    BEGUN.store(0, Ordering::Relaxed);
    let begin = |task: F| async {
        BEGUN.fetch_add(1, Ordering::Relaxed);
        task.await;
    };
    let tasks = (0..callers).map(|_| tokio::spawn(begin(task()))).collect();
    while BEGUN.load(Ordering::Relaxed) < callers {
        tokio::task::yield_now().await;
    }
    tasks
}

/// Makes a task that waits for the token.
fn token(cache: &TokenCache) -> impl Future<Output = ()> + Send + 'static + use<> {
    let token = cache.token();
    async move { drop(token.await.unwrap()) }
}

/// Makes a task that sends a request through the layer.
fn request(cache: &TokenCache) -> impl Future<Output = ()> + Send + 'static + use<> {
    let client = service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, std::convert::Infallible>(Response::new(()))
    });
    let layer = AuthLayer::from(cache.clone()).only_to(["https://api.example.com"]);
    let client = layer.unwrap().layer(client);
    let request = Request::get("https://api.example.com")
        .body(Full::default())
        .unwrap();
    async move { drop(client.oneshot(request).await.unwrap()) }
}

fn cold_burst(criterion: &mut Criterion) {
    for (name, is_request) in [
        ("cold burst, tokens", false),
        ("cold burst, requests", true),
    ] {
        let mut group = criterion.benchmark_group(name);
        group
            .sample_size(20)
            .measurement_time(Duration::from_secs(3));
        for callers in CALLERS {
            group.bench_function(BenchmarkId::from_parameter(callers), |bencher| {
                bencher.iter_custom(|iterations| {
                    let burst = || match is_request {
                        true => burst(callers, request),
                        false => burst(callers, token),
                    };
                    (0..iterations).map(|_| burst()).sum()
                });
            });
        }
        group.finish();
    }
}

/// Measures the heap for each waiting caller: its task and its entry in the list of waiters.
fn memory(_: &mut Criterion) {
    fn per_caller<F>(task: impl Fn(&TokenCache) -> F) -> u64
    where
        F: Future<Output = ()> + Send + 'static,
    {
        const CALLERS: usize = 10_000;
        let cache = TokenCache::new(Gated(Arc::new(Semaphore::new(0))));
        let runtime = runtime();
        // The task handles are dropped, so that the measurement contains only the tasks.
        let weighed = allocation_counter::measure(|| {
            runtime.block_on(async { drop(waiting(CALLERS, || task(&cache)).await) });
        });
        weighed.bytes_current.unsigned_abs() / CALLERS as u64
    }
    println!(
        "\nheap per waiting caller: {} B for a token, {} B for a request\n",
        per_caller(token),
        per_caller(request)
    );
}

criterion_group!(benches, cold_burst, memory);
criterion_main!(benches);
