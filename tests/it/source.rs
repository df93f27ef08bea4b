//! The sources of tokens and secrets: API keys, bearer tokens and secrets in files. The tests also
//! cover what a shared token depends on.

mod api_key;
mod bearer;
#[cfg(feature = "serde")]
mod secret_config;
mod secret_source;
#[cfg(feature = "fleet")]
mod store_key;
