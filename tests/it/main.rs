//! One binary for every behaviour, a file each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod abandoned;
mod allocations;
mod api_key;
#[cfg(feature = "authorization-code")]
mod authorization_code;
mod cache;
mod challenge;
mod client_credentials;
mod clients;
mod closing;
mod device_authorization;
mod examples;
mod failure;
mod faults;
mod hostile;
mod json_login;
mod keep_fresh;
mod latch;
mod layer;
mod log;
mod login_server;
mod machine;
mod machine_model;
mod origins;
mod outages;
mod readiness;
#[cfg(feature = "redirect-listener")]
mod redirect_listener;
mod refresh_file;
mod refresh_token;
mod refusals;
mod replay;
mod revocation;
mod scenes;
mod secret_source;
mod secrets;
mod support;
mod token_reply;
mod token_server;
mod types;
mod wakers;
mod watching_changes;
mod watching_docs;
mod watching_logs;
#[cfg(feature = "metrics")]
mod watching_metrics;
mod watching_status;
mod windows;
