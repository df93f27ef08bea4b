//! All durations: the lifetime of tokens, and the cache's timeouts and waits. Most durations are in
//! proportion to the run's length.

use std::time::Duration;

pub(crate) struct Pace {
    /// The lifetime of a token, in whole seconds, because `expires_in` has whole seconds.
    pub(crate) lifetime: Duration,
    /// A token is refreshed in the background this long before its expiry.
    pub(crate) refresh_before: Duration,
    /// The cache stops sending a token this long before its expiry.
    pub(crate) margin: Duration,
    /// The timeout of one request to the authorization server.
    pub(crate) exchange_timeout: Duration,
    /// The timeout of a fetch, with all its attempts.
    pub(crate) fetch_timeout: Duration,
    /// The minimum time from a failed fetch to the next fetch.
    pub(crate) attempt_floor: Duration,
    /// The server's `Retry-After`, for the faults that send one.
    pub(crate) retry_after: Duration,
    pub(crate) backoff: Backoff,
}

/// What the cache does when fetches fail.
pub(crate) struct Backoff {
    /// The maximum number of attempts in one fetch.
    pub(crate) attempts: usize,
    /// The wait after the first failed fetch. The cache waits for the floor if the floor is longer.
    pub(crate) first_wait: Duration,
    /// Whether each further failure doubles the first wait.
    pub(crate) doubles: bool,
    /// Whether the cache waits at least as long as the server's `Retry-After` says.
    pub(crate) heeds_retry_after: bool,
}

/// In a run of 60 s, a token lives for 4 s.
const LIFETIMES_IN_A_RUN: u32 = 15;

impl Pace {
    pub(crate) fn scaled_to(length: Duration) -> Self {
        let lifetime = (length / LIFETIMES_IN_A_RUN).as_secs_f64().round().max(1.0);
        let lifetime = Duration::from_secs_f64(lifetime);
        let exchange_timeout = lifetime / 4;
        Self {
            lifetime,
            refresh_before: lifetime / 2,
            // The margin isn't scaled, because the time until a request arrives depends on the
            // machine.
            margin: Duration::from_millis(200),
            exchange_timeout,
            fetch_timeout: exchange_timeout * 4,
            attempt_floor: lifetime / 16,
            retry_after: Duration::from_secs(1),
            // The values are the cache's defaults.
            backoff: Backoff {
                attempts: 3,
                first_wait: Duration::from_secs(1),
                doubles: true,
                heeds_retry_after: true,
            },
        }
    }

    /// Returns how long a new token is used before it is refreshed.
    pub(crate) fn fresh_for(&self) -> Duration {
        self.lifetime - self.refresh_before
    }

    /// Returns the minimum wait after this many failed fetches in a row.
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
