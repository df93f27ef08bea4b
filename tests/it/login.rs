//! Logins that an API defines itself.

mod json_login;
#[cfg(feature = "cookies")]
mod session;
