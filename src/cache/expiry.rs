//! How long a token is good, and from when a new one is fetched behind it.
//!
//! ```text
//!  requested              stale                expired      (the token's own end)
//!      │── fresh: serve ────│── serve, refresh ────│── wait ──── margin ──│
//! ```

use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::error::Error;
use crate::source::token_source::{DynTokenSource, Reason};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::token::issued_token::{Expiry, Token};

/// From when a token is refreshed, and from when it isn't used any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) refresh_before: Option<Duration>,
    pub(crate) expiry_margin: Option<Duration>,
    /// Up to which share of the window, from 0 to 1, a refresh is put off at random.
    pub(crate) jitter: f64,
}

/// A lifetime from which on [`REFRESH_BEFORE`] is the default window.
const LONG_LIFETIME: Duration = Duration::from_secs(20 * 60);
/// How long before the end a long-lived token is refreshed. Long enough to sit out a short outage
/// of the authorization server.
const REFRESH_BEFORE: Duration = Duration::from_secs(5 * 60);
/// How long before its end a token is no longer sent: a request takes time to arrive, and the
/// server's clock may be ahead.
const EXPIRY_MARGIN: Duration = Duration::from_secs(30);

impl Windows {
    /// Whether anything is left to chance.
    pub(crate) fn has_jitter(&self) -> bool {
        self.jitter > 0.0
    }

    /// A token whose fetch was started at `requested` and that is here `now`.
    pub(crate) fn hold(&self, fetched: Fetched, now: Moment) -> Held {
        let Fetched {
            token,
            requested,
            by,
        } = fetched;
        // How long it is good from some moment on, and its whole lifetime.
        let lifetime = match token.expiry() {
            Expiry::Never => None,
            Expiry::In(lifetime) => Some((requested, lifetime, lifetime)),
            Expiry::At(end) => {
                let since = |start: Moment| end.duration_since(start.wall()).unwrap_or_default();
                Some((now, since(now), since(by.start(requested, now))))
            }
        };
        let deadlines = lifetime.map(|(from, left, lifetime)| {
            let (before, margin) = (self.refresh_before(lifetime), self.margin(lifetime));
            let window = before.saturating_sub(margin);
            let before = before - window.mul_f64(self.jitter * fastrand::f64());
            let late = margin
                + LAST_FETCH
                    .min(window / 2)
                    .min(before.saturating_sub(margin));
            Deadlines {
                late: from.plus(left.saturating_sub(late)),
                stale: from.plus(left.saturating_sub(before)),
                expired: from.plus(left.saturating_sub(margin)),
                over: from.plus(left),
            }
        });
        Held {
            token,
            requested,
            deadlines,
            looked: AtomicU64::new(0),
            hold_off: AtomicU64::new(0),
            accepted: AtomicBool::new(false),
        }
    }

    /// At least twice the margin, so that even a token of seconds is refreshed before anyone has
    /// to wait for it; at most half of the lifetime, so that it is of use.
    fn refresh_before(&self, lifetime: Duration) -> Duration {
        match self.refresh_before {
            Some(window) => window,
            None if lifetime >= LONG_LIFETIME => REFRESH_BEFORE,
            None => lifetime / 4,
        }
        .max(self.margin(lifetime) * 2)
        .min(lifetime / 2)
    }

    fn margin(&self, lifetime: Duration) -> Duration {
        match self.expiry_margin {
            Some(margin) => margin.min(lifetime / 2),
            None => EXPIRY_MARGIN.min(lifetime / 4),
        }
    }
}

/// What is left for the last refresh that nobody has to wait for: three times what a token endpoint may take
/// (`oauth2::Client`), or half of the window between stale and expired if that is less.
const LAST_FETCH: Duration = Duration::from_secs(30);

/// How long a look at both clocks is good for at most: a kernel tick or a few.
const JUST: Duration = Duration::from_millis(16);

/// A token and when it was asked for: expiry is counted from there, since the server can't have
/// issued it earlier.
pub(crate) struct Fetched {
    pub(crate) token: Token,
    pub(crate) requested: Moment,
    pub(crate) by: FetchedBy,
}

impl Fetched {
    /// What the source issues, asked once.
    pub(crate) async fn by_asking(
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

/// Who it was had from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "fleet"),
    allow(dead_code, reason = "processes share tokens by way of a feature")
)]
pub(crate) enum FetchedBy {
    ThisProcess,
    /// Another process asked the source, a while ago.
    Another,
}

impl FetchedBy {
    /// When the lifetime of a token began of which only the end is known.
    fn start(self, requested: Moment, now: Moment) -> Moment {
        match self {
            Self::ThisProcess => now,
            Self::Another => requested,
        }
    }
}

/// A token in use, with its deadlines.
#[derive(Debug)]
pub(crate) struct Held {
    token: Token,
    requested: Moment,
    deadlines: Option<Deadlines>,
    /// What a glance at the clock saw when it was last found fit to be served.
    looked: AtomicU64,
    /// No refresh is started before this tick: one is in the air, or the last one failed.
    hold_off: AtomicU64,
    /// Whether a server has accepted it.
    accepted: AtomicBool,
}

