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
#[cfg(feature = "fleet")]
use super::fleet_coordinator::Coordinator;
use super::published_state::PublishedState;
use super::refusal_evidence::{Resource, SentRequest};
use super::shutdown::Shutdown;
use super::state_machine::machine::StateMachine;
use super::state_machine::reject::{Attempt, Refusal, Rejection, Report};
use super::state_machine::request::Caller;
use super::status::Status;
use super::task_slot::TaskSlot;
use super::telemetry::Telemetry;
use crate::challenge::www_authenticate::Challenge;
use crate::clock::{Clock, Moment};
use crate::error::Error;
use crate::origin::Origin;
use crate::sanitize::ServerText;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::Token;
use crate::token::place::Place;

/// Caches one token and shares it between all callers.
///
/// Clones are handles to the same token. The cache also works without Tower, for example for
/// WebSockets, SDKs and command-line tools. [`AuthLayer`](crate::AuthLayer) puts a cache in front
/// of an HTTP client.
///
/// 1. While the token is fresh, no caller waits and no lock is taken.
/// 2. While the token is stale, callers still get the token. One fetch runs in the background.
/// 3. Without a token, all callers wait for one fetch and get its result.
/// 4. When a fetch fails, a token that hasn't expired stays in use. Without such a token, all
///    callers get the error until the next attempt. The delay grows with each failure.
/// 5. When a server refuses the token, the cache fetches a successor. Until the successor arrives,
///    other callers keep the refused token, unless the refusals prove a revocation. Further
///    refusals cause fetches at growing intervals.
///
/// Each fetch runs on its own task, so cancelling the caller that started a fetch doesn't stop the
/// fetch. The [fetch timeout](TokenCacheBuilder::fetch_timeout) bounds the fetch. A panic in the
/// source becomes an error. [`docs::faults`](crate::docs::faults) lists what callers see after each
/// fault.
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
/// // If a server refused the token, the next call gets a new one.
/// cache.reject(&token);
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[doc(alias = "refresh")]
#[doc(alias = "rotate")]
pub struct TokenCache {
    inner: Arc<CacheInner>,
}

impl TokenCache {
    /// Creates a cache over `source` with the defaults of [`TokenCacheBuilder`].
    pub fn new(source: impl TokenSource) -> Self {
        Self::builder(source).build()
    }

    /// Returns a builder for a cache over `source` with custom settings.
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_auth::{Token, TokenCache};
    ///
    /// let cache = TokenCache::builder(|_| async { Token::bearer("secret") })
    ///     .name("reports")
    ///     .fetch_timeout(Duration::from_secs(5))
    ///     .build();
    /// ```
    pub fn builder(source: impl TokenSource) -> TokenCacheBuilder {
        TokenCacheBuilder::new(source)
    }

    /// Returns a token that hasn't expired. The future does nothing until it is polled.
    ///
    /// # Errors
    ///
    /// All callers that wait for a fetch get its error. Later callers get the same error until the
    /// next attempt. The next attempt is delayed:
    ///
    /// - after a transient error: 1 s, doubling with each failure up to 1 min
    /// - after a [permanent error](crate::Error::is_permanent): 1 min
    /// - after an error with a longer `Retry-After`: for that time, up to 5 min
    ///
    /// Outside of a Tokio runtime, the error is [`is_runtime`](crate::Error::is_runtime). After
    /// [`close`](Self::close), the error is [`is_closed`](crate::Error::is_closed).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing, because the fetch continues for other and later callers.
    pub fn token(&self) -> Acquire {
        Acquire::new(Arc::clone(&self.inner), Want::Any)
    }

    /// Returns a new token, even if the current token is good or the next attempt is delayed. Call
    /// this method after you fix the cause of a failure.
    ///
    /// If a fetch is already running, the call waits for its result. Until the new token arrives,
    /// other callers get the old token. The future does nothing until it is polled.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`token`](Self::token), but never the error of an earlier fetch.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing, because the fetch continues.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::{Reason, Token, TokenCache};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let source = |reason: Reason| async move { Token::bearer(reason.as_str()) };
    /// let cache = TokenCache::new(source);
    /// assert_eq!(cache.token().await?.secret(), "first");
    /// // An operator has replaced the secret.
    /// assert_eq!(cache.refresh_now().await?.secret(), "forced");
    /// # Ok(()) }
    /// ```
    #[doc(alias = "force")]
    #[doc(alias = "rotate")]
    pub fn refresh_now(&self) -> Acquire {
        Acquire::new(Arc::clone(&self.inner), Want::Newer)
    }

