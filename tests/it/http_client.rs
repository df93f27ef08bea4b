//! How the crate itself talks HTTP: where to, for how long, and what is read of a response.

#[cfg(not(feature = "reqwest"))]
mod default_transport;
mod exchange;
mod quota_headers;
#[cfg(feature = "reqwest")]
mod reqwest_transport;
mod secure_url;
mod token_response;
