//! The metadata document (RFC 8414).

use serde_json::json;

use crate::server::{RecordedRequest, ScriptedResponse};

pub(crate) const TOKEN_PATH: &str = "/oauth/token";
pub(crate) const REVOCATION_PATH: &str = "/oauth/revoke";
pub(crate) const AUTHORIZATION_PATH: &str = "/authorize";

/// The paths of the document, for an issuer without a path (RFC 8414 §3, OpenID Connect Discovery §4).
pub(crate) const METADATA_PATHS: [&str; 2] = [
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
];

/// Describes the server at the origin that the request was sent to.
pub(crate) fn document(request: &RecordedRequest) -> ScriptedResponse {
    let Some(issuer) = request.origin() else {
        return ScriptedResponse::new(400);
    };
    ScriptedResponse::json(
        200,
        json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}{AUTHORIZATION_PATH}"),
            "token_endpoint": format!("{issuer}{TOKEN_PATH}"),
            "revocation_endpoint": format!("{issuer}{REVOCATION_PATH}"),
            "authorization_response_iss_parameter_supported": true,
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
        }),
    )
}
