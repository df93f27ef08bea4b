//! The refresh token grant (RFC 6749 §6), which continues a user's login.

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::initial_token::InitialToken;
use super::refresh_store::{DynRefreshTokenStore, InMemory, RefreshTokenStore};
use super::token_params::{Reserved, TokenParams, token_param_setters};
use crate::error::{BoxError, Error, Kind};
use crate::http_client::token_response::{TokenResponse, UnjudgedResponse};
use crate::http_client::token_response_format::TokenResponseFormat;
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::client::params::Params;
use crate::origin::Origin;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::Token;

/// Names that [`RefreshToken::param`] rejects.
const RESERVED: Reserved = &[
    ("grant_type", "it is always `refresh_token`"),
    ("refresh_token", "pass it to the constructor or the store"),
    ("scope", "use `.scope(…)`"),
    ("resource", "use `.resource(…)`"),
];

/// Fetches tokens with a refresh token (RFC 6749 §6) from a user's login.
///
/// - A new refresh token in a response replaces the old token. Without a new token, the old token
///   stays in use.
/// - A new refresh token is saved in the [store](RefreshTokenStore) *before* the rest of the
///   response is read, so an unusable access token doesn't end the login. If saving fails, the
///   fetch fails. The next fetch first saves the refresh token.
/// - A token without an [ID token](Token::id_token) gets the last ID token of the same login.
/// - Fetches never overlap, so that two requests never send the same rotating token at once.
/// - If the server no longer accepts the refresh token (`invalid_grant`, or a
///   [code of the server's own](crate::oauth2::TokenResponseFormat::login_required_code)), the error
///   [requires a login](Error::is_login_required). The source doesn't send the refused token again. If the
///   store contains another token, from another process or a new login, the source sends the other
///   token.
///
/// | setting | default |
/// | --- | --- |
/// | [`scope`](Self::scope) | none: the scope of the login |
/// | [`resource`](Self::resource) | none: the server uses the resources of the login |
/// | [`response_format`](Self::response_format) | that of the client |
/// | [`assume_lifetime`](Self::assume_lifetime) | 1 h, used if neither `expires_in` nor a JWT's `exp` is present |
/// | [`log_out_on_close`](Self::log_out_on_close) | off: the login stays valid after the process ends |
///
/// # Example
///
/// ```
/// use tower_auth::AuthLayer;
/// use tower_auth::oauth2::{Client, RefreshToken};
///
/// # fn example(token: String) -> Result<(), tower_auth::Error> {
/// let client = Client::public("https://id.example.com/oauth/token", "my-app")?;
/// let source = RefreshToken::new(client, token);
/// let layer = AuthLayer::new(source).only_to(["https://api.example.com"])?;
/// # Ok(()) }
/// ```
#[doc(alias = "refresh_token")]
#[doc(alias = "rotate")]
pub struct RefreshToken {
    client: Client,
    store: Arc<dyn DynRefreshTokenStore>,
    params: TokenParams,
    logs_out: bool,
    origins: Vec<Origin>,
    /// The state of the login. Its lock is held during a fetch.
    state: Mutex<LoginState>,
}

/// The state of the login, except for the token in the store.
#[derive(Default)]
struct LoginState {
    /// A new refresh token that isn't saved yet. The server may have revoked the stored token.
    unsaved: Option<SecretString>,
    /// The refresh token that the server no longer accepts.
    refused: Option<SecretString>,
    /// The access token from the login. Fetches return this token until a caller needs another
    /// token.
    initial_token: Option<InitialToken>,
    last_id_token: Option<LastIdToken>,
}

/// The last ID token of a login. A refresh may return no ID token (OpenID Connect Core §12.2).
struct LastIdToken {
    id_token: SecretString,
    /// The current refresh token of the same login. If the store contains another refresh token, it
    /// may belong to another user.
    refresh_token: SecretString,
}

impl LoginState {
    /// Records that `current` is the refresh token after the use of `sent`.
    fn follow(&mut self, sent: &SecretString, current: &SecretString) {
        self.last_id_token
            .take_if(|last| !is_same(&last.refresh_token, sent));
        if let Some(last) = &mut self.last_id_token {
            last.refresh_token = current.clone();
        }
    }

