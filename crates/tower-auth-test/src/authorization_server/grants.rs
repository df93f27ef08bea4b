//! The token endpoint: which token a request gets.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::CACHE_CONTROL;
use serde_json::{Value, json};

use super::client_authentication::Clients;
use super::codes::Codes;
#[cfg(feature = "dpop")]
use super::dpop::DpopState;
use super::oauth_error::OAuthError;
use super::quota::Quota;
use super::refresh_tokens::{Login, RefreshTokenState};
use super::tokens::Tokens;
use crate::server::{RecordedRequest, ScriptedResponse};

/// What decides about token requests.
#[derive(Debug)]
pub(crate) struct Grants {
    pub(crate) tokens: Tokens,
    pub(crate) clients: Clients,
    pub(crate) lifetime: Duration,
    /// The scopes that a client may request. `None`: any.
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) quota: Option<Quota>,
    pub(crate) refresh_tokens: RefreshTokenState,
    pub(crate) codes: Codes,
    #[cfg(feature = "dpop")]
    pub(crate) dpop: DpopState,
}

/// What a grant allows.
#[derive(Default)]
struct Granted {
    login: Option<usize>,
    scope: Option<String>,
    refresh_token: Option<String>,
}

impl Grants {
    pub(crate) fn new(tokens: Tokens) -> Self {
        Self {
            #[cfg(feature = "dpop")]
            dpop: DpopState::default(),
            tokens,
            clients: Clients::default(),
            lifetime: Duration::from_secs(3600),
            scopes: None,
            quota: None,
            refresh_tokens: RefreshTokenState::default(),
            codes: Codes::default(),
        }
    }

    /// Responds to a token request.
    pub(crate) fn respond(&mut self, request: &RecordedRequest) -> ScriptedResponse {
        let response = match self.grant(request) {
            Ok(token) => {
                ScriptedResponse::json(200, token).header(CACHE_CONTROL.as_str(), "no-store")
            }
            Err(error) => ScriptedResponse::from(error),
        };
        #[cfg(feature = "dpop")]
        let response = self.dpop.describe(response);
        match &self.quota {
            Some(quota) => quota.describe(response, self.tokens.now()),
            None => response,
        }
    }

    fn grant(&mut self, request: &RecordedRequest) -> Result<Value, OAuthError> {
        let client_id = self.clients.authenticate(request)?;
        if let Some(quota) = &mut self.quota {
            quota.take(self.tokens.now())?;
        }
        #[cfg(feature = "dpop")]
        let key = self.dpop.key_of_token_request(request)?;
        #[cfg(feature = "dpop")]
        let token_type = if key.is_some() { "DPoP" } else { "Bearer" };
        #[cfg(not(feature = "dpop"))]
        let token_type = "Bearer";
        let params = request.params();
        let Some(grant_type) = params.get("grant_type") else {
            return Err(OAuthError::InvalidRequest("grant_type is missing"));
        };
        let requested = params.get("scope");
        if let (Some(allowed), Some(requested)) = (&self.scopes, requested) {
            let is_allowed = |scope: &str| allowed.iter().any(|it| it == scope);
            if !requested.split_whitespace().all(is_allowed) {
                return Err(OAuthError::InvalidScope);
            }
        }
        let granted = self.check_grant(grant_type, &client_id, &params)?;
        let scope = requested.cloned().or(granted.scope).unwrap_or_default();
        let secret = self.tokens.issue(self.lifetime, |token| {
            token.grant_type.clone_from(grant_type);
            token.client_id = client_id;
            token.scope.clone_from(&scope);
            token.audience = params.get("audience").or(params.get("resource")).cloned();
            token.login = granted.login;
            #[cfg(feature = "dpop")]
            {
                token.key = key;
            }
        });
        let mut response = json!({
            "access_token": secret,
            "token_type": token_type,
            "expires_in": self.lifetime.as_secs(),
        });
        if !scope.is_empty() {
            response["scope"] = scope.into();
        }
        if let Some(refresh_token) = granted.refresh_token {
            response["refresh_token"] = refresh_token.into();
        }
        Ok(response)
    }

    /// Checks what the grant requires. A grant without a rule here is always granted.
    fn check_grant(
        &mut self,
        grant_type: &str,
        client_id: &str,
        params: &BTreeMap<String, String>,
    ) -> Result<Granted, OAuthError> {
        match grant_type {
            "refresh_token" => {
                let Some(token) = params.get("refresh_token") else {
                    return Err(OAuthError::InvalidRequest("refresh_token is missing"));
                };
                let requested = params.get("scope").map_or("", String::as_str);
                match self.refresh_tokens.refresh(token, client_id, requested) {
                    Ok(refreshed) => Ok(Granted {
                        login: Some(refreshed.login),
                        scope: Some(refreshed.scope),
                        refresh_token: refreshed.token,
                    }),
                    Err(rejected) => {
                        if let Some(login) = rejected.ended {
                            self.tokens.revoke(|token| token.login == Some(login));
                        }
                        Err(rejected.error)
                    }
                }
            }
            "authorization_code" => {
                let scope = self.codes.exchange(client_id, params)?;
                let login = Login::new(client_id.to_owned(), scope.clone());
                let (login, token) = self.refresh_tokens.start_login(login);
                Ok(Granted {
                    login: Some(login),
                    scope: Some(scope),
                    refresh_token: Some(token),
                })
            }
            _ => Ok(Granted::default()),
        }
    }

    /// Responds to a request to revoke a token (RFC 7009 §2). An unknown token is no error.
    pub(crate) fn respond_to_revocation(&mut self, request: &RecordedRequest) -> ScriptedResponse {
        if let Err(error) = self.clients.authenticate(request) {
            return error.into();
        }
        let Some(revoked) = request.param("token") else {
            return OAuthError::InvalidRequest("token is missing").into();
        };
        match self.refresh_tokens.end_login(&revoked) {
            Some(login) => self.tokens.revoke(|token| token.login == Some(login)),
            None => self.tokens.revoke(|token| token.secret == revoked),
        }
        ScriptedResponse::new(200)
    }
}
