//! The client: who it is to the authorization server, and how it asks for tokens.

pub(crate) mod params;

pub(crate) mod client_auth;

pub(crate) mod endpoint;

pub(crate) mod oauth2_client;
