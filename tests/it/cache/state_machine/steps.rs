//! Whatever may happen: steps, and days on which some of them are more likely than others.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::model::{Kind, Lifetime, Manner, Resource, Rules};

/// What happens next. What can't, such as the result of a fetch that nobody asked for, doesn't.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Somebody needs a token; one who is late isn't polled again until `Poll`.
    RequestToken {
        is_late: bool,
    },
    /// Somebody wants a new one.
    Refresh {
        is_late: bool,
    },
    /// A request, through a clone of the client or through the one that is used again and again.
    /// A slow API responds when told to, the other at once.
    Request {
        resource: Resource,
        is_late: bool,
        is_clone: bool,
    },
    /// A caller, late or not, is looked after.
    Poll(Index),
    /// A caller goes away.
    Drop(Index),
    /// The slow API responds.
    Respond {
        call: Index,
        status: u16,
    },
    /// The source issues a token, a new one or the last one again. One that is not good is refused.
    Issue {
        fetch: Index,
        lifetime: Lifetime,
        is_new: bool,
        is_good: bool,
    },
    Fail {
        fetch: Index,
        kind: Kind,
        retry_after: Option<i64>,
    },
    Panic(Index),
    /// The API refuses one of the latest tokens from now on, or accepts it.
    Revoke(Index),
    Admit(Index),
    /// A resource begins to behave otherwise.
    Behave(Resource, Manner),
    /// Somebody says that one of the latest tokens was refused, or accepted.
    Reject(Index),
    Accept(Index),
    /// The API isn't ready, or is again.
    Busy(bool),
    /// Time passes.
    Pass(i64, Move),
    /// It passes just up to what the clocks decide on next, or nearly.
    PassUpTo {
        edge: Index,
        is_early: bool,
        way: Move,
    },
    /// The wall clock is set.
    SetWall(i64),
    Close,
}

/// Which clocks go on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Move {
    All,
    /// The timers stand still: their runtime isn't driven.
    NoTimer,
    /// Only the wall clock: the machine sleeps.
    Wall,
}

pub(super) fn any_rules(attempts: u32) -> impl Strategy<Value = Rules> {
    let window = || {
        let set = select(vec![0, 8_000, 60_000, 400_000]);
        option::weighted(0.2, set)
    };
    let floor = prop_oneof![5 => Just(1_000), 1 => Just(0), 2 => Just(10_000)];
    (floor, window(), window()).prop_map(move |(floor, refresh_before, expiry_margin)| Rules {
        attempts,
        floor,
        refresh_before,
        expiry_margin,
    })
}

/// What kind of a day it is. No one kind leads everywhere: the budget is exceeded for the third time only if
/// nothing is accepted for long, and a backoff is long only if nothing is issued.
#[derive(Clone, Copy, Debug)]
struct Day {
    /// How many of the tokens are new, and how many of them the API accepts.
    new: f64,
    good: f64,
    /// How often the source issues a token, and how often it fails.
    issues: u32,
    failures: u32,
    /// How often its tokens are good for no longer than a second or two.
    shorts: u32,
    /// How often the API isn't ready, and how often no timer runs.
    busy: u32,
    stalls: u32,
    /// How often a resource begins to refuse what the API accepts, and ceases to, and how often a token
    /// is revoked.
    strange: u32,
    revoked: u32,
    requests: u32,
}

const FAIR: Day = Day {
    new: 0.9,
    good: 0.8,
    issues: 30,
    failures: 6,
    shorts: 3,
    busy: 3,
    stalls: 1,
    strange: 1,
    revoked: 3,
    requests: 14,
};

/// Nothing is accepted, the source is down, no timer runs, tokens end before they are sent, some
/// resources refuse what others accept.
const DAYS: [Day; 6] = [
    FAIR,
    Day {
        new: 0.5,
        good: 0.0,
        ..FAIR
    },
    Day {
        issues: 4,
        failures: 30,
        ..FAIR
    },
    Day {
        issues: 8,
        stalls: 20,
        ..FAIR
    },
    Day {
        good: 0.4,
        shorts: 30,
        busy: 15,
        ..FAIR
    },
    Day {
        good: 1.0,
        shorts: 0,
        strange: 8,
        revoked: 3,
        requests: 90,
        ..FAIR
    },
];

