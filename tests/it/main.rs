//! One binary for every behaviour, a file each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod abandoned;
mod allocations;
mod cache;
mod challenge;
mod client_credentials;
mod clients;
mod examples;
mod failure;
mod hostile;
mod keep_fresh;
mod latch;
mod layer;
mod log;
mod origins;
mod readiness;
mod refusals;
mod replay;
mod scenes;
mod secrets;
mod support;
mod token_reply;
mod token_server;
mod types;
mod wakers;
mod watching_changes;
mod watching_docs;
mod watching_logs;
#[cfg(feature = "metrics")]
mod watching_metrics;
mod watching_status;
mod windows;
