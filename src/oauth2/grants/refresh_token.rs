//! The refresh token grant (RFC 6749 §6), which continues a user's login.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use super::initial_token::{InitialToken, RequestedAt};
use super::login_lock::{LOCK_TIMEOUT, LockAttempts, not_locked, unlock};
use super::login_record::{LoginRecord, RecordedToken};
use super::login_state::{LoginState, StateGuard, UnsavedToken, is_same};
use super::refresh_store::{
    DynRefreshTokenStore, InMemory, LoginLock, RefreshTokenStore, SavedLogin,
};
use super::saved_token::{Loaded, Wanted};
use super::token_params::{Reserved, TokenParams, token_param_setters};
use crate::cache::builder::FETCH_TIMEOUT;
use crate::error::{BoxError, Error, Kind};
use crate::http_client::token_response::UnjudgedResponse;
use crate::http_client::token_response_format::TokenResponseFormat;
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::client::params::Params;
use crate::origin::Origin;
use crate::sanitize::ServerText;
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
/// - The source saves a new refresh token in the [store](RefreshTokenStore) before it returns a
///   token or an error. So an unusable access token doesn't end the login. If saving fails, the
///   fetch fails. The next fetch first saves the refresh token.
/// - A token without an [ID token](Token::id_token) gets the last ID token of the same login.
/// - Fetches never overlap, so that two requests never send the same rotating token at once. If the
///   store has a [lock](RefreshTokenStore#one-process-or-many), this also holds for all processes
///   that share the login. Then the first process refreshes the login, and the others use the access
///   token that it saved.
/// - If another process has the lock for longer than the [lock timeout](Self::lock_timeout), the
///   fetch fails with a [transient](Error::is_transient) error. The source then sends nothing. The
///   current access token stays in use until its expiry.
/// - If the server no longer accepts the refresh token (`invalid_grant`, or a [code that you
///   set](crate::oauth2::TokenResponseFormat::login_required_code)), the error [requires a
///   login](Error::is_login_required). The source doesn't send the refused token again. If the
///   store contains another token, from another process or a new login, the source sends the other
///   token.
///
/// | setting | default |
/// | --- | --- |
/// | [`scope`](Self::scope) | none: the scope of the login |
/// | [`resource`](Self::resource) | none: the server uses the resources of the login |
/// | [`response_format`](Self::response_format) | the client's format |
/// | [`assume_lifetime`](Self::assume_lifetime) | 1 h, used if neither `expires_in` nor a JWT's `exp` is present |
/// | [`lock_timeout`](Self::lock_timeout) | 15 s |
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
    lock_timeout: Duration,
    logs_out: bool,
    origins: Vec<Origin>,
    /// The state of the login. Its lock is held during a fetch.
    state: Mutex<LoginState>,
}

/// The result of work that needs the store's lock.
enum Outcome<T> {
    Done(T),
    /// This process no longer has the lock. Nothing was sent.
    LockLost,
}

impl RefreshToken {
    /// Creates a source that starts with `token` and keeps new refresh tokens in memory. Use this
    /// constructor if the server doesn't rotate refresh tokens, or if the process logs in again
    /// after a restart.
    pub fn new(client: Client, token: impl Into<SecretString>) -> Self {
        Self::stored(client, InMemory::new(token.into()))
    }

    /// Creates a source that uses the token in `store`, where a login saved the token.
    ///
    /// # Example
    ///
    /// ```
    /// # #[cfg(feature = "file")] {
    /// use tower_auth::oauth2::{Client, RefreshToken, RefreshTokenFile};
    ///
    /// # fn example(client: Client) {
    /// let file = RefreshTokenFile::new("/var/lib/my-app/refresh-token");
    /// let source = RefreshToken::stored(client, file);
    /// # } }
    /// ```
    pub fn stored(client: Client, store: impl RefreshTokenStore) -> Self {
        Self::with_store(client, Arc::new(store))
    }

