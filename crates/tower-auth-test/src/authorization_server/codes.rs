//! Authorization codes with PKCE (RFC 6749 §4.1, RFC 7636).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::LOCATION;
use sha2::{Digest, Sha256};

use super::client_authentication::Clients;
use super::oauth_error::OAuthError;
use crate::server::{RecordedRequest, ScriptedResponse};

/// The codes that no client has exchanged yet.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    issued: usize,
    pending: BTreeMap<String, Authorization>,
}

/// What a person authorized.
#[derive(Debug)]
struct Authorization {
    client_id: String,
    redirect_uri: String,
    code_challenge: Option<String>,
    scope: String,
}

impl Codes {
    /// Responds to a browser at the authorization endpoint: the person agrees immediately, and the
    /// server redirects the browser back.
    pub(crate) fn authorize(
        &mut self,
        request: &RecordedRequest,
        clients: &Clients,
    ) -> ScriptedResponse {
        let query = request.uri().query().unwrap_or_default();
        let mut params: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        let Some(redirect_uri) = params.remove("redirect_uri") else {
            return OAuthError::InvalidRequest("redirect_uri is missing").into();
        };
        let client_id = params.remove("client_id").unwrap_or_default();
        if client_id.is_empty() || !clients.contains(&client_id) {
            return OAuthError::InvalidRequest("client_id is missing or unknown").into();
        }
        if params.get("response_type").map(String::as_str) != Some("code") {
            return OAuthError::InvalidRequest("response_type is not code").into();
        }
        let method = params.get("code_challenge_method").map(String::as_str);
        if params.contains_key("code_challenge") && method != Some("S256") {
            return OAuthError::InvalidRequest("code_challenge_method is not S256").into();
        }
        self.issued += 1;
        let code = format!("code-{}", self.issued);
        let (address, query) = redirect_uri.split_once('?').unwrap_or((&redirect_uri, ""));
        // The serializer writes the `&` between a query of the client and the response.
        let location = format!("{address}?{query}");
        let mut response = form_urlencoded::Serializer::for_suffix(location, address.len() + 1);
        response.append_pair("code", &code);
        if let Some(state) = params.remove("state") {
            response.append_pair("state", &state);
        }
        if let Some(issuer) = request.origin() {
            // The response names the server (RFC 9207).
            response.append_pair("iss", &issuer);
        }
        let location = response.finish();
        let authorization = Authorization {
            client_id,
            redirect_uri,
            code_challenge: params.remove("code_challenge"),
            scope: params.remove("scope").unwrap_or_default(),
        };
        self.pending.insert(code, authorization);
        ScriptedResponse::new(302).header(LOCATION.as_str(), location)
    }

    /// Exchanges a code once, and returns the scope of the login.
    pub(crate) fn exchange(
        &mut self,
        client_id: &str,
        params: &BTreeMap<String, String>,
    ) -> Result<String, OAuthError> {
        let param = |name| params.get(name).map_or("", String::as_str);
        let Some(authorization) = self.pending.remove(param("code")) else {
            return Err(OAuthError::InvalidGrant(
                "the code is unknown or was used before",
            ));
        };
        if authorization.client_id != client_id {
            return Err(OAuthError::InvalidGrant("the code is another client's"));
        }
        if authorization.redirect_uri != param("redirect_uri") {
            return Err(OAuthError::InvalidGrant("the redirect_uri differs"));
        }
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(param("code_verifier")));
        match authorization.code_challenge {
            Some(expected) if expected != challenge => {
                Err(OAuthError::InvalidGrant("the code_verifier is wrong"))
            }
            _ => Ok(authorization.scope),
        }
    }
}
