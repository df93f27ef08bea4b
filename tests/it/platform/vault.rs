//! Logins to Vault and OpenBao.

mod leases;
mod login;
mod refusals;
mod server;
