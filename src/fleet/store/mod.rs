//! Where processes share their tokens.
//!
//! A store keeps bytes by key, and lets one process at a time fetch. It gets only sealed bytes, and what
//! it returns isn't trusted.

pub(crate) mod token_store;

#[cfg(feature = "file")]
pub(crate) mod file;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis_connection;

#[cfg(feature = "redis")]
pub(crate) mod redis;
