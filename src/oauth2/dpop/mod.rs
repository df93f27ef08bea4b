//! Tokens that are bound to a key (RFC 9449). Each request with such a token contains a proof.

pub(crate) mod dpop_key;

pub(crate) mod proof;