    /// Keeps the ID token of a response, or adds the last ID token to the response.
    fn keep_id_token(&mut self, response: &mut TokenResponse, current: SecretString) {
        match (&response.id_token, &self.last_id_token) {
            (Some(id_token), _) => {
                self.last_id_token = Some(LastIdToken {
                    id_token: id_token.clone(),
                    refresh_token: current,
                });
            }
            (None, Some(last)) => response.id_token = Some(last.id_token.clone()),
            (None, None) => {}
        }
    }
}

impl RefreshToken {
    /// Creates a source that starts with `token` and keeps new refresh tokens in memory. Use this
    /// constructor if the server doesn't rotate refresh tokens, or if the process logs in again
    /// after a restart.
    pub fn new(client: Client, token: impl Into<SecretString>) -> Self {
        Self::stored(client, InMemory::new(token.into()))
    }

    /// Creates a source that uses the token in `store`, where a login saved the token.
    pub fn stored(client: Client, store: impl RefreshTokenStore) -> Self {
        Self::with_store(client, Arc::new(store))
    }

    fn with_store(client: Client, store: Arc<dyn DynRefreshTokenStore>) -> Self {
        Self {
            client,
            store,
            params: TokenParams::new(RESERVED),
            logs_out: false,
            origins: Vec::new(),
            state: Mutex::default(),
        }
    }

    /// Creates a source from the refresh token of a new login, and saves the refresh token. Without
    /// a refresh token, the source doesn't use the store, because the stored token belongs to
    /// another login.
    pub(crate) async fn logged_in(
        client: Client,
        store: Option<Arc<dyn DynRefreshTokenStore>>,
        refresh_token: Option<SecretString>,
    ) -> Result<Self, Error> {
        let store = match (store, refresh_token) {
            (Some(store), Some(token)) => {
                store.save(token).await.map_err(not_saved)?;
                store
            }
            (_, token) => Arc::new(InMemory::new(token.unwrap_or_default())),
        };
        Ok(Self::with_store(client, store))
    }

    /// Sets the access token of the login.
    #[must_use]
    pub(crate) fn with_initial_token(mut self, initial_token: InitialToken) -> Self {
        self.state.get_mut().initial_token = Some(initial_token);
        self
    }

    /// Sets the ID token of the login, and the refresh token of the same login.
    #[must_use]
    pub(crate) fn with_id_token(mut self, id_token: &str, refresh_token: SecretString) -> Self {
        self.state.get_mut().last_id_token = Some(LastIdToken {
            id_token: SecretString::from(id_token),
            refresh_token,
        });
        self
    }

    /// Sets the origins that may receive the tokens.
    #[must_use]
    pub(crate) fn with_origins(mut self, origins: Vec<Origin>) -> Self {
        self.origins = origins;
        self
    }

