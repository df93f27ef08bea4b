//! A fake authorization server (RFC 6749).

mod client_authentication;
mod codes;
#[cfg(feature = "dpop")]
pub(crate) mod dpop;
mod grants;
mod metadata;
mod oauth_error;
mod quota;
mod refresh_tokens;
mod server;
mod tokens;

pub use refresh_tokens::RefreshTokens;
pub use server::AuthorizationServer;
pub use tokens::IssuedToken;
pub(crate) use tokens::{Expected, Invalid, Tokens};
