//! Tokens and sessions from an API's own login: a login that no RFC defines.

mod json;

mod login_request;

mod json_login;

#[cfg(feature = "cookies")]
mod csrf;

#[cfg(feature = "cookies")]
mod cookie_lifetime;

#[cfg(feature = "cookies")]
mod stored_cookie;

#[cfg(feature = "cookies")]
mod cookie_jar;

#[cfg(feature = "cookies")]
mod open_sessions;

#[cfg(feature = "cookies")]
mod session;

pub use json_login::JsonLogin;
#[cfg(feature = "cookies")]
pub use session::Session;
