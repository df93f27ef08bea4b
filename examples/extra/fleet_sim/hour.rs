//! One hour of a fleet.

use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tower_auth::fleet::{Fleet, Keyring, StoreKey};
use tower_auth::{Error, TokenCache};

use super::report::Report;
use super::world::{Counter, Endpoint, Far, LIFETIME, clock};

const HOUR: Duration = Duration::from_secs(3600);
/// Within which all processes start.
const DEPLOYMENT: Duration = Duration::from_secs(60);
const REFUSAL: Duration = Duration::from_secs(1800);

/// As `openssl rand -base64 32` writes it.
const SEALING_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

pub(crate) struct Scene {
    pub(crate) processes: usize,
    pub(crate) shares: bool,
}

/// What was counted.
pub(crate) struct Hour {
    pub(crate) processes: usize,
    pub(crate) shares: bool,
    pub(crate) fetches: u64,
    /// The most fetches in one second.
    pub(crate) peak: u64,
    /// Calls of the store, and the most of them in one second.
    pub(crate) operations: u64,
    pub(crate) operations_peak: u64,
}

impl Hour {
    /// The most that one process needs: the first, and one whenever three quarters of a token's time are
    /// over. The refusal comes in the place of one of those, for with it that time begins anew.
    pub(crate) const NEEDED: u64 = 1 + HOUR.as_secs() / (LIFETIME.as_secs() * 3 / 4);

    /// How often each process asks the store for each token.
    pub(crate) fn operations_each(&self) -> f64 {
        self.operations as f64 / (self.fetches.max(1) * self.processes as u64) as f64
    }
}

impl Scene {
    pub(crate) fn run(self) -> Result<Hour, Report> {
        // The same dice each time.
        fastrand::seed(7);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        runtime.block_on(self.pass())
    }

    async fn pass(self) -> Result<Hour, Report> {
        let start = Instant::now();
        let store = Far::new(start);
        let fetches = Counter::new(start);
        let keys = Keyring::new("2026-11", SEALING_KEY)?;
        let fleet = Fleet::new(store.clone(), keys).key(StoreKey::new("simulation"));
        let mut processes = JoinSet::new();
        for _ in 0..self.processes {
            let source = Endpoint {
                fetches: fetches.clone(),
            };
            let mut cache = TokenCache::builder(source).clock(clock(start)).keep_fresh();
            if self.shares {
                cache = cache.fleet(fleet.clone())?;
            }
            processes.spawn(process(cache.build(), start));
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

/// One process: it starts, and has a token from then on. Once that is refused, a little later here than
/// there.
async fn process(cache: TokenCache, start: Instant) -> Result<(), Error> {
    sleep(DEPLOYMENT.mul_f64(fastrand::f64())).await;
    drop(cache.token().await?);
    sleep_until(start + REFUSAL + Duration::from_secs(1).mul_f64(fastrand::f64())).await;
    let refused = cache.token().await?;
    if is_of_before(&cache, start) {
        cache.accept(&refused);
        cache.reject(&refused);
    }
    let newer = cache.token().await?;
    if newer.secret() == refused.secret() && is_of_before(&cache, start) {
        return Err(Error::other(
            "a process goes on with a token that was refused",
        ));
    }
    sleep_until(start + HOUR).await;
    cache.token().await.map(drop)
}

/// Whether the token in hand was issued before the refusal: newer ones are good.
fn is_of_before(cache: &TokenCache, start: Instant) -> bool {
    let age = cache.status().expires_at().and_then(|end| {
        let now = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000) + start.elapsed();
        Some(LIFETIME.saturating_sub(end.duration_since(now).ok()?))
    });
    age.is_some_and(|age| start.elapsed().saturating_sub(age) < REFUSAL)
}
