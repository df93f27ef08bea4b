//! Computes when a token is refreshed and when it expires.
//!
//! ```text
//!  requested              stale                expired      (expires_at)
//!      │── fresh: serve ────│── serve, refresh ────│── wait ──── margin ──│
//! ```
//!
//! # Exact values
//!
//! The whole crate has one convention for the moment at which two periods meet.
//!
//! - A limit includes its exact value. A token with exactly the margin left is still served, as in
//!   Go's `oauth2` package. A token with exactly the refresh window left is stale. A sealed request
//!   of exactly the maximum age can be opened.
//! - An expiry is the first moment at which something is invalid, as for `exp` (RFC 7519 §4.1.4).
//!   This also holds for values in a store, leases, cookies, device codes and metadata.
//! - A wait ends at its exact end: at that moment, the next attempt may start.

use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::error::{Error, Kind};
use crate::source::token_source::{DynTokenSource, Reason};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::token::issued_token::{Expiry, RefreshHint, Token};

/// Settings that decide when a token is refreshed and when it is no longer sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpiryPolicy {
    pub(crate) refresh_before: Option<Duration>,
    pub(crate) expiry_margin: Option<Duration>,
    /// The maximum random delay of a refresh, from 0 to 1 times the refresh window.
    pub(crate) jitter: f64,
}

/// Tokens that live at least this long have [`REFRESH_BEFORE`] as their default refresh window.
const LONG_LIFETIME: Duration = Duration::from_secs(20 * 60);
/// How long before the expiry a long-lived token is refreshed. This time is longer than a short
/// outage of the authorization server.
const REFRESH_BEFORE: Duration = Duration::from_secs(5 * 60);
/// How long before the expiry the cache stops sending a token. The margin covers the time on the
/// network and a server clock that is ahead.
const EXPIRY_MARGIN: Duration = Duration::from_secs(30);

impl ExpiryPolicy {
    /// Returns whether refreshes and backoff are randomized.
    pub(crate) fn has_jitter(&self) -> bool {
        self.jitter > 0.0
    }

    /// Computes the deadlines of a token that arrived at `now`.
    pub(crate) fn cache(&self, fetched: FetchedToken, now: Moment) -> CachedToken {
        let FetchedToken {
            token,
            requested,
            by,
        } = fetched;
        let hint = token.refresh_hint();
        // A tuple: when the remaining lifetime starts to count, the remaining lifetime, and the
        // whole lifetime.
        let lifetime = match token.expiry() {
            Expiry::Never => None,
            Expiry::In(lifetime) => Some((requested, lifetime, lifetime)),
            Expiry::At(end) => {
                let since = |start: Moment| end.duration_since(start.wall()).unwrap_or_default();
                let start = match by {
                    FetchedBy::ThisProcess => now,
                    FetchedBy::AnotherProcess => requested,
                };
                Some((now, since(now), since(start)))
            }
        };
        let deadlines = lifetime.map(|(from, left, lifetime)| {
            let margin = self.margin(lifetime, hint);
            let before = match hint {
                // Both the hint and the lifetime count from the start of the fetch.
                Some(RefreshHint::After(after)) if self.refresh_before.is_none() => {
                    let end = from.plus(left);
                    requested.plus(after).until(end).max(margin * 2)
                }
                Some(RefreshHint::WithinLast(left)) => {
                    self.refresh_before(lifetime, margin).min(left)
                }
                Some(RefreshHint::After(_)) | None => self.refresh_before(lifetime, margin),
            };
            let window = before.saturating_sub(margin);
            let before = before - window.mul_f64(self.jitter * fastrand::f64());
            let lead = margin
                + LAST_FETCH
                    .min(window / 2)
                    .min(before.saturating_sub(margin));
            Deadlines {
                latest_refresh_at: from.plus(left.saturating_sub(lead)),
                refresh_at: from.plus(left.saturating_sub(before)),
                // This moment is in the past for a token that arrives within its margin. A token
                // with exactly the margin left is still served. With a margin of zero, a token
                // isn't served at its expiry.
                unserved_from: from.plus(left).minus(margin.saturating_sub(INSTANT)),
                expires_at: from.plus(left),
            }
        });
        let issued_before = match by {
            FetchedBy::ThisProcess => now,
            FetchedBy::AnotherProcess => requested,
        };
        CachedToken {
            token,
            requested,
            issued_before,
            deadlines,
            checked_at: AtomicU64::new(0),
            no_refresh_before: AtomicU64::new(0),
            accepted: AtomicBool::new(false),
        }
    }

