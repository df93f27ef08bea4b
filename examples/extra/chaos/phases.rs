//! What state the cache was in, and when it had a token to give.

use std::time::Duration;

use tower_auth::TokenCache;

use crate::Stopwatch;
use crate::pace::Pace;
use crate::truth::Issued;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No token, and nobody has asked for one.
    Empty,
    /// No token, and one is being fetched.
    Fetching,
    /// A token in hand.
    Fresh,
    /// A token in hand, but not for long.
    Stale,
    /// No token, and the last fetch failed.
    Failed,
}

impl Phase {
    pub(crate) const ALL: [Self; 5] = [
        Self::Fresh,
        Self::Stale,
        Self::Fetching,
        Self::Failed,
        Self::Empty,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Fetching => "fetching",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Failed => "failed",
        }
    }
}

/// A time of one phase.
#[derive(Clone, Copy)]
pub(crate) struct Spell {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) phase: Phase,
}

/// How late the cache may have read the time when it asked for a token: the ticks of a coarse
/// clock, and a task that waited for its turn.
const CLOCK_ERROR: Duration = Duration::from_millis(30);

/// From when to when each token was good *and* in the cache's hand: from when it arrived, until
/// its margin began, it was spoilt or the next one came.
pub(crate) fn usable(tokens: &[Issued], pace: &Pace) -> Vec<(Duration, Duration)> {
    let mut usable = Vec::new();
    for (nth, token) in tokens.iter().enumerate() {
        let Some((asked, got)) = token.received else {
            continue;
        };
        let margin = asked + pace.lifetime - pace.margin - CLOCK_ERROR;
        let next = tokens.get(nth + 1).and_then(|next| next.received);
        let ends = [
            Some(margin),
            token.spoilt(),
            next.map(|(_, replaced)| replaced),
        ];
        if let Some(end) = ends.into_iter().flatten().min()
            && end > got
        {
            usable.push((got, end));
        }
    }
    usable
}

/// How finely the phases are told.
const TICK: Duration = Duration::from_millis(10);

/// The phases, looked at once a tick.
pub(crate) async fn sampled(cache: &TokenCache, watch: Stopwatch, end: Duration) -> Vec<Spell> {
    let mut spells: Vec<Spell> = Vec::new();
    loop {
        let time = watch.now();
        let phase = Phase::from(cache.status().phase());
        match spells.last_mut() {
            Some(last) if last.phase == phase => last.until = time,
            last => {
                if let Some(last) = last {
                    last.until = time;
                }
                spells.push(Spell {
                    from: time,
                    until: time,
                    phase,
                });
            }
        }
        if time >= end {
            return spells;
        }
        tokio::time::sleep(TICK).await;
    }
}

impl From<tower_auth::cache::Phase> for Phase {
    fn from(phase: tower_auth::cache::Phase) -> Self {
        match phase {
            tower_auth::cache::Phase::Fetching => Self::Fetching,
            tower_auth::cache::Phase::Fresh => Self::Fresh,
            tower_auth::cache::Phase::Stale => Self::Stale,
            tower_auth::cache::Phase::Failed => Self::Failed,
            _ => Self::Empty,
        }
    }
}
