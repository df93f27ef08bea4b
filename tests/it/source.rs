//! Where tokens and secrets come from: API keys, bearer tokens, secrets in files, and what a shared
//! token depends on.

mod api_key;
mod bearer;
mod secret_source;
#[cfg(feature = "fleet")]
mod store_key;
