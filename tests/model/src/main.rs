//! Every order in which threads can meet in the flight, the token's state and the hub.
//!
//! The crate's own files are compiled here as they are, with [loom](https://docs.rs/loom) behind
//! the names of `src/sync.rs`: each lock, each atomic and each wake-up is a place where another
//! thread may come in between, and a scenario is run once for each way in which that can happen.
//! A thread that nobody will ever wake is reported as a deadlock.
//!
//! ```sh
//! cargo test -p tower-auth-model                          # every order
//! cargo test -p tower-auth-model --no-default-features    # many times
//! cargo +nightly miri test -p tower-auth-model --no-default-features
//! ```
//!
//! `std::sync::Arc`, `arc_swap` and the wakers of a runtime are taken as correct.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

#[cfg(feature = "loom")]
mod sync;
#[cfg(not(feature = "loom"))]
#[path = "../../../src/sync.rs"]
mod sync;

#[cfg_attr(feature = "loom", path = "threads/every_order.rs")]
#[cfg_attr(not(feature = "loom"), path = "threads/many_times.rs")]
mod threads;

mod flight_races;
mod hub_races;

// Under test: what `hub` stands on. The scenarios use a part of it.
#[path = "../../../src/backoff.rs"]
mod backoff;
#[allow(dead_code)]
#[path = "../../../src/challenge.rs"]
mod challenge;
#[allow(dead_code)]
#[path = "../../../src/clock.rs"]
mod clock;
#[allow(dead_code)]
#[path = "../../../src/error.rs"]
mod error;
#[path = "../../../src/flight.rs"]
mod flight;
#[allow(dead_code)]
#[path = "../../../src/freshness.rs"]
mod freshness;
#[path = "../../../src/hub.rs"]
mod hub;
#[allow(dead_code)]
#[path = "../../../src/latch.rs"]
mod latch;
#[allow(dead_code)]
#[path = "../../../src/ledger.rs"]
mod ledger;
#[allow(dead_code)]
#[path = "../../../src/present.rs"]
mod present;
#[allow(dead_code)]
#[path = "../../../src/quota.rs"]
mod quota;
#[allow(dead_code)]
#[path = "../../../src/quote.rs"]
mod quote;
#[allow(dead_code)]
#[path = "../../../src/setback.rs"]
mod setback;
#[allow(dead_code)]
#[path = "../../../src/source.rs"]
mod source;
#[allow(dead_code)]
#[path = "../../../src/state.rs"]
mod state;
#[allow(dead_code)]
#[path = "../../../src/status.rs"]
mod status;
#[allow(dead_code)]
#[path = "../../../src/token.rs"]
mod token;

/// A name, which is the sentence that it proves, and what runs it.
type Scenario = (&'static str, fn());

macro_rules! scenarios {
    ($($scenario:ident),* $(,)?) => {
        &[$((stringify!($scenario), $scenario)),*]
    };
}
use scenarios;

fn main() -> ExitCode {
    let scenarios = flight_races::ALL.iter().chain(hub_races::ALL);
    let trial = |&(name, run): &Scenario| {
        Trial::test(name, move || {
            run();
            Ok(())
        })
    };
    libtest_mimic::run(&Arguments::from_args(), scenarios.map(trial).collect()).exit_code()
}
