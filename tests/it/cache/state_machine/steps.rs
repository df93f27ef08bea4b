//! The random steps of a trial. A [`Day`] says how likely each step is.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::model::{Kind, Lifetime, Manner, Resource, Rules};

/// The next event. An impossible event, such as a result without a fetch, changes nothing.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A caller asks for a token. A late caller is not polled again until `Poll`.
    RequestToken {
        is_late: bool,
    },
    /// A caller asks for a new token.
    Refresh {
        is_late: bool,
    },
    /// A caller sends a request through the client or through a clone. A slow resource responds
    /// when the test says so. All other resources respond at once.
    Request {
        resource: Resource,
        is_late: bool,
        is_clone: bool,
    },
    /// A caller is polled, whether it is late or not.
    Poll(Index),
    /// A caller is dropped.
    Drop(Index),
    /// The slow resource responds.
    Respond {
        call: Index,
        status: u16,
    },
    /// The source issues a new token, or the last token again. The API refuses this token unless
    /// `is_good`.
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
    /// From now on the API refuses (`Revoke`) or accepts (`Admit`) one of the latest tokens.
    Revoke(Index),
    Admit(Index),
    /// From now on the resource treats tokens in this manner.
    Behave(Resource, Manner),
    /// The user rejects or accepts one of the latest tokens.
    Reject(Index),
    Accept(Index),
    /// The API becomes busy or ready.
    Busy(bool),
    Pass(i64, Move),
    /// Time passes up to an event that depends on the clocks, or almost up to it.
    PassUpTo {
        edge: Index,
        is_early: bool,
        way: Move,
    },
    SetWall(i64),
    Close,
}

/// Which clocks move.
#[derive(Clone, Copy, Debug)]
pub(super) enum Move {
    All,
    /// The clocks move, but the timers don't, because nobody drives the runtime.
    NoTimer,
    /// Only the wall clock moves, because the machine is suspended.
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

/// A set of probabilities. No single set reaches every state. The backoff grows only while no token
/// is issued. The budget is exceeded a third time only if the API accepts no token for a long time.
#[derive(Clone, Copy, Debug)]
struct Day {
    /// `new` is the share of issued tokens that are new. `good` is the share of new tokens that the
    /// API accepts.
    new: f64,
    good: f64,
    /// How often the source issues a token, and how often the source fails.
    issues: u32,
    failures: u32,
    /// How often a token lasts only one or two seconds.
    shorts: u32,
    /// How often the API is busy, and how often the timers don't run.
    busy: u32,
    stalls: u32,
    /// How often a resource changes its manner, and how often a token is revoked.
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

/// The first day is fair. On the others, in this order:
///
/// - nothing is accepted
/// - the source is down
/// - no timer runs
/// - tokens expire before they are sent
/// - some resources refuse what others accept
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

/// Generates steps. In some cases the steps close the cache, and more steps follow.
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

/// Generates an even number of milliseconds, up to several hours.
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
    // Spans are multiples of 8 ms, so a quarter of a span is even.
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
