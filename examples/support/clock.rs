//! A clock that an example can move, so that the example needn't wait an hour for an expiry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tower_auth::cache::{Clock, Moment};

/// The system's time, plus the time by which the example advanced it.
#[derive(Clone, Default)]
pub struct MovableClock {
    seconds_ahead: Arc<AtomicU64>,
}

impl MovableClock {
    /// Advances the clock.
    pub fn advance(&self, time: Duration) {
        self.seconds_ahead
            .fetch_add(time.as_secs(), Ordering::Relaxed);
    }

    /// Returns the clock for a cache.
    pub fn clock(&self) -> Clock {
        let start = Instant::now();
        let seconds_ahead = Arc::clone(&self.seconds_ahead);
        Clock::custom(move || {
            let ahead = Duration::from_secs(seconds_ahead.load(Ordering::Relaxed));
            Moment::new(start.elapsed() + ahead, SystemTime::now() + ahead)
        })
    }
}
