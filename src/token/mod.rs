//! Credentials: where and how they are attached to a request, and when they expire.
//!
//! A [`Token`](crate::Token) is the same for all requests, unless its [`PerRequestCredential`]
//! makes a credential for each request, such as a signature.

pub(crate) mod place;

pub(crate) mod header_value;

pub(crate) mod request_head;

pub(crate) mod per_request;

pub(crate) mod issued_token;

pub(crate) mod jwt;

pub(crate) mod unverified_claim;

pub use per_request::{Applied, Feedback, PerRequestCredential};
pub use request_head::RequestHead;
