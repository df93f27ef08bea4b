//! Tokens from an API's own login, for which there is no RFC.

mod credentials;
mod json;
mod json_login;

pub use json_login::JsonLogin;
