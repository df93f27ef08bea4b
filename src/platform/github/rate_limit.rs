//! GitHub's rate limits, which GitHub reports with the status 403 or 429.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, StatusCode};

use crate::http_client::retry_after;
use crate::http_client::token_response::server_time;

/// The wait that GitHub's documentation asks for if a response names none.
const DEFAULT: Duration = Duration::from_secs(60);

/// The longest wait. GitHub's limits are for one hour.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Returns how long to wait, or `None` if the response reports no rate limit. `said` is the
/// text of the error, which contains GitHub's message.
///
/// Source: GitHub, "Troubleshooting the REST API", section "Rate limit errors" (2022-11-28).
pub(super) fn wait(
    status: StatusCode,
    headers: &HeaderMap,
    now: SystemTime,
    said: &str,
) -> Option<Duration> {
    if !matches!(status.as_u16(), 403 | 429) {
        return None;
    }
    if let Some(wait) = retry_after::parse(headers, now) {
        return Some(wait);
    }
    let number = |name| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    if number("x-ratelimit-remaining") == Some(0) {
        let reset = number("x-ratelimit-reset").map(Duration::from_secs);
        let now = server_time(headers).unwrap_or(now);
        let wait = reset
            .and_then(|reset| UNIX_EPOCH.checked_add(reset))
            .map(|reset| reset.duration_since(now).unwrap_or_default());
        return Some(wait.unwrap_or(DEFAULT).min(LONGEST));
    }
    // A secondary rate limit has no header of its own.
    let is_secondary = said.contains("rate limit") || status.as_u16() == 429;
    is_secondary.then_some(DEFAULT)
}
