//! One test binary with the folders of `src/`. Each folder has a file for each behaviour.
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
#[cfg(any(
    feature = "azure",
    feature = "command",
    feature = "gcp",
    feature = "github",
    feature = "kubernetes",
    feature = "vault"
))]
mod platform;
mod source;
#[cfg(feature = "tenants")]
mod tenants;
mod token;

// Tests of several parts: other crates around the layer, hostile servers, secrets, auto traits.
mod auto_traits;
mod clients;
mod ecosystem;
mod hostile;
mod secrets;

// Tests of the documentation.
mod documented;

mod support;
