//! The lifetime that a response states for a cookie: `Max-Age` and `Expires` (RFC 6265 §5.2).
//!
//! `cookie_store` reads only four exact date formats. Some servers leave out `GMT`, or write a day
//! with one digit. Browsers read these dates too, because the rules of RFC 6265 §5.1.1 ignore most
//! characters between the numbers.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// The first year that a date may have (RFC 6265 §5.1.1).
const FIRST_YEAR: u32 = 1601;

/// Returns the lifetime in a `Set-Cookie` line, or `None` if the line states no expiry. The server
/// sent the response at `sent`.
///
/// `Expires` is compared with the server's clock, as in browsers. A local clock that is ahead would
/// end each session early.
pub(super) fn stated_in(line: &str, sent: SystemTime) -> Option<Duration> {
    // `Max-Age` has precedence over `Expires` (RFC 6265 §5.3).
    let age = attributes(line, "Max-Age").filter_map(max_age).last();
    age.or_else(|| {
        let end = attributes(line, "Expires").filter_map(date).last()?;
        Some(end.duration_since(sent).unwrap_or_default())
    })
}

/// Returns the values of an attribute. If a line repeats an attribute, the last valid value counts.
fn attributes<'a>(line: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    line.split(';').skip(1).filter_map(move |attribute| {
        let (found, value) = attribute.split_once('=')?;
        let is_named = found.trim().eq_ignore_ascii_case(name);
        is_named.then(|| value.trim())
    })
}

/// Reads a number of seconds (RFC 6265 §5.2.2). A negative number ends the cookie immediately.
fn max_age(value: &str) -> Option<Duration> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = match digits == value {
        // Only a number that is too large can't be parsed.
        true => digits.parse().unwrap_or(u64::MAX),
        false => 0,
    };
    Some(Duration::from_secs(seconds))
}

/// Reads a date (RFC 6265 §5.1.1). Its parts may have any order.
fn date(text: &str) -> Option<SystemTime> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(is_delimiter) {
        if time.is_none()
            && let Some(found) = time_of(token)
        {
            time = Some(found);
        } else if day.is_none()
            && let Some(found) = number(token, 1..=2)
        {
            day = Some(found);
        } else if month.is_none()
            && let Some(found) = month_of(token)
        {
            month = Some(found);
        } else if year.is_none()
            && let Some(found) = number(token, 2..=4)
        {
            year = Some(found);
        }
    }
    let ([hour, minute, second], day, month) = (time?, day?, month?);
    let year = match year? {
        year @ 70..=99 => year + 1900,
        year @ 0..=69 => year + 2000,
        year => year,
    };
    if year < 1970 {
        // `httpdate` can't read dates before 1970. Such a cookie has expired anyway.
        return (year >= FIRST_YEAR).then_some(UNIX_EPOCH);
    }
    let rest = format!("{day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT");
    // `httpdate` also checks the day of the week, and whether the date exists.
    let mut dates = WEEKDAYS
        .into_iter()
        .map(|weekday| format!("{weekday}, {rest}"));
    dates.find_map(|date| httpdate::parse_http_date(&date).ok())
}

fn is_delimiter(c: char) -> bool {
    matches!(c, '\t' | ' '..='/' | ';'..='@' | '['..='`' | '{'..='~')
}

/// Reads `hour:minute:second`, each with one or two digits. Ignores what follows.
fn time_of(token: &str) -> Option<[u32; 3]> {
    let (hour, rest) = token.split_once(':')?;
    let (minute, second) = rest.split_once(':')?;
    let is_plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain(hour) || !is_plain(minute) {
        return None;
    }
    let two = |part| number(part, 1..=2);
    Some([two(hour)?, two(minute)?, two(second)?])
}

fn month_of(token: &str) -> Option<&'static str> {
    let start = token.get(..3)?;
    let mut months = MONTHS.into_iter();
    months.find(|month| month.eq_ignore_ascii_case(start))
}

/// Reads the digits at the start of a token, if their count is within `lengths`. Ignores what
/// follows.
fn number(token: &str, lengths: RangeInclusive<usize>) -> Option<u32> {
    let length = token.bytes().take_while(u8::is_ascii_digit).count();
    let digits = token.get(..length).filter(|_| lengths.contains(&length))?;
    digits.parse().ok()
}