#[derive(Debug)]
struct Deadlines {
    stale: Moment,
    /// The last moment for a refresh that nobody has to wait for.
    late: Moment,
    expired: Moment,
    /// The token's own end, behind the margin.
    over: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Serve it.
    Fresh,
    /// Serve it, and see to a new one.
    Stale,
    /// Don't serve it.
    Expired,
}

impl Held {
    #[inline]
    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    #[inline]
    pub(crate) fn freshness(&self, now: Moment) -> Freshness {
        match &self.deadlines {
            None => Freshness::Fresh,
            Some(ends) if now.reached(ends.expired) => Freshness::Expired,
            Some(ends) if now.reached(ends.stale) => Freshness::Stale,
            Some(_) => Freshness::Fresh,
        }
    }

    /// When its fetch was started.
    pub(crate) fn requested(&self) -> Moment {
        self.requested
    }

    /// From when on it is refreshed; `None` if it never expires.
    pub(crate) fn stale_from(&self) -> Option<Moment> {
        self.deadlines.as_ref().map(|ends| ends.stale)
    }

    /// Has it refreshed later, since a fetch is dear for this long: when it isn't any more, but no later than
    /// where nobody has to wait for it. What is dear for a whole fleet comes to its end for all at once, so
    /// that they come back spread over what is left, or over half of it if it is dear to the end.
    pub(crate) fn put_off(&mut self, windows: &Windows, dear_for: Duration, now: Moment) {
        let Some(ends) = &mut self.deadlines else {
            return;
        };
        let late = now.until(ends.late);
        let left = match late.checked_sub(dear_for) {
            Some(left) => left,
            None => now.until(ends.expired).saturating_sub(late) / 2,
        };
        let until = dear_for.min(late) + left.mul_f64(windows.jitter * fastrand::f64());
        if now.until(ends.stale) < until {
            ends.stale = now.plus(until);
        }
    }

    /// The last moment for a refresh that nobody has to wait for; `None` if it never expires.
    pub(crate) fn late_from(&self) -> Option<Moment> {
        self.deadlines.as_ref().map(|ends| ends.late)
    }

    /// From when on it isn't served any more; `None` if it never expires.
    pub(crate) fn expired_from(&self) -> Option<Moment> {
        self.deadlines.as_ref().map(|ends| ends.expired)
    }

    /// Its own end; `None` if it never expires.
    pub(crate) fn over_from(&self) -> Option<Moment> {
        self.deadlines.as_ref().map(|ends| ends.over)
    }

    /// Whether it is past its own end, where not even those who waited for it may send it.
    pub(crate) fn is_over(&self, now: Moment) -> bool {
        let ends = self.deadlines.as_ref();
        ends.is_some_and(|ends| now.reached(ends.over))
    }

    /// Whether it can be served with nothing else to do.
    #[inline]
    pub(crate) fn serves(&self, now: Moment) -> bool {
        match self.freshness(now) {
            Freshness::Fresh => true,
            Freshness::Stale => now.ticks() < self.hold_off.load(Ordering::Relaxed),
            Freshness::Expired => false,
        }
    }

    /// The same, by a glance at the clock if both have been looked at just now. A clock that was
    /// set back since then is not just after, but before.
    #[inline]
    pub(crate) fn serves_by(&self, clock: &Clock) -> bool {
        let looked = self.looked.load(Ordering::Relaxed);
        let is_just_after = |glance: u64| u128::from(glance.wrapping_sub(looked)) < JUST.as_nanos();
        if clock.glance().is_some_and(is_just_after) {
            return true;
        }
        let now = clock.now();
        // A token may have less than that left, if its margin is narrower.
        if self.serves(now.plus(JUST)) {
            self.looked.store(now.glance(), Ordering::Relaxed);
        }
        self.serves(now)
    }

    pub(crate) fn hold_off_until(&self, until: Moment) {
        self.hold_off.store(until.ticks(), Ordering::Relaxed);
    }

    pub(crate) fn refresh_at_once(&self) {
        self.hold_off.store(0, Ordering::Relaxed);
    }

    pub(crate) fn may_refresh(&self, now: Moment) -> bool {
        now.ticks() >= self.hold_off.load(Ordering::Relaxed)
    }

    /// How long it is until a refresh may be started.
    pub(crate) fn held_off_for(&self, now: Moment) -> Duration {
        let until = self.hold_off.load(Ordering::Relaxed);
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

/// Inside, because only the system's clocks can be glanced at, and a test can't set those.
#[cfg(test)]
mod tests {
    use super::*;

    fn looked_at(lifetime: Duration) -> bool {
        let windows = Windows {
            refresh_before: Some(Duration::ZERO),
            expiry_margin: Some(Duration::ZERO),
            jitter: 0.0,
        };
        let clock = Clock::default();
        let token = Token::bearer("secret").map(|token| token.expires_in(lifetime));
        let held = token.map(|token| {
            let (requested, by) = (clock.now(), FetchedBy::ThisProcess);
            let fetched = Fetched {
                token,
                requested,
                by,
            };
            windows.hold(fetched, clock.now())
        });
        held.is_ok_and(|held| {
            held.serves_by(&clock);
            held.looked.load(Ordering::Relaxed) != 0
        })
    }

    #[test]
    fn a_look_at_the_clocks_is_not_good_for_longer_than_the_token() {
        assert!(looked_at(Duration::from_secs(3600)));
        assert!(!looked_at(Duration::from_millis(15)));
    }
}