    /// Returns how long before the expiry the token is refreshed.
    ///
    /// The result is at least twice the margin. So even a token that lives for seconds is refreshed
    /// before a caller has to wait. The result is at most half of the lifetime; otherwise the token
    /// would be stale from the start.
    fn refresh_before(&self, lifetime: Duration, margin: Duration) -> Duration {
        match self.refresh_before {
            Some(window) => window,
            None if lifetime >= LONG_LIFETIME => REFRESH_BEFORE,
            None => lifetime / 4,
        }
        .max(margin * 2)
        .min(lifetime / 2)
    }

    /// Returns how long before the expiry the cache stops sending the token. The margin is at most
    /// half of the time that [`RefreshHint::WithinLast`] leaves for a refresh.
    fn margin(&self, lifetime: Duration, hint: Option<RefreshHint>) -> Duration {
        let margin = match self.expiry_margin {
            Some(margin) => margin.min(lifetime / 2),
            None => EXPIRY_MARGIN.min(lifetime / 4),
        };
        match hint {
            Some(RefreshHint::WithinLast(left)) => margin.min(left / 2),
            Some(RefreshHint::After(_)) | None => margin,
        }
    }
}

/// The time reserved for a last refresh before callers have to wait. It is three times the timeout
/// of a token endpoint (`oauth2::Client`), but at most half of the refresh window.
const LAST_FETCH: Duration = Duration::from_secs(30);

/// The shortest time that a [`Moment`] can distinguish.
const INSTANT: Duration = Duration::from_nanos(1);

/// How long one reading of both clocks is reused. The kernel updates its coarse clock one to a few
/// times in this period.
const RECENT: Duration = Duration::from_millis(16);

/// A token and the moment when its fetch started. The lifetime counts from this moment, because the
/// server can't have issued the token earlier.
pub(crate) struct FetchedToken {
    pub(crate) token: Token,
    pub(crate) requested: Moment,
    pub(crate) by: FetchedBy,
}

impl FetchedToken {
    /// Returns whether the token has expired, without a margin. After the expiry, no caller may send
    /// the token.
    pub(crate) fn has_expired(&self, now: Moment) -> bool {
        match self.token.expiry() {
            Expiry::Never => false,
            Expiry::In(lifetime) => now.reached(self.requested.plus(lifetime)),
            Expiry::At(end) => end <= now.wall(),
        }
    }

    /// Calls the source once.
    pub(crate) async fn fetch_from(
        source: &dyn DynTokenSource,
        reason: Reason,
        clock: &Clock,
    ) -> Result<Self, Error> {
        let requested = clock.now();
        let token = source.fetch(reason).await?;
        Ok(Self {
            token,
            requested,
            by: FetchedBy::ThisProcess,
        })
    }
}

/// Returns the error for a token that had already expired when it arrived.
#[cold]
pub(crate) fn expired_on_arrival() -> Error {
    let message = "the token had expired by the time it arrived; \
                   check what the token source returns, and this machine's clock";
    Error::new(Kind::Expired, message)
}

/// Which process fetched the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "fleet"),
    allow(dead_code, reason = "processes share tokens by way of a feature")
)]
pub(crate) enum FetchedBy {
    ThisProcess,
    /// Another process fetched the token earlier.
    AnotherProcess,
}

