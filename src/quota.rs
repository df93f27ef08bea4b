//! What a server says is left of a quota.

use std::sync::Arc;
use std::time::SystemTime;

use crate::error::Error;
use crate::sanitize::sanitize;

/// What is left in one bucket of a quota, from the last response of the token endpoint:
/// [`Status::quotas`](crate::cache::Status::quotas).
///
/// Read from the headers of that response, refusals included: `Auth0-Client-Quota-Limit` and
/// `Auth0-Organization-Quota-Limit`, `RateLimit` with `RateLimit-Policy`
/// (draft-ietf-httpapi-ratelimit-headers, also as its earlier versions had it), and `X-RateLimit-*`. A
/// source of your own says it with [`Token::with_quotas`](crate::Token::with_quotas) and
/// [`Error::with_quotas`](crate::Error::with_quotas).
///
/// # Example
///
/// ```
/// use tower_auth::cache::Quota;
///
/// let quota = Quota::new("client/per_day", 20).of(300);
/// assert!(quota.is_low());
/// assert!(!Quota::new("client/per_day", 31).of(300).is_low());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    bucket: Arc<str>,
    limit: Option<u64>,
    remaining: u64,
    resets_at: Option<SystemTime>,
}

/// The most buckets that are kept and shown. Servers have fewer.
pub(crate) const MOST_BUCKETS: usize = 8;

/// Longer names are cut, since they are a server's text.
const LONGEST_NAME: usize = 64;

impl Quota {
    /// A bucket by its name, in which so many requests are left. Control characters of the name are
    /// taken out, and it is cut to 64 bytes.
    pub fn new(bucket: impl AsRef<str>, remaining: u64) -> Self {
        let mut name = sanitize(bucket.as_ref());
        let end = (0..=LONGEST_NAME.min(name.len())).rev();
        let end = end.into_iter().find(|end| name.is_char_boundary(*end));
        name.truncate(end.unwrap_or(0));
        Self {
            bucket: Arc::from(name),
            limit: None,
            remaining,
            resets_at: None,
        }
    }

    /// Says how many requests there are in the bucket when it is full.
    #[must_use]
    pub fn of(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Says when it is full again.
    #[must_use]
    pub fn until(mut self, time: SystemTime) -> Self {
        self.resets_at = Some(time);
        self
    }

    /// The bucket's name: `client/per_hour` and `organization/per_day` of Auth0's, the policy's of
    /// `RateLimit`, else `ratelimit` or `x-ratelimit`.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    pub(crate) fn shared_bucket(&self) -> &Arc<str> {
        &self.bucket
    }

    /// How many requests there are in it when it is full, if the server said it.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// How many are left.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// When it is full again, if the server said it.
    pub fn resets_at(&self) -> Option<SystemTime> {
        self.resets_at
    }

    /// Whether a tenth of it is left or less; nothing, if it isn't known how many there are.
    pub fn is_low(&self) -> bool {
        let left = u128::from(self.remaining) * 10;
        left <= u128::from(self.limit.unwrap_or(0))
    }
}

impl Error {
    /// Says what is left of the server's quotas, 8 at most, as [`Token::with_quotas`] does for a token.
    /// No effect on an error that has clones.
    ///
    /// [`Token::with_quotas`]: crate::Token::with_quotas
    #[must_use]
    pub fn with_quotas(self, quotas: impl IntoIterator<Item = Quota>) -> Self {
        self.attach(bounded(quotas))
    }

    pub(crate) fn quotas(&self) -> Option<&Arc<[Quota]>> {
        self.attached()
    }
}

/// The quotas without duplicates, of which the first stays, and at most [`MOST_BUCKETS`].
pub(crate) fn bounded(quotas: impl IntoIterator<Item = Quota>) -> Arc<[Quota]> {
    let mut bounded: Vec<Quota> = Vec::new();
    for quota in quotas {
        if bounded.len() == MOST_BUCKETS {
            break;
        }
        if bounded.iter().all(|known| known.bucket != quota.bucket) {
            bounded.push(quota);
        }
    }
    bounded.into()
}
