//! How an API refuses a request.

use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};

use crate::authorization_server::Invalid;
use crate::server::ScriptedResponse;

/// How an API refuses a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// 401 with `WWW-Authenticate: Bearer error="invalid_token"` (RFC 6750 §3.1).
    Unauthorized,
    /// 403 with `WWW-Authenticate: Bearer error="insufficient_scope"` and this scope (RFC 6750 §3.1).
    Forbidden {
        /// The scope that the request needs.
        scope: String,
    },
    /// 200 with `grpc-status: 16`, gRPC's `UNAUTHENTICATED`.
    Grpc,
    /// Any other response.
    Response(ScriptedResponse),
}

impl From<Refusal> for ScriptedResponse {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unauthorized => Self::new(401).header(
                WWW_AUTHENTICATE.as_str(),
                r#"Bearer realm="api", error="invalid_token""#,
            ),
            Refusal::Forbidden { scope } => Self::new(403).header(
                WWW_AUTHENTICATE.as_str(),
                format!(r#"Bearer realm="api", error="insufficient_scope", scope="{scope}""#),
            ),
            Refusal::Grpc => unauthenticated("the token is invalid"),
            Refusal::Response(response) => response,
        }
    }
}

/// Responds as [`Refusal::Unauthorized`] does, and says why.
pub(crate) fn unauthorized(invalid: Invalid) -> ScriptedResponse {
    let (scheme, error) = match invalid {
        // Without a token, the response has no error (RFC 6750 §3.1).
        Invalid::Missing => {
            return ScriptedResponse::new(401)
                .header(WWW_AUTHENTICATE.as_str(), r#"Bearer realm="api""#);
        }
        #[cfg(feature = "dpop")]
        Invalid::Key(_) => ("DPoP", "invalid_dpop_proof"),
        #[cfg(feature = "dpop")]
        Invalid::DpopNonce => ("DPoP", "use_dpop_nonce"),
        _ => ("Bearer", "invalid_token"),
    };
    let why = invalid.description();
    let challenge = format!(r#"{scheme} realm="api", error="{error}", error_description="{why}""#);
    ScriptedResponse::new(401).header(WWW_AUTHENTICATE.as_str(), challenge)
}

/// Responds as [`Refusal::Grpc`] does, and says why.
pub(crate) fn grpc(invalid: Invalid) -> ScriptedResponse {
    unauthenticated(invalid.description())
}

fn unauthenticated(why: &str) -> ScriptedResponse {
    ScriptedResponse::new(200)
        .header(CONTENT_TYPE.as_str(), "application/grpc")
        .header("grpc-status", "16")
        .header("grpc-message", why)
}
