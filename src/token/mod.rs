//! Credentials: where they go in a request, how they are attached, and when they expire.
//!
//! A [`Token`](crate::Token) is usually the same for all requests. But a [`PerRequestCredential`]
//! makes a credential for each request, such as a signature.

pub(crate) mod place;

pub(crate) mod header_value;

pub(crate) mod request_head;

pub(crate) mod per_request;

pub(crate) mod secret_json;

pub(crate) mod json_reader;

pub(crate) mod form;

pub(crate) mod spelling;

pub(crate) mod redact;

pub(crate) mod extra_fields;

pub(crate) mod issued_token;

pub(crate) mod known_tokens;

pub(crate) mod jwt;

pub(crate) mod unverified_claim;

pub use per_request::{Applied, Feedback, PerRequestCredential};
pub use request_head::RequestHead;
