//! The time by two clocks: the monotonic clock and the wall clock.
//!
//! The monotonic clock can't be set back, but on most systems it stops while a machine is suspended.
//! The wall clock goes on, but can be set. A token is used only while it is good by *both*.

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
    /// Before any other.
    pub(crate) const START: Self = Self {
        monotonic: 0,
        wall: 0,
    };

    /// A reading: `monotonic` since any fixed start, `wall` as a calendar says it. Times before
    /// the Unix epoch count as the epoch.
    pub fn new(monotonic: Duration, wall: SystemTime) -> Self {
        Self {
            monotonic: nanos(monotonic),
            wall: nanos(wall.duration_since(UNIX_EPOCH).unwrap_or_default()),
        }
    }

    /// The wall clock's reading.
    pub fn wall(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.wall)
    }

    /// The monotonic clock's reading, in nanoseconds: for deadlines kept in an atomic.
    pub(crate) fn ticks(self) -> u64 {
        self.monotonic
    }

    /// What [`Clock::wall_nanos`] would have returned.
    pub(crate) fn wall_nanos(self) -> u64 {
        self.wall
    }

    /// This much later by both clocks.
    pub(crate) fn plus(self, span: Duration) -> Self {
        let span = nanos(span);
        Self {
            monotonic: self.monotonic.saturating_add(span),
            wall: self.wall.saturating_add(span),
        }
    }

    /// As much earlier, by both clocks, as `wall` is by the wall clock; the same if it is later.
    #[cfg(feature = "fleet")]
    pub(crate) fn back_to(self, wall: SystemTime) -> Self {
        let ago = nanos(self.wall().duration_since(wall).unwrap_or_default());
        Self {
            monotonic: self.monotonic.saturating_sub(ago),
            wall: self.wall.saturating_sub(ago),
        }
    }

    /// Whether either clock has reached `deadline`.
    #[inline]
    pub(crate) fn reached(self, deadline: Self) -> bool {
        self.monotonic >= deadline.monotonic || self.wall >= deadline.wall
    }

    /// How long it is until either clock has reached `deadline`.
    pub(crate) fn until(self, deadline: Self) -> Duration {
        let monotonic = deadline.monotonic.saturating_sub(self.monotonic);
        let wall = deadline.wall.saturating_sub(self.wall);
        Duration::from_nanos(monotonic.min(wall))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Where a [`TokenCache`](crate::TokenCache) reads the time; the system's clocks unless set
/// otherwise.
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
    /// A clock of your own. It is read on every request, so it should be quick.
    pub fn custom(read: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self {
            custom: Some(Arc::new(read)),
        }
    }

    /// Reads only the wall clock, in nanoseconds since the Unix epoch: half the cost of both. It is the
    /// one that goes on while the machine is suspended. `None` for a clock of the user's own, which is
    /// read each time.
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

/// The system's monotonic clock, in nanoseconds since an arbitrary start.
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

/// The coarse clocks are read from a page the kernel keeps: 6 ns instead of 23, at a resolution
/// of one kernel tick (1 to 10 ms), which is far inside every margin.
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
    // A time before 1970 becomes one in the far future, which is just after no moment.
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
