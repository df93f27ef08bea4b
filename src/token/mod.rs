//! An issued credential: how it goes on a request, and what is known of its end.

pub(crate) mod per_request;

pub(crate) mod issued_token;

pub(crate) mod jwt;
