//! The layer in front of an HTTP client, which attaches a credential to each request and handles
//! refusals.
//!
//! ```text
//! Auth::call
//!  ├─ usual origin, current token:
//!  │      SentAsUsual, not boxed
//!  ├─ unusual origin, caller's own header, …:
//!  │      SentAsUsual, or sent unchanged
//!  └─ no fresh token, per-request credential,
//!         recent refusals: RequestState, boxed
//! ```
//!
//! If a server accepted the token before, the layer immediately returns a response of success. For
//! any other response, `response_classification` decides what the response means.
//! `response_outcome` then decides what the layer does.

pub(crate) mod body;
pub(crate) mod query;

pub(crate) mod query_key;

pub(crate) mod auth_request;
pub(crate) mod auth_response;

#[cfg(feature = "reqwest")]
pub(crate) mod reqwest_adapter;

pub(crate) mod allowed_origins;

pub(crate) mod not_replayed;

pub(crate) mod response_classification;

pub(crate) mod response_origin;

pub(crate) mod call_error;

#[cfg(feature = "tonic")]
mod grpc_status;

pub(crate) mod settings;

pub(crate) mod local_credential;

mod without_key;

pub(crate) mod attach;

pub(crate) mod request_state;

mod response_outcome;

pub(crate) mod future;

pub(crate) mod service;

#[cfg(feature = "reqwest")]
mod reqwest_client;

pub(crate) mod clone_service;

pub(crate) mod auth_layer;

#[cfg(feature = "reqwest-middleware")]
pub(crate) mod reqwest_middleware;

pub use auth_request::{AuthRequest, RequestCopy};
pub use auth_response::AuthResponse;
pub use body::replay::Replay;
pub use call_error::CallError;
pub use clone_service::CloneService;
pub use future::ResponseFuture;
pub use query_key::QueryKey;
#[cfg(feature = "reqwest")]
pub use reqwest_adapter::ReqwestCopy;
#[cfg(feature = "reqwest-middleware")]
pub use reqwest_middleware::AuthMiddleware;
