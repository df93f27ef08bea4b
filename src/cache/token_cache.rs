//! The handle to a cached token.

use std::fmt;
use std::future::poll_fn;
#[cfg(feature = "tenants")]
use std::sync::Weak;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use http::header::HeaderMap;
#[cfg(feature = "fleet")]
use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::acquire::{Acquire, Lookup, Want};
use super::builder::{FETCH_TIMEOUT, TokenCacheBuilder};
use super::cache_inner::CacheInner;
use super::expiry::{CachedToken, Freshness};
use super::published_state::PublishedState;
use super::refusal_evidence::{Resource, SentRequest};
use super::shutdown::Shutdown;
use super::state_machine::machine::StateMachine;
use super::state_machine::reject::{Attempt, Refusal, Rejection, Report};
use super::state_machine::request::IfRefused;
use super::status::Status;
use super::task_slot::TaskSlot;
use super::telemetry::Telemetry;
use crate::challenge::www_authenticate::Challenge;
use crate::clock::{Clock, Moment};
use crate::error::Error;
use crate::origin::Origin;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::Token;
use crate::token::place::Place;

/// One token, fetched once for everyone who needs it.
///
/// A clone is a handle to the same token. It works without Tower, for websockets, SDKs and
/// command lines; [`AuthLayer`](crate::AuthLayer) is this in front of an HTTP client.
///
/// 1. While the token is fresh, nobody waits and no lock is taken.
/// 2. While it is about to expire, it is still served, and one fetch runs in the background.
/// 3. When there is none, all callers wait for one fetch, and all get its one result.
/// 4. When a fetch fails, a token that is still good stays in use; without one, all callers get the
///    error until the next attempt, which is delayed for longer with each failure.
/// 5. When a server refuses the token, a successor is fetched. Other callers keep the token until then,
///    unless the refusals prove a revocation. Further refusals cause fetches less and less often.
///
/// A fetch runs on a task of its own, so that the caller that started it may be cancelled. It is bounded by
/// the [fetch timeout](TokenCacheBuilder::fetch_timeout); a panic in the source is an error like
/// any other. What callers see of every fault is in [`docs::faults`](crate::docs::faults).
///
/// # Example
///
/// ```
/// use tower_auth::{Token, TokenCache};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
/// let cache = TokenCache::new(|_| async { Token::bearer("fresh-from-the-vault") });
///
/// let token = cache.token().await?;
/// assert_eq!(token.secret(), "fresh-from-the-vault");
///
/// // A server refused it: the next call gets a new one.
/// cache.reject(&token);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TokenCache {
    inner: Arc<CacheInner>,
}

impl TokenCache {
    /// A cache over `source`, with the defaults of [`TokenCacheBuilder`].
    pub fn new(source: impl TokenSource) -> Self {
        Self::builder(source).build()
    }

    /// A cache over `source` with settings of your own.
    pub fn builder(source: impl TokenSource) -> TokenCacheBuilder {
        TokenCacheBuilder::new(source)
    }

    /// A token that is good now. The future does nothing until it is polled.
    ///
    /// # Errors
    ///
    /// The error of the fetch, the same for all callers that waited for it, and after it the same error
    /// until the next attempt: for a second, doubling to a minute, for a minute at once if
    /// the error [is permanent](crate::Error::is_permanent), or as long as the server's
    /// `Retry-After` says, up to 5 min. [`is_runtime`](crate::Error::is_runtime) outside of a Tokio
    /// runtime, [`is_closed`](crate::Error::is_closed) after [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the fetch goes on for the others and for the next.
    pub fn token(&self) -> Acquire {
        Acquire::new(Arc::clone(&self.inner), Want::Any)
    }

    /// A new token, even if the current one is good or the next attempt was delayed: for when somebody
    /// has corrected what was wrong. It waits for a fetch that is already running. Until the new token
    /// arrives, the old one is served. The future does nothing until it is polled.
    ///
    /// # Errors
    ///
    /// As [`token`](Self::token), but never an error of an earlier fetch.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the fetch goes on.
    pub fn refresh_now(&self) -> Acquire {
        Acquire::new(Arc::clone(&self.inner), Want::Newer)
    }

    /// Says that a server refused `token`. If it is still the current token, the next call of
    /// [`token`](Self::token) starts a fetch and waits for it. If that fetch fails, callers get the old
    /// token until it expires. If there is a newer token already, nothing happens.
    ///
    /// Fetches after refusals have a budget: one at once, and then one after 5, 10, 20 s, … up to 5 min.
    /// Until the next fetch is allowed, the refused token stays in use. The budget is full again when a token
    /// has lasted unrefused for the current wait. If the token was [accepted](Self::accept) since
    /// refusals began, the refusal proves a revocation. A second budget then allows a fetch from 1 s after the last.
    pub fn reject(&self, token: &Token) {
        let refusal = Refusal {
            generation: token.generation(),
            sent: self.sent_unknown(),
            is_final: true,
            attempt: Attempt::First,
            can_pause: false,
        };
        if let Rejection::Limited {
            report: Some(Report::AllRefused { tokens, wait }),
            ..
        } = self.refuse(&refusal)
        {
            self.telemetry()
                .refusals_limited(tokens, wait, token.scope());
        }
    }