    fn with_store(client: Client, store: Arc<dyn DynRefreshTokenStore>) -> Self {
        Self {
            client,
            store,
            params: TokenParams::new(RESERVED),
            lock_timeout: LOCK_TIMEOUT,
            logs_out: false,
            origins: Vec::new(),
            state: Mutex::default(),
        }
    }

    /// Creates a source from a new login, and saves the login under the store's lock. Without a
    /// refresh token, the source doesn't use the store, because the stored token belongs to another
    /// login.
    pub(crate) async fn logged_in(
        client: Client,
        store: Option<(Arc<dyn DynRefreshTokenStore>, &LoginLock)>,
        refresh_token: Option<SecretString>,
        token: Option<(&Token, &RequestedAt)>,
    ) -> Result<Self, Error> {
        let (Some((store, lock)), Some(refresh_token)) = (store, &refresh_token) else {
            let token = refresh_token.unwrap_or_default();
            return Ok(Self::with_store(client, Arc::new(InMemory::new(token))));
        };
        let source = Self::with_store(client, store);
        let record = source.record(refresh_token.clone(), token);
        let saved = source.store.save(record.encode(), lock).await;
        saved.map_err(not_saved)?;
        Ok(source)
    }

    /// Sets the access token of the login.
    #[must_use]
    pub(crate) fn with_initial_token(mut self, initial_token: InitialToken) -> Self {
        self.state.get_mut().initial_token = Some(initial_token);
        self
    }

