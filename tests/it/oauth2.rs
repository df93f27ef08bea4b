//! Tokens of an authorization server: each grant, and what clients prove themselves with.

// Grants.
#[cfg(feature = "authorization-code")]
mod authorization_code;
mod client_credentials;
mod device_authorization;
mod jwt_bearer;
#[cfg(feature = "redirect-listener")]
mod redirect_listener;
mod refresh_file;
mod refresh_token;
mod resource;
mod token_exchange;

// Clients.
mod client_assertion;
#[cfg(feature = "dpop")]
mod dpop;
#[cfg(feature = "reqwest")]
mod mtls;
#[cfg(feature = "jwt")]
mod signed_jwt;
#[cfg(feature = "jwt")]
mod signing_key;

// Servers.
mod discovery;
mod logins_by_issuer;
mod protected_resource;
mod revocation;