    /// Says that a server accepted `token`: a later refusal of the same token shows that it was revoked,
    /// and a new token helps. An acceptance doesn't clear the budget of fetches after refusals.
    ///
    /// [`AuthLayer`](crate::AuthLayer) calls this by itself. Call it where you call
    /// [`reject`](Self::reject), for each response while there are refusals. A token that is accepted after
    /// it was refused counts as accepted and refused by turns. Then it takes 16 refusals in a row to prove
    /// a revocation.
    pub fn accept(&self, token: &Token) {
        self.accept_from(token.generation(), self.sent_unknown());
    }

    /// A request of which nothing is known.
    fn sent_unknown(&self) -> SentRequest {
        SentRequest {
            resource: Resource::UNKNOWN,
            at: self.now(),
        }
    }

    /// The status now. Takes a lock for a moment.
    pub fn status(&self) -> Status {
        self.inner.update_gauges();
        self.inner.status()
    }

    /// Watches the status: a fetch starts, completes or fails, the token is refused, the cache closes.
    /// The passing of time alone is no change: a token that no caller requests becomes stale without a
    /// notification, unless the cache [keeps it fresh](TokenCacheBuilder::keep_fresh).
    ///
    /// The channel holds the latest [`Status`], from the start the one of that moment, and ends when
    /// the last handle to the cache is dropped.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::cache::Phase;
    /// use tower_auth::{Token, TokenCache};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
    /// let cache = TokenCache::new(|_| async { Token::bearer("secret") });
    /// let mut watch = cache.subscribe();
    /// cache.token().await?;
    /// let ready = watch.wait_for(|status| status.is_ready()).await?;
    /// assert_eq!(ready.phase(), Phase::Fresh);
    /// # Ok(()) }
    /// ```
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        let mut receiver = self.inner.watch();
        // What it holds from the start is no change.
        self.inner.publish();
        receiver.mark_unchanged();
        receiver
    }

    /// Closes the cache: no more fetches, and callers get [`is_closed`](crate::Error::is_closed).
    ///
    /// A running fetch may complete, for the callers that wait for it. Then the source is
    /// [closed](TokenSource::close) with the last token, to revoke it or to log out. All this within
    /// the [close timeout](TokenCacheBuilder::close_timeout), after which it is cancelled. Failures are
    /// logged.
    ///
    /// A second call waits for the first. Outside of a Tokio runtime the source isn't closed.
    ///
    /// # Cancel safety
    ///
    /// The cache is closed when the future is first polled, and the rest runs on a task of its own:
    /// dropping the future changes nothing.
    pub async fn close(&self) {
        let mut changes = self.subscribe();
        let inner = &self.inner;
        let Some(remaining) = inner.transition(StateMachine::close) else {
            // The first call does the rest.
            return drop(changes.wait_for(Status::is_closed).await);
        };
        let shutdown = Shutdown::new(inner, remaining);
        match Handle::try_current() {
            Ok(runtime) => {
                drop(runtime.spawn(shutdown.finish()));
                drop(changes.wait_for(Status::is_closed).await);
            }
            Err(_) => shutdown.skip(),
        }
    }

    /// The cache again, while it is in use: a handle, a waiting caller or a running fetch.
    #[cfg(feature = "tenants")]
    pub(crate) fn upgrade(inner: &Weak<CacheInner>) -> Option<Self> {
        inner.upgrade().map(|inner| Self { inner })
    }

    #[cfg(feature = "tenants")]
    pub(crate) fn downgrade(&self) -> Weak<CacheInner> {
        Arc::downgrade(&self.inner)
    }

    /// The most that a fetch takes.
    #[cfg(feature = "tenants")]
    pub(crate) fn fetch_timeout(&self) -> Duration {
        self.inner.limits.fetch_timeout
    }

    #[inline]
    pub(crate) fn now(&self) -> Moment {
        self.inner.now()
    }

    #[inline]
    pub(crate) fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.inner.telemetry
    }

    /// Where in a request the tokens of this cache go, by what its source says.
    pub(crate) fn place(&self) -> &Place {
        &self.inner.place
    }

    /// Tells the source what a refusal said. Returns whether another token would do.
    pub(crate) fn challenged(&self, token: &Token, challenges: &[Challenge]) -> bool {
        self.inner.source.challenged(token, challenges)
    }

    /// The origins that the source names for its tokens.
    pub(crate) fn origins(&self) -> Vec<Origin> {
        self.inner.source.origins()
    }

    /// Whether a response is a refusal by the source's own rule.
    pub(crate) fn is_refusal(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        self.inner.source.is_refusal(status, headers)
    }

    /// Whether it is the current token. Takes no lock.
    #[inline]
    pub(crate) fn is_current(&self, cached: &Arc<CachedToken>) -> bool {
        self.inner.state.is_current(cached)
    }

    /// The current token, if it can be served with nothing else to do. Takes no lock.
    #[inline]
    pub(crate) fn servable(&self) -> Option<Arc<CachedToken>> {
        self.inner.state.servable(&self.inner.clock)
    }

    /// Whether there were refusals of late, so that acceptances have to be recorded.
    pub(crate) fn is_watching(&self) -> bool {
        self.inner.state.is_watching()
    }

    /// The current token if it can be served, or else what the state machine decides.
    pub(crate) fn lookup(&self, if_refused: IfRefused) -> Lookup {
        self.inner.lookup(if_refused)
    }

    /// Another token than the refused one of this generation.
    pub(crate) fn renew(&self, generation: u64) -> Lookup {
        self.inner.renew(generation)
    }

    /// The current token, if it is another than `cached` and has not expired.
    pub(crate) fn newer_than(&self, cached: &Arc<CachedToken>) -> Option<Arc<CachedToken>> {
        let current = self.inner.state.current()?;
        let is_newer = !Arc::ptr_eq(&current, cached);
        (is_newer && current.freshness(self.now()) != Freshness::Expired).then_some(current)
    }

    /// Records a refusal, and returns what it leads to.
    pub(crate) fn refuse(&self, refusal: &Refusal) -> Rejection {
        let now = self.now();
        self.inner
            .transition(|machine| machine.reject(refusal, now))
    }

    /// Records an acceptance.
    pub(crate) fn accept_from(&self, generation: u64, sent: SentRequest) {
        self.inner
            .transition(|machine| machine.accept(generation, sent));
        self.inner.end_watch(self.now());
    }
}