/// In the end, and not in every case, the cache is closed; and it goes on.
pub(super) fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    select(DAYS.to_vec()).prop_flat_map(|day| {
        let after = option::weighted(0.4, vec(any_step(day), 0..12));
        (vec(any_step(day), 1..100), after).prop_map(|(mut steps, after)| {
            if let Some(after) = after {
                steps.push(Step::Close);
                steps.extend(after);
            }
            steps
        })
    })
}

fn any_step(day: Day) -> impl Strategy<Value = Step> {
    use Step::*;
    let rarely = || prop::bool::weighted(0.15);
    let good = prop::bool::weighted(day.good);
    let index = || any::<Index>();
    prop_oneof![
        10 => rarely().prop_map(|is_late| RequestToken { is_late }),
        3 => rarely().prop_map(|is_late| Refresh { is_late }),
        day.requests => (any_resource(), rarely(), any::<bool>()).prop_map(
            |(resource, is_late, is_clone)| Request { resource, is_late, is_clone }
        ),
        3 => index().prop_map(Poll),
        2 => index().prop_map(Drop),
        day.requests / 2 => (index(), select(vec![200, 401, 401, 500]))
            .prop_map(|(call, status)| Respond { call, status }),
        day.issues => (index(), any_lifetime(day), prop::bool::weighted(day.new), good).prop_map(
            |(fetch, lifetime, is_new, is_good)| Issue { fetch, lifetime, is_new, is_good }
        ),
        day.failures => (index(), any_kind(), option::weighted(0.2, any_wait())).prop_map(
            |(fetch, kind, retry_after)| Fail { fetch, kind, retry_after }
        ),
        1 => index().prop_map(Panic),
        day.revoked => index().prop_map(Revoke),
        1 => index().prop_map(Admit),
        day.strange => (any_resource(), any_manner()).prop_map(
            |(resource, manner)| Behave(resource, manner)
        ),
        3 => index().prop_map(Reject),
        1 => index().prop_map(Accept),
        day.busy => any::<bool>().prop_map(Busy),
        5 => (any_wait(), any_move(day)).prop_map(|(span, way)| Pass(span, way)),
        16 => (index(), any::<bool>(), any_move(day)).prop_map(
            |(edge, is_early, way)| PassUpTo { edge, is_early, way }
        ),
        2 => select(vec![-86_400, -3_600, -60, -10, -1, 1, 10, 60, 3_600])
            .prop_map(|seconds| SetWall(seconds * 1_000)),
    ]
}

fn any_move(day: Day) -> impl Strategy<Value = Move> {
    prop_oneof![8 => Just(Move::All), day.stalls => Just(Move::NoTimer), 1 => Just(Move::Wall)]
}

fn any_resource() -> impl Strategy<Value = Resource> {
    (prop::bool::weighted(0.3), 0..2_usize).prop_map(|(is_slow, nth)| Resource { is_slow, nth })
}

fn any_manner() -> impl Strategy<Value = Manner> {
    select(vec![Manner::Fair, Manner::RefusesAll, Manner::ByTurns])
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![3 => Just(Kind::Transient), 2 => Just(Kind::Unknown), 1 => Just(Kind::Permanent)]
}

/// From milliseconds to hours, in even ones.
fn any_wait() -> impl Strategy<Value = i64> {
    prop_oneof![
        1 => 1..500_i64,
        2 => 500..5_000_i64,
        3 => 5_000..40_000_i64,
        2 => 40_000..400_000_i64,
        1 => 400_000..8_000_000_i64,
    ]
    .prop_map(|wait| wait * 2)
}

fn any_lifetime(day: Day) -> impl Strategy<Value = Lifetime> {
    // A fourth of it is in even milliseconds too.
    let span = prop_oneof![
        1 => Just(0),
        day.shorts => 1..200_i64,
        2 => 200..8_000_i64,
        4 => 8_000..150_000_i64,
        4 => Just(3_600_000 / 8),
    ];
    let span = span.prop_map(|eighths| eighths * 8);
    prop_oneof![
        1 => Just(Lifetime::Endless),
        6 => span.clone().prop_map(Lifetime::In),
        2 => span.prop_map(|span| Lifetime::Dated(span - 8)),
    ]
}
