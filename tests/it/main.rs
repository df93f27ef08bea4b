//! One binary: a folder for each part of the crate, and in it a room for each behaviour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// A token in hand, and the next one.
mod auto_traits;
mod cache;

// The life of one request, and the clients that it is sent with.
mod challenge;
mod clients;
mod ecosystem;

// Where tokens come from.
mod http_client;
mod layer;
mod login;
mod oauth2;

// One token for many processes, and many tokens in one.
#[cfg(feature = "fleet")]
mod fleet;
mod source;
#[cfg(feature = "tenants")]
mod tenants;

// What is told of it all, and what never is.
mod hostile;
mod secrets;
mod token;

// What the documentation says.
mod documented;

mod support;
