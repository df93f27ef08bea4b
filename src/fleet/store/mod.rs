//! The stores through which processes share tokens.
//!
//! A store keeps bytes by key, and lets one process at a time fetch. It gets sealed bytes only, and
//! the cache doesn't trust the bytes that it returns.

pub(crate) mod token_store;

#[cfg(feature = "file")]
pub(crate) mod file;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis_connection;

#[cfg(feature = "redis")]
pub(crate) mod redis;
