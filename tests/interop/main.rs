//! The crate against servers that others wrote. `bash tests/run.sh` installs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../it/free_port.rs"]
mod free_port;
mod process;
mod process_ends;
