//! Token sources for an OAuth 2.0 token endpoint (RFC 6749), one for each grant.
//!
//! | grant | source |
//! | --- | --- |
//! | client credentials (RFC 6749 §4.4) | [`ClientCredentials`] |
//! | authorization code with PKCE (RFC 6749 §4.1, RFC 7636) | `AuthorizationCode`, which becomes a [`RefreshToken`] |
//! | device authorization (RFC 8628) | [`DeviceAuthorization`], which becomes a [`RefreshToken`] |
//! | refresh token (RFC 6749 §6) | [`RefreshToken`] |
//! | JWT bearer (RFC 7523 §2.1) | [`JwtBearer`] |
//! | token exchange (RFC 8693) | [`TokenExchange`], for the tokens of any other source |
//!
//! Each grant has a [`Client`] with these parts:
//! - the address of the token endpoint: an [`EndpointUrl`], which may come from an issuer's
//!   metadata
//! - the client authentication: a secret, a key, an assertion or a certificate
//! - the key that tokens are bound to, with DPoP
//!
//! [`ProtectedResource`] and [`StepUp`] wrap a grant. These two sources learn the authorization
//! server and the scopes from an API's metadata and refusals.
//!
//! ```no_run
//! use tower_auth::oauth2::ClientCredentials;
//! use tower_auth::{Reason, TokenSource};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
//! let url = "https://example.auth0.com/oauth/token";
//! let source = ClientCredentials::new(url, "my-id", "my-secret")?
//!     .audience("https://api.example.com");
//! let token = source.fetch(Reason::First).await?;
//! # Ok(()) }
//! ```

pub(crate) mod scope;

#[cfg(any(feature = "authorization-code", feature = "jwt"))]
mod random;

#[cfg(feature = "jwt")]
pub(crate) mod jose;

#[cfg(feature = "dpop")]
pub(crate) mod dpop;

pub(crate) mod discovery;

pub(crate) mod client;

pub(crate) mod grants;

mod resource;

pub use self::client::oauth2_client::Client;
#[cfg(feature = "dpop")]
pub use self::dpop::dpop_key::DpopKey;
#[cfg(feature = "authorization-code")]
pub use self::grants::authorization_code::AuthorizationCode;
#[cfg(feature = "authorization-code")]
pub use self::grants::authorization_request::AuthorizationRequest;
#[cfg(feature = "authorization-code")]
pub use self::grants::authorization_response::AuthorizationResponse;
pub use self::grants::client_credentials::ClientCredentials;
#[cfg(feature = "serde")]
pub use self::grants::client_credentials_config::ClientCredentialsConfig;
pub use self::grants::device_authorization::DeviceAuthorization;
pub use self::grants::device_prompt::DevicePrompt;
pub use self::grants::jwt_bearer::JwtBearer;
#[cfg(feature = "redirect-listener")]
pub use self::grants::redirect_listener::RedirectListener;
#[cfg(feature = "file")]
pub use self::grants::refresh_file::RefreshTokenFile;
pub use self::grants::refresh_store::{LoginLock, RefreshTokenStore, SavedLogin};
pub use self::grants::refresh_token::RefreshToken;
#[cfg(feature = "fleet")]
pub use self::grants::shared_login::SharedLogin;
pub use self::grants::token_exchange::TokenExchange;
#[cfg(feature = "jwt")]
pub use self::jose::key_pair::JwsAlgorithm;
#[cfg(feature = "jwt")]
pub use self::jose::signed_jwt::SignedJwt;
#[cfg(feature = "jwt")]
pub use self::jose::signing_key::SigningKey;
pub use self::resource::protected_resource::{ProtectedResource, Protection};
pub use self::resource::step_up::{StepUp, StepUpRequest};
pub use crate::http_client::endpoint_url::EndpointUrl;
#[cfg(feature = "reqwest")]
pub use crate::http_client::reqwest_transport::ReqwestTransport;
pub use crate::http_client::token_response_format::TokenResponseFormat;
pub use crate::http_client::transport::Transport;
