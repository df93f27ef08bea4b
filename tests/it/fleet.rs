//! Processes that share a token, and the stores by which they do.

mod codec;
mod faults;
mod keyring;
mod processes;
mod sharing;
mod sizing;
mod store;
