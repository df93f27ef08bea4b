//! A client of an authorization server: its authentication and its requests.

pub(crate) mod params;

pub(crate) mod client_auth;

pub(crate) mod endpoint;

pub(crate) mod oauth2_client;
