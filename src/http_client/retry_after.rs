//! `Retry-After` (RFC 9110 §10.2.3): how long a server asks the client to wait.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// The upper bound of the wait, because a server's value or clock may be wrong.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Returns the wait that the headers ask for, or `None` if the header is missing or malformed. The
/// header contains seconds or a date; a date in the past means a wait of zero.
pub(crate) fn parse(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match seconds(text) {
        Some(wait) => wait,
        None => {
            let date = httpdate::parse_http_date(text).ok()?;
            date.duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST))
}

/// Parses a number that consists of digits. A number beyond `u64` counts as a long wait.
fn seconds(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}
