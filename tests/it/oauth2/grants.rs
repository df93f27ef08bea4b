//! Each grant: its request, and the effects of the response.

#[cfg(feature = "authorization-code")]
mod authorization_code;
mod client_credentials;
#[cfg(feature = "serde")]
mod client_credentials_config;
mod device_authorization;
mod id_tokens;
mod jwt_bearer;
#[cfg(feature = "fleet")]
mod login_leases;
mod login_sharing;
#[cfg(feature = "redirect-listener")]
mod redirect_listener;
mod refresh_token;
mod refresh_token_file;
mod saved_first;
#[cfg(feature = "fleet")]
mod shared_login;
mod token_exchange;
