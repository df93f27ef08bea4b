//! Tracks the remaining quotas of the token endpoint, and counts fetches by reason.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::clock::Moment;
use crate::quota::{MOST_BUCKETS, Quota};
use crate::source::token_source::Reason;

/// A bucket that resets within this time doesn't count as low, so no event warns of it and no
/// refresh is delayed. Such a bucket only limits the request rate. It is full again before a person
/// could act, and before a delayed refresh would start.
const SOON: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct QuotaTracker {
    fetches: FetchCounts,
    /// The quotas are boxed, because most servers send no quotas and a process can have very many
    /// caches.
    known: Option<Box<Known>>,
}

#[derive(Default)]
struct Known {
    quotas: Arc<[Quota]>,
    /// The low buckets that were already reported, and when they reset.
    reported: Vec<(Arc<str>, Option<SystemTime>)>,
    /// The buckets that became low and weren't reported yet.
    low: Vec<LowQuota>,
}

/// How many fetches each reason caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FetchCounts([u32; REASONS.len()]);

const REASONS: [Reason; 5] = [
    Reason::First,
    Reason::Stale,
    Reason::Expired,
    Reason::Refused,
    Reason::Forced,
];

/// A bucket that has become low.
#[derive(Clone, Debug)]
pub(crate) struct LowQuota {
    pub(crate) quota: Quota,
    pub(crate) resets_in: Option<Duration>,
    pub(crate) fetches: FetchCounts,
}

impl QuotaTracker {
    pub(crate) fn quotas(&self) -> Arc<[Quota]> {
        let known = self.known.as_ref();
        known.map_or_else(Arc::default, |known| Arc::clone(&known.quotas))
    }

    /// Counts a call of the source.
    pub(crate) fn count_fetch(&mut self, reason: Reason) {
        let at = REASONS.iter().position(|known| *known == reason);
        if let Some(count) = at.and_then(|at| self.fetches.0.get_mut(at)) {
            *count = count.saturating_add(1);
        }
    }

    /// Records the quotas that another process received. That process has already reported low
    /// quotas.
    pub(crate) fn record_from_other_process(&mut self, quotas: &Arc<[Quota]>) {
        if !quotas.is_empty() {
            self.known.get_or_insert_default().quotas = Arc::clone(quotas);
        }
    }

    /// Records the quotas of a response. Has no effect if the response has no quotas. A low bucket
    /// is reported once. The same bucket is reported again only after it was full or reset.
    pub(crate) fn record(&mut self, quotas: &Arc<[Quota]>, now: Moment) {
        if !quotas.is_empty() {
            let known = self.known.get_or_insert_default();
            known.record(quotas, self.fetches, now.wall());
        }
    }

    pub(crate) fn take_newly_low(&mut self) -> Vec<LowQuota> {
        let known = self.known.as_mut();
        known.map_or_else(Vec::new, |known| std::mem::take(&mut known.low))
    }

    /// Returns how long to delay a refresh. After this delay, all low buckets are full again.
    /// `None` if no bucket is low. [`Duration::MAX`] if the server didn't say when a low bucket
    /// resets.
    pub(crate) fn low_for(&self, now: Moment) -> Option<Duration> {
        let now = now.wall();
        let quotas = self.known.as_ref()?.quotas.iter();
        let low = quotas.filter(|quota| is_low(quota, now));
        low.map(|quota| left(quota, now).unwrap_or(Duration::MAX))
            .max()
    }
}

impl Known {
    fn record(&mut self, quotas: &Arc<[Quota]>, fetches: FetchCounts, now: SystemTime) {
        self.quotas = Arc::clone(quotas);
        self.reported.retain(|(bucket, until)| {
            let is_reset = until.is_some_and(|until| until <= now);
            let is_full = |quota: &Quota| *quota.bucket() == **bucket && !quota.is_low();
            !is_reset && !quotas.iter().any(is_full)
        });
        for quota in quotas.iter().filter(|quota| is_low(quota, now)) {
            if self
                .reported
                .iter()
                .any(|(reported, _)| **reported == *quota.bucket())
            {
                continue;
            }
            if self.reported.len() == MOST_BUCKETS {
                self.reported.remove(0);
            }
            let reported = (Arc::clone(quota.shared_bucket()), quota.resets_at());
            self.reported.push(reported);
            self.low.push(LowQuota {
                quota: quota.clone(),
                resets_in: left(quota, now),
                fetches,
            });
        }
    }
}

fn is_low(quota: &Quota, now: SystemTime) -> bool {
    quota.is_low() && left(quota, now).is_none_or(|left| left > SOON)
}

/// Returns the time until the bucket resets, if the server stated this time.
fn left(quota: &Quota, now: SystemTime) -> Option<Duration> {
    let resets_at = quota.resets_at()?;
    Some(resets_at.duration_since(now).unwrap_or_default())
}

/// Formats the counts like `first 1, refused 12`. Reasons without a fetch are left out.
impl fmt::Display for FetchCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = REASONS.iter().zip(self.0).filter(|(_, count)| *count > 0);
        for (at, (reason, count)) in some.enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{reason} {count}")?;
        }
        Ok(())
    }
}
