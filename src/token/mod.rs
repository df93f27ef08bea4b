//! Credentials: where and how each goes on a request, and when it expires.
//!
//! A [`Token`](crate::Token) is the same for all requests, or a [`PerRequestCredential`] makes a credential
//! for each request: a signature, for example.

pub(crate) mod place;

pub(crate) mod header_value;

pub(crate) mod request_head;

pub(crate) mod per_request;

pub(crate) mod issued_token;

pub(crate) mod jwt;

pub use per_request::{Applied, Feedback, PerRequestCredential};
pub use request_head::RequestHead;
