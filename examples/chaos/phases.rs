//! What state the cache was in, and when there was a token to be had from it.

use std::time::Duration;

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

/// One time that the source was asked.
#[derive(Clone, Copy)]
pub(crate) struct Fetch {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) succeeded: bool,
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

/// The phases, as far as they can be told from outside.
pub(crate) fn inferred(
    tokens: &[Issued],
    fetches: &[Fetch],
    pace: &Pace,
    length: Duration,
) -> Vec<Spell> {
    let usable = usable(tokens, pace);
    let phase_at = |time: Duration| {
        if let Some((from, _)) = usable
            .iter()
            .find(|(from, until)| (*from..*until).contains(&time))
        {
            return if time < *from + pace.fresh_for() {
                Phase::Fresh
            } else {
                Phase::Stale
            };
        }
        let mut before = fetches.iter().rev().filter(|fetch| fetch.from <= time);
        match before.next() {
            Some(fetch) if time < fetch.until => Phase::Fetching,
            Some(fetch) if !fetch.succeeded => Phase::Failed,
            Some(_) | None => Phase::Empty,
        }
    };
    let mut spells: Vec<Spell> = Vec::new();
    let mut time = Duration::ZERO;
    while time < length {
        let (phase, until) = (phase_at(time), time + TICK);
        match spells.last_mut() {
            Some(last) if last.phase == phase => last.until = until,
            _ => spells.push(Spell {
                from: time,
                until,
                phase,
            }),
        }
        time = until;
    }
    spells
}
