//! Runs the program as a process, against servers on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod failures;
mod output;
mod readme;
mod settings;
mod store;

mod support;
