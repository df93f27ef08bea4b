//! How many tokens a client may fetch.

use std::time::{Duration, SystemTime};

use super::oauth_error::OAuthError;
use super::tokens::later;
use crate::server::ScriptedResponse;

/// A limit of token requests in windows of a fixed length.
#[derive(Debug)]
pub(crate) struct Quota {
    limit: usize,
    window: Duration,
    used: usize,
    /// `None` before the first request.
    window_ends: Option<SystemTime>,
}

impl Quota {
    pub(crate) fn new(limit: usize, window: Duration) -> Self {
        Self {
            limit,
            window,
            used: 0,
            window_ends: None,
        }
    }

    /// Counts a request.
    pub(crate) fn take(&mut self, now: SystemTime) -> Result<(), OAuthError> {
        if self.window_ends.is_none_or(|end| end <= now) {
            self.used = 0;
            self.window_ends = Some(later(now, self.window));
        }
        if self.used >= self.limit {
            let retry_after = self.seconds_left(now);
            return Err(OAuthError::TooManyRequests { retry_after });
        }
        self.used += 1;
        Ok(())
    }

    /// Adds what is left to a response, as in draft-ietf-httpapi-ratelimit-headers.
    pub(crate) fn describe(&self, response: ScriptedResponse, now: SystemTime) -> ScriptedResponse {
        let left = self.limit.saturating_sub(self.used);
        let (limit, window) = (self.limit, self.window.as_secs());
        response
            .header(
                "ratelimit-policy",
                format!(r#""tokens";q={limit};w={window}"#),
            )
            .header(
                "ratelimit",
                format!(r#""tokens";r={left};t={}"#, self.seconds_left(now)),
            )
    }

    /// Returns the seconds until the window ends, rounded up.
    fn seconds_left(&self, now: SystemTime) -> u64 {
        let left = self
            .window_ends
            .and_then(|end| end.duration_since(now).ok());
        let left = left.unwrap_or_default();
        left.as_secs() + u64::from(left.subsec_nanos() > 0)
    }
}
