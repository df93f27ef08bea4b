//! The crate's own HTTP client, for token endpoints, logins and metadata.

pub(crate) mod retry_after;

pub(crate) mod quota_headers;

#[cfg(feature = "gzip")]
pub(crate) mod gzip;

pub(crate) mod content_coding;

pub(crate) mod json_pointer;

pub(crate) mod invalid_text;

pub(crate) mod huge_number;

pub(crate) mod body_value;

pub(crate) mod response_fields;

pub(crate) mod refresh_token_search;

pub(crate) mod token_response_format;

pub(crate) mod transport;

#[cfg(feature = "reqwest")]
pub(crate) mod reqwest_transport;

pub(crate) mod default_transport;

pub(crate) mod endpoint_kind;

pub(crate) mod endpoint_url;

pub(crate) mod bounded_response;

pub(crate) mod granted_scope;

pub(crate) mod token_response;

pub(crate) mod endpoint_client;
