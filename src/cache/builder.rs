//! The settings of a cache.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::expiry::ExpiryPolicy;
#[cfg(feature = "fleet")]
use super::fleet_coordinator::Coordinator;
use super::state_machine::machine::Limits;
use crate::clock::Clock;
#[cfg(feature = "fleet")]
use crate::error::Error;
#[cfg(feature = "fleet")]
use crate::fleet::settings::Fleet;
use crate::source::token_source::{DynTokenSource, TokenSource};

/// Settings of a [`TokenCache`](crate::TokenCache).
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use tower_auth::{Token, TokenCache};
///
/// let cache = TokenCache::builder(|_| async { Token::bearer("secret") })
///     .fetch_timeout(Duration::from_secs(5))
///     .refresh_before(Duration::from_secs(60))
///     .build();
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct TokenCacheBuilder {
    pub(crate) source: Box<dyn DynTokenSource>,
    #[cfg(feature = "fleet")]
    pub(crate) coordinator: Option<Box<Coordinator>>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    /// Whether the user has set the fetch timeout.
    pub(crate) has_fetch_timeout: bool,
    pub(crate) attempts: u32,
    pub(crate) close_timeout: Duration,
    pub(crate) keeps_fresh: bool,
    pub(crate) name: Arc<str>,
}

/// The default of [`TokenCacheBuilder::fetch_timeout`].
pub(crate) const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

impl TokenCacheBuilder {
    pub(crate) fn new(source: impl TokenSource) -> Self {
        Self {
            source: Box::new(source),
            #[cfg(feature = "fleet")]
            coordinator: None,
            clock: Clock::default(),
            limits: Limits {
                expiry_policy: ExpiryPolicy {
                    refresh_before: None,
                    expiry_margin: None,
                    jitter: 0.5,
                },
                fetch_timeout: FETCH_TIMEOUT,
                attempt_floor: Duration::from_secs(1),
            },
            has_fetch_timeout: false,
            attempts: 3,
            close_timeout: Duration::from_secs(5),
            keeps_fresh: false,
            name: Arc::from("default"),
        }
    }

    /// Shares the token with other processes, and with other caches of this process; default: no.
    ///
    /// When the cache is [closed](crate::TokenCache::close), the token isn't revoked, because others use
    /// it.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if it isn't known what the source's tokens depend on
    /// ([`Fleet::key`]).
    #[cfg(feature = "fleet")]
    pub fn fleet(mut self, fleet: Fleet) -> Result<Self, Error> {
        self.coordinator = Some(Box::new(Coordinator::new(fleet, &*self.source)?));
        Ok(self)
    }

    /// Sets how long a fetch with all its [attempts](Self::fetch_attempts) may take before the waiting
    /// callers get an error. Default: the [source's limit](TokenSource::fetch_timeout), or 30 s.
    pub fn fetch_timeout(mut self, timeout: Duration) -> Self {
        self.limits.fetch_timeout = timeout;
        self.has_fetch_timeout = true;
        self
    }

    /// The most times that one fetch calls the source, while its errors
    /// [may pass](crate::Error::is_transient); default 3, at least 1. Between two attempts it
    /// waits 200 ms, then 400 ms, and so on to 5 s, up to twice of that with
    /// [jitter](Self::jitter), or as long as the server's `Retry-After` wants; an attempt that
    /// could only start after the [fetch timeout](Self::fetch_timeout) isn't waited for.
    pub fn fetch_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// How long before a token expires a new one is fetched in the background; default
    /// 5 min for lifetimes of 20 min and more, else a quarter of the lifetime. Never more than
    /// half of the lifetime, and at least twice the [expiry margin](Self::expiry_margin).
    pub fn refresh_before(mut self, window: Duration) -> Self {
        self.limits.expiry_policy.refresh_before = Some(window);
        self
    }

    /// How long before a token expires it is no longer sent; default 30 s, or a quarter of the
    /// lifetime if that is less. Never more than half of the lifetime.
    pub fn expiry_margin(mut self, margin: Duration) -> Self {
        self.limits.expiry_policy.expiry_margin = Some(margin);
        self
    }

    /// How much is random, so that a fleet which started together doesn't fetch together: up to which share of the time between [`refresh_before`](Self::refresh_before) and
    /// [`expiry_margin`](Self::expiry_margin) a refresh starts later, chosen for each token;
    /// default 0.5. The value is clamped to 0 to 1, and `NaN` is 0.
    ///
    /// With 0 nothing is random. Otherwise the backoff after failures is up to twice as long, too.
    pub fn jitter(mut self, share: f64) -> Self {
        let is_number = !share.is_nan();
        self.limits.expiry_policy.jitter = if is_number {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        };
        self
    }

    /// The least time from one fetch to the next; default 1 s. When a token lives for less,
    /// callers wait after it has expired. After a failed fetch the wait is at least this long, and longer
    /// with each further failure. A refusal doesn't wait for it.
    ///
    /// With tokens of less than a few seconds, as in tests, lower it.
    pub fn attempt_floor(mut self, floor: Duration) -> Self {
        self.limits.attempt_floor = floor;
        self
    }

    /// Keeps the token fresh without traffic too: a timer refreshes it as it becomes stale, so that the
    /// first request after a quiet night needn't wait.
    ///
    /// Default: on demand, by the first request that finds it stale. The timer is a task that
    /// starts with the first fetch, on its runtime, and ends when the last handle to the cache is
    /// dropped or the cache is [closed](crate::TokenCache::close). After a suspended machine has
    /// woken up it is at most a minute late.
    pub fn keep_fresh(mut self) -> Self {
        self.keeps_fresh = true;
        self
    }

    /// The most that [`close`](crate::TokenCache::close) may take; default 5 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// What the cache is called in logs and metrics; default `default`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Where the time is read; default the system's clocks.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }
}

impl fmt::Debug for TokenCacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCacheBuilder")
            .field("name", &self.name)
            .field("limits", &self.limits)
            .field("attempts", &self.attempts)
            .field("keeps_fresh", &self.keeps_fresh)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
