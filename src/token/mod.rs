//! Issued credentials: where and how each goes on a request, and when it expires.

pub(crate) mod place;

pub(crate) mod header_value;

pub(crate) mod request_head;

#[cfg_attr(
    not(all(feature = "cookies", feature = "dpop")),
    allow(dead_code, reason = "the implementations are behind features")
)]
pub(crate) mod per_request;

pub(crate) mod issued_token;

pub(crate) mod jwt;
