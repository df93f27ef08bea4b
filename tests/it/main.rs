//! One binary: the folders of `src/`, and in each a file for each behaviour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// The parts of the crate.
mod cache;
mod challenge;
#[cfg(feature = "fleet")]
mod fleet;
mod http_client;
mod layer;
mod login;
mod oauth2;
mod source;
#[cfg(feature = "tenants")]
mod tenants;
mod token;

// What crosses parts: other crates around the layer, servers that send anything, secrets, auto traits.
mod auto_traits;
mod clients;
mod ecosystem;
mod hostile;
mod secrets;

// What the documentation says.
mod documented;

mod support;
