//! Tests of the fakes, as a user's test would drive them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod authorization_server;
#[cfg(feature = "dpop")]
mod dpop;
mod logins;
#[cfg(feature = "loopback")]
mod loopback;
mod server;
mod source;

mod support;
