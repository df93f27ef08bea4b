//! Tokens that are bound to a key, with a proof on each request (RFC 9449).

pub(crate) mod dpop_key;

pub(crate) mod proof;