/// A cache as the source of another: several sources derive their own tokens from one.
///
/// It returns the current token, or a newer one if [a server refused](Reason::Refused) the last or the
/// user [wants a new one](Reason::Forced). Closing the other cache doesn't close this one, which may
/// have other users. In front of a client use `AuthLayer::from(cache)`, without another cache.
impl TokenSource for TokenCache {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        let want = match reason {
            Reason::Refused | Reason::Forced => Want::Newer,
            Reason::First | Reason::Stale | Reason::Expired => Want::Any,
        };
        let mut acquire = Acquire::new(Arc::clone(&self.inner), want);
        let cached = poll_fn(|cx| acquire.poll_cached(cx)).await?;
        // This cache reports the quotas.
        let token = cached.token().clone().with_quotas([]);
        // Expiry and refresh hint count from the token's fetch, which may be some time ago.
        let token = match cached.expires_at() {
            Some(end) => token.expires_at(end.wall()),
            None => token,
        };
        // This cache's refresh may come later than its source's hint says.
        let hint = cached.token().refresh_hint();
        let refresh_at = hint.and_then(|_| cached.refresh_at());
        let left = refresh_at.map(|at| self.now().until(at));
        Ok(match left.filter(|left| !left.is_zero()) {
            Some(left) => token.refresh_in(left),
            None => token,
        })
    }

    #[cfg(feature = "fleet")]
    fn store_key(&self) -> Option<StoreKey> {
        self.inner.source.store_key()
    }

    #[cfg(feature = "fleet")]
    fn bind(&self, to: &str, secret: SecretString) -> Result<Token, Error> {
        self.inner.source.bind(to, secret)
    }

    fn place(&self) -> Place {
        self.inner.place.clone()
    }

    fn origins(&self) -> Vec<Origin> {
        self.inner.source.origins()
    }

    fn is_refusal(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        self.inner.source.is_refusal(status, headers)
    }

    /// If this cache is in a fleet, its own lease guards the grant.
    fn has_one_time_grant(&self) -> bool {
        !self.inner.is_shared_with_fleet() && self.inner.source.has_one_time_grant()
    }

    /// Its own, if that is longer than the default.
    fn fetch_timeout(&self) -> Option<Duration> {
        let own = self.inner.limits.fetch_timeout;
        (own > FETCH_TIMEOUT).then_some(own)
    }
}

impl TokenCacheBuilder {
    /// The cache.
    pub fn build(mut self) -> TokenCache {
        if let Some(timeout) = self
            .source
            .fetch_timeout()
            .filter(|_| !self.has_fetch_timeout)
        {
            self.limits.fetch_timeout = timeout;
        }
        TokenCache {
            inner: Arc::new(CacheInner {
                place: self.source.place(),
                source: self.source,
                #[cfg(feature = "fleet")]
                coordinator: self.coordinator,
                clock: self.clock,
                limits: self.limits,
                attempts: self.attempts,
                close_timeout: self.close_timeout,
                keeps_fresh: self.keeps_fresh,
                telemetry: Telemetry::new(self.name),
                state: PublishedState::new(self.limits),
                changes: OnceLock::new(),
                fetch_task: TaskSlot::default(),
                refresh_timer: TaskSlot::default(),
            }),
        }
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cached = self.inner.state.current();
        f.debug_struct("TokenCache")
            .field("name", &self.inner.telemetry.cache())
            .field("place", &self.inner.place)
            .field("token", &cached.as_ref().map(|cached| cached.token()))
            .finish_non_exhaustive()
    }
}
