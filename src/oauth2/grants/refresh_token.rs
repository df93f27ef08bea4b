//! The refresh token grant (RFC 6749 §6): a person has logged in once, and the service goes on.

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::initial_token::InitialToken;
use super::refresh_store::{DynRefreshTokenStore, InMemory, RefreshTokenStore};
use super::token_params::{Reserved, TokenParams, token_param_setters};
use crate::error::{BoxError, Error, Kind};
use crate::http_client::token_response::TokenResponse;
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::client::params::Params;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::Token;

/// Names that [`RefreshToken::param`] leaves to whoever sets them.
const RESERVED: Reserved = &[
    ("grant_type", "it is always `refresh_token`"),
    ("refresh_token", "the constructor takes it, or the store"),
    ("scope", "use `.scope(…)`"),
];

/// Gets tokens with a refresh token (RFC 6749 §6): a person has logged in once, and their consent
/// is used on.
///
/// - A reply without a refresh token keeps the old one; a reply with one replaces it.
/// - A new one is saved in the [store](RefreshTokenStore) *before* the access token that came along
///   is used. If it can't be saved the fetch fails, and the next one saves it first.
/// - Two fetches never overlap, so a rotating token is never sent twice at once.
/// - A token that the server doesn't accept any more (`invalid_grant`) is an error that
///   [requires a login](Error::is_login_required), and isn't sent again. If the store has another by
///   then (another process has refreshed, or somebody has logged in) that one is used.
///
/// | setting | default |
/// | --- | --- |
/// | [`scope`](Self::scope) | none: that of the login |
/// | [`assume_lifetime`](Self::assume_lifetime) | 1 h, if neither `expires_in` nor a JWT's `exp` says |
/// | [`log_out_on_close`](Self::log_out_on_close) | no: the login outlives the process |
///
/// # Example
///
/// ```
/// use tower_auth::AuthLayer;
/// use tower_auth::oauth2::{Client, RefreshToken};
///
/// # fn example(token: String) -> Result<(), tower_auth::Error> {
/// let client = Client::public("https://id.example.com/oauth/token", "my-app")?;
/// let layer = AuthLayer::new(RefreshToken::new(client, token));
/// # Ok(()) }
/// ```
pub struct RefreshToken {
    client: Client,
    store: Arc<dyn DynRefreshTokenStore>,
    params: TokenParams,
    logs_out: bool,
    /// Held during a fetch.
    memory: Mutex<Memory>,
}

/// What is known besides what is in the store.
#[derive(Default)]
struct Memory {
    /// Was issued, and couldn't be saved yet. The one in the store may be used up.
    unsaved: Option<SecretString>,
    /// The server doesn't accept it any more.
    dead: Option<SecretString>,
    /// What the login brought. Handed out until another is asked for.
    first: Option<InitialToken>,
}

impl RefreshToken {
    /// A source that starts from `token` and keeps what it is replaced by in memory: for a server
    /// that doesn't rotate refresh tokens, or a process whose restart is a new login.
    pub fn new(client: Client, token: impl Into<SecretString>) -> Self {
        Self::stored(client, InMemory::new(token.into()))
    }

    /// A source whose token is in `store`, where whatever logs in has saved it.
    pub fn stored(client: Client, store: impl RefreshTokenStore) -> Self {
        Self::kept_in(client, Arc::new(store))
    }

    fn kept_in(client: Client, store: Arc<dyn DynRefreshTokenStore>) -> Self {
        Self {
            client,
            store,
            params: TokenParams::new(RESERVED),
            logs_out: false,
            memory: Mutex::default(),
        }
    }

    /// What goes on from a login that has just been: with the access token that it brought, and with
    /// the refresh token, which is saved before anything is used. If it brought none, there is no
    /// other to go on with: the one that the store may have is of another login.
    pub(crate) async fn logged_in(
        client: Client,
        store: Option<Arc<dyn DynRefreshTokenStore>>,
        first: InitialToken,
        token: Option<SecretString>,
    ) -> Result<Self, Error> {
        let store = match (store, token) {
            (Some(store), Some(token)) => {
                store.save(token).await.map_err(unsaved)?;
                store
            }
            (_, token) => Arc::new(InMemory::new(token.unwrap_or_default())),
        };
        let mut source = Self::kept_in(client, store);
        source.memory.get_mut().first = Some(first);
        Ok(source)
    }

