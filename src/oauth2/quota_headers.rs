//! What an answer's headers say of quotas. No two servers say it alike, and some say it wrong: what can't be
//! understood is as if it wasn't said.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;

use super::redact::Redactor;
use crate::quota::{MOST_BUCKETS, Quota};

/// Auth0's: `b=per_hour;q=10;r=7;t=3540`, one or several, by whose quota it is.
const AUTH0: [(&str, &str); 2] = [
    ("auth0-client-quota-limit", "client"),
    ("auth0-organization-quota-limit", "organization"),
];

/// A header each for limit, rest and reset.
const TRIPLES: [(&str, [&str; 3]); 2] = [
    (
        "ratelimit",
        ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"],
    ),
    (
        "x-ratelimit",
        [
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
        ],
    ),
];

/// Longer values are none of these, and aren't looked at.
const LONGEST: usize = 4096;

/// A reset that is greater is a time: seconds since 1970, or milliseconds if it is greater still.
const A_TIME: u64 = 1_000_000_000;
const IN_MILLISECONDS: u64 = 1_000_000_000_000;

/// All that the headers say, as of an answer to a request that was started at `now`.
pub(crate) fn parse(headers: &HeaderMap, redactor: &Redactor, now: SystemTime) -> Vec<Quota> {
    let mut found = Vec::new();
    for (header, whose) in AUTH0 {
        found.extend(items(headers, header).filter_map(|item| auth0(&item, whose, redactor, now)));
    }
    found.extend(
        items(headers, "ratelimit").filter_map(|item| named(headers, &item, redactor, now)),
    );
    found.extend(unnamed(headers, now));
    for (bucket, names) in TRIPLES {
        found.extend(triple(headers, bucket, names, now));
    }
    found.truncate(MOST_BUCKETS);
    found
}

/// One of several in a header: `name;key=value;key=value`, where all parts may be missing.
struct Item<'a> {
    name: Option<&'a str>,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Item<'a> {
    fn read(text: &'a str) -> Self {
        let (mut name, mut pairs) = (None, Vec::new());
        for part in text.split(';').map(str::trim) {
            match part.split_once('=') {
                Some((key, value)) => pairs.push((key.trim(), bare(value))),
                None if name.is_none() && !part.is_empty() => name = Some(bare(part)),
                None => {}
            }
        }
        Self { name, pairs }
    }

    /// The value of a key that stands once.
    fn text(&self, key: &str) -> Option<&'a str> {
        let mut values = self
            .pairs
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(key));
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }

    fn number(&self, key: &str) -> Option<u64> {
        number(self.text(key)?)
    }
}

fn items<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = Item<'a>> {
    texts(headers, name)
        .flat_map(|text| text.split(','))
        .take(2 * MOST_BUCKETS)
        .map(Item::read)
}

fn texts<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().take(MOST_BUCKETS);
    values
        .filter(|value| value.len() <= LONGEST)
        .filter_map(|value| value.to_str().ok())
}

fn bare(text: &str) -> &str {
    let text = text.trim();
    let quoted = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    quoted.unwrap_or(text)
}

/// Digits; a fraction is cut off.
fn number(text: &str) -> Option<u64> {
    let whole = text.trim().split('.').next().unwrap_or_default();
    let is_number = !whole.is_empty() && whole.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| whole.parse().ok()).flatten()
}

fn auth0(item: &Item<'_>, whose: &str, redactor: &Redactor, now: SystemTime) -> Option<Quota> {
    let bucket = redactor.redact(item.text("b")?);
    let quota = Quota::new(format!("{whose}/{bucket}"), item.number("r")?);
    Some(with(quota, item.number("q"), item.number("t"), now))
}

/// `"default";r=50;t=30`, and the limit in the policy of that name.
fn named(
    headers: &HeaderMap,
    item: &Item<'_>,
    redactor: &Redactor,
    now: SystemTime,
) -> Option<Quota> {
    let name = item.name?;
    let quota = Quota::new(redactor.redact(name), item.number("r")?);
    let policy = items(headers, "ratelimit-policy").find(|policy| policy.name == Some(name));
    let limit = policy.and_then(|policy| policy.number("q"));
    Some(with(quota, limit, item.number("t"), now))
}

/// `limit=100, remaining=50, reset=5`, as the header was before it had names.
fn unnamed(headers: &HeaderMap, now: SystemTime) -> Option<Quota> {
    let pairs = items(headers, "ratelimit")
        .flat_map(|item| item.pairs)
        .collect();
    let item = Item { name: None, pairs };
    let quota = Quota::new("ratelimit", item.number("remaining")?);
    Some(with(quota, item.number("limit"), item.number("reset"), now))
}

fn triple(headers: &HeaderMap, bucket: &str, names: [&str; 3], now: SystemTime) -> Option<Quota> {
    // The limit may be followed by policies: `100, 100;w=60`.
    let first = |name| items(headers, name).next()?.name.and_then(number);
    let [limit, remaining, reset] = names.map(first);
    Some(with(Quota::new(bucket, remaining?), limit, reset, now))
}

fn with(quota: Quota, limit: Option<u64>, reset: Option<u64>, now: SystemTime) -> Quota {
    let quota = limit.into_iter().fold(quota, Quota::of);
    let resets_at = reset.and_then(|reset| match reset {
        ..A_TIME => now.checked_add(Duration::from_secs(reset)),
        A_TIME..IN_MILLISECONDS => UNIX_EPOCH.checked_add(Duration::from_secs(reset)),
        IN_MILLISECONDS.. => UNIX_EPOCH.checked_add(Duration::from_millis(reset)),
    });
    resets_at.into_iter().fold(quota, Quota::until)
}
