//! Time by two clocks: the monotonic clock and the wall clock.
//!
//! The monotonic clock can't be set back, but on most systems it stops while the machine is
//! suspended. The wall clock continues, but can be set. A token is used only while it is valid by
//! *both* clocks.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[cfg(target_os = "linux")]
use rustix::time::{ClockId, clock_gettime};

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds since an arbitrary start.
    monotonic: u64,
    /// Nanoseconds since the Unix epoch.
    wall: u64,
}

impl Moment {
    /// The earliest moment.
    pub(crate) const START: Self = Self {
        monotonic: 0,
        wall: 0,
    };

    /// Makes a reading: `monotonic` since any fixed start, and the calendar time `wall`. A `wall`
    /// before the Unix epoch counts as the epoch.
    pub fn new(monotonic: Duration, wall: SystemTime) -> Self {
        Self {
            monotonic: nanos(monotonic),
            wall: nanos(wall.duration_since(UNIX_EPOCH).unwrap_or_default()),
        }
    }

    /// Returns the wall clock's reading.
    pub fn wall(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.wall)
    }

    /// Returns the monotonic clock's reading in nanoseconds, for deadlines in an atomic.
    pub(crate) fn ticks(self) -> u64 {
        self.monotonic
    }

    /// Returns the wall clock's reading in nanoseconds, as [`Clock::wall_nanos`] does.
    pub(crate) fn wall_nanos(self) -> u64 {
        self.wall
    }

    /// Returns the moment that is later by `span` on both clocks.
    pub(crate) fn plus(self, span: Duration) -> Self {
        let span = nanos(span);
        Self {
            monotonic: self.monotonic.saturating_add(span),
            wall: self.wall.saturating_add(span),
        }
    }

    /// Returns the moment at which the wall clock showed `wall`, and moves the monotonic reading
    /// back as far. If `wall` is later, returns the same moment.
    #[cfg(feature = "fleet")]
    pub(crate) fn back_to(self, wall: SystemTime) -> Self {
        let ago = nanos(self.wall().duration_since(wall).unwrap_or_default());
        Self {
            monotonic: self.monotonic.saturating_sub(ago),
            wall: self.wall.saturating_sub(ago),
        }
    }

    /// Returns whether either clock has reached `deadline`.
    #[inline]
    pub(crate) fn reached(self, deadline: Self) -> bool {
        self.monotonic >= deadline.monotonic || self.wall >= deadline.wall
    }

    /// Returns how long it takes until either clock reaches `deadline`.
    pub(crate) fn until(self, deadline: Self) -> Duration {
        let monotonic = deadline.monotonic.saturating_sub(self.monotonic);
        let wall = deadline.wall.saturating_sub(self.wall);
        Duration::from_nanos(monotonic.min(wall))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The clock of a [`TokenCache`](crate::TokenCache). Default: the system's clocks.
///
/// # Example
///
/// A clock that a test moves by hand:
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::sync::Arc;
/// use std::time::{Duration, UNIX_EPOCH};
/// use tower_auth::cache::{Clock, Moment};
///
/// let seconds = Arc::new(AtomicU64::new(0));
/// let read = Arc::clone(&seconds);
/// let clock = Clock::custom(move || {
///     let now = Duration::from_secs(read.load(Ordering::Relaxed));
///     Moment::new(now, UNIX_EPOCH + now)
/// });
/// seconds.store(60, Ordering::Relaxed);
/// assert_eq!(clock.now().wall(), UNIX_EPOCH + Duration::from_secs(60));
/// ```
#[derive(Clone, Default)]
pub struct Clock {
    custom: Option<Arc<dyn Fn() -> Moment + Send + Sync>>,
}

impl Clock {
    /// Makes a clock from a closure. Every request reads the clock, so the closure should be fast.
    pub fn custom(read: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self {
            custom: Some(Arc::new(read)),
        }
    }

    /// Reads only the wall clock, in nanoseconds since the Unix epoch, which costs half as much as
    /// both clocks. The wall clock continues while the machine is suspended. `None` for a custom
    /// clock, which is read each time.
    #[inline]
    pub(crate) fn wall_nanos(&self) -> Option<u64> {
        if self.custom.is_some() {
            None
        } else {
            system_wall_nanos()
        }
    }

    /// Reads both clocks.
    #[inline]
    pub fn now(&self) -> Moment {
        match &self.custom {
            None => system_now(),
            Some(read) => read(),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.custom.is_some() {
            "Clock(custom)"
        } else {
            "Clock(system)"
        })
    }
}

/// Reads the system's monotonic clock, in nanoseconds since an arbitrary start.
#[cfg(feature = "tenants")]
#[inline]
pub(crate) fn monotonic_nanos() -> u64 {
    #[cfg(target_os = "linux")]
    {
        coarse(ClockId::MonotonicCoarse)
    }
    #[cfg(not(target_os = "linux"))]
    {
        system_now().ticks()
    }
}

/// Reads the coarse clocks, which the kernel keeps in a shared page: 6 ns instead of 23 ns. Their
/// resolution is one kernel tick (1 to 10 ms), which is far smaller than every margin.
#[cfg(target_os = "linux")]
fn system_now() -> Moment {
    Moment {
        monotonic: coarse(ClockId::MonotonicCoarse),
        wall: coarse(ClockId::RealtimeCoarse),
    }
}

#[cfg(target_os = "linux")]
#[inline]
fn system_wall_nanos() -> Option<u64> {
    let time = clock_gettime(ClockId::RealtimeCoarse);
    // A time before 1970 becomes a time in the far future, so that the caller reads both clocks.
    let seconds = time.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000);
    Some(seconds.wrapping_add(time.tv_nsec.cast_unsigned()))
}

#[cfg(target_os = "linux")]
#[inline]
fn coarse(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

#[cfg(not(target_os = "linux"))]
fn system_now() -> Moment {
    use std::sync::OnceLock;
    use std::time::Instant;

    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    Moment::new(start.elapsed(), SystemTime::now())
}

#[cfg(not(target_os = "linux"))]
fn system_wall_nanos() -> Option<u64> {
    None
}
