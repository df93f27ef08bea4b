//! No source leaves a secret in freed memory. An allocator looks into each block that is freed: by
//! every source, in the cache and in the layer, with every kind of response.
//!
//! The servers are in the same process and leave no copies. So each copy that is found is a copy of
//! this crate, or of a crate that gets a secret from this crate. `other_crates` shows which crates
//! leave copies.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api_keys;
mod fleets;
mod grants;
#[path = "../it/support/keys.rs"]
#[expect(dead_code, reason = "these tests need only some of the keys")]
mod keys;
mod logins;
mod other_crates;
mod planted;
mod responses;
mod server;
mod watched;
