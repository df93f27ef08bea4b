//! The errors of the token endpoint.

use http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::json;

use crate::server::ScriptedResponse;

/// An error of RFC 6749 §5.2, or of an extension.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OAuthError {
    InvalidRequest(&'static str),
    InvalidClient,
    InvalidGrant(&'static str),
    InvalidScope,
    #[cfg(feature = "dpop")]
    InvalidDpopProof(&'static str),
    #[cfg(feature = "dpop")]
    UseDpopNonce,
    /// As Auth0 responds to a client that fetched too many tokens.
    TooManyRequests {
        retry_after: u64,
    },
}

impl From<OAuthError> for ScriptedResponse {
    fn from(error: OAuthError) -> Self {
        let (status, code, why) = match error {
            OAuthError::InvalidRequest(why) => (400, "invalid_request", why),
            OAuthError::InvalidClient => (401, "invalid_client", "the client is unknown"),
            OAuthError::InvalidGrant(why) => (400, "invalid_grant", why),
            OAuthError::InvalidScope => (400, "invalid_scope", "the scope is not allowed"),
            #[cfg(feature = "dpop")]
            OAuthError::InvalidDpopProof(why) => (400, "invalid_dpop_proof", why),
            #[cfg(feature = "dpop")]
            OAuthError::UseDpopNonce => (400, "use_dpop_nonce", "the proof needs another nonce"),
            OAuthError::TooManyRequests { .. } => {
                (429, "too_many_requests", "the quota is used up")
            }
        };
        let body = json!({ "error": code, "error_description": why });
        let response = Self::json(status, body).header(CACHE_CONTROL.as_str(), "no-store");
        match error {
            OAuthError::InvalidClient => {
                response.header(WWW_AUTHENTICATE.as_str(), r#"Basic realm="oauth""#)
            }
            OAuthError::TooManyRequests { retry_after } => {
                response.header(RETRY_AFTER.as_str(), retry_after.to_string())
            }
            _ => response,
        }
    }
}
