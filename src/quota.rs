//! Quotas of the token endpoint, which say how many requests are left.

use std::sync::Arc;
use std::time::SystemTime;

use crate::error::Error;
use crate::sanitize::{cut, sanitize};

/// How many requests are left in one bucket of a quota, according to the token endpoint's last
/// response. [`Status::quotas`](crate::cache::Status::quotas) returns all quotas.
///
/// The crate reads quotas from these headers of each response, including error responses:
///
/// - `Auth0-Client-Quota-Limit` and `Auth0-Organization-Quota-Limit`
/// - `RateLimit` with `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers, also the forms of
///   earlier drafts)
/// - `X-RateLimit-*`
///
/// Your own source sets quotas with [`Token::with_quotas`](crate::Token::with_quotas) and
/// [`Error::with_quotas`](crate::Error::with_quotas).
///
/// # Example
///
/// ```
/// use tower_auth::cache::Quota;
///
/// let quota = Quota::new("client/per_day", 20).of(300);
/// assert!(quota.is_low());
/// assert_eq!((quota.bucket(), quota.remaining()), ("client/per_day", 20));
/// assert_eq!((quota.limit(), quota.resets_at()), (Some(300), None));
/// assert!(!Quota::new("client/per_day", 31).of(300).is_low());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    bucket: Arc<str>,
    limit: Option<u64>,
    remaining: u64,
    resets_at: Option<SystemTime>,
}

/// The maximum number of buckets that are kept and shown. Known servers have fewer buckets.
pub(crate) const MOST_BUCKETS: usize = 8;

/// The maximum length of a bucket's name. Longer names are cut, because the server chooses the
/// names.
const LONGEST_NAME: usize = 64;

impl Quota {
    /// Makes a quota from the bucket's name and the number of requests left. Control characters in
    /// the name become spaces. The name is cut to 64 bytes.
    pub fn new(bucket: impl AsRef<str>, remaining: u64) -> Self {
        Self {
            bucket: Arc::from(cut(sanitize(bucket.as_ref()), LONGEST_NAME)),
            limit: None,
            remaining,
            resets_at: None,
        }
    }

    /// Sets how many requests a full bucket allows.
    #[must_use]
    pub fn of(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Sets when the bucket is full again.
    #[must_use]
    pub fn until(mut self, time: SystemTime) -> Self {
        self.resets_at = Some(time);
        self
    }

    /// Returns the bucket's name:
    ///
    /// - for Auth0, a name such as `client/per_hour` or `organization/per_day`
    /// - for `RateLimit`, the name of the policy
    /// - otherwise `ratelimit` or `x-ratelimit`
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    pub(crate) fn shared_bucket(&self) -> &Arc<str> {
        &self.bucket
    }

    /// Returns how many requests a full bucket allows, if the server said so.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Returns how many requests are left.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Returns when the bucket is full again, if the server said so.
    pub fn resets_at(&self) -> Option<SystemTime> {
        self.resets_at
    }

    /// Returns whether at most a tenth of the requests is left. If the limit is unknown, returns
    /// whether no request is left.
    ///
    /// The cache warns of such a bucket and delays refreshes, unless the bucket is full again within
    /// 60 s. Such a bucket only limits the request rate.
    pub fn is_low(&self) -> bool {
        let left = u128::from(self.remaining) * 10;
        left <= u128::from(self.limit.unwrap_or(0))
    }
}

impl Error {
    /// Sets the quotas that the server reported, at most 8. [`Token::with_quotas`] does the same
    /// for a token. Has no effect if the error has clones.
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

/// Keeps the first quota of each bucket and at most [`MOST_BUCKETS`] buckets.
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