/// A token in use, with its deadlines.
#[derive(Debug)]
pub(crate) struct CachedToken {
    token: Token,
    requested: Moment,
    /// The latest moment at which the server can have issued the token.
    issued_before: Moment,
    deadlines: Option<Deadlines>,
    /// The wall clock's reading when the token was last found servable.
    checked_at: AtomicU64,
    /// No refresh starts before this tick: either a refresh is running, or the last refresh failed.
    no_refresh_before: AtomicU64,
    /// Whether a server has accepted the token.
    accepted: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Deadlines {
    refresh_at: Moment,
    /// The last moment at which a refresh can start without making a caller wait.
    latest_refresh_at: Moment,
    /// The first moment at which the token is no longer served.
    unserved_from: Moment,
    /// The expiry of the token itself, without the margin.
    expires_at: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Serve the token.
    Fresh,
    /// Serve the token, and refresh it.
    Stale,
    /// Don't serve the token.
    Expired,
}

impl CachedToken {
    #[inline]
    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    #[inline]
    pub(crate) fn freshness(&self, now: Moment) -> Freshness {
        match &self.deadlines {
            None => Freshness::Fresh,
            Some(deadlines) if now.reached(deadlines.unserved_from) => Freshness::Expired,
            Some(deadlines) if now.reached(deadlines.refresh_at) => Freshness::Stale,
            Some(_) => Freshness::Fresh,
        }
    }

    /// Returns when the fetch of this token started.
    pub(crate) fn requested(&self) -> Moment {
        self.requested
    }

    /// Copies the age of `before` if both are the same token. A source may return a token again
    /// with another expiry.
    pub(crate) fn continue_from(&mut self, before: &Self) {
        if before.token.generation() == self.token.generation() {
            self.issued_before = before.issued_before;
        }
    }

    /// Returns whether the token is at least `lag` old. Then even a server whose clock lags by
    /// `lag` considers the token valid. A token that never expires, such as an API key, is valid
    /// from the start.
    pub(crate) fn is_aged(&self, lag: Duration, now: Moment) -> bool {
        self.deadlines.is_none() || now.reached(self.issued_before.plus(lag))
    }

    /// Returns when the token becomes stale; `None` if it never expires.
    pub(crate) fn refresh_at(&self) -> Option<Moment> {
        self.deadlines.map(|deadlines| deadlines.refresh_at)
    }

    /// Delays the refresh while a quota is low, but never makes a caller wait for the refresh.
    ///
    /// The quota resets for the whole fleet at once. Each process therefore refreshes at a random
    /// time between the reset and the last possible moment. If the quota resets after the last
    /// possible moment, each process refreshes at a random time after that moment. These random
    /// times cover half of the time that is left until the token is no longer served.
    pub(crate) fn postpone_refresh(
        &mut self,
        expiry_policy: &ExpiryPolicy,
        low_for: Duration,
        now: Moment,
    ) {
        let Some(deadlines) = &mut self.deadlines else {
            return;
        };
        let latest = now.until(deadlines.latest_refresh_at);
        let left = match latest.checked_sub(low_for) {
            Some(left) => left,
            None => now.until(deadlines.unserved_from).saturating_sub(latest) / 2,
        };
        let until = low_for.min(latest) + left.mul_f64(expiry_policy.jitter * fastrand::f64());
        if now.until(deadlines.refresh_at) < until {
            deadlines.refresh_at = now.plus(until);
        }
    }

    /// Returns the last moment at which a refresh can start without making a caller wait; `None` if
    /// the token never expires.
    pub(crate) fn latest_refresh_at(&self) -> Option<Moment> {
        self.deadlines.map(|deadlines| deadlines.latest_refresh_at)
    }

    /// Returns the time until the last moment at which the token is served; `None` if the token
    /// never expires.
    pub(crate) fn served_for(&self, now: Moment) -> Option<Duration> {
        let expired_in = self.expired_in(now)?;
        Some(expired_in.saturating_sub(INSTANT))
    }

