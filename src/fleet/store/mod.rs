//! The stores through which processes share tokens.
//!
//! A store keeps bytes by key, and lets one process at a time fetch. A store gets only sealed bytes,
//! and the cache doesn't trust bytes from the store.

pub(crate) mod token_store;

#[cfg(feature = "file")]
pub(crate) mod file;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis_connection;

#[cfg(feature = "redis")]
pub(crate) mod redis;
