//! An API's own logins.

mod json_login;
#[cfg(feature = "cookies")]
mod session;