    /// Waits at most `timeout` for a token that can be sent. If there is no such token, this method
    /// starts a fetch. For example, there is no such token at startup, and after an idle hour in
    /// which the token expired.
    ///
    /// Call this method at startup and in a readiness probe. A service that isn't ready gets no
    /// requests. Without requests, nothing else starts the fetch. Concurrent calls and requests
    /// share one fetch. The fetch continues after the timeout, so a later call finds the token.
    ///
    /// `Ok` means that a token can be sent, but not that the API accepts the token. If the API
    /// refuses new tokens again and again, `ready` is `Ok` and [`Status::is_ready`] is `false`.
    /// Report this state with [`Status::refusals_limited_until`]. Keep the instance in service,
    /// because all instances get the same refusals.
    ///
    /// | | [`ready`](Self::ready) | [`Status::is_ready`] |
    /// | --- | --- | --- |
    /// | without a token | starts a fetch and waits | `false`; starts nothing |
    /// | after a failed fetch, until the next attempt | the error, immediately | `false` |
    /// | the token expires soon | `Ok`; starts a background refresh | `true` |
    /// | refusals are limited | `Ok` | `false` |
    /// | to be called | at startup and in a readiness probe | for logs, metrics and people |
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`token`](Self::token). After a failed fetch, this method returns
    /// the error of that fetch until the next attempt. [`is_timeout`](crate::Error::is_timeout) if
    /// the fetch takes longer than `timeout`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing, because the fetch continues.
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_auth::{Token, TokenCache};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let cache = TokenCache::new(|_| async { Token::bearer("secret") });
    /// assert!(!cache.status().is_ready());
    /// cache.ready(Duration::from_secs(2)).await?;
    /// assert!(cache.status().is_ready());
    /// # Ok(()) }
    /// ```
    pub async fn ready(&self, timeout: Duration) -> Result<(), Error> {
        self.token().within(timeout).await.map(drop)
    }

    /// Reports that a server refused `token`.
    ///
    /// If `token` is still current, the next call of [`token`](Self::token) starts a fetch and
    /// waits for the result. If that fetch fails, callers get the old token until it expires. If a
    /// newer token exists, nothing happens.
    ///
    /// Fetches after refusals have a budget. The first fetch is immediate. The next fetches follow
    /// after 5, 10, 20 s, … up to 5 min. Until the next fetch is allowed, the refused token stays
    /// in use. The budget is full again when the current token was accepted and has lasted for the
    /// current wait without a refusal.
    ///
    /// If the token was [accepted](Self::accept) since refusals began, the refusal proves a
    /// revocation. Fetches after a revocation have a second budget. Its waits start at 1 s.
    #[doc(alias = "401")]
    #[doc(alias = "invalidate")]
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
            let scope = token.scope().map(ServerText::new);
            self.telemetry()
                .refusals_limited(tokens, wait, scope.as_ref());
        }
    }

    /// Reports that a server accepted `token`. A later refusal of the same token then shows that
    /// the token was revoked and that a new token helps.
    ///
    /// An acceptance doesn't refill the budget of fetches after refusals.
    ///
    /// [`AuthLayer`](crate::AuthLayer) calls this method itself. If you call
    /// [`reject`](Self::reject), also call `accept`: while requests are refused, call it for each
    /// response that shows that the server accepted the token. A token that a server accepts after
    /// a refusal counts as accepted and refused by turns. For such a token, only 16 refusals in a
    /// row prove a revocation.
    ///
    /// # Example
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_auth::{Token, TokenCache};
    ///
    /// /// Reports the response to a token that was sent without an `AuthLayer`.
    /// fn report(cache: &TokenCache, token: &Token, status: StatusCode) {
    ///     if status.is_success() {
    ///         cache.accept(token);
    ///     } else if status == StatusCode::UNAUTHORIZED {
    ///         cache.reject(token);
    ///     }
    /// }
    /// ```
    pub fn accept(&self, token: &Token) {
        self.accept_from(token.generation(), self.sent_unknown());
    }

    /// Describes a request that was sent now to an unknown resource.
    fn sent_unknown(&self) -> SentRequest {
        SentRequest {
            resource: Resource::UNKNOWN,
            at: self.now(),
        }
    }

    /// Returns the current status. Takes a lock for a short time.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::cache::Phase;
    /// use tower_auth::{Error, Token, TokenCache};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let cache = TokenCache::new(|_| async {
    ///     Err::<Token, _>(Error::permanent("the vault has no such role"))
    /// });
    /// assert!(cache.token().await.is_err());
    /// assert_eq!(cache.status().phase(), Phase::Failed);
    /// assert!(cache.status().last_error().is_some_and(Error::is_permanent));
    /// # Ok(()) }
    /// ```
    pub fn status(&self) -> Status {
        self.inner.update_gauges();
        self.inner.status()
    }

    /// Subscribes to changes of the status. These events change the status:
    ///
    /// - A fetch starts, completes or fails.
    /// - A server refuses the token.
    /// - The cache closes.
    ///
    /// The passing of time doesn't notify subscribers. So an unused token becomes stale without a
    /// notification, unless the cache [keeps the token fresh](TokenCacheBuilder::keep_fresh).
    ///
    /// The channel always contains the latest [`Status`]. At first, this is the status at the time
    /// of the call. The channel ends when the last handle to the cache is dropped.
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
        // Marks the current status as seen, so that subscribers are notified only of later changes.
        self.inner.publish();
        receiver.mark_unchanged();
        receiver
    }

    /// Deletes the token that this cache shares with the other processes of its
    /// [`Fleet`](crate::fleet::Fleet), for example after an incident. No process loads this token
    /// from the store again. Processes that already use the token keep it until it expires or a
    /// server refuses it. This includes the calling process. Without a fleet, this method does
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`is_transient`](Error::is_transient) if the store fails, or if another process has the lease
    /// for longer than 1.5 times the [lease time](crate::fleet::Fleet::lease_time).
    ///
    /// # Cancel safety
    ///
    /// The token may or may not be deleted.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::{Error, Token, TokenCache};
    ///
    /// /// Replaces a token that has leaked.
    /// async fn replace(cache: &TokenCache) -> Result<Token, Error> {
    ///     cache.forget_shared().await?;
    ///     cache.refresh_now().await
    /// }
    /// ```
    #[cfg(feature = "fleet")]
    pub async fn forget_shared(&self) -> Result<(), Error> {
        match &self.inner.coordinator {
            Some(coordinator) => coordinator.forget().await,
            None => Ok(()),
        }
    }

    /// Closes the cache. A closed cache starts no fetches, and callers get an
    /// [`is_closed`](crate::Error::is_closed) error.
    ///
    /// A running fetch may still complete for callers that already wait for it. Afterwards, the
    /// cache [closes the source](TokenSource::close) with the last token. The source can revoke the
    /// token or log out. After the [close timeout](TokenCacheBuilder::close_timeout), the remaining
    /// work is cancelled. Failures are logged.
    ///
    /// The phase is [`Closing`](crate::cache::Phase::Closing) until this work is done, and then
    /// [`Closed`](crate::cache::Phase::Closed). A second call waits for the first call. Outside of
    /// a Tokio runtime, the source isn't closed.
    ///
    /// # Cancel safety
    ///
    /// The cache closes when the future is first polled. The remaining work runs on its own task.
    /// Dropping the future after its first poll changes nothing.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::{Token, TokenCache};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let cache = TokenCache::new(|_| async { Token::bearer("secret") });
    /// cache.token().await?;
    /// // After the last request:
    /// cache.close().await;
    /// assert!(cache.token().await.is_err_and(|error| error.is_closed()));
    /// # Ok(()) }
    /// ```
    pub async fn close(&self) {
        let mut changes = self.subscribe();
        let inner = &self.inner;
        let Some(remaining) = inner.transition(StateMachine::close) else {
            // The first call of `close` is doing the remaining work.
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

    /// Returns a new handle if the cache still has users: other handles, waiting callers or a
    /// running fetch.
    #[cfg(feature = "tenants")]
    pub(crate) fn upgrade(inner: &Weak<CacheInner>) -> Option<Self> {
        inner.upgrade().map(|inner| Self { inner })
    }

    #[cfg(feature = "tenants")]
    pub(crate) fn downgrade(&self) -> Weak<CacheInner> {
        Arc::downgrade(&self.inner)
    }

    /// Returns the maximum time of a fetch.
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

    /// Returns where the source wants its tokens in a request.
    pub(crate) fn place(&self) -> &Place {
        &self.inner.place
    }

    /// Passes the challenges of a refusal to the source. Returns whether another token would
    /// satisfy the challenges.
    pub(crate) fn challenged(&self, token: &Token, challenges: &[Challenge]) -> bool {
        let challenged = || self.inner.source.challenged(token, challenges);
        self.inner.while_calling(challenged)
    }

    /// Returns the origins that the source names for its tokens.
    pub(crate) fn origins(&self) -> Vec<Origin> {
        self.inner.source.origins()
    }

    /// Returns whether a response is a refusal by the source's own rule.
    pub(crate) fn is_refusal(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        self.inner.source.is_refusal(status, headers)
    }

    /// Returns whether `cached` is the current token. Takes no lock.
    #[inline]
    pub(crate) fn is_current(&self, cached: &Arc<CachedToken>) -> bool {
        self.inner.state.is_current(cached)
    }

    /// Returns the current token if it can be served and nothing else has to be done. Takes no
    /// lock.
    #[inline]
    pub(crate) fn servable(&self) -> Option<Arc<CachedToken>> {
        self.inner.state.servable(&self.inner.clock)
    }

    /// Returns whether acceptances must be recorded, because there were refusals recently.
    pub(crate) fn is_watching(&self) -> bool {
        self.inner.state.is_watching()
    }

    /// Returns the current token if it can be served. Otherwise, the state machine decides what the
    /// caller gets.
    pub(crate) fn lookup(&self, caller: Caller) -> Lookup {
        self.inner.lookup(caller)
    }

    /// Requests a token that replaces the refused token of this `generation`.
    pub(crate) fn renew(&self, generation: u64) -> Lookup {
        self.inner.renew(generation)
    }

    /// Returns the current token if it isn't `cached` and hasn't expired.
    pub(crate) fn newer_than(&self, cached: &Arc<CachedToken>) -> Option<Arc<CachedToken>> {
        let current = self.inner.state.current()?;
        let is_newer = !Arc::ptr_eq(&current, cached);
        (is_newer && current.freshness(self.now()) != Freshness::Expired).then_some(current)
    }

    /// Records a refusal, and returns its consequence.
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

/// Uses a cache as the source of another cache. In this way, several sources can derive their own
/// tokens from one token.
///
/// A fetch returns the current token of the inner cache. A fetch returns a newer token if [a server
/// refused](Reason::Refused) the last token or the user [forces a refresh](Reason::Forced). The
/// inner cache may have other users, so closing the outer cache doesn't close the inner cache.
///
/// To put a cache in front of a client, use `AuthLayer::from(cache)`. That layer adds no second
/// cache.
impl TokenSource for TokenCache {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        let want = match reason {
            Reason::Refused | Reason::Forced => Want::Newer,
            Reason::First | Reason::Stale | Reason::Expired => Want::Any,
        };
        let mut acquire = Acquire::new(Arc::clone(&self.inner), want);
        let cached = poll_fn(|cx| acquire.poll_cached(cx)).await?;
        // This cache reports the quotas, so a cache that uses it as a source must not report them
        // again.
        let token = cached.token().clone().with_quotas([]);
        // This cache may have fetched the token some time ago. So the expiry is a point in time,
        // not a lifetime that starts now.
        let token = match cached.expires_at() {
            Some(end) => token.expires_at(end.wall()),
            None => token,
        };
        // This cache may plan the refresh for later than the hint of its source says.
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

    /// Returns `false` if this cache has a fleet, because the fleet's lease already protects the
    /// grant.
    fn has_one_time_grant(&self) -> bool {
        !self.inner.is_shared_with_fleet() && self.inner.source.has_one_time_grant()
    }

    /// Returns this cache's fetch timeout, if this timeout is longer than the default.
    fn fetch_timeout(&self) -> Option<Duration> {
        let own = self.inner.limits.fetch_timeout;
        (own > FETCH_TIMEOUT).then_some(own)
    }
}

impl TokenCacheBuilder {
    /// Builds the cache.
    pub fn build(mut self) -> TokenCache {
        if let Some(timeout) = self
            .source
            .fetch_timeout()
            .filter(|_| !self.has_fetch_timeout)
        {
            self.limits.fetch_timeout = timeout;
        }
        let telemetry = Arc::new(Telemetry::new(self.name));
        TokenCache {
            inner: Arc::new(CacheInner {
                place: self.source.place(),
                source: self.source,
                #[cfg(feature = "fleet")]
                coordinator: self.fleet.map(|shared| {
                    let (fleet, key) = *shared;
                    Box::new(Coordinator::new(fleet, &key, Arc::clone(&telemetry)))
                }),
                clock: self.clock,
                limits: self.limits,
                attempts: self.attempts,
                close_timeout: self.close_timeout,
                keeps_fresh: self.keeps_fresh,
                telemetry,
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
