//! Processes that share a token: what they share it by, and where it is kept.

pub(crate) mod codec;
pub(crate) mod keyring;

pub(crate) mod store;

pub(crate) mod sharing;
