//! Time by two clocks: the monotonic clock and the wall clock.
//!
//! The monotonic clock can't be set back, but on most systems it stops while the machine is
//! suspended. The wall clock continues, but can be set. A token is used only while it is valid by
//! *both* clocks.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// One reading of both clocks.
///
/// # Example
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use tower_auth::cache::Moment;
///
/// let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
/// let reading = Moment::new(Duration::from_secs(60), wall);
/// assert_eq!(reading.wall(), wall);
/// ```
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

    /// Returns the moment that is earlier by `span` on both clocks.
    pub(crate) fn minus(self, span: Duration) -> Self {
        let span = nanos(span);
        Self {
            monotonic: self.monotonic.saturating_sub(span),
            wall: self.wall.saturating_sub(span),
        }
    }

    /// Returns how long ago `earlier` was: the longer of the times that the two clocks measured.
    #[cfg(feature = "fleet")]
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let monotonic = self.monotonic.saturating_sub(earlier.monotonic);
        let wall = self.wall.saturating_sub(earlier.wall);
        Duration::from_nanos(monotonic.max(wall))
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
/// By default the cache reads the system's clocks, so Tokio's paused time doesn't move it. In a
/// test with `#[tokio::test(start_paused = true)]`, `tokio::time::advance` by 3599 s then expires
/// no token and causes no second fetch. Use [`Clock::tokio`] to test expiry in paused time, and
/// [`Clock::manual`] to test jumps of the clocks.
///
/// # What runs on Tokio's timers
///
/// The clock decides when a token is stale or expired, when the cache tries again after a failure,
/// and how many fetches refusals may cause. All waits use Tokio's timers, whichever clock the cache
/// has:
///
/// - the fetch timeout, the close timeout, the timeout of a fleet's store, and the limit of
///   [`ready`](crate::TokenCache::ready)
/// - the pauses between the attempts of one fetch, and while another process of a fleet fetches
/// - the pause before the fetch of a token that expired within the
///   [attempt floor](crate::cache::TokenCacheBuilder::attempt_floor)
/// - the pause of 1 s before a request sends a very new token again that the server refused
/// - the sleep of the [background refresh](crate::cache::TokenCacheBuilder::keep_fresh), which
///   reads the clock at least every 60 s and after each fetch
///
/// So after a [`ManualClock`] moved, the next request finds the token expired, but the background
/// refresh may notice up to 60 s later. With [`Clock::tokio`], the timers and the clock agree.
///
/// Token sources read no `Clock`: they sign with the system's time, and count the age of discovery
/// documents by Tokio's time. The idle time of tenants counts by the system's clock.
#[derive(Clone, Default)]
pub struct Clock {
    custom: Option<Arc<dyn Fn() -> Moment + Send + Sync>>,
}

impl Clock {
    /// Returns a clock that follows [Tokio's time](tokio::time::Instant), so that a test that pauses
    /// that time can move the clock.
    ///
    /// Both clocks start at the system's wall time, in whole milliseconds, and advance as far as
    /// Tokio's clock. Make and read the clock on the runtime that pauses the time: outside of a
    /// runtime, Tokio's clock is the system's monotonic clock.
    ///
    /// While all tasks wait, Tokio advances paused time to the next timer. This moves the clock too.
    ///
    /// # Example
    ///
    /// A token expires without an hour of sleep:
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_auth::cache::Clock;
    /// use tower_auth::{Error, Reason, Token, TokenCache};
    ///
    /// // In a test: `#[tokio::test(start_paused = true)]`.
    /// #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// async fn main() -> Result<(), Error> {
    ///     let hour = Duration::from_secs(3600);
    ///     let source = move |reason| async move {
    ///         let secret = if reason == Reason::First { "first" } else { "second" };
    ///         Ok(Token::bearer(secret)?.expires_in(hour))
    ///     };
    ///     let cache = TokenCache::builder(source).clock(Clock::tokio()).build();
    ///     assert_eq!(cache.token().await?.secret(), "first");
    ///     tokio::time::advance(hour).await;
    ///     assert_eq!(cache.token().await?.secret(), "second");
    ///     Ok(())
    /// }
    /// ```
    pub fn tokio() -> Self {
        let (start, begin) = (system_start(), Instant::now());
        Self::custom(move || start.plus(Instant::now().saturating_duration_since(begin)))
    }

    /// Returns a pair of clocks that stand still until a test moves them.
    ///
    /// # Example
    ///
    /// A token expires, because the machine was suspended for longer than the token's lifetime:
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_auth::cache::Clock;
    /// use tower_auth::{Error, Reason, Token, TokenCache};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// let hour = Duration::from_secs(3600);
    /// let source = move |reason| async move {
    ///     let secret = if reason == Reason::First { "first" } else { "second" };
    ///     Ok(Token::bearer(secret)?.expires_in(hour))
    /// };
    /// let clock = Clock::manual();
    /// let cache = TokenCache::builder(source).clock(&clock).build();
    /// assert_eq!(cache.token().await?.secret(), "first");
    /// clock.suspend(hour);
    /// assert_eq!(cache.token().await?.secret(), "second");
    /// # Ok(()) }
    /// ```
    pub fn manual() -> ManualClock {
        ManualClock::default()
    }

    /// Makes a clock from a closure. Every request reads the clock, so the closure should be fast.
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::{Instant, SystemTime};
    /// use tower_auth::cache::{Clock, Moment};
    ///
    /// let start = Instant::now();
    /// let clock = Clock::custom(move || Moment::new(start.elapsed(), SystemTime::now()));
    /// assert!(clock.now().wall() <= SystemTime::now());
    /// ```
    pub fn custom(read: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self {
            custom: Some(Arc::new(read)),
        }
    }

