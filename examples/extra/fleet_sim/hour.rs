//! Simulates one hour of a fleet.

use std::time::{Duration, SystemTime};

use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tower_auth::cache::Clock;
use tower_auth::fleet::{Fleet, Keyring, StoreKey};
use tower_auth::{Error, TokenCache};

use super::report::Report;
use super::world::{Counter, Endpoint, Far, LIFETIME};

const HOUR: Duration = Duration::from_secs(3600);
/// All processes start within this time.
const DEPLOYMENT: Duration = Duration::from_secs(60);
const REFUSAL: Duration = Duration::from_secs(1800);

/// A key in the form of `openssl rand -base64 32`.
const SEALING_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

pub(crate) struct Scene {
    pub(crate) processes: usize,
    pub(crate) shares: bool,
}

/// The counts of one hour.
pub(crate) struct Hour {
    pub(crate) processes: usize,
    pub(crate) shares: bool,
    pub(crate) fetches: u64,
    /// The maximum number of fetches in one second.
    pub(crate) peak: u64,
    /// The number of calls to the store, and the maximum number of calls in one second.
    pub(crate) operations: u64,
    pub(crate) operations_peak: u64,
}

impl Hour {
    /// The maximum number of fetches that one process needs. A process fetches once at its start,
    /// and then after each three quarters of a token's lifetime. The fetch after the refusal
    /// replaces one of these fetches, because the new token starts a new lifetime.
    pub(crate) const NEEDED: u64 = 1 + HOUR.as_secs() / (LIFETIME.as_secs() * 3 / 4);

    /// Returns how often each process calls the store for each token.
    pub(crate) fn operations_each(&self) -> f64 {
        self.operations as f64 / (self.fetches.max(1) * self.processes as u64) as f64
    }
}

impl Scene {
    pub(crate) fn run(self) -> Result<Hour, Report> {
        // A fixed seed gives the same random numbers in each run.
        fastrand::seed(7);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        runtime.block_on(self.pass())
    }

    async fn pass(self) -> Result<Hour, Report> {
        let start = Instant::now();
        let clock = Clock::tokio();
        let refused_at = clock.now().wall() + REFUSAL;
        let store = Far::new(start);
        let fetches = Counter::new(start);
        let keys = Keyring::new("2026-11", SEALING_KEY)?;
        let fleet = Fleet::new(store.clone(), keys).key(StoreKey::new("simulation"));
        let mut processes = JoinSet::new();
        for _ in 0..self.processes {
            let source = Endpoint {
                fetches: fetches.clone(),
            };
            let mut cache = TokenCache::builder(source)
                .clock(clock.clone())
                .keep_fresh();
            if self.shares {
                cache = cache.fleet(fleet.clone())?;
            }
            processes.spawn(process(cache.build(), start, refused_at));
        }
        while let Some(ended) = processes.join_next().await {
            ended??;
        }
        Ok(Hour {
            processes: self.processes,
            shares: self.shares,
            fetches: fetches.total(),
            peak: fetches.peak(),
            operations: store.operations.total(),
            operations_peak: store.operations.peak(),
        })
    }
}

/// Simulates one process, which always has a token after its start. The token is refused once. The
/// time of the refusal differs slightly between processes.
async fn process(cache: TokenCache, start: Instant, refused_at: SystemTime) -> Result<(), Error> {
    sleep(DEPLOYMENT.mul_f64(fastrand::f64())).await;
    drop(cache.token().await?);
    sleep_until(start + REFUSAL + Duration::from_secs(1).mul_f64(fastrand::f64())).await;
    let refused = cache.token().await?;
    if is_of_before(&cache, refused_at) {
        cache.accept(&refused);
        cache.reject(&refused);
    }
    let newer = cache.token().await?;
    if newer.secret() == refused.secret() && is_of_before(&cache, refused_at) {
        return Err(Error::other(
            "a process continues with a token that was refused",
        ));
    }
    sleep_until(start + HOUR).await;
    cache.token().await.map(drop)
}

/// Returns whether the current token was issued before the refusal, so that it is invalid.
fn is_of_before(cache: &TokenCache, refused_at: SystemTime) -> bool {
    let requested_at = cache.status().requested_at();
    requested_at.is_some_and(|at| at < refused_at)
}
