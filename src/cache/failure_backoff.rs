//! How long to wait after a failed fetch before the next.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::error::Error;

/// After an error that may pass: a second, doubling to a minute.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// After an error that doesn't pass by itself: somebody has to change a setting.
const PERMANENT: Duration = Duration::from_secs(60);
/// The most that a `Retry-After` is followed. A server that wants an hour still gets a request once in
/// a while: its reply may have been a mistake.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(5 * 60);

/// The failures since the last success.
pub(crate) struct FailureBackoff {
    count: u32,
    backoff: Backoff,
    jitter: bool,
}

/// A wait that a whole fleet starts at once is lengthened at random by up to a tenth.
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

    /// How long to wait after one more failure, and never less than `floor`.
    ///
    /// `left` is how long the current token is still served. At its end there is an attempt whatever the
    /// backoff, because callers see the failure from then on. That attempt shortened a wait, so it
    /// doesn't lengthen the next. A server's `Retry-After` is followed even then.
    pub(crate) fn wait_after(
        &mut self,
        error: &Error,
        left: Option<Duration>,
        floor: Duration,
    ) -> Duration {
        self.count = self.count.saturating_add(1);
        let left = left.unwrap_or(Duration::MAX);
        let own = if error.is_permanent() {
            self.spread(PERMANENT).min(left)
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
