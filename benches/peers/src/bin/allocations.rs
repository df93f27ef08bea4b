//! Counts each contender's heap use, and prints one line for each contender; see
//! `src/questions/allocations.rs`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use tokio::runtime::{Builder, Runtime};
use tower_auth_peers::client::Call;
use tower_auth_peers::contenders::{Contender, Visitor, all, kube};
use tower_auth_peers::issuer::{Issuer, Terms};
use tower_auth_peers::questions::allocations::Counted;

fn main() -> ExitCode {
    if let Some(exit) = kube::be_the_plugin() {
        return exit;
    }
    all(&mut Printing);
    ExitCode::SUCCESS
}

struct Printing;

impl Visitor for Printing {
    fn visit<C: Contender>(&mut self) {
        let (over, below) = (requests::<C>(true), requests::<C>(false));
        let net = |of: fn(&AllocationInfo) -> u64| {
            (of(&over) as f64 - of(&below) as f64) / f64::from(REQUESTS)
        };
        let counted = Counted {
            name: C::NAME.into(),
            allocations: net(|counted| counted.count_total),
            bytes: net(|counted| counted.bytes_total),
            // The difference leaves out the memory that all callers share, such as the fetch task.
            bytes_waiting: C::FETCHES.then(|| {
                let (many, few) = (waiting::<C>(10_000), waiting::<C>(1_000));
                (many - few) as f64 / 9_000.0
            }),
        };
        println!("{}", counted.to_line());
    }
}

const REQUESTS: u32 = 1_000;

/// Measures consecutive requests with a cached token.
fn requests<C: Contender>(with_credential: bool) -> AllocationInfo {
    async fn send(mut call: impl Call, count: u32) {
        for _ in 0..count {
            call.call().await.expect("a token in hand");
        }
    }
    let runtime = runtime();
    let contender = runtime.block_on(async {
        let contender = C::new(&Issuer::new(Terms::DAY)).await;
        send(contender.lean(), 10).await;
        contender
    });
    // The first request of a clone may allocate more, because one contender copies the header for
    // each clone. So the first 10 requests are subtracted.
    let count = |count| match with_credential {
        true => measure(|| runtime.block_on(send(contender.lean(), count))),
        false => measure(|| runtime.block_on(send(C::lean_below(), count))),
    };
    let (first, more) = (count(10), count(10 + REQUESTS));
    AllocationInfo {
        count_total: more.count_total - first.count_total,
        bytes_total: more.bytes_total - first.bytes_total,
        ..more
    }
}

/// Measures tasks that wait for a token, including their requests.
fn waiting<C: Contender>(callers: usize) -> i64 {
    let runtime = runtime();
    let issuer = Issuer::gated(Terms::DAY);
    let contender = runtime.block_on(C::new(&issuer));
    let call = contender.lean();
    let started = Arc::<AtomicUsize>::default();
    let waiting = measure(|| {
        runtime.block_on(async {
            for _ in 0..callers {
                let (mut call, started) = (call.clone(), Arc::clone(&started));
                drop(tokio::spawn(async move {
                    started.fetch_add(1, Ordering::Relaxed);
                    call.call().await
                }));
            }
            while started.load(Ordering::Relaxed) < callers || issuer.fetches() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    });
    // Lets the fetch end, because the runtime can't shut down while kube's plugin process runs.
    issuer.open();
    waiting.bytes_current
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}
