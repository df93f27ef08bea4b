//! How the crate itself sends HTTP requests: to which URLs, for how long, and which parts of a
//! response it reads.

mod content_coding;
#[cfg(not(feature = "reqwest"))]
mod default_transport;
mod exchange;
#[cfg(feature = "reqwest")]
mod proxies;
mod quota_headers;
#[cfg(feature = "reqwest")]
mod reqwest_transport;
mod response_format;
mod secure_url;
mod token_lifetime;
mod token_response;
