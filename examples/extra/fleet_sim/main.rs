//! Measures how many fetches a fleet makes, with and without a shared store. The fleets have 10,
//! 1,000 and 100,000 processes. Real caches run for an hour of virtual time.
//!
//! ```text
//! cargo run --release -p tower-auth-examples --example fleet_sim
//! cargo run --release -p tower-auth-examples --example fleet_sim -- --processes 10,1000 --svg fleet_sim.svg
//! ```
//!
//! The processes start within a minute, as in a deployment. Tokens last 10 min. A fetch takes 250
//! ms, and a call to the store takes 1 to 2 ms. Every process keeps its token fresh, even without
//! requests. After 30 min a server refuses the token of each process.
//!
//! The program returns the exit code 1 if a fleet with a store fetches more tokens than one process
//! needs.
#![allow(clippy::print_stdout)]

mod chart;
mod hour;
#[path = "../../support/report.rs"]
#[allow(unreachable_pub, reason = "all examples share it")]
mod report;
#[path = "../support/thousands.rs"]
mod thousands;
mod world;

use std::path::PathBuf;
use std::time::Instant;

use hour::{Hour, Scene};
use report::Report;

struct Options {
    processes: Vec<usize>,
    svg: Option<PathBuf>,
}

fn main() -> Result<(), Report> {
    let options = options()?;
    println!(
        "{:>9}  {:6}  {:>9}  {:>6}  {:>9}  {:>12}  {:>6}  {:>7}",
        "processes", "store", "fetches/h", "peak/s", "store ops", "each a token", "peak/s", "took"
    );
    let mut hours = Vec::new();
    for &processes in &options.processes {
        for shares in [false, true] {
            let start = Instant::now();
            let hour = Scene { processes, shares }.run()?;
            print(&hour, start);
            hours.push(hour);
        }
    }
    if let Some(file) = &options.svg {
        chart::draw(file, &hours)?;
    }
    match hours
        .iter()
        .find(|hour| hour.shares && hour.fetches > Hour::NEEDED)
    {
        Some(hour) => Err(format!(
            "{} processes have fetched {} tokens",
            hour.processes, hour.fetches
        )
        .into()),
        None => Ok(()),
    }
}

fn print(hour: &Hour, start: Instant) {
    let store = if hour.shares { "shared" } else { "none" };
    println!(
        "{:>9}  {store:6}  {:>9}  {:>6}  {:>9}  {:>12.2}  {:>6}  {:>5.1} s",
        hour.processes,
        hour.fetches,
        hour.peak,
        hour.operations,
        hour.operations_each(),
        hour.operations_peak,
        start.elapsed().as_secs_f64(),
    );
}

fn options() -> Result<Options, Report> {
    let mut options = Options {
        processes: vec![10, 1_000, 100_000],
        svg: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .ok_or_else(|| format!("`{name}` needs a value"))?;
        match name.as_str() {
            "--processes" => {
                let numbers = value.split(',').map(str::parse).collect::<Result<_, _>>();
                options.processes = numbers?;
            }
            "--svg" => options.svg = Some(PathBuf::from(value)),
            name => return Err(format!("there is no option `{name}`").into()),
        }
    }
    Ok(options)
}
