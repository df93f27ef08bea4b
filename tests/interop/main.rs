//! The crate against servers that others wrote. `bash tests/run.sh` installs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod django_oauth;
#[path = "../it/free_port.rs"]
mod free_port;
mod person;
mod process;
mod process_ends;
mod servers;
