//! Sources of tokens and of secrets.

#[cfg(feature = "file")]
pub(crate) mod file_access;
pub(crate) mod secret_file;
#[cfg(feature = "fleet")]
pub(crate) mod store_key;

pub(crate) mod token_source;

pub(crate) mod secret_source;

#[cfg(feature = "serde")]
mod secret_config;

pub(crate) mod api_key;

pub use api_key::ApiKeyRotation;
pub use token_source::TokenFuture;

pub use crate::error::SourceError;
