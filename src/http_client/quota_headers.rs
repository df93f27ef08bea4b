//! Reads quotas from a response's headers. Servers use different formats, and some servers make
//! mistakes. Headers that can't be parsed are ignored.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;

use crate::quota::{MOST_BUCKETS, Quota};
use crate::token::redact::Redactor;

/// Auth0's headers and the owner of each quota. Each header contains one or more quotas, for
/// example `b=per_hour;q=10;r=7;t=3540`.
const AUTH0: [(&str, &str); 2] = [
    ("auth0-client-quota-limit", "client"),
    ("auth0-organization-quota-limit", "organization"),
];

/// Formats with three headers: one for the limit, one for the remaining requests and one for the
/// reset.
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

/// The maximum length of a value in bytes. Longer values are ignored.
const LONGEST: usize = 4096;

/// A reset of at least this value is a time since 1970: in seconds, or in milliseconds. A smaller
/// reset is a duration in seconds.
const TIME_IN_SECONDS: u64 = 1_000_000_000;
const TIME_IN_MILLISECONDS: u64 = 1_000_000_000_000;

/// Reads all quotas from the headers of a response to a request that started at `now`.
pub(crate) fn parse(headers: &HeaderMap, redactor: &Redactor, now: SystemTime) -> Vec<Quota> {
    let quotas = QuotaHeaders {
        headers,
        redactor,
        now,
    };
    let auth0 = AUTH0.into_iter().flat_map(|auth0| quotas.auth0(auth0));
    let triples = TRIPLES.iter().filter_map(|&triple| quotas.triple(triple));
    let found = auth0
        .chain(quotas.named())
        .chain(quotas.unnamed())
        .chain(triples);
    found.take(2 * MOST_BUCKETS).collect()
}

struct QuotaHeaders<'a> {
    headers: &'a HeaderMap,
    redactor: &'a Redactor,
    now: SystemTime,
}

impl<'a> QuotaHeaders<'a> {
    fn auth0(&self, (header, whose): (&str, &str)) -> Vec<Quota> {
        let quotas = self.items(header).filter_map(|item| {
            let quota = Quota::new(format!("{whose}/{}", item.text("b")?), item.number("r")?);
            Some(self.with(quota, item.number("q"), item.number("t")))
        });
        quotas.collect()
    }

    /// Reads items such as `"default";r=50;t=30`. The limit comes from the policy with the same
    /// name.
    fn named(&self) -> impl Iterator<Item = Quota> {
        self.items("ratelimit").filter_map(|item| {
            let quota = Quota::new(item.name?, item.number("r")?);
            let mut policies = self.items("ratelimit-policy");
            let policy = policies.find(|policy| policy.name == item.name);
            let limit = policy.and_then(|policy| policy.number("q"));
            Some(self.with(quota, limit, item.number("t")))
        })
    }

    /// Reads `limit=100, remaining=50, reset=5`, the format of earlier drafts.
    fn unnamed(&self) -> Option<Quota> {
        let pairs = self.items("ratelimit").flat_map(|item| item.pairs);
        let item = Item {
            name: None,
            pairs: pairs.collect(),
        };
        let quota = Quota::new("ratelimit", item.number("remaining")?);
        Some(self.with(quota, item.number("limit"), item.number("reset")))
    }

    fn triple(&self, (bucket, names): (&str, [&str; 3])) -> Option<Quota> {
        // Only the first item is the limit. Policies may follow it: `100, 100;w=60`.
        let first = |name| self.items(name).next()?.name.and_then(number);
        let [limit, remaining, reset] = names.map(first);
        Some(self.with(Quota::new(bucket, remaining?), limit, reset))
    }

    fn with(&self, quota: Quota, limit: Option<u64>, reset: Option<u64>) -> Quota {
        let quota = limit.into_iter().fold(quota, Quota::of);
        let resets_at = reset.and_then(|reset| match reset {
            ..TIME_IN_SECONDS => self.now.checked_add(Duration::from_secs(reset)),
            TIME_IN_SECONDS..TIME_IN_MILLISECONDS => {
                UNIX_EPOCH.checked_add(Duration::from_secs(reset))
            }
            TIME_IN_MILLISECONDS.. => UNIX_EPOCH.checked_add(Duration::from_millis(reset)),
        });
        resets_at.into_iter().fold(quota, Quota::until)
    }

    fn items(&self, name: &str) -> impl Iterator<Item = Item<'a>> + use<'a> {
        let redactor = self.redactor;
        let lines = self.headers.get_all(name).into_iter().take(MOST_BUCKETS);
        lines
            .filter(|line| line.len() <= LONGEST)
            .filter_map(|line| line.to_str().ok())
            // Ignores a line with a secret. Checks the whole line, because a secret may contain the
            // separators.
            .filter(|line| !redactor.finds_in(line))
            .flat_map(|line| line.split(','))
            .take(2 * MOST_BUCKETS)
            .map(Item::read)
    }
}

/// An item of a header: `name;key=value;key=value`. Each part may be missing.
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

    /// Returns the value of a key, or `None` if the key is missing or repeated.
    fn text(&self, key: &str) -> Option<&'a str> {
        let is_key = |(name, _): &&(&str, &str)| name.eq_ignore_ascii_case(key);
        let mut values = self.pairs.iter().filter(is_key);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }

    fn number(&self, key: &str) -> Option<u64> {
        number(self.text(key)?)
    }
}

fn bare(text: &str) -> &str {
    let text = text.trim();
    let unquoted = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    unquoted.unwrap_or(text)
}

/// Parses a decimal number, and drops its fraction.
fn number(text: &str) -> Option<u64> {
    let whole = text.trim().split('.').next().unwrap_or_default();
    let is_number = !whole.is_empty() && whole.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| whole.parse().ok()).flatten()
}
