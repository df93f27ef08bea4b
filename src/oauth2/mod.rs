//! Tokens from an OAuth 2.0 token endpoint (RFC 6749), one source per grant.
//!
//! | grant | source |
//! | --- | --- |
//! | client credentials (RFC 6749 §4.4) | [`ClientCredentials`] |
//! | authorization code with PKCE (RFC 6749 §4.1, RFC 7636) | `AuthorizationCode`, which becomes a [`RefreshToken`] |
//! | device authorization (RFC 8628) | [`DeviceAuthorization`], which becomes a [`RefreshToken`] |
//! | refresh token (RFC 6749 §6) | [`RefreshToken`] |
//! | JWT bearer (RFC 7523 §2.1) | [`JwtBearer`] |
//! | token exchange (RFC 8693) | [`TokenExchange`], of the tokens of any other source |
//!
//! All stand on a [`Client`]: where it asks (an [`EndpointUrl`], or its issuer's metadata), as whom
//! (a secret, a key, an assertion, a certificate), and whether tokens are bound to a key (DPoP).
//! [`ProtectedResource`] and [`StepUp`] stand around them, and see to whom to ask and for what as an
//! API says it.
//!
//! ```no_run
//! # #[cfg(feature = "reqwest")] {
//! use tower_auth::oauth2::ClientCredentials;
//! use tower_auth::{Reason, TokenSource};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
//! let url = "https://example.auth0.com/oauth/token";
//! let source = ClientCredentials::new(url, "my-id", "my-secret")?
//!     .audience("https://api.example.com");
//! let token = source.fetch(Reason::First).await?;
//! # Ok(()) }
//! # }
//! ```

#[cfg(feature = "authorization-code")]
mod authorization_code;
#[cfg(feature = "authorization-code")]
mod authorization_request;
#[cfg(feature = "authorization-code")]
mod authorization_response;
mod client;
mod client_auth;
mod client_credentials;
mod device_authorization;
mod device_prompt;
pub(crate) mod discovery;
mod document;
#[cfg(feature = "dpop")]
mod dpop;
#[cfg(feature = "dpop")]
mod dpop_key;
mod endpoint;
pub(crate) mod exchange;
mod extra;
mod first_token;
#[cfg(feature = "jwt")]
mod jwk;
mod jwt_bearer;
mod kept;
#[cfg(feature = "jwt")]
mod key_pair;
mod login;
pub(crate) mod members;
mod params;
#[cfg(feature = "jwt")]
mod pem;
#[cfg(feature = "authorization-code")]
mod pkce;
pub(crate) mod places;
mod protected_resource;
pub(crate) mod quota_headers;
pub(crate) mod redact;
#[cfg(feature = "redirect-listener")]
mod redirect_listener;
#[cfg(feature = "file")]
mod refresh_file;
mod refresh_store;
mod refresh_token;
pub(crate) mod reply;
#[cfg(feature = "reqwest")]
mod reqwest_transport;
mod resource_metadata;
mod retry_after;
mod scope;
#[cfg(feature = "jwt")]
mod signed_jwt;
#[cfg(feature = "jwt")]
mod signing_key;
mod step_up;
mod token_exchange;
pub(crate) mod transport;
pub(crate) mod url;

#[cfg(feature = "authorization-code")]
pub use authorization_code::AuthorizationCode;
#[cfg(feature = "authorization-code")]
pub use authorization_request::AuthorizationRequest;
#[cfg(feature = "authorization-code")]
pub use authorization_response::AuthorizationResponse;
pub use client::Client;
pub use client_credentials::ClientCredentials;
pub use device_authorization::DeviceAuthorization;
pub use device_prompt::DevicePrompt;
#[cfg(feature = "dpop")]
pub use dpop_key::DpopKey;
pub use jwt_bearer::JwtBearer;
#[cfg(feature = "jwt")]
pub use key_pair::JwsAlgorithm;
pub use protected_resource::{ProtectedResource, Protection};
#[cfg(feature = "redirect-listener")]
pub use redirect_listener::RedirectListener;
#[cfg(feature = "file")]
pub use refresh_file::RefreshTokenFile;
pub use refresh_store::RefreshTokenStore;
pub use refresh_token::RefreshToken;
#[cfg(feature = "reqwest")]
pub use reqwest_transport::ReqwestTransport;
#[cfg(feature = "jwt")]
pub use signed_jwt::SignedJwt;
#[cfg(feature = "jwt")]
pub use signing_key::SigningKey;
pub use step_up::{StepUp, StepUpRequest};
pub use token_exchange::TokenExchange;
pub use transport::Transport;
pub use url::EndpointUrl;