    /// Requests less scope than the login granted (RFC 6749 §6). Separate names by spaces. By
    /// default, and if empty, the source requests the whole scope of the login.
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.params.set_scope([scope]);
        self
    }

    /// Sets the format of the responses to this grant, instead of the
    /// [client's](Client::response_format). Slack, for example, returns a user token in
    /// `authed_user` after a login, but at the top level after a refresh.
    #[must_use]
    pub fn response_format(mut self, format: TokenResponseFormat) -> Self {
        self.client = self.client.response_format(format);
        self
    }

    /// Logs out when [`TokenCache::close`](crate::TokenCache::close) closes the cache. The logout
    /// revokes the refresh token at the endpoint of [`Client::revoke_at`]. Most servers then also
    /// revoke the login's access tokens (RFC 7009 §2.1). By default, the login stays valid after
    /// the process ends.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the client has no revocation endpoint.
    pub fn log_out_on_close(mut self) -> Result<Self, Error> {
        if self.client.endpoint.revocation.is_none() {
            let message = "the client has no revocation endpoint, so it can't log out; set \
                           it with `revoke_at`";
            return Err(Error::new(Kind::Config, message));
        }
        self.logs_out = true;
        Ok(self)
    }

    async fn log_out(&self) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        let token = match self.load(&mut state).await {
            Ok(token) => token,
            // The login has already ended.
            Err(error) if error.is_login_required() => return Ok(()),
            Err(error) => return Err(error),
        };
        let (endpoint, secret) = (&self.client.endpoint, token.expose_secret());
        let revoked = endpoint.revoke(secret, "refresh_token").await;
        state.refused = Some(token);
        revoked
    }

    /// Returns the refresh token to send now.
    async fn load(&self, state: &mut LoginState) -> Result<SecretString, Error> {
        self.save(state).await?;
        let stored = self.store.load().await.map_err(not_loaded)?;
        let Some(token) = stored.filter(|token| !token.expose_secret().is_empty()) else {
            return Err(login_required("there is no refresh token"));
        };
        match &state.refused {
            Some(refused) if is_same(refused, &token) => {
                let what = "the server refused this refresh token before, so it isn't sent again";
                Err(login_required(what))
            }
            _ => Ok(token),
        }
    }

    /// Saves the unsaved token, if any. Even if this future is dropped, the token stays in memory
    /// until it is saved.
    async fn save(&self, state: &mut LoginState) -> Result<(), Error> {
        if let Some(token) = &state.unsaved {
            self.store.save(token.clone()).await.map_err(not_saved)?;
            state.unsaved = None;
        }
        Ok(())
    }

    async fn exchange(&self, token: &SecretString) -> Result<UnjudgedResponse, Error> {
        let mut params = Params::default();
        params.push("grant_type", "refresh_token");
        params.push_secret("refresh_token", token.expose_secret());
        self.params.add_to(&mut params);
        self.client.endpoint.request_unjudged(params).await
    }

    /// Exchanges the refresh token for an access token. Saves a new refresh token first. If the
    /// server rejects the refresh token, loads the token from the store again. If another process
    /// has saved a new token there, tries again with the new token.
    async fn refresh(&self, state: &mut LoginState) -> Result<TokenResponse, Error> {
        let mut refused: Option<Error> = None;
        loop {
            let token = match (self.load(state).await, refused) {
                (Ok(token), _) => token,
                (Err(error), Some(refusal)) if error.is_login_required() => {
                    let what = "the authorization server no longer accepts the refresh token";
                    return Err(login_required(what).with_source(refusal));
                }
                (Err(error), _) => return Err(error),
            };
            let response = self.exchange(&token).await?;
            let next = response.refresh_token;
            state.unsaved = next.filter(|next| !is_same(next, &token));
            let is_replaced = state.unsaved.is_some();
            let current = state.unsaved.as_ref().unwrap_or(&token).clone();
            state.follow(&token, &current);
            self.save(state).await?;
            match response.rest {
                Ok(mut rest) => {
                    state.keep_id_token(&mut rest, current);
                    return Ok(rest);
                }
                // If the refusal contains a new refresh token, the store now has that token.
                // Another attempt could get another such refusal, and so on without end.
                Err(error) if error.is_invalid_grant() && !is_replaced => refused = Some(error),
                Err(error) => return Err(error),
            }
            state.refused = Some(token);
        }
    }
}

token_param_setters!(RefreshToken, (params), [resource, param, assume_lifetime]);

impl TokenSource for RefreshToken {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        let mut state = self.state.lock().await;
        // Any reason but `First` means that the initial token was refused or is about to expire.
        state.initial_token.take_if(|_| reason != Reason::First);
        let initial = state.initial_token.as_ref();
        if let Some(token) = initial.and_then(InitialToken::unexpired) {
            return Ok(token);
        }
        let response = self.refresh(&mut state).await?;
        self.params.token(&self.client, response)
    }

    /// Revokes the access token. Revokes the refresh token only if `log_out_on_close` is set,
    /// because the end of a process isn't a logout.
    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        let logged_out = if self.logs_out {
            self.log_out().await
        } else {
            Ok(())
        };
        // Revokes the access token even if the logout failed.
        self.client.revoke(last).await.and(logged_out)
    }

    #[cfg(feature = "fleet")]
    fn bind(&self, to: &str, secret: SecretString) -> Result<Token, Error> {
        self.client.bind(to, secret)
    }

    /// Returns the origins of this source's resources and of the login's resources.
    fn origins(&self) -> Vec<Origin> {
        let own = self.params.origins();
        self.origins.iter().cloned().chain(own).collect()
    }

    /// Returns `true`, because a server may replace the refresh token at any use (RFC 6749 §6).
    fn has_one_time_grant(&self) -> bool {
        true
    }
}

fn is_same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

fn login_required(what: &'static str) -> Error {
    Error::new(Kind::LoginRequired, format!("{what}; log in again"))
}

fn not_loaded(error: BoxError) -> Error {
    let message = "could not read the refresh token from its store";
    Error::new(Kind::Source, message).with_source(error)
}

fn not_saved(error: BoxError) -> Error {
    let message = "could not save the new refresh token, so the new access token isn't used";
    Error::new(Kind::Source, message).with_source(error)
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshToken")
            .field("client", &self.client)
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}