    /// Sets the ID token of the login, and the refresh token from the same response.
    #[must_use]
    pub(crate) fn with_id_token(mut self, id_token: &str, refresh_token: SecretString) -> Self {
        let id_token = SecretString::from(id_token);
        self.state.get_mut().set_id_token(id_token, refresh_token);
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
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::oauth2::{Client, RefreshToken};
    ///
    /// # fn example(token: String) -> Result<(), tower_auth::Error> {
    /// let client = Client::public("https://id.example.com/oauth/token", "my-app")?
    ///     .revoke_at("https://id.example.com/oauth/revoke")?;
    /// let source = RefreshToken::new(client, token).log_out_on_close()?;
    /// # Ok(()) }
    /// ```
    pub fn log_out_on_close(mut self) -> Result<Self, Error> {
        if self.client.endpoint.revocation.is_none() {
            let message = "the client has no revocation endpoint, so it can't log out; set \
                           it with `revoke_at`";
            return Err(Error::new(Kind::Config, message));
        }
        self.logs_out = true;
        Ok(self)
    }

    /// Sets how long a fetch waits for the [lock](RefreshTokenStore::lock) of the login. After this
    /// time, the fetch fails with a [transient](Error::is_transient) error. A process keeps the
    /// lock during its token request. So the time should be at least 4 s longer than the [client's
    /// timeout](Client::timeout). Then a fetch outlasts the lock of a process that died. Default:
    /// 15 s, which is enough for the default timeout of 10 s.
    #[must_use]
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    async fn log_out(&self) -> Result<(), Error> {
        let mut state = StateGuard(self.state.lock().await);
        let mut attempts = self.lock_attempts();
        let logged_out = loop {
            if !self.has_lock(&mut state).await? {
                state.lock = attempts.next().await?;
            }
            if state.lock.is_none() {
                continue;
            }
            match self.log_out_with_lock(&mut state).await {
                Ok(Outcome::LockLost) => attempts.pause().await?,
                Ok(Outcome::Done(())) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.unlock(&mut state).await;
        logged_out
    }

    /// Saves a new refresh token that couldn't be saved before. During a fetch of another cache, leaves
    /// this to the fetch.
    async fn save_last(&self) -> Result<(), Error> {
        let Ok(state) = self.state.try_lock() else {
            return Ok(());
        };
        let mut state = StateGuard(state);
        if state.unsaved.is_none() {
            return Ok(());
        }
        if !self.has_lock(&mut state).await? {
            state.lock = Some(self.lock_attempts().lock().await?);
        }
        let saved = self.load().await?;
        self.save_unsaved(&mut state, saved).await?;
        self.unlock(&mut state).await;
        Ok(())
    }

    async fn log_out_with_lock(&self, state: &mut LoginState) -> Result<Outcome<()>, Error> {
        let saved = self.load().await?;
        let saved = self.save_unsaved(state, saved).await?;
        let token = match refresh_token(state, saved.as_ref()) {
            Ok(token) => token,
            // The login has already ended.
            Err(error) if error.is_login_required() => return Ok(Outcome::Done(())),
            Err(error) => return Err(error),
        };
        if !self.has_lock(state).await? {
            return Ok(Outcome::LockLost);
        }
        let (endpoint, secret) = (&self.client.endpoint, token.expose_secret());
        let revoked = endpoint.revoke(secret, "refresh_token").await;
        state.refused = Some(token);
        revoked?;
        if let Some(lock) = &state.lock {
            self.store.delete(lock).await.map_err(not_deleted)?;
        }
        Ok(Outcome::Done(()))
    }

    async fn load(&self) -> Result<Option<Loaded>, Error> {
        // The answer may arrive late, and the login has aged meanwhile.
        let since = RequestedAt::now();
        let saved = self.store.load().await.map_err(not_loaded)?;
        let saved = saved.map(|saved| saved.aged_by(since.waited()));
        let saved = saved
            .as_ref()
            .map(Loaded::new)
            .transpose()
            .map_err(not_loaded)?;
        Ok(saved.flatten())
    }

    fn lock_attempts(&self) -> LockAttempts<'_> {
        let request_time = self.client.endpoint.http.timeout;
        LockAttempts::new(&*self.store, self.lock_timeout, request_time)
    }

    /// Returns whether this process still has the store's lock. Drops a lost lock.
    async fn has_lock(&self, state: &mut LoginState) -> Result<bool, Error> {
        let has_lock = match &state.lock {
            Some(lock) => self.store.confirm(lock).await.map_err(not_locked)?,
            None => false,
        };
        if !has_lock {
            state.lock = None;
        }
        Ok(has_lock)
    }

    /// Releases the lock, unless there is an unsaved token.
    async fn unlock(&self, state: &mut LoginState) {
        if state.unsaved.is_none()
            && let Some(lock) = state.lock.take()
        {
            unlock(&*self.store, lock).await;
        }
    }

    /// Returns an access token: a token that another process saved, or a new one.
    async fn shared_or_new(&self, state: &mut LoginState, reason: Reason) -> Result<Token, Error> {
        // Starts before the first load. So a login that changes after this load is younger than the
        // fetch.
        let mut wanted = Wanted::new(reason, &self.client, self.params.digest(&self.client));
        let found = self.load().await?;
        let usable = wanted.look_first(found.as_ref(), &state.known);
        if let Some(token) = usable.filter(|_| state.unsaved.is_none()) {
            return Ok(token);
        }
        let mut attempts = self.lock_attempts();
        loop {
            if !self.has_lock(state).await? {
                state.lock = attempts.next().await?;
            }
            if state.lock.is_some() {
                match self.refresh(state, &wanted).await? {
                    Outcome::Done(token) => return Ok(token),
                    Outcome::LockLost => attempts.pause().await?,
                }
            } else if let Some(saved) = self.load().await?
                && let Some(token) = wanted.usable(&saved, &state.known)
            {
                return Ok(token);
            }
        }
    }

    /// Saves the unsaved token, if any, and returns what the store then contains. Even if this
    /// future is dropped, the token stays in memory until it is saved.
    async fn save_unsaved(
        &self,
        state: &mut LoginState,
        saved: Option<Loaded>,
    ) -> Result<Option<Loaded>, Error> {
        let (Some(unsaved), Some(lock)) = (&state.unsaved, &state.lock) else {
            return Ok(saved);
        };
        let is_current = saved.as_ref().is_none_or(|saved| {
            let stored = saved.record.refresh_token();
            is_same(stored, &unsaved.replaces) || is_same(stored, &unsaved.token)
        });
        if !is_current {
            // Somebody has logged in again, so the unsaved token belongs to the old login.
            state.unsaved = None;
            return Ok(saved);
        }
        let record = LoginRecord::new(unsaved.token.clone(), None);
        let record = record.with_id_token(state.id_token_of(&unsaved.token));
        let text = record.encode();
        let save = self.store.save(text.clone(), lock);
        save.await.map_err(not_saved_yet)?;
        state.unsaved = None;
        Loaded::new(&SavedLogin::new(text)).map_err(not_loaded)
    }

    async fn exchange(&self, token: &SecretString) -> Result<UnjudgedResponse, Error> {
        let mut params = Params::default();
        params.push("grant_type", "refresh_token");
        params.push_secret("refresh_token", token.expose_secret());
        self.params.add_to(&mut params);
        self.client.endpoint.request_unjudged(params).await
    }

    /// Makes the record of a login for the store.
    fn record(
        &self,
        refresh_token: SecretString,
        token: Option<(&Token, &RequestedAt)>,
    ) -> LoginRecord {
        let client = &self.client;
        let access_token = token.and_then(|(token, requested_at)| {
            RecordedToken::new(token, requested_at, self.params.digest(client), client)
        });
        let id_token = token.and_then(|(token, _)| token.id_token());
        LoginRecord::new(refresh_token, access_token)
            .with_id_token(id_token.map(SecretString::from))
    }

    /// Exchanges the refresh token for an access token, under the store's lock. Uses the token of
    /// another process instead, if the store contains a usable one.
    ///
    /// If the server rejects the refresh token, looks at the store again. If another process has
    /// saved a new token there, tries again with the new token.
    async fn refresh(
        &self,
        state: &mut LoginState,
        wanted: &Wanted<'_>,
    ) -> Result<Outcome<Token>, Error> {
        let mut refusal: Option<Error> = None;
        loop {
            let saved = self.load().await?;
            let saved = self.save_unsaved(state, saved).await?;
            if let Some(saved) = &saved
                && let Some(token) = wanted.usable(saved, &state.known)
            {
                return Ok(Outcome::Done(token));
            }
            let token = match (refresh_token(state, saved.as_ref()), refusal) {
                (Ok(token), _) => token,
                (Err(error), Some(refusal)) if error.is_login_required() => {
                    let what = "the authorization server no longer accepts the refresh token";
                    return Err(login_required(what).with_source(refusal));
                }
                (Err(error), _) => return Err(error),
            };
            if !self.has_lock(state).await? {
                return Ok(Outcome::LockLost);
            }
            if let Some(saved) = &saved {
                state.find_id_token(&saved.record);
            }
            let requested_at = RequestedAt::now();
            let response = self.exchange(&token).await?;
            let next = response.refresh_token;
            let next = next.filter(|next| !is_same(next, &token));
            let is_replaced = next.is_some();
            state.unsaved = next.map(|next| UnsavedToken {
                token: next,
                replaces: token.clone(),
            });
            let unsaved = state.unsaved.as_ref();
            let current = unsaved.map_or_else(|| token.clone(), |unsaved| unsaved.token.clone());
            state.follow(&token, &current);
            let issued = response.rest.and_then(|mut rest| {
                state.keep_id_token(&mut rest, &current);
                self.params.token(&self.client, rest)
            });
            let knows_age = saved.is_some_and(|saved| saved.age.is_some());
            let new_token = issued.as_ref().ok().map(|token| (token, &requested_at));
            let not_saved = self
                .save_response(state, &current, new_token, knows_age)
                .await?;
            match issued {
                // If the refusal contains a new refresh token, the store now has that token.
                // Another attempt could get another such refusal, and so on without end.
                Err(error) if error.is_invalid_grant() && !is_replaced => refusal = Some(error),
                Err(error) => return Err(error),
                // The cache counts the lifetime from the start of the fetch.
                Ok(token) => {
                    let token = wanted.later(token, &requested_at);
                    return Ok(Outcome::Done(match not_saved {
                        Some(why) => token.with_not_saved(ServerText::new(&why.to_string())),
                        None => token,
                    }));
                }
            }
            state.refused = Some(token);
        }
    }

    /// Saves the refresh token and the access token of a response in one record. `current` is the
    /// new refresh token, or the old one if the server didn't replace it. If only the access token
    /// can't be saved, returns the reason.
    async fn save_response(
        &self,
        state: &mut LoginState,
        current: &SecretString,
        token: Option<(&Token, &RequestedAt)>,
        knows_age: bool,
    ) -> Result<Option<BoxError>, Error> {
        let Some(lock) = &state.lock else {
            return Ok(None);
        };
        let is_replaced = state.unsaved.is_some();
        // If the store has no lock and knows no age, no other process could use the access token.
        let is_shared = token.is_some() && (knows_age || !lock.is_none());
        if !is_replaced && !is_shared {
            return Ok(None);
        }
        let record = self.record(current.clone(), token);
        let record = record.with_id_token(state.id_token_of(current));
        match self.store.save(record.encode(), lock).await {
            Ok(()) => {
                state.unsaved = None;
                Ok(None)
            }
            Err(error) if is_replaced => Err(not_saved_yet(error)),
            Err(error) => Ok(Some(error)),
        }
    }
}

/// Returns the refresh token to send now.
fn refresh_token(state: &LoginState, saved: Option<&Loaded>) -> Result<SecretString, Error> {
    let token = saved.map(|saved| saved.record.refresh_token());
    let Some(token) = token.filter(|token| !token.expose_secret().is_empty()) else {
        return Err(login_required("there is no refresh token"));
    };
    match &state.refused {
        Some(refused) if is_same(refused, token) => {
            let what = "the server refused this refresh token before, so it isn't sent again";
            Err(login_required(what))
        }
        _ => Ok(token.clone()),
    }
}

token_param_setters!(RefreshToken, (params), [resource, param, assume_lifetime]);

impl TokenSource for RefreshToken {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        let mut state = StateGuard(self.state.lock().await);
        if reason == Reason::Refused {
            state.known.record_refusal();
        }
        // Any reason but `First` means that the initial token was refused or is about to expire.
        state.initial_token.take_if(|_| reason != Reason::First);
        let initial = state.initial_token.as_ref();
        let token = match initial.and_then(InitialToken::unexpired) {
            Some(token) => Ok(token),
            None => self.shared_or_new(&mut state, reason).await,
        };
        self.unlock(&mut state).await;
        let token = token?;
        state.known.record_latest(&token);
        Ok(token)
    }

    /// Revokes the access token. Revokes the refresh token only if `log_out_on_close` is set,
    /// because the end of a process isn't a logout.
    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        let logged_out = if self.logs_out {
            self.log_out().await
        } else {
            self.save_last().await
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

    /// Returns the time for the lock and for a token request, if the default is shorter.
    fn fetch_timeout(&self) -> Option<Duration> {
        let request_time = self.client.endpoint.http.timeout;
        let needed = self.lock_timeout.saturating_add(request_time);
        let needed = needed.saturating_add(Duration::from_secs(5));
        (needed > FETCH_TIMEOUT).then_some(needed)
    }

    /// Returns `true`, because a server may replace the refresh token at any use (RFC 6749 §6).
    fn has_one_time_grant(&self) -> bool {
        true
    }
}

fn login_required(what: &'static str) -> Error {
    Error::new(Kind::LoginRequired, format!("{what}; log in again"))
}

fn not_loaded(error: BoxError) -> Error {
    let message = "could not read the refresh token from its store";
    Error::new(Kind::Source, message).with_source(error)
}

fn not_deleted(error: BoxError) -> Error {
    let message = "could not delete the login from its store; the server no longer accepts it";
    Error::new(Kind::Source, message).with_source(error)
}

/// Makes the error for a refresh token that the next attempt saves first.
fn not_saved_yet(error: BoxError) -> Error {
    let message = "could not save the new refresh token, so the new access token isn't used";
    Error::new(Kind::Transient, message).with_source(error)
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
