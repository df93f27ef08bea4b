//! The life of one request: from attaching a credential to the response for the caller.

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

pub(crate) mod attach;

pub(crate) mod local_credential;

pub(crate) mod request_state;

mod response_outcome;

pub(crate) mod future;

pub(crate) mod service;

pub(crate) mod auth_layer;

#[cfg(feature = "reqwest-middleware")]
pub(crate) mod reqwest_middleware;