    /// Asks for less than the login granted (RFC 6749 §6): names separated by spaces. Default, and
    /// if empty: all of it.
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.params.set_scope([scope]);
        self
    }

    /// Ends the login as the cache is [closed](crate::TokenCache::close): the refresh token is revoked
    /// where [`Client::revoke_at`] says, and with it, at most servers, whatever was issued for it
    /// (RFC 7009 §2.1). Default: the login outlives the process.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the client doesn't know where tokens are revoked.
    pub fn log_out_on_close(mut self) -> Result<Self, Error> {
        if self.client.endpoint.revocation.is_none() {
            let message = "the login can't be ended: the client doesn't know where tokens are \
                           revoked; tell it with `revoke_at`";
            return Err(Error::new(Kind::Config, message));
        }
        self.logs_out = true;
        Ok(self)
    }

    async fn log_out(&self) -> Result<(), Error> {
        let mut memory = self.memory.lock().await;
        let token = match self.load(&mut memory).await {
            Ok(token) => token,
            // There is no login any more.
            Err(error) if error.is_login_required() => return Ok(()),
            Err(error) => return Err(error),
        };
        let endpoint = &self.client.endpoint;
        let revoked = endpoint
            .revoke(token.expose_secret(), "refresh_token")
            .await;
        memory.dead = Some(token);
        revoked
    }

    /// The token to use now.
    async fn load(&self, memory: &mut Memory) -> Result<SecretString, Error> {
        self.save(memory).await?;
        let stored = self.store.load().await.map_err(unread)?;
        let Some(token) = stored.filter(|token| !token.expose_secret().is_empty()) else {
            return Err(login_required("there is no refresh token"));
        };
        match &memory.dead {
            Some(dead) if is_same(dead, &token) => {
                let what = "the refresh token was refused before and isn't sent again";
                Err(login_required(what))
            }
            _ => Ok(token),
        }
    }

    /// Saves what couldn't be saved before. It stays in memory until that is done, whatever becomes
    /// of this future.
    async fn save(&self, memory: &mut Memory) -> Result<(), Error> {
        if let Some(token) = &memory.unsaved {
            self.store.save(token.clone()).await.map_err(unsaved)?;
            memory.unsaved = None;
        }
        Ok(())
    }

    async fn exchange(&self, token: &SecretString) -> Result<TokenResponse, Error> {
        let mut params = Params::default();
        params.push("grant_type", "refresh_token");
        params.push_secret("refresh_token", token.expose_secret());
        self.params.add_to(&mut params);
        self.client.endpoint.request(params).await
    }

    /// The next try is with another token than the one before, or there is none: somebody else may
    /// have saved a newer one.
    async fn refresh(&self, memory: &mut Memory) -> Result<(SecretString, TokenResponse), Error> {
        let mut refused: Option<Error> = None;
        loop {
            let token = match (self.load(memory).await, refused) {
                (Ok(token), _) => token,
                (Err(error), Some(refusal)) if error.is_login_required() => {
                    let what = "the authorization server doesn't accept the refresh token any more";
                    return Err(login_required(what).with_source(refusal));
                }
                (Err(error), _) => return Err(error),
            };
            match self.exchange(&token).await {
                Ok(reply) => return Ok((token, reply)),
                Err(error) if error.is_invalid_grant() => refused = Some(error),
                Err(error) => return Err(error),
            }
            memory.dead = Some(token);
        }
    }
}

token_param_setters!(RefreshToken, (params), [param, assume_lifetime]);

impl TokenSource for RefreshToken {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        let mut memory = self.memory.lock().await;
        // For any other reason the first one is refused, about to end, or not wanted any more.
        memory.first.take_if(|_| reason != Reason::First);
        if let Some(token) = memory.first.as_ref().and_then(InitialToken::unexpired) {
            return Ok(token);
        }
        let (used, mut reply) = self.refresh(&mut memory).await?;
        memory.unsaved = reply
            .refresh_token
            .take()
            .filter(|next| !is_same(next, &used));
        self.save(&mut memory).await?;
        self.params.token(&self.client, reply)
    }

    /// The refresh token stays good, unless it was said otherwise: the end of a process is no logout.
    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        let logged_out = if self.logs_out {
            self.log_out().await
        } else {
            Ok(())
        };
        // Whatever came of that.
        self.client.revoke(last).await.and(logged_out)
    }

    #[cfg(feature = "fleet")]
    fn bind(&self, to: &str, secret: SecretString) -> Result<Token, Error> {
        self.client.bind(to, secret)
    }
}

fn is_same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

fn login_required(what: &'static str) -> Error {
    Error::new(Kind::LoginRequired, format!("{what}; log in again"))
}

fn unread(error: BoxError) -> Error {
    Error::new(
        Kind::Source,
        "the refresh token can't be read from its store",
    )
    .with_source(error)
}

fn unsaved(error: BoxError) -> Error {
    let message = "the new refresh token can't be saved, so the token that came along isn't used";
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
