//! Tokens of an authorization server: each grant, and what clients prove themselves with.

mod client;
mod discovery;
#[cfg(feature = "dpop")]
mod dpop;
mod grants;
#[cfg(feature = "jwt")]
mod jose;
mod resource;
