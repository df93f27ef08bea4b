//! Tests the layer under many failures at once. The authorization server fails in many ways, on a
//! schedule. Tokens are revoked, and signing keys are rotated. The 2,000 callers should notice
//! nothing.
//!
//! ```text
//! cargo run --release -p tower-auth-examples --example chaos
//! cargo run --release -p tower-auth-examples --example chaos -- --seconds 10 --callers 500 --svg chaos.svg
//! ```
//!
//! The program prints the results. It returns the exit code 1 if one of these conditions doesn't
//! hold:
//!
//! 1. No request failed while the cache had a valid token.
//! 2. No token was sent after it expired.
//! 3. The authorization server got no more requests than the settings allow.
//! 4. No request was delayed beyond the time limits of the fetches that it may wait for.
//! 5. No task is left after everything is dropped.
#![allow(clippy::print_stdout)]

mod api;
mod bound;
mod callers;
mod client;
mod idp;
mod options;
mod pace;
mod phases;
#[path = "../../support/report.rs"]
#[allow(unreachable_pub, reason = "all examples share it")]
mod report;
mod schedule;
mod summary;
#[path = "../support/thousands.rs"]
mod thousands;
mod timeline;
mod truth;
mod verdict;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use bound::Bound;
use client::Client;
use idp::AuthorizationServer;
use options::Options;
use pace::Pace;
use report::Report;
use schedule::Schedule;
use truth::Truth;
use verdict::Verdict;

/// The start of the run, from which all times are counted.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn now(self) -> Duration {
        self.0.elapsed()
    }

    /// Waits until `time`, or returns at once if `time` has passed.
    pub(crate) async fn until(self, time: Duration) {
        tokio::time::sleep_until((self.0 + time).into()).await;
    }
}

/// The records of a run, after its end.
pub(crate) struct Run {
    pub(crate) schedule: Schedule,
    pub(crate) pace: Pace,
    pub(crate) truth: Arc<Truth>,
    pub(crate) calls: Vec<idp::Call>,
    pub(crate) requests: Vec<callers::Request>,
    pub(crate) phases: Vec<phases::Spell>,
    pub(crate) leaked: usize,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Report> {
    let Some(options) = Options::from_args()? else {
        println!("{}", options::USAGE);
        return Ok(ExitCode::SUCCESS);
    };
    println!(
        "{} callers for {} s, seed {}",
        options.callers, options.seconds, options.seed
    );
    let run = run(&options).await?;
    let verdict = Verdict::of(&run, &Bound::of(&run.schedule, &run.pace));
    summary::print(&run, &verdict);
    if let Some(path) = &options.svg {
        timeline::draw(&run, path)?;
        println!("\nThe timeline is in {}.", path.display());
    }
    Ok(if verdict.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn run(options: &Options) -> Result<Run, Report> {
    let mut random = fastrand::Rng::with_seed(options.seed);
    let length = Duration::from_secs(options.seconds);
    let schedule = Schedule::scaled_to(length, &mut random);
    let pace = Pace::scaled_to(length);

    let watch = Stopwatch(Instant::now());
    let truth = Arc::new(Truth::new(watch, &pace));
    let server =
        AuthorizationServer::start(watch, Arc::clone(&truth), schedule.clone(), &pace).await?;
    let tasks_before = Handle::current().metrics().num_alive_tasks();

    let client = Client::new(server.token_url(), watch, Arc::clone(&truth), &pace)?;
    let (requests, phases, ()) = tokio::join!(
        callers::run(&client, watch, &truth, options.callers, length, &mut random),
        client.watch(length),
        spoil_tokens(&schedule, watch, &truth),
    );
    client.close().await;
    let leaked = tasks_beyond(tasks_before).await;

    Ok(Run {
        schedule,
        pace,
        truth,
        calls: server.stop(),
        requests,
        phases,
        leaked,
    })
}

/// Rotates the keys and revokes tokens as scheduled.
async fn spoil_tokens(schedule: &Schedule, watch: Stopwatch, truth: &Truth) {
    for (time, event) in schedule.events() {
        watch.until(time).await;
        match event {
            schedule::Event::Rotation => truth.rotate_keys(),
            schedule::Event::Revocation => truth.revoke_current(),
        }
    }
}

/// Returns the number of tasks now, minus `before`. Waits up to 10 s for the additional tasks to
/// end. Tasks of dropped connections take a moment to end. A refresh in flight may run into its
/// timeout.
async fn tasks_beyond(before: usize) -> usize {
    let long_enough = Instant::now() + Duration::from_secs(10);
    loop {
        let beyond = Handle::current()
            .metrics()
            .num_alive_tasks()
            .saturating_sub(before);
        if beyond == 0 || Instant::now() > long_enough {
            return beyond;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
