//! The five figures of a run, and the limit of each figure.

use std::time::Duration;

use crate::Run;
use crate::bound::Bound;
use crate::callers::Request;
use crate::pace::Pace;
use crate::phases;

pub(crate) struct Verdict {
    pub(crate) figures: Vec<Figure>,
    pub(crate) derivation: Vec<String>,
    /// The greatest delay of a request while the cache had a valid token. This delay isn't checked,
    /// because it depends on the machine as much as on the layer.
    pub(crate) most_added_with_token: Duration,
}

pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) allowed: String,
    pub(crate) holds: bool,
}

impl Verdict {
    pub(crate) fn of(run: &Run, bound: &Bound) -> Self {
        let usable = Coverage::of(phases::usable(&run.truth.tokens_received(), &run.pace));
        let failed_needlessly = run
            .requests
            .iter()
            .filter(|request| request.failure.is_some() && usable.covers(request))
            .count();
        let most_added = run.requests.iter().map(|request| request.added).max();
        let added_with_token = run.requests.iter().filter(|request| usable.covers(request));
        let most_added_with_token = added_with_token.map(|request| request.added).max();

        let figures = vec![
            at_most("requests failed with a valid token", failed_needlessly, 0),
            at_most("tokens sent after they expired", run.truth.sent_late(), 0),
            at_most(
                "requests to the authorization server",
                run.calls.len(),
                bound.total,
            ),
            waiting(most_added.unwrap_or_default(), &run.pace),
            at_most("tasks leaked", run.leaked, 0),
        ];
        Self {
            figures,
            derivation: bound.derivation.clone(),
            most_added_with_token: most_added_with_token.unwrap_or_default(),
        }
    }

    pub(crate) fn holds(&self) -> bool {
        self.figures.iter().all(|figure| figure.holds)
    }
}

fn at_most(name: &'static str, value: usize, most: usize) -> Figure {
    Figure {
        name,
        value: value.to_string(),
        allowed: match most {
            0 => "0".to_owned(),
            most => format!("at most {most}"),
        },
        holds: value <= most,
    }
}

/// The tolerance for scheduling, on a machine that is busy with 2,000 callers and other work.
const SCHEDULING: Duration = Duration::from_millis(500);

/// Limits the delay of a request. A request waits for a token. It waits again if the API refuses
/// that token. Each wait is for at most one fetch, because a request joins a fetch in flight. The
/// fetch may start only after the floor, which is the minimum time between fetches.
fn waiting(most_added: Duration, pace: &Pace) -> Figure {
    let most = (pace.attempt_floor + pace.fetch_timeout) * 2 + SCHEDULING;
    Figure {
        name: "longest delay of a request",
        value: format!("{} ms", most_added.as_millis()),
        allowed: format!("at most {} ms", most.as_millis()),
        holds: most_added <= most,
    }
}

/// The periods in which the cache had a valid token. Periods that touch are joined.
///
/// A request *failed with a valid token* if a valid token existed at every moment from its start to
/// its end. Between a revocation and the next token there is a gap, even if the client doesn't know
/// about the revocation yet. A request that is sent in a gap may fail.
///
/// The servers' table says whether a token is *valid*. A valid token isn't revoked, and is signed
/// with the current key. A token within its expiry margin isn't valid, and the cache doesn't send
/// it.
struct Coverage(Vec<(Duration, Duration)>);

impl Coverage {
    fn of(mut spells: Vec<(Duration, Duration)>) -> Self {
        spells.sort();
        let mut joined: Vec<(Duration, Duration)> = Vec::new();
        for (from, until) in spells {
            match joined.last_mut() {
                Some((_, end)) if from <= *end => *end = until.max(*end),
                _ => joined.push((from, until)),
            }
        }
        Self(joined)
    }

    fn covers(&self, request: &Request) -> bool {
        let mut spells = self.0.iter();
        spells.any(|(from, until)| *from <= request.start && request.end <= *until)
    }
}
