//! The crate against servers that others wrote. `bash tests/run.sh` installs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod authlib;
mod django_oauth;
mod driven_by_apis;
#[path = "../it/free_port.rs"]
mod free_port;
mod key;
mod oidc_logins;
mod oidc_provider;
mod person;
mod process;
mod process_ends;
mod servers;
#[allow(dead_code, reason = "its servers are those of an example")]
#[path = "../../examples/support/tls.rs"]
mod tls;
