//! Refresh tokens, their rotation, and the detection of a token that is used twice.

use std::collections::BTreeMap;

use super::oauth_error::OAuthError;

/// Which refresh tokens the server issues with the access tokens of a login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefreshTokens {
    /// One for each login, which can be used again and again.
    #[default]
    Reusable,
    /// A new one with each use. If a client sends a used one again, the server ends the login and
    /// revokes its tokens (RFC 9700 §4.14.2).
    Rotating,
}

/// All refresh tokens of one server.
#[derive(Debug, Default)]
pub(crate) struct RefreshTokenState {
    pub(crate) mode: RefreshTokens,
    logins: Vec<Login>,
    /// The login of each refresh token.
    tokens: BTreeMap<String, usize>,
    pub(crate) reuses: usize,
}

/// What a person allowed a client.
#[derive(Debug, Default)]
pub(crate) struct Login {
    /// The client that may use the refresh tokens. `None`: any.
    pub(crate) client_id: Option<String>,
    /// The granted scope. Empty: any.
    pub(crate) scope: String,
    /// The refresh token that the server accepts. `None`: the login has ended.
    current: Option<String>,
}

impl Login {
    /// Makes a login of a client with this scope.
    pub(crate) fn new(client_id: String, scope: String) -> Self {
        Self {
            client_id: Some(client_id),
            scope,
            current: None,
        }
    }

    fn allows(&self, requested: &str) -> bool {
        let granted = |scope| self.scope.split_whitespace().any(|it| it == scope);
        self.scope.is_empty() || requested.split_whitespace().all(granted)
    }
}

/// What a refresh grants.
#[derive(Debug)]
pub(crate) struct Refreshed {
    pub(crate) login: usize,
    pub(crate) scope: String,
    /// The refresh token of the response, if the server sends one.
    pub(crate) token: Option<String>,
}

/// Why a refresh failed, and which login's tokens have to be revoked.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) error: OAuthError,
    pub(crate) ended: Option<usize>,
}

impl RefreshTokenState {
    /// Starts a login. Returns its number and its refresh token.
    pub(crate) fn start_login(&mut self, login: Login) -> (usize, String) {
        let number = self.logins.len();
        self.logins.push(login);
        (number, self.replace(number))
    }

    /// Exchanges a refresh token of this client for a token with the requested scope.
    pub(crate) fn refresh(
        &mut self,
        token: &str,
        client_id: &str,
        requested: &str,
    ) -> Result<Refreshed, Rejected> {
        let rejected = |why, ended| Rejected {
            error: OAuthError::InvalidGrant(why),
            ended,
        };
        let Some(&login) = self.tokens.get(token) else {
            return Err(rejected("the refresh token is unknown", None));
        };
        let owner = self.logins[login].client_id.as_deref();
        if owner.is_some_and(|owner| owner != client_id) {
            return Err(rejected("the refresh token is another client's", None));
        }
        match self.logins[login].current.as_deref() {
            None => return Err(rejected("the login has ended", None)),
            Some(current) if current == token => {}
            Some(_) => {
                self.reuses += 1;
                self.logins[login].current = None;
                return Err(rejected("the refresh token was used before", Some(login)));
            }
        }
        // A scope that the person didn't grant costs no refresh token (RFC 6749 §6).
        if !self.logins[login].allows(requested) {
            return Err(Rejected {
                error: OAuthError::InvalidScope,
                ended: None,
            });
        }
        let token = match self.mode {
            RefreshTokens::Reusable => None,
            RefreshTokens::Rotating => Some(self.replace(login)),
        };
        Ok(Refreshed {
            login,
            scope: self.logins[login].scope.clone(),
            token,
        })
    }

    /// Ends the login of a refresh token, and returns it.
    pub(crate) fn end_login(&mut self, token: &str) -> Option<usize> {
        let login = *self.tokens.get(token)?;
        self.logins[login].current = None;
        Some(login)
    }

    /// Ends all logins.
    pub(crate) fn end_all(&mut self) {
        for login in &mut self.logins {
            login.current = None;
        }
    }

    /// Returns the refresh tokens that the server accepts.
    pub(crate) fn current(&self) -> Vec<String> {
        let current = self.logins.iter().map(|login| login.current.clone());
        current.flatten().collect()
    }

    fn replace(&mut self, login: usize) -> String {
        let token = format!("refresh-{}", self.tokens.len() + 1);
        self.tokens.insert(token.clone(), login);
        self.logins[login].current = Some(token.clone());
        token
    }
}
