//! Measures a request with a cached token.
//!
//! The figures are net: each contender sends the same requests to the same client, with the
//! credential and without the credential. These two ways alternate, in turns of 2,000 requests. All
//! contenders have their turns in each round. The result is the median of many rounds, so that
//! noise on the machine affects all contenders.

use std::time::Instant;

use tokio::runtime::Handle;
use tokio::task::unconstrained;

use super::{Effort, figure, median, runtime};
use crate::client::Call;
use crate::contenders::{Contender, Visitor, all};
use crate::issuer::{Issuer, Terms};
use crate::meeting::Meeting;
use crate::report::{Column, Part};

pub fn ask(effort: Effort) -> Vec<Column> {
    let times = side_by_side(1, effort.of(1_000, 20));
    let limit = times[0].1;
    let cell = |(name, time): (_, f64)| {
        let text = format!("{}, {:.1} ×", figure(time, " ns"), time / limit);
        (name, text)
    };
    vec![Column {
        part: Part::Cached,
        head: "1 thread".into(),
        cells: times.into_iter().map(cell).collect(),
    }]
}

/// The number of requests in a turn.
const TURN: u32 = 2_000;

/// Runs a turn. Returns the net nanoseconds per request.
type Turn = Box<dyn FnMut(&Meeting) -> f64>;

/// Returns the net nanoseconds per request for each contender. Each of the `threads` threads uses
/// its own clone.
pub fn side_by_side(threads: usize, rounds: usize) -> Vec<(&'static str, f64)> {
    let runtime = runtime(1);
    let mut racers = Racers(runtime.handle().clone(), Vec::new());
    all(&mut racers);
    let Racers(_, racers) = racers;
    let meeting = Meeting::of(threads);
    let one_thread = || {
        let mut turns: Vec<Turn> = racers.iter().map(|racer| (racer.turn)()).collect();
        let mut round = || {
            turns
                .iter_mut()
                .map(|turn| turn(&meeting))
                .collect::<Vec<_>>()
        };
        round();
        (0..rounds).map(|_| round()).collect::<Vec<_>>()
    };
    let rounds: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one_thread)).collect();
        let ended = running
            .into_iter()
            .map(|thread| thread.join().expect("a thread"));
        ended.flatten().collect()
    });
    let of = |at: usize| median(rounds.iter().map(|round| round[at]).collect());
    racers
        .iter()
        .enumerate()
        .map(|(at, racer)| (racer.name, of(at)))
        .collect()
}

struct Racer {
    name: &'static str,
    turn: Box<dyn Fn() -> Turn + Sync>,
}

struct Racers(Handle, Vec<Racer>);

impl Visitor for Racers {
    fn visit<C: Contender>(&mut self) {
        let Self(runtime, racers) = self;
        let handle = runtime.clone();
        let (credential, below) = runtime.block_on(async {
            let contender = C::new(&Issuer::new(Terms::DAY)).await;
            contender.lean().call().await.expect("a token in hand");
            (contender, C::lean_below())
        });
        let turn = move || {
            let (mut below, mut over) = (below.clone(), credential.lean());
            let handle = handle.clone();
            let turn = move |meeting: &Meeting| {
                let bare = time(&handle, meeting, &mut below);
                time(&handle, meeting, &mut over) - bare
            };
            Box::new(turn) as Turn
        };
        racers.push(Racer {
            name: C::NAME,
            turn: Box::new(turn),
        });
    }
}

fn time(handle: &Handle, meeting: &Meeting, call: &mut impl Call) -> f64 {
    meeting.wait();
    // `unconstrained` stops Tokio from making the task yield now and then to other tasks. There are
    // no other tasks.
    let start = Instant::now();
    handle.block_on(unconstrained(async {
        for _ in 0..TURN {
            call.call().await.expect("a token in hand");
        }
    }));
    start.elapsed().as_secs_f64() * 1e9 / f64::from(TURN)
}
