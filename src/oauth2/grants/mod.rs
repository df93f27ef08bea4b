//! The OAuth 2.0 grants; each grant has a file.

pub(crate) mod token_params;

pub(crate) mod initial_token;

pub(crate) mod login_record;

pub(crate) mod refresh_store;

#[cfg(feature = "fleet")]
pub(crate) mod shared_login;

pub(crate) mod login_lock;

pub(crate) mod saved_token;

pub(crate) mod login_state;

#[cfg(feature = "file")]
pub(crate) mod refresh_file;

pub(crate) mod refresh_token;

pub(crate) mod user_login;

pub(crate) mod client_credentials;

#[cfg(feature = "serde")]
mod config_fields;

#[cfg(feature = "serde")]
pub(crate) mod client_credentials_config;

#[cfg(feature = "authorization-code")]
pub(crate) mod pkce;

#[cfg(feature = "authorization-code")]
pub(crate) mod authorization_response;

#[cfg(feature = "authorization-code")]
pub(crate) mod authorization_request;

#[cfg(all(feature = "authorization-code", feature = "fleet"))]
pub(crate) mod sealed_request;

#[cfg(feature = "authorization-code")]
pub(crate) mod authorization_code;

#[cfg(feature = "redirect-listener")]
pub(crate) mod redirect_listener;

pub(crate) mod device_prompt;

pub(crate) mod device_authorization;

pub(crate) mod jwt_bearer;

pub(crate) mod token_exchange;
