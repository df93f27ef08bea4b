//! Every interleaving of threads in the single flight, the state machine and the published state.
//!
//! The crate's own files are compiled here unchanged, with [loom](https://docs.rs/loom) in place of
//! `src/sync.rs`. At each lock, atomic operation and wake-up, another thread may run first. A
//! scenario runs once for each such interleaving. A thread that is never woken is reported as a
//! deadlock.
//!
//! ```sh
//! cargo test -p tower-auth-model                          # every interleaving
//! cargo test -p tower-auth-model --no-default-features    # many times
//! cargo +nightly miri test -p tower-auth-model --no-default-features
//! ```
//!
//! `std::sync::Arc`, `arc_swap` and the wakers of a runtime are assumed to be correct.

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

mod published_state_races;
mod single_flight_races;

// The tested modules, and the files that they import. The scenarios use only a part of them.
#[allow(dead_code)]
#[path = "../../../src/backoff.rs"]
mod backoff;
#[allow(dead_code)]
#[path = "../../../src/clock.rs"]
mod clock;
#[allow(dead_code)]
#[path = "../../../src/error.rs"]
mod error;
#[allow(dead_code)]
#[path = "../../../src/origin.rs"]
mod origin;
#[allow(dead_code)]
#[path = "../../../src/quota.rs"]
mod quota;
#[allow(dead_code, unused_imports)]
#[path = "../../../src/sanitize.rs"]
mod sanitize;

#[allow(dead_code)]
#[path = "../../../src/cache"]
mod cache {
    pub(crate) mod expiry;
    pub(crate) mod failure_backoff;
    pub(crate) mod published_state;
    pub(crate) mod quota_tracker;
    pub(crate) mod refusal_budget;
    pub(crate) mod refusal_evidence;
    pub(crate) mod refusal_history;
    pub(crate) mod single_flight;
    pub(crate) mod state_machine;
    pub(crate) mod status;
}

#[allow(dead_code)]
#[path = "../../../src/challenge"]
mod challenge {
    pub(crate) mod www_authenticate;
}

#[allow(dead_code)]
#[path = "../../../src/source"]
mod source {
    pub(crate) mod token_source;
}

#[allow(dead_code)]
#[path = "../../../src/token"]
mod token {
    pub(crate) mod extra_fields;
    pub(crate) mod header_value;
    pub(crate) mod issued_token;
    pub(crate) mod per_request;
    pub(crate) mod place;
    pub(crate) mod request_head;
    pub(crate) mod secret_json;
}

/// The sentence that a scenario proves, and the function that runs the scenario.
type Scenario = (&'static str, fn());

macro_rules! scenarios {
    ($($scenario:ident),* $(,)?) => {
        &[$((stringify!($scenario), $scenario)),*]
    };
}
use scenarios;

fn main() -> ExitCode {
    let scenarios = single_flight_races::ALL
        .iter()
        .chain(published_state_races::ALL);
    let trial = |&(name, run): &Scenario| {
        Trial::test(name, move || {
            run();
            Ok(())
        })
    };
    libtest_mimic::run(&Arguments::from_args(), scenarios.map(trial).collect()).exit_code()
}
