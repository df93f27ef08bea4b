//! How long everything takes, in proportion to the run: how long tokens live, and how patient
//! the cache is told to be.

use std::time::Duration;

pub(crate) struct Pace {
    /// Whole seconds, as `expires_in` has it.
    pub(crate) lifetime: Duration,
    /// How long before its end a token is refreshed behind the callers.
    pub(crate) refresh_before: Duration,
    /// How long before its end it is no longer sent.
    pub(crate) margin: Duration,
    /// The most that one exchange with the authorization server takes.
    pub(crate) exchange_timeout: Duration,
    /// The most that a fetch takes, with all its attempts.
    pub(crate) fetch_timeout: Duration,
    /// The least time from a failed fetch to the next.
    pub(crate) attempt_floor: Duration,
    /// What the authorization server asks for when it wants to be left alone.
    pub(crate) retry_after: Duration,
    pub(crate) backoff: Backoff,
}

/// What the cache does of its own accord when fetches fail.
pub(crate) struct Backoff {
    /// The most attempts of one fetch.
    pub(crate) attempts: usize,
    /// The least wait after a failed fetch, if that is more than the floor.
    pub(crate) first_wait: Duration,
    /// Whether each that follows doubles it.
    pub(crate) doubles: bool,
    /// Whether the server's `Retry-After` is waited for.
    pub(crate) heeds_retry_after: bool,
}

/// Tokens of four seconds in a run of a minute.
const LIFETIMES_IN_A_RUN: u32 = 15;

impl Pace {
    pub(crate) fn scaled_to(length: Duration) -> Self {
        let lifetime = (length / LIFETIMES_IN_A_RUN).as_secs_f64().round().max(1.0);
        let lifetime = Duration::from_secs_f64(lifetime);
        let exchange_timeout = lifetime / 4;
        Self {
            lifetime,
            refresh_before: lifetime / 2,
            // Not in proportion: how long a request takes to arrive depends on the machine.
            margin: Duration::from_millis(200),
            exchange_timeout,
            fetch_timeout: exchange_timeout * 4,
            attempt_floor: lifetime / 16,
            retry_after: Duration::from_secs(1),
            // As the cache does unless told otherwise.
            backoff: Backoff {
                attempts: 3,
                first_wait: Duration::from_secs(1),
                doubles: true,
                heeds_retry_after: true,
            },
        }
    }

    /// How long a new token is served before it is refreshed.
    pub(crate) fn fresh_for(&self) -> Duration {
        self.lifetime - self.refresh_before
    }

    /// The least wait after so many failed fetches in a row.
    pub(crate) fn wait_after(&self, failures: u32, server_asks: bool) -> Duration {
        let doublings = if self.backoff.doubles {
            failures.saturating_sub(1)
        } else {
            0
        };
        let wait = self.backoff.first_wait * 2_u32.saturating_pow(doublings);
        let wait = wait.max(self.attempt_floor);
        if server_asks && self.backoff.heeds_retry_after {
            wait.max(self.retry_after)
        } else {
            wait
        }
    }
}
