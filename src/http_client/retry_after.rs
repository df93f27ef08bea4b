//! `Retry-After` (RFC 9110 §10.2.3): how long a server asks to be left alone.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// No server may silence a client for longer, be it by mistake or with a clock gone wrong.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The wait that the headers ask for, in seconds or as a date; `None` if they don't, or not
/// legibly. A date that is past asks for none.
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

/// Digits only; more than a `u64` holds is still a number, and a long one.
fn seconds(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}
