//! Logins of an API's own.

mod json_login;
#[cfg(feature = "cookies")]
mod session;
