//! Times in the responses of platforms: RFC 3339, or seconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::http_client::body_value::BodyValue;

/// Reads a time. Returns `None` if the value is neither a time in RFC 3339 nor a number of seconds
/// since 1970. Some platforms write the number as a string.
pub(crate) fn parse(value: &BodyValue) -> Option<SystemTime> {
    let text = value.scalar()?;
    let text = text.trim();
    match text.parse::<f64>() {
        Ok(seconds) => UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?),
        // Conversion to `SystemTime` panics on overflow, but years in RFC 3339 have four digits.
        Err(_) => OffsetDateTime::parse(text, &Rfc3339).ok().map(Into::into),
    }
}
