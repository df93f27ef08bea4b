//! Where processes share their tokens.
//!
//! A store keeps bytes by key and lets one process at a time fetch. It knows no tokens: what it keeps
//! is sealed before it gets it, and what it gives back is doubted.

pub(crate) mod token_store;

#[cfg(feature = "file")]
pub(crate) mod file;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis_connection;

#[cfg(feature = "redis")]
pub(crate) mod redis;
