//! The five figures, and what each may be.

use std::time::Duration;

use crate::Run;
use crate::bound::Bound;
use crate::callers::Request;
use crate::pace::Pace;
use crate::phases;

pub(crate) struct Verdict {
    pub(crate) figures: Vec<Figure>,
    pub(crate) derivation: Vec<String>,
    /// The most that was added to a request while a good token was in hand: not asserted, since it
    /// says as much of the machine as of the layer.
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
            at_most("requests failed with a good token", failed_needlessly, 0),
            at_most("tokens sent after their end", run.truth.sent_late(), 0),
            at_most(
                "calls of the authorization server",
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

/// For a machine that is busy with 2,000 callers, and with whatever else it does.
const SCHEDULING: Duration = Duration::from_millis(500);

/// A request waits for a token, and once more if that was refused. It joins fetches that are in
/// the air, so each wait is for one fetch at the most; and that may have to wait for the floor.
fn waiting(most_added: Duration, pace: &Pace) -> Figure {
    let most = (pace.attempt_floor + pace.fetch_timeout) * 2 + SCHEDULING;
    Figure {
        name: "longest a request was held up",
        value: format!("{} ms", most_added.as_millis()),
        allowed: format!("at most {} ms", most.as_millis()),
        holds: most_added <= most,
    }
}

/// When there was a good token in hand, as spells that don't touch.
///
/// A request *failed with a good token* if there was one at every moment from its start to its
/// end. Not if there was a gap: between a revocation and the next token there is none, whether
/// the client knows it yet or not, and a request that is sent into that may rightly fail.
///
/// What is *good* is told by the table of the servers: not revoked, signed with the key in use,
/// not within the margin before its end, where the cache is told not to send it.
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
