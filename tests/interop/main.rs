//! The crate against servers that others wrote. `bash tests/run.sh` installs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod api_key;
mod django_oauth;
#[path = "../it/free_port.rs"]
mod free_port;
mod grpc;
mod grpc_servers;
mod login;
mod login_server;
mod nginx;
mod nginx_auth_request;
mod nginx_clients;
mod nginx_mtls;
mod nginx_rate;
mod nginx_tenants;
mod nginx_tls;
mod person;
mod process;
mod process_ends;
mod redis_fleet;
#[allow(dead_code, reason = "the tests of the store use the rest")]
#[path = "../it/redis_server.rs"]
mod redis_server;
mod servers;
mod session;
#[path = "../../examples/support/mod.rs"]
mod support;
#[allow(dead_code, reason = "its servers are for those who have no nginx")]
#[path = "../../examples/support/tls.rs"]
mod tls;
