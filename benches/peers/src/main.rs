//! `cargo run --release --manifest-path benches/peers/Cargo.toml` asks all questions, prints the
//! tables and draws `benches/peers/peers.svg`. An argument can name a question; then the program
//! asks only that question.
//!
//! - `-- --quick`: runs for 30 s and draws no picture; the figures are not meaningful
//! - `-- --results`: also writes the tables to `benches/peers/results.md`
//! - `-- --readme`: writes the tables into `benches/README.md`, between its markers
//!
//! Reliable figures need a machine that does nothing else; the load is printed with the figures.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use tower_auth_peers::contenders::kube;
use tower_auth_peers::questions::{ALL, Effort, Question};
use tower_auth_peers::{picture, report};

fn main() -> ExitCode {
    if let Some(exit) = kube::be_the_plugin() {
        return exit;
    }
    let (flags, names): (Vec<_>, Vec<_>) = std::env::args()
        .skip(1)
        .partition(|arg| arg.starts_with("--"));
    let has = |flag: &str| flags.iter().any(|given| given == flag);
    let is_known = |flag: &String| ["--quick", "--results", "--readme"].contains(&flag.as_str());
    let exists = |name: &String| ALL.iter().any(|question| question.name == name);
    let is_whole = names.is_empty() && !has("--quick");
    let is_kept = has("--results") || has("--readme");
    if !flags.iter().all(is_known) || !names.iter().all(exists) || (is_kept && !is_whole) {
        let names: Vec<_> = ALL.iter().map(|question| question.name).collect();
        eprintln!(
            "usage: [--quick] [question…] or [--results] [--readme], for which everything is asked at length\n\
             questions: {}",
            names.join(" ")
        );
        return ExitCode::FAILURE;
    }

    let load = report::load();
    let effort = Effort {
        quick: has("--quick"),
    };
    let is_asked =
        |question: &&Question| names.is_empty() || names.iter().any(|name| name == question.name);
    let mut columns = Vec::new();
    for question in ALL.iter().filter(is_asked) {
        let start = Instant::now();
        columns.extend((question.ask)(effort));
        eprintln!("{}: {:.1?}", question.name, start.elapsed());
    }
    let tables = report::markdown(&columns, None, load);
    println!("{tables}");

    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    if is_whole {
        let picture = picture::svg(&tables).expect("the picture can be drawn");
        std::fs::write(here.join("peers.svg"), picture).expect("the picture can be written");
    }
    if has("--results") {
        let results = report::markdown(&columns, Some("peers.svg"), load);
        std::fs::write(here.join("results.md"), results).expect("the results can be written");
    }
    if has("--readme") {
        let results = report::markdown(&columns, Some("peers/peers.svg"), load);
        report::put_into_readme(&results);
    }
    ExitCode::SUCCESS
}
