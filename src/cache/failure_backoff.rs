//! Decides how long to wait after a failed fetch.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::error::Error;

/// The first wait after a transient error. The wait doubles with each failure, up to `LONGEST`.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// The wait after a permanent error. Such an error lasts until a person changes a setting.
const PERMANENT: Duration = Duration::from_secs(60);
/// The wait after an error that requires a login, if callers have no token. The next fetch costs
/// little: the source only looks for a new login in its store. The source doesn't send the old
/// login again.
const LOGIN_REQUIRED: Duration = Duration::from_secs(5);
/// The longest wait that a server's `Retry-After` can cause. A server that asks for 1 h may be
/// wrong, so the cache tries again earlier.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(5 * 60);

/// The failures since the last success.
pub(crate) struct FailureBackoff {
    count: u32,
    backoff: Backoff,
    jitter: bool,
}

/// The largest random addition to a wait, as a share of the wait. The addition spreads the attempts
/// of processes whose waits start at the same time.
const SPREAD: f64 = 0.1;

impl FailureBackoff {
    pub(crate) fn new(jitter: bool) -> Self {
        Self {
            count: 0,
            backoff: Backoff::new(FIRST, LONGEST, jitter),
            jitter,
        }
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn reset(&mut self) {
        self.count = 0;
        self.backoff.reset();
    }

    /// Returns how long to wait after one more failure. The wait is never shorter than `floor`.
    ///
    /// `left` is how long the current token can still be served. The wait ends within this time,
    /// because callers see the failure afterwards. If the next attempt fails too, the full wait
    /// follows. A server's `Retry-After` is respected even if it is longer than `left`.
    pub(crate) fn wait_after(
        &mut self,
        error: &Error,
        left: Option<Duration>,
        floor: Duration,
    ) -> Duration {
        self.count = self.count.saturating_add(1);
        let permanent = match left {
            None if error.is_login_required() => LOGIN_REQUIRED,
            _ => PERMANENT,
        };
        let left = left.unwrap_or(Duration::MAX);
        let own = if error.is_permanent() {
            self.spread(permanent).min(left)
        } else {
            self.backoff.next_within(left)
        };
        let retry_after = error.retry_after().unwrap_or_default();
        let retry_after = self.spread(retry_after.min(RETRY_AFTER_LIMIT));
        own.max(retry_after).max(floor)
    }

    fn spread(&self, wait: Duration) -> Duration {
        if self.jitter {
            wait + wait.mul_f64(SPREAD * fastrand::f64())
        } else {
            wait
        }
    }
}
