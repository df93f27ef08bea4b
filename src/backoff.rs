//! Delays that double after each failure.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Delays that double after each failure up to a maximum. A success resets them.
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    jitter: bool,
    /// The first failure creates the series, so a cache without failures needs no memory for a
    /// series.
    series: Option<Box<Series>>,
}

/// The delays after consecutive failures.
struct Series {
    delays: ExponentialBackoff,
    /// The next delay, if it was already calculated.
    next: Option<Duration>,
}

impl Backoff {
    /// Makes a series of delays. With `jitter`, each delay is up to twice as long. With jitter,
    /// processes that failed at the same time don't try again at the same time.
    pub(crate) fn new(first: Duration, longest: Duration, jitter: bool) -> Self {
        Self {
            first,
            longest,
            jitter,
            series: None,
        }
    }

    /// Makes the pauses between two looks at a store while another process fetches. Most tokens are
    /// issued within 1 s.
    pub(crate) fn between_looks(jitter: bool) -> Self {
        Self::new(
            Duration::from_millis(20),
            Duration::from_millis(320),
            jitter,
        )
    }

    /// Returns the delay after another failure.
    pub(crate) fn next(&mut self) -> Duration {
        let longest = self.longest;
        let series = self.series();
        let delay = series.next.take().or_else(|| series.delays.next());
        delay.unwrap_or(longest).min(longest)
    }

    /// Returns the delay after another failure, at most `limit`. If `limit` shortens this delay,
    /// the next failure gets the full delay.
    pub(crate) fn next_within(&mut self, limit: Duration) -> Duration {
        let delay = self.next();
        if delay < limit {
            return delay;
        }
        self.series().next = Some(delay);
        limit
    }

    /// Starts again with the first delay, after a success.
    pub(crate) fn reset(&mut self) {
        self.series = None;
    }

    fn series(&mut self) -> &mut Series {
        let (first, longest, jitter) = (self.first, self.longest, self.jitter);
        self.series.get_or_insert_with(|| {
            let delays = delays(first, longest, jitter);
            Box::new(Series { delays, next: None })
        })
    }
}

fn delays(first: Duration, longest: Duration, jitter: bool) -> ExponentialBackoff {
    let delays = ExponentialBuilder::new()
        .with_min_delay(first)
        .with_max_delay(longest)
        .without_max_times();
    if jitter { delays.with_jitter() } else { delays }.build()
}
