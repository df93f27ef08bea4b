//! Tokens of an authorization server: each grant, and each kind of client authentication.

mod client;
mod discovery;
#[cfg(feature = "dpop")]
mod dpop;
mod grants;
#[cfg(feature = "jwt")]
mod jose;
mod resource;
