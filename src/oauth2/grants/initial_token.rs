//! The access token that a login brought, until somebody asks for it.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::token::issued_token::{Expiry, Token};

/// A token, and when it was asked for. That was before the token was issued, while whoever fetches
/// it may come much later.
pub(crate) struct FirstToken {
    token: Token,
    asked: Asked,
}

/// When a token was asked for, by both clocks: the one stands still while the machine sleeps, the
/// other can be set.
pub(crate) struct Asked {
    monotonic: Instant,
    wall: SystemTime,
}

impl FirstToken {
    pub(crate) fn new(token: Token, asked: Asked) -> Self {
        Self { token, asked }
    }

    /// The token with what is left of its lifetime, which is counted from now; `None` if it is over.
    pub(crate) fn left(&self) -> Option<Token> {
        let token = self.token.clone();
        match token.expiry() {
            Expiry::Never => Some(token),
            Expiry::At(end) => (end > SystemTime::now()).then_some(token),
            Expiry::In(lifetime) => {
                let left = lifetime.saturating_sub(self.asked.elapsed());
                (!left.is_zero()).then(|| token.expires_in(left))
            }
        }
    }
}

impl Asked {
    pub(crate) fn now() -> Self {
        Self {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// The longer of the two: a clock gone wrong costs a refresh, not a refusal.
    fn elapsed(&self) -> Duration {
        let by_the_wall = self.wall.elapsed().unwrap_or_default();
        self.monotonic.elapsed().max(by_the_wall)
    }
}
