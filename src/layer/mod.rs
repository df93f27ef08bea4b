//! The life of one request.

pub(crate) mod body;
pub(crate) mod query;

pub(crate) mod auth_request;

pub(crate) mod redirects;

pub(crate) mod allowed_origins;
pub(crate) mod refusal;

pub(crate) mod settings;

pub(crate) mod attach;

pub(crate) mod future;

pub(crate) mod service;

pub(crate) mod auth_layer;

#[cfg(feature = "reqwest-middleware")]
pub(crate) mod reqwest_middleware;
