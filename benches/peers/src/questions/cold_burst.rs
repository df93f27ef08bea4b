//! 10,000 tasks on two threads send a request while there is no token. Measures how many fetches of
//! 50 ms this costs, and the time until the last response.

use std::time::{Duration, Instant};

use super::{Effort, figure, median, milliseconds, runtime};
use crate::client::Call;
use crate::contenders::{Contender, Visitor, all};
use crate::issuer::{Issuer, Terms};
use crate::report::{Column, Part};

pub fn ask(effort: Effort) -> Vec<Column> {
    let mut bursts = Bursts {
        times: effort.of(9, 1),
        fetches: Vec::new(),
        walls: Vec::new(),
    };
    all(&mut bursts);
    let column = |head: &str, cells| Column {
        part: Part::Empty,
        head: head.into(),
        cells,
    };
    vec![
        column("fetches", bursts.fetches),
        column("the last response after", bursts.walls),
    ]
}

const CALLERS: usize = 10_000;

struct Bursts {
    times: usize,
    fetches: Vec<(&'static str, String)>,
    walls: Vec<(&'static str, String)>,
}

impl Visitor for Bursts {
    fn visit<C: Contender>(&mut self) {
        if !C::FETCHES {
            return;
        }
        let (fetches, walls): (Vec<_>, Vec<_>) = (0..self.times).map(|_| burst::<C>()).unzip();
        let (fetches, wall) = (median(fetches), median(walls));
        self.fetches.push((C::NAME, figure(fetches, "")));
        self.walls.push((C::NAME, milliseconds(wall)));
    }
}

/// Returns the number of fetches, and the milliseconds until the last response.
fn burst<C: Contender>() -> (f64, f64) {
    let runtime = runtime(2);
    let issuer = Issuer::new(Terms {
        takes: Duration::from_millis(50),
        ..Terms::DAY
    });
    let asked = issuer.clone();
    let all = runtime.spawn(async move {
        let call = C::new(&asked).await.lean();
        let start = Instant::now();
        let mut tasks = Vec::with_capacity(CALLERS);
        for _ in 0..CALLERS {
            let mut call = call.clone();
            tasks.push(tokio::spawn(async move { call.call().await }));
        }
        for task in tasks {
            task.await.expect("no panic").expect("an answer");
        }
        start.elapsed()
    });
    let wall = runtime.block_on(all).expect("no panic");
    (issuer.fetches() as f64, wall.as_secs_f64() * 1e3)
}
