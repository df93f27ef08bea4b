//! One binary for every behaviour, a file each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod abandoned;
mod allocations;
mod api_key;
#[cfg(feature = "authorization-code")]
mod authorization_code;
mod cache;
mod chained;
mod challenge;
mod client_assertion;
mod client_credentials;
mod clients;
mod closing;
mod device_authorization;
mod discovery;
#[cfg(feature = "dpop")]
mod dpop;
mod echo;
mod examples;
mod failure;
mod faults;
#[cfg(feature = "fleet")]
mod fleet;
#[cfg(feature = "fleet")]
mod fleet_faults;
#[cfg(feature = "fleet")]
mod fleet_keys;
mod fleet_processes;
#[cfg(feature = "fleet")]
mod fleet_sizing;
mod form_server;
#[cfg(feature = "redis")]
mod free_port;
mod hostile;
mod hostile_servers;
mod json_login;
mod jwt_bearer;
mod keep_fresh;
#[cfg(feature = "jwt")]
mod keys;
mod latch;
mod layer;
mod log;
mod login_server;
mod logins_by_issuer;
mod machine;
mod machine_model;
#[cfg(feature = "reqwest")]
mod mtls;
mod origins;
mod outages;
mod protected_resource;
mod quotas;
mod readiness;
#[cfg(feature = "redirect-listener")]
mod redirect_listener;
#[cfg(feature = "redis")]
mod redis_server;
mod refresh_file;
mod refresh_token;
mod refusals;
mod replay;
mod revocation;
mod scenes;
#[cfg(feature = "fleet")]
mod sealing;
mod secret_source;
mod secrets;
mod secrets_of_sources;
#[cfg(feature = "cookies")]
mod session;
#[cfg(feature = "cookies")]
mod session_cookies;
#[cfg(feature = "cookies")]
mod session_site;
#[cfg(feature = "fleet")]
mod shelf;
#[cfg(feature = "jwt")]
mod signed_jwt;
#[cfg(feature = "jwt")]
mod signing_key;
mod step_up;
mod store_contract;
mod store_file;
mod store_redis;
mod support;
#[cfg(feature = "tenants")]
mod tenants;
mod test_names;
mod token_exchange;
mod token_reply;
mod token_server;
mod types;
mod wakers;
mod watch;
mod watching_changes;
mod watching_docs;
mod watching_logs;
#[cfg(feature = "metrics")]
mod watching_metrics;
mod watching_status;
mod web;
mod windows;
