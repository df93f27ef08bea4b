//! The access token from a login. The first fetch returns this token.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::token::issued_token::{Expiry, Token};

/// A token and the time of its request. The first fetch may happen much later than the request.
pub(crate) struct InitialToken {
    token: Token,
    requested_at: RequestedAt,
}

/// The time of a token request on two clocks. Neither clock is reliable: the monotonic clock may
/// stop while the machine sleeps, and someone may set the wall clock.
pub(crate) struct RequestedAt {
    monotonic: Instant,
    wall: SystemTime,
}

impl InitialToken {
    pub(crate) fn new(token: Token, requested_at: RequestedAt) -> Self {
        Self {
            token,
            requested_at,
        }
    }

    /// Returns the token with its remaining lifetime, or `None` if it has expired.
    pub(crate) fn unexpired(&self) -> Option<Token> {
        let token = self.token.clone();
        match token.expiry() {
            Expiry::Never => Some(token),
            Expiry::At(end) => (end > SystemTime::now()).then_some(token),
            Expiry::In(lifetime) => {
                let rest = lifetime.saturating_sub(self.requested_at.elapsed());
                (!rest.is_zero()).then(|| token.expires_in(rest))
            }
        }
    }
}

impl RequestedAt {
    pub(crate) fn now() -> Self {
        Self {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// Returns the elapsed time. If the two clocks differ, returns the longer time. A wrong clock
    /// then causes an early refresh, not a refused request.
    pub(crate) fn elapsed(&self) -> Duration {
        let by_wall_clock = self.wall.elapsed().unwrap_or_default();
        self.monotonic.elapsed().max(by_wall_clock)
    }

    /// Returns the elapsed time by the monotonic clock, which nobody can set. This time may omit a
    /// sleep of the machine.
    pub(crate) fn waited(&self) -> Duration {
        self.monotonic.elapsed()
    }
}
