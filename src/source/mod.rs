//! Sources of tokens and of secrets.

pub(crate) mod secret_file;
#[cfg(feature = "fleet")]
pub(crate) mod store_key;

pub(crate) mod token_source;

pub(crate) mod secret_source;

pub(crate) mod api_key;

pub use api_key::ApiKeyRotation;
