//! The status shows the quotas that a server reports. While a quota is low, refreshes wait.

use std::time::{Duration, SystemTime};

use tower_auth::cache::{ManualClock, Quota};
use tower_auth::{Token, TokenCache};
use tower_auth_test::{Fetches, controlled_source, run_until_idle};

use crate::support::{clock_start, clocked, manual_clock};

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
        let clock = manual_clock();
        let (source, fetches) = controlled_source();
        let cache = clocked(source, &clock).name("orders").build();
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

    /// Advances the clock to this age of the first token.
    fn advance_to(&self, age: Duration) {
        let now = self.clock.now().wall();
        self.clock
            .advance(self.in_(age).duration_since(now).unwrap());
    }

    /// Lets 100 callers ask at this age of the token, and asserts that each gets it.
    async fn asked_at(&self, age: Duration) {
        self.advance_to(age);
        for _ in 0..100 {
            assert_eq!(self.cache.token().await.unwrap().secret(), "first");
        }
    }

    fn in_(&self, span: Duration) -> SystemTime {
        clock_start() + span
    }
}

/// Returns a quota with one of ten requests left.
fn low_quota() -> Quota {
    Quota::new("client/per_day", 1).of(10)
}
