//! Logins to HashiCorp Vault and OpenBao.
//!
//! A [`Login`] fetches Vault tokens for a role at a [`Server`].

mod server;

mod lease;

mod auth_method;

mod login;

pub use login::Login;
pub use server::Server;