    /// Returns the time until the token is no longer served; `None` if it never expires.
    pub(crate) fn expired_in(&self, now: Moment) -> Option<Duration> {
        let deadlines = self.deadlines?;
        Some(now.until(deadlines.unserved_from))
    }

    /// Returns the expiry of the token itself, without the margin; `None` if it never expires.
    pub(crate) fn expires_at(&self) -> Option<Moment> {
        self.deadlines.map(|deadlines| deadlines.expires_at)
    }

    /// Returns whether the token's own expiry has passed. After the expiry, no caller may send the
    /// token, even a caller that waited for this token.
    pub(crate) fn has_expired(&self, now: Moment) -> bool {
        let deadlines = self.deadlines.as_ref();
        deadlines.is_some_and(|deadlines| now.reached(deadlines.expires_at))
    }

    /// Returns whether the token can be served and no refresh has to start.
    #[inline]
    pub(crate) fn is_servable(&self, now: Moment) -> bool {
        match self.freshness(now) {
            Freshness::Fresh => true,
            Freshness::Stale => now.ticks() < self.no_refresh_before.load(Ordering::Relaxed),
            Freshness::Expired => false,
        }
    }

    /// Does the same as [`is_servable`](Self::is_servable), but usually reads only the wall clock.
    /// Reads both clocks if their last reading is too old, or if the wall clock was set back.
    #[inline]
    pub(crate) fn is_servable_by(&self, clock: &Clock) -> bool {
        let checked_at = self.checked_at.load(Ordering::Relaxed);
        let is_recent = |wall: u64| u128::from(wall.wrapping_sub(checked_at)) < RECENT.as_nanos();
        if clock.wall_nanos().is_some_and(is_recent) {
            return true;
        }
        let now = clock.now();
        // Later calls reuse this clock reading for `RECENT`. With a short margin, the token may
        // expire within that time. So the reading is stored only if the token remains usable.
        if self.is_servable(now.plus(RECENT)) {
            self.checked_at.store(now.wall_nanos(), Ordering::Relaxed);
        }
        self.is_servable(now)
    }

    pub(crate) fn delay_refresh_until(&self, until: Moment) {
        self.no_refresh_before
            .store(until.ticks(), Ordering::Relaxed);
    }

    pub(crate) fn allow_refresh(&self) {
        self.no_refresh_before.store(0, Ordering::Relaxed);
    }

    pub(crate) fn may_refresh(&self, now: Moment) -> bool {
        now.ticks() >= self.no_refresh_before.load(Ordering::Relaxed)
    }

    /// Returns the time until a refresh may start.
    pub(crate) fn refresh_delayed_for(&self, now: Moment) -> Duration {
        let until = self.no_refresh_before.load(Ordering::Relaxed);
        Duration::from_nanos(until.saturating_sub(now.ticks()))
    }

    #[inline]
    pub(crate) fn is_accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(crate) fn accept(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }
}

/// This is a unit test because an integration test can't set the system's clocks.
#[cfg(test)]
mod tests {
    use super::*;

    fn is_check_kept(lifetime: Duration) -> bool {
        let expiry_policy = ExpiryPolicy {
            refresh_before: Some(Duration::ZERO),
            expiry_margin: Some(Duration::ZERO),
            jitter: 0.0,
        };
        let clock = Clock::default();
        let token = Token::bearer("secret").map(|token| token.expires_in(lifetime));
        let cached = token.map(|token| {
            let (requested, by) = (clock.now(), FetchedBy::ThisProcess);
            let fetched = FetchedToken {
                token,
                requested,
                by,
            };
            expiry_policy.cache(fetched, clock.now())
        });
        cached.is_ok_and(|cached| {
            cached.is_servable_by(&clock);
            cached.checked_at.load(Ordering::Relaxed) != 0
        })
    }

    #[test]
    fn one_reading_of_the_clocks_is_not_used_for_longer_than_the_token_lives() {
        assert!(is_check_kept(Duration::from_secs(3600)));
        assert!(!is_check_kept(Duration::from_millis(15)));
    }
}
