//! What a source remembers of its login, besides the record in the store.

use std::ops::{Deref, DerefMut};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::MutexGuard;

use super::initial_token::InitialToken;
use super::login_record::LoginRecord;
use super::refresh_store::LoginLock;
use crate::http_client::token_response::TokenResponse;
use crate::token::known_tokens::KnownTokens;

/// The state of the login, except for the record in the store.
#[derive(Default)]
pub(crate) struct LoginState {
    /// A new refresh token that isn't saved yet. The server may have revoked the stored token.
    pub(crate) unsaved: Option<UnsavedToken>,
    /// The store's lock, during a fetch. After a fetch, this process keeps the lock only if there
    /// is an unsaved token. Otherwise, another process would send the revoked token in the store.
    pub(crate) lock: Option<LoginLock>,
    /// The refresh token that the server no longer accepts.
    pub(crate) refused: Option<SecretString>,
    /// The access tokens that this source has returned.
    pub(crate) known: KnownTokens,
    /// The access token from the login. Fetches return this token until a caller needs another
    /// token.
    pub(crate) initial_token: Option<InitialToken>,
    last_id_token: Option<LastIdToken>,
}

/// The last ID token of a login. A refresh may return no ID token (OpenID Connect Core §12.2).
struct LastIdToken {
    id_token: SecretString,
    /// The current refresh token of the same login. If the store contains another refresh token,
    /// that token may belong to another user.
    refresh_token: SecretString,
}

impl LoginState {
    /// Sets the last ID token of the login with this refresh token.
    pub(crate) fn set_id_token(&mut self, id_token: SecretString, refresh_token: SecretString) {
        self.last_id_token = Some(LastIdToken {
            id_token,
            refresh_token,
        });
    }

    /// Records that `current` is the refresh token after a refresh with `sent`. Drops the last ID
    /// token if `sent` is from another login.
    pub(crate) fn follow(&mut self, sent: &SecretString, current: &SecretString) {
        self.last_id_token
            .take_if(|last| !is_same(&last.refresh_token, sent));
        if let Some(last) = &mut self.last_id_token {
            last.refresh_token = current.clone();
        }
    }

    /// Returns the last ID token of the login with this refresh token.
    pub(crate) fn id_token_of(&self, refresh_token: &SecretString) -> Option<SecretString> {
        let last = self.last_id_token.as_ref();
        let last = last.filter(|last| is_same(&last.refresh_token, refresh_token));
        last.map(|last| last.id_token.clone())
    }

    /// Takes the last ID token from the store, where another process may have saved it.
    pub(crate) fn find_id_token(&mut self, record: &LoginRecord) {
        if let Some(id_token) = record.id_token() {
            self.set_id_token(id_token.clone(), record.refresh_token().clone());
        }
    }

    /// Keeps the ID token of a response, or adds the last ID token to the response.
    pub(crate) fn keep_id_token(&mut self, response: &mut TokenResponse, current: &SecretString) {
        match (&response.id_token, &self.last_id_token) {
            (Some(id_token), _) => {
                self.set_id_token(id_token.clone(), current.clone());
            }
            (None, Some(last)) => response.id_token = Some(last.id_token.clone()),
            (None, None) => {}
        }
    }
}

/// A new refresh token that isn't saved yet.
pub(crate) struct UnsavedToken {
    pub(crate) token: SecretString,
    /// The refresh token that the server replaced. If the store contains a different token,
    /// somebody has logged in again.
    pub(crate) replaces: SecretString,
}

/// The state during a fetch. When the fetch ends, is cancelled or panics, the store's lock is
/// dropped, unless there is an unsaved token.
pub(crate) struct StateGuard<'a>(pub(crate) MutexGuard<'a, LoginState>);

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        if self.0.unsaved.is_none() {
            self.0.lock = None;
        }
    }
}

impl Deref for StateGuard<'_> {
    type Target = LoginState;

    fn deref(&self) -> &LoginState {
        &self.0
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut LoginState {
        &mut self.0
    }
}

pub(crate) fn is_same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}
