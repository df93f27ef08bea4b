//! 1,000 tasks on two threads send a request. There is no token, and the source fails after 10 ms.
//! Measures how many fetches this costs, and the time until the last error.

use std::time::{Duration, Instant};

use super::{Effort, figure, milliseconds, runtime};
use crate::client::Call;
use crate::contenders::{Contender, Visitor, all};
use crate::issuer::{Issuer, Terms};
use crate::report::{Column, Part};

pub fn ask(effort: Effort) -> Vec<Column> {
    let mut failures = Failures {
        callers: effort.of(1_000, 100),
        fetches: Vec::new(),
        walls: Vec::new(),
    };
    all(&mut failures);
    vec![
        Column {
            part: Part::Failing,
            head: "fetches".into(),
            cells: failures.fetches,
        },
        Column {
            part: Part::Failing,
            head: "the last error after".into(),
            cells: failures.walls,
        },
    ]
}

struct Failures {
    callers: usize,
    fetches: Vec<(&'static str, String)>,
    walls: Vec<(&'static str, String)>,
}

impl Visitor for Failures {
    fn visit<C: Contender>(&mut self) {
        if !C::FETCHES {
            return;
        }
        let runtime = runtime(2);
        let issuer = Issuer::new(Terms {
            takes: Duration::from_millis(10),
            fails: true,
            ..Terms::DAY
        });
        let (asked, callers) = (issuer.clone(), self.callers);
        let all = runtime.spawn(async move {
            let call = C::new(&asked).await.lean();
            let start = Instant::now();
            let mut tasks = Vec::with_capacity(callers);
            for _ in 0..callers {
                let mut call = call.clone();
                tasks.push(tokio::spawn(async move { call.call().await }));
            }
            for task in tasks {
                let answer = task.await.expect("no panic");
                assert!(answer.is_err(), "{} has a token from nowhere", C::NAME);
            }
            start.elapsed()
        });
        let wall = runtime.block_on(all).expect("no panic").as_secs_f64() * 1e3;
        let fetches = issuer.fetches() as f64;
        self.fetches.push((C::NAME, figure(fetches, "")));
        self.walls.push((C::NAME, milliseconds(wall)));
    }
}
