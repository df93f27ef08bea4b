//! The crate against servers of other projects. `bash tests/run.sh` installs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod api_key;
mod authlib;
mod azure;
#[path = "../it/support/azure_server.rs"]
mod azure_server;
mod digest;
mod django_oauth;
mod driven_by_apis;
#[path = "../it/support/free_port.rs"]
mod free_port;
mod gcp;
mod github;
#[allow(dead_code, reason = "the tests of GitHub Apps use the rest")]
#[path = "../it/support/github_server.rs"]
mod github_server;
#[path = "../it/support/google_cloud.rs"]
mod google_cloud;
mod grpc;
mod grpc_servers;
mod key;
#[allow(dead_code, reason = "the tests of keys use the rest")]
#[path = "../it/support/keys.rs"]
mod keys;
mod kubernetes;
mod kubernetes_api;
mod login;
mod login_server;
mod logins_under_kills;
mod nginx;
mod nginx_auth_request;
mod nginx_clients;
mod nginx_mtls;
mod nginx_rate;
mod nginx_tenants;
mod nginx_tls;
mod oidc_logins;
mod oidc_provider;
mod person;
mod process;
mod process_ends;
mod redis_fleet;
#[allow(dead_code, reason = "the tests of the store use the rest")]
#[path = "../it/support/redis_server.rs"]
mod redis_server;
mod rows;
mod servers;
mod session;
#[path = "../../examples/support/mod.rs"]
mod support;
#[path = "../it/support/test_names.rs"]
mod test_names;
#[allow(dead_code, reason = "its servers are those of an example")]
#[path = "../../examples/extra/support/tls.rs"]
mod tls;
#[allow(dead_code, reason = "the tests of the documentation use the rest")]
#[path = "../it/support/tree.rs"]
mod tree;
mod vault;
