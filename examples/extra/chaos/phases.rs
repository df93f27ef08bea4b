//! Records the states of the cache, and calculates when the cache had a usable token.

use std::time::Duration;

use tower_auth::TokenCache;

use crate::Stopwatch;
use crate::pace::Pace;
use crate::truth::Issued;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No token, and no caller has asked for a token.
    Empty,
    /// No token, and a fetch is running.
    Fetching,
    /// A cached token.
    Fresh,
    /// A cached token that is due for a refresh.
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

/// A period in one phase.
#[derive(Clone, Copy)]
pub(crate) struct Spell {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) phase: Phase,
}

/// The largest error of the time at which the cache requested a token. The error consists of one
/// tick of a coarse clock, and the time until a task is scheduled.
const CLOCK_ERROR: Duration = Duration::from_millis(30);

/// Returns the periods in which a token was valid *and* cached. A period starts when the token
/// arrives. It ends when the token's margin begins, the token becomes invalid, or the next token
/// arrives.
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

/// How often the phase is sampled.
const TICK: Duration = Duration::from_millis(10);

/// Samples the phase once a tick.
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
