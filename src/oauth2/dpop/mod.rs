//! Tokens that are bound to a key, with a proof on each request (RFC 9449).

#[cfg(feature = "dpop")]
pub(crate) mod dpop_key;

#[cfg(feature = "dpop")]
pub(crate) mod proof;
