//! The builder of a cache, with its settings.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::expiry::ExpiryPolicy;
use super::state_machine::machine::Limits;
use crate::clock::Clock;
#[cfg(feature = "fleet")]
use crate::error::Error;
#[cfg(feature = "fleet")]
use crate::fleet::settings::Fleet;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::source::token_source::{DynTokenSource, TokenSource};

/// Builds a [`TokenCache`](crate::TokenCache) with custom settings.
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
    /// The fleet, and the key of the token in its store.
    pub(crate) fleet: Option<Box<(Fleet, StoreKey)>>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    /// Whether the user set the fetch timeout.
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
            fleet: None,
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

    /// Shares the token with other processes and with other caches of this process. Default: not
    /// shared.
    ///
    /// Other processes still use the token when a shared cache is
    /// [closed](crate::TokenCache::close), so closing the cache doesn't revoke the token.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if neither the source nor [`Fleet::key`] provides a key. The
    /// store keeps the token under this key.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::fleet::{Fleet, Keyring, MemoryStore, StoreKey};
    /// use tower_auth::{Token, TokenCache};
    ///
    /// # fn example(key: String) -> Result<(), tower_auth::Error> {
    /// let fleet = Fleet::new(MemoryStore::new(), Keyring::new("2026-11", key)?)
    ///     .key(StoreKey::new("vault").with("role", "reports"));
    /// let cache = TokenCache::builder(|_| async { Token::bearer("secret") })
    ///     .fleet(fleet)?
    ///     .build();
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "fleet")]
    pub fn fleet(mut self, fleet: Fleet) -> Result<Self, Error> {
        let key = fleet.key_of(&*self.source)?;
        self.fleet = Some(Box::new((fleet, key)));
        Ok(self)
    }

    /// Sets the timeout of a fetch, including all its [attempts](Self::fetch_attempts). After the
    /// timeout, waiting callers get an error. Default: the [source's fetch
    /// timeout](TokenSource::fetch_timeout), or 30 s.
    pub fn fetch_timeout(mut self, timeout: Duration) -> Self {
        self.limits.fetch_timeout = timeout;
        self.has_fetch_timeout = true;
        self
    }

    /// Sets the maximum number of attempts in one fetch. The cache makes another attempt only after
    /// a [transient error](crate::Error::is_transient), or after a token that had expired when it
    /// arrived. Default: 3; minimum: 1.
    ///
    /// The pause between two attempts starts at 200 ms and doubles up to 5 s.
    /// [Jitter](Self::jitter) makes a pause up to twice as long, but never longer than 5 s. If the
    /// server's `Retry-After` is longer than the pause, the cache waits as long as `Retry-After`
    /// says. After an expired token, the pause is at least 510 ms. If the next attempt would start
    /// after the [fetch timeout](Self::fetch_timeout), the fetch fails immediately.
    pub fn fetch_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets how long before the expiry the cache refreshes a token in the background.
    ///
    /// Default: 5 min for lifetimes of at least 20 min, otherwise a quarter of the lifetime. The
    /// window is at least twice the [expiry margin](Self::expiry_margin) and at most half of the
    /// lifetime.
    pub fn refresh_before(mut self, window: Duration) -> Self {
        self.limits.expiry_policy.refresh_before = Some(window);
        self
    }

    /// Sets how long before the expiry the cache stops sending a token. Default: 30 s, or a quarter
    /// of the lifetime if a quarter is less. The margin is never more than half of the lifetime.
    ///
    /// A token with exactly the margin left is still sent, as in Go's `oauth2` package. With a
    /// margin of zero, a token is sent until its expiry, but not at the moment of its expiry.
    pub fn expiry_margin(mut self, margin: Duration) -> Self {
        self.limits.expiry_policy.expiry_margin = Some(margin);
        self
    }

    /// Sets the maximum random delay of a refresh, as a share of the refresh window. Because of the
    /// delay, processes that start at the same time don't fetch at the same time.
    ///
    /// The refresh window is the time between [`refresh_before`](Self::refresh_before) and
    /// [`expiry_margin`](Self::expiry_margin). The delay is chosen for each token. Default: 0.5.
    /// Values are clamped to 0..=1; `NaN` counts as 0.
    ///
    /// With a share above 0, the waits after failures and refusals are also random: up to twice as
    /// long. With a share of 0, nothing is random.
    pub fn jitter(mut self, share: f64) -> Self {
        let is_number = !share.is_nan();
        self.limits.expiry_policy.jitter = if is_number {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        };
        self
    }

    /// Sets the minimum time from one fetch to the next. Default: 1 s.
    ///
    /// If a token's lifetime is shorter than this minimum, callers wait after the expiry until the
    /// next fetch is allowed. After a failed fetch, the next fetch waits at least for this minimum.
    /// Each further failure makes the wait longer. A fetch after a refusal ignores this minimum.
    ///
    /// Set a lower value for tokens that live for only a few seconds, for example in tests.
    pub fn attempt_floor(mut self, floor: Duration) -> Self {
        self.limits.attempt_floor = floor;
        self
    }

    /// Refreshes a stale token even without requests. With this setting, the first request after an
    /// idle period finds a fresh token.
    ///
    /// Default: off. Without this setting, the first request that finds a stale token starts the
    /// refresh.
    ///
    /// The first fetch starts a timer task on the runtime of the fetch. The task ends when the
    /// cache is [closed](crate::TokenCache::close) or the last handle to the cache is dropped.
    /// After a suspended machine wakes up, the refresh is at most 1 min late.
    pub fn keep_fresh(mut self) -> Self {
        self.keeps_fresh = true;
        self
    }

    /// Sets the maximum time that [`close`](crate::TokenCache::close) may take. Default: 5 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// Sets the name of the cache in logs and metrics. Default: `default`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the clock that the cache reads. Default: the system's clocks. For tests, use
    /// [`Clock::tokio`] or [`Clock::manual`].
    pub fn clock(mut self, clock: impl Into<Clock>) -> Self {
        self.clock = clock.into();
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
