//! One binary for every behaviour, a file each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cache;
mod challenge;
mod client_credentials;
mod examples;
mod layer;
mod origins;
mod readiness;
mod refusals;
mod replay;
mod support;
mod token_reply;
mod token_server;
mod types;
