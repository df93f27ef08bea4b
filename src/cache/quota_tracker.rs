//! What is known of the quotas that tokens cost, and what they were fetches on.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::clock::Moment;
use crate::quota::{MOST_BUCKETS, Quota};
use crate::source::token_source::Reason;

/// A bucket that is full again sooner than this is a limit of the rate, not of the number: it mends
/// itself before a refresh could be put off for it.
const SOON: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct QuotaTracker {
    fetches: FetchCounts,
    /// Boxed, for most servers say nothing of quotas, and there may be a great many caches.
    known: Option<Box<Known>>,
}

#[derive(Default)]
struct Known {
    quotas: Arc<[Quota]>,
    /// The buckets that were found low, and until when that is no news.
    reported: Vec<(Arc<str>, Option<SystemTime>)>,
    /// Those that have turned low, to be reported.
    low: Vec<LowQuota>,
}

/// How many fetches there were, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FetchCounts([u32; REASONS.len()]);

const REASONS: [Reason; 5] = [
    Reason::First,
    Reason::Stale,
    Reason::Expired,
    Reason::Refused,
    Reason::Forced,
];

/// A bucket that has turned low.
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

    /// The source was asked.
    pub(crate) fn count_fetch(&mut self, reason: Reason) {
        let at = REASONS.iter().position(|known| *known == reason);
        if let Some(count) = at.and_then(|at| self.fetches.0.get_mut(at)) {
            *count = count.saturating_add(1);
        }
    }

    /// What another process was reported, who tells it on.
    pub(crate) fn learn_from_other(&mut self, quotas: &Arc<[Quota]>) {
        if !quotas.is_empty() {
            self.known.get_or_insert_default().quotas = Arc::clone(quotas);
        }
    }

    /// What an answer said of the quotas; nothing, if it said nothing. Those that are low and were
    /// not before, or have been refilled meanwhile, are to be reported.
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

    /// For how long a refresh had better be put off: until what is low is full again. `None` if nothing
    /// is, and [`Duration::MAX`] if it isn't known until when.
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
            let is_over = until.is_some_and(|until| until <= now);
            let is_full = |quota: &Quota| *quota.bucket() == **bucket && !quota.is_running_dry();
            !is_over && !quotas.iter().any(is_full)
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
    quota.is_running_dry() && left(quota, now).is_none_or(|left| left > SOON)
}

/// How long it is until it is full again, if that was said.
fn left(quota: &Quota, now: SystemTime) -> Option<Duration> {
    let resets_at = quota.resets_at()?;
    Some(resets_at.duration_since(now).unwrap_or_default())
}

/// `first 1, refused 12`: what there was none of is left out.
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
