//! Which client sent a token request (RFC 6749 §2.3).

use std::collections::BTreeMap;

use super::oauth_error::OAuthError;
use crate::server::RecordedRequest;

/// The clients that the server knows: their secrets by their ids. Empty: any client.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    secrets: BTreeMap<String, String>,
}

impl Clients {
    pub(crate) fn add(&mut self, id: String, secret: String) {
        self.secrets.insert(id, secret);
    }

    /// Returns whether the server knows a client with this id.
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.secrets.is_empty() || self.secrets.contains_key(id)
    }

    /// Returns the id of the client, which may be empty if the server accepts any client. A secret
    /// may be sent with `Basic`, in a form, or as JSON. A client that sends a `client_assertion`
    /// (RFC 7523 §2.2) needs no secret, and the signature is not checked.
    pub(crate) fn authenticate(&self, request: &RecordedRequest) -> Result<String, OAuthError> {
        let mut params = request.params();
        let mut param = |name| params.remove(name).unwrap_or_default();
        let has_assertion = !param("client_assertion").is_empty();
        let (id, secret) = request
            .basic()
            .unwrap_or_else(|| (param("client_id"), param("client_secret")));
        let is_known = self.secrets.is_empty()
            || self
                .secrets
                .get(&id)
                .is_some_and(|known| has_assertion || *known == secret);
        if is_known {
            Ok(id)
        } else {
            Err(OAuthError::InvalidClient)
        }
    }
}
