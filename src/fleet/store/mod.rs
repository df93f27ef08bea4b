//! The stores through which processes share tokens.
//!
//! A store keeps bytes by key, and lets only one process fetch at a time. A store gets only sealed
//! bytes. The cache doesn't trust the bytes that a store returns.

pub(crate) mod token_store;

#[cfg(feature = "file")]
pub(crate) mod file;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis_connection;

#[cfg(feature = "redis")]
pub(crate) mod redis;
