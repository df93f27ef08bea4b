//! The code that all grants with a user login share.

use std::fmt;
use std::sync::Arc;

use super::initial_token::{InitialToken, RequestedAt};
use super::login_lock::{LOCK_TIMEOUT, LockAttempts, lock_lost, unlock};
use super::refresh_store::{DynRefreshTokenStore, LoginLock};
use super::refresh_token::RefreshToken;
use super::token_params::{Reserved, TokenParams};
use crate::error::{BoxError, Error, Kind};
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::client::params::Params;

/// The message for `access_denied`. The browser's redirect brings this code, or the token endpoint
/// sends it while the user logs in on another device.
pub(crate) const LOGIN_REFUSED: &str = "the user or the server refused the login";

/// The settings of a login that produces a [`RefreshToken`] source.
pub(crate) struct UserLogin {
    pub(crate) client: Client,
    pub(crate) params: TokenParams,
    /// The store of the login. `None` means that the refresh token is kept in memory.
    pub(crate) store: Option<Arc<dyn DynRefreshTokenStore>>,
}

impl UserLogin {
    /// Creates the settings. Rejects an anonymous client, because the user must know which client
    /// asks for consent.
    pub(crate) fn new(client: Client, reserved: Reserved) -> Result<Self, Error> {
        if client.id().is_none() {
            let message = "a client without an id can't log a user in; use `Client::new` \
                           or `Client::public`";
            return Err(Error::new(Kind::Config, message));
        }
        Ok(Self {
            client,
            params: TokenParams::new(reserved),
            store: None,
        })
    }

    /// Fails if the store is broken. So no user is asked for a login that can't be saved.
    pub(crate) async fn check_store(&self) -> Result<(), Error> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        match self.lock_attempts(store).next().await {
            Ok(Some(lock)) => unlock(&**store, lock).await,
            // Another process has the lock, so the store works.
            Ok(None) => {}
            Err(error) => {
                let message = "the store of the login can't be used, so no code was requested";
                return Err(Error::new(Kind::Source, message).with_source(error));
            }
        }
        Ok(())
    }

    /// Exchanges the grant for tokens. Saves the login before it returns, even if the response has no
    /// usable access token.
    ///
    /// Takes the store's lock first. So a process that refreshes the old login can't replace the
    /// new login. If this process can't take the lock, it doesn't send the code.
    ///
    /// If the access token is unusable, the refresh token may still be usable. In two cases, this
    /// method ignores the error and returns a source that starts with the refresh token:
    ///
    /// - The error is transient. The grant can't be used again, but a refresh may succeed.
    /// - There is no store, and the error isn't a refusal. The error would lose the refresh token.
    pub(crate) async fn exchange<'a>(&'a self, grant: Params<'a>) -> Result<RefreshToken, Error> {
        let Some(store) = &self.store else {
            return self.exchange_with_lock(grant, None).await;
        };
        let lock = self.lock_attempts(store).lock().await?;
        let exchanged = match store.confirm(&lock).await {
            Ok(true) => self.exchange_with_lock(grant, Some((store, &lock))).await,
            Ok(false) => Err(lock_lost()),
            // A device's login doesn't ask again after this error.
            Err(error) => Err(not_savable(error)),
        };
        unlock(&**store, lock).await;
        exchanged
    }

    fn lock_attempts<'a>(&self, store: &'a Arc<dyn DynRefreshTokenStore>) -> LockAttempts<'a> {
        let request_time = self.client.endpoint.http.timeout;
        LockAttempts::new(&**store, LOCK_TIMEOUT, request_time)
    }

    async fn exchange_with_lock<'a>(
        &'a self,
        mut grant: Params<'a>,
        store: Option<(&Arc<dyn DynRefreshTokenStore>, &LoginLock)>,
    ) -> Result<RefreshToken, Error> {
        let requested_at = RequestedAt::now();
        // Adds the resources to the token request as well (RFC 8707 §2.2).
        self.params.add_resources_to(&mut grant);
        let response = self.client.endpoint.request_unjudged(grant).await?;
        let token = response.rest;
        let token = token.and_then(|rest| self.params.token(&self.client, rest));
        let issued = token.as_ref().ok().map(|token| (token, &requested_at));
        let (client, refresh_token) = (self.client.clone(), response.refresh_token);
        let store = store.map(|(store, lock)| (Arc::clone(store), lock));
        let source = RefreshToken::logged_in(client, store, refresh_token.clone(), issued).await?;
        let source = source
            .assume_lifetime(self.params.assumed_lifetime())
            .with_origins(self.params.origins());
        let token = match token {
            Ok(token) => token,
            Err(error) if refresh_token.is_some() && self.may_be_ignored(&error) => {
                return Ok(source);
            }
            Err(error) if error.is_access_denied() => {
                return Err(error.with_message(LOGIN_REFUSED));
            }
            Err(error) => return Err(error),
        };
        let source = match (token.id_token(), refresh_token) {
            (Some(id_token), Some(refresh_token)) => source.with_id_token(id_token, refresh_token),
            _ => source,
        };
        Ok(source.with_initial_token(InitialToken::new(token, requested_at)))
    }

    fn may_be_ignored(&self, error: &Error) -> bool {
        error.is_transient() || (self.store.is_none() && !error.is_denied())
    }
}

fn not_savable(error: BoxError) -> Error {
    let message = "the login could not be saved, so its code wasn't sent";
    Error::new(Kind::Source, message).with_source(error)
}

impl fmt::Debug for UserLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserLogin")
            .field("client", &self.client)
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}
