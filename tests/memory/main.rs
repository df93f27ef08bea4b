//! No source leaves a secret in freed memory. The tests run every source in the cache and the
//! layer, with every kind of response. An allocator looks into each block that is freed.
//!
//! The servers are in the same process and leave no copies. So this crate made each copy that is
//! found, or a crate that got a secret from this crate. `other_crates` shows which crates leave
//! copies.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api_keys;
mod azure;
mod damaged;
mod fleets;
#[path = "../it/support/free_port.rs"]
mod free_port;
mod gcp;
mod grants;
#[path = "../it/support/keys.rs"]
#[expect(dead_code, reason = "these tests need only some of the keys")]
mod keys;
mod kubernetes;
mod logins;
mod other_crates;
mod planted;
mod platforms;
#[path = "../it/support/redis_server.rs"]
#[expect(dead_code, reason = "these tests only start and stop Redis")]
mod redis_server;
mod responses;
mod server;
mod vault;
mod watched;