    /// Reads only the wall clock, in nanoseconds since the Unix epoch, which costs half as much as
    /// both clocks. The wall clock continues while the machine is suspended. Returns `None` for a
    /// custom clock, which is read each time, and on systems whose wall clock isn't cheaper.
    #[inline]
    pub(crate) fn wall_nanos(&self) -> Option<u64> {
        if self.custom.is_some() {
            None
        } else {
            system::wall_nanos()
        }
    }

    /// Reads both clocks.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::cache::Clock;
    ///
    /// let manual = Clock::manual();
    /// let clock = Clock::from(&manual);
    /// assert_eq!(clock.now(), manual.now());
    /// ```
    #[inline]
    pub fn now(&self) -> Moment {
        match &self.custom {
            None => system::now(),
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

/// A pair of clocks, monotonic and wall, that stand still until a test moves them.
///
/// The wall clock starts at the system's time, rounded down to a millisecond, and the monotonic
/// clock with the same value. Clones share their time.
/// [`Clock`] says which waits don't follow this clock.
///
/// A clock stops at the Unix epoch and in the year 2554, instead of overflowing.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use tower_auth::cache::{Clock, ManualClock};
///
/// let clock: ManualClock = Clock::manual();
/// let start = clock.now().wall();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().wall(), start + Duration::from_secs(60));
/// // An administrator corrects the time. Then the machine is suspended for an hour.
/// clock.set_back(Duration::from_secs(60));
/// clock.suspend(Duration::from_secs(3600));
/// assert_eq!(clock.now().wall(), start + Duration::from_secs(3600));
/// ```
#[derive(Clone)]
pub struct ManualClock {
    /// One lock for both clocks, so that no reader sees only one of them moved.
    now: Arc<Mutex<Moment>>,
}

impl ManualClock {
    /// Moves both clocks forward, as when time passes.
    pub fn advance(&self, span: Duration) {
        let mut now = self.lock();
        *now = now.plus(span);
    }

    /// Moves only the wall clock back, as when an administrator corrects the time.
    pub fn set_back(&self, span: Duration) {
        let mut now = self.lock();
        now.wall = now.wall.saturating_sub(nanos(span));
    }

    /// Moves only the wall clock forward, because most systems stop the monotonic clock while the
    /// machine is suspended.
    ///
    /// The effect is the same as when an administrator sets the wall clock forward.
    pub fn suspend(&self, span: Duration) {
        let mut now = self.lock();
        now.wall = now.wall.saturating_add(nanos(span));
    }

    /// Reads both clocks.
    pub fn now(&self) -> Moment {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Moment> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self {
            now: Arc::new(Mutex::new(system_start())),
        }
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}

impl From<ManualClock> for Clock {
    fn from(clock: ManualClock) -> Self {
        Self::custom(move || clock.now())
    }
}

impl From<&ManualClock> for Clock {
    fn from(clock: &ManualClock) -> Self {
        clock.clone().into()
    }
}

/// Returns the system's wall time for both clocks, in whole milliseconds, because a fleet's store
/// keeps times of this precision.
fn system_start() -> Moment {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH);
    let wall = nanos(wall.unwrap_or_default()) / 1_000_000 * 1_000_000;
    Moment {
        // Not near zero, because the fetch of a token that another process saved may be earlier.
        monotonic: wall,
        wall,
    }
}

/// Reads the system's monotonic clock, in nanoseconds since an arbitrary start.
#[cfg(feature = "tenants")]
#[inline]
pub(crate) fn monotonic_nanos() -> u64 {
    system::monotonic_nanos()
}

/// Linux's coarse clocks, which the kernel keeps in a shared page: 6 ns instead of 23 ns. Their
/// resolution is one kernel tick (1 to 10 ms), which is far smaller than every margin.
#[cfg(all(target_os = "linux", not(tower_auth_portable)))]
mod system {
    use rustix::time::{ClockId, clock_gettime};

    use super::Moment;

    pub(super) fn now() -> Moment {
        Moment {
            monotonic: monotonic_nanos(),
            wall: coarse(ClockId::RealtimeCoarse),
        }
    }

    #[inline]
    pub(super) fn monotonic_nanos() -> u64 {
        coarse(ClockId::MonotonicCoarse)
    }

    #[inline]
    pub(super) fn wall_nanos() -> Option<u64> {
        let time = clock_gettime(ClockId::RealtimeCoarse);
        // A time before 1970 becomes a time in the far future, so that the caller reads both clocks.
        let seconds = time.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000);
        Some(seconds.wrapping_add(time.tv_nsec.cast_unsigned()))
    }

    #[inline]
    fn coarse(clock: ClockId) -> u64 {
        let time = clock_gettime(clock);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(rest)
    }
}

/// The clocks of the standard library, for all other systems.
#[cfg(any(not(target_os = "linux"), tower_auth_portable))]
mod system {
    use std::sync::OnceLock;
    use std::time::{Duration, Instant, SystemTime};

    use super::Moment;

    pub(super) fn now() -> Moment {
        Moment::new(since_start(), SystemTime::now())
    }

    #[cfg(feature = "tenants")]
    pub(super) fn monotonic_nanos() -> u64 {
        super::nanos(since_start())
    }

    fn since_start() -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }

    /// Reading the wall clock alone isn't cheaper here.
    pub(super) fn wall_nanos() -> Option<u64> {
        None
    }
}
