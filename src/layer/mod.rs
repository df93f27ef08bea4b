//! The life of one request: from attaching a credential to the response for the caller.
//!
//! ```text
//!   Auth::call ─┬─ as usual: the current token, the usual origin ──▶ SentAsUsual, no box
//!               ├─ carefully: another origin, the caller's own header, … ──▶ the same, or passed unchanged
//!               └─ no fresh token, a credential for this request, refusals of late ──▶ RequestState, boxed
//! ```
//!
//! A usual response passes at once: a success, with a token that was accepted before. All others go through
//! `response_classification`, which says what a response is, and `response_outcome`, which acts on it.

pub(crate) mod body;
pub(crate) mod query;

pub(crate) mod auth_request;
pub(crate) mod auth_response;

#[cfg(feature = "reqwest")]
pub(crate) mod reqwest_adapter;

pub(crate) mod allowed_origins;

pub(crate) mod not_replayed;

pub(crate) mod response_classification;

pub(crate) mod response_origin;

pub(crate) mod settings;

pub(crate) mod local_credential;

pub(crate) mod attach;

pub(crate) mod request_state;

mod response_outcome;

pub(crate) mod future;

pub(crate) mod service;

pub(crate) mod auth_layer;

#[cfg(feature = "reqwest-middleware")]
pub(crate) mod reqwest_middleware;

pub use auth_request::{AuthRequest, RequestCopy};
pub use auth_response::AuthResponse;
pub use body::replay::Replay;
pub use future::ResponseFuture;
#[cfg(feature = "reqwest")]
pub use reqwest_adapter::ReqwestCopy;
#[cfg(feature = "reqwest-middleware")]
pub use reqwest_middleware::AuthMiddleware;
