//! Processes that share a token: the store it is in, and the keys it is sealed with.

pub(crate) mod codec;
pub(crate) mod keyring;

pub(crate) mod store;

pub(crate) mod settings;
