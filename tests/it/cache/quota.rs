//! The status shows the quotas that a server reports. While a quota is low, refreshes wait.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tower_auth::cache::Quota;
use tower_auth::{Token, TokenCache};

use crate::support::{Fetches, ManualClock, run_until_idle, source};

mod postponed_refreshes;
mod telemetry;

const HOUR: Duration = Duration::from_secs(3600);

/// A cache whose clock the test moves. The cache's token lasts an hour and came with quotas.
struct Fixture {
    clock: ManualClock,
    cache: TokenCache,
    fetches: Fetches,
}

impl Fixture {
    async fn with(quotas: impl IntoIterator<Item = Quota>) -> Self {
        let clock = ManualClock::default();
        let (source, fetches) = source();
        let cache = clock.cache(source).name("orders").build();
        let mut fixture = Self {
            clock,
            cache,
            fetches,
        };
        fixture.is_issued("first", quotas).await;
        fixture
    }

    async fn is_issued(&mut self, secret: &str, quotas: impl IntoIterator<Item = Quota>) {
        let token = Token::bearer(secret)
            .unwrap()
            .expires_in(HOUR)
            .with_quotas(quotas);
        let caller = tokio::spawn(self.cache.token());
        self.fetches.next().await.complete(Ok(token));
        caller.await.unwrap().unwrap();
        run_until_idle().await;
    }

    /// Moves the clock to this age of the token. Asserts that 100 callers get the token.
    async fn asked_at(&self, age: Duration) {
        self.clock.set(age);
        for _ in 0..100 {
            assert_eq!(self.cache.token().await.unwrap().secret(), "first");
        }
    }

    fn in_(&self, span: Duration) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000_000) + span
    }
}

/// Returns a quota with one of ten requests left.
fn low_quota() -> Quota {
    Quota::new("client/per_day", 1).of(10)
}
