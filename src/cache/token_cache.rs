//! One token, shared: the handle that everybody has.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
#[cfg(feature = "tenants")]
use std::{sync::Weak, time::Duration};

#[cfg(feature = "fleet")]
use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::acquire::{Acquire, Lookup, Want, lookup};
use super::builder::TokenCacheBuilder;
use super::cache_inner::{CacheInner, TaskSlot};
use super::expiry::CachedToken;
use super::published_state::PublishedState;
use super::shutdown::Closing;
use super::state_machine::{Rejection, StateMachine};
use super::status::Status;
use super::telemetry::Telemetry;
use crate::challenge::www_authenticate::Challenge;
use crate::clock::{Clock, Moment};
use crate::error::Error;
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
/// 2. While it is about to expire, everyone is served and one fetch runs behind them.
/// 3. When there is none, all who ask wait for one fetch, and all get its one result.
/// 4. When a fetch fails, a token that is still good stays in use; without one, all who ask get the
///    error until the next attempt, which is put off for longer with each that fails.
/// 5. When a server refuses the token, it is replaced; when it refuses one after the other as they
///    are issued, they are replaced ever more rarely.
///
/// A fetch runs on a task of its own, so that the one who started it may leave. It is bounded by
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
/// // A server refused it: the next one to ask gets a new one.
/// cache.reject(&token);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TokenCache {
    shared: Arc<CacheInner>,
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
    /// What the one fetch came to, the same for all who waited for it, and after it the same error
    /// again until the next attempt: for a second, doubling to a minute, for a minute at once if
    /// the error [is permanent](crate::Error::is_permanent), or as long as the server wanted
    /// (`Retry-After`, up to 5 min). [`is_runtime`](crate::Error::is_runtime) outside of a Tokio
    /// runtime, [`is_closed`](crate::Error::is_closed) after [`close`](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the fetch goes on for the others and for the next.
    pub fn token(&self) -> Acquire {
        Acquire::new(Arc::clone(&self.shared), Want::Any)
    }

    /// A new token, whatever is in hand and however long the next attempt was put off: for when
    /// somebody has mended what was wrong. One that is being fetched already is waited for. Until
    /// the new one is here, the old one is served. The future does nothing until it is polled.
    ///
    /// # Errors
    ///
    /// As [`token`](Self::token), but never an error of before.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the fetch goes on.
    pub fn refresh_now(&self) -> Acquire {
        Acquire::new(Arc::clone(&self.shared), Want::Newer)
    }

    /// Says that a server refused `token`. If it is still the one in use, the next who asks
    /// starts a fetch; if there is a newer one by now, nothing happens.
    ///
    /// If it was never [accepted](Self::accept), and the one before it neither, it stays in use for
    /// a while, refused as it is: a new one would most likely be refused as well, and cost a fetch.
    /// The wait is 5 s and doubles to 5 min.
    pub fn reject(&self, token: &Token) {
        self.refuse(token);
    }

    /// Says that a server accepted `token`: when it is refused later on it was revoked, and a new
    /// one will do. [`AuthLayer`](crate::AuthLayer) says so by itself; call this where you
    /// [`reject`](Self::reject) by yourself.
    pub fn accept(&self, token: &Token) {
        let generation = token.generation();
        if self.shared.transition(|machine| machine.accept(generation)) {
            self.shared.telemetry.refusals_accepted_again();
        }
    }

    /// How the token stands now. Takes a lock, for a moment.
    pub fn status(&self) -> Status {
        self.shared.gauge();
        self.shared.status()
    }

    /// Watches how the token stands: a fetch begins, lands or fails, the token is refused, the
    /// cache closes. The passing of time alone is no change: a token that nobody asks for becomes
    /// stale unseen, unless the cache [keeps it fresh](TokenCacheBuilder::keep_fresh).
    ///
    /// The channel holds the latest [`Status`], from the start the one of that moment, and ends when
    /// the last handle to the cache is dropped.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::{Phase, Token, TokenCache};
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
        let mut receiver = self.shared.watch();
        // What it holds from the start is no change.
        self.shared.publish();
        receiver.mark_unchanged();
        receiver
    }

    /// Ends it: no more fetches, and whoever asks for a token gets
    /// [`is_closed`](crate::Error::is_closed). A fetch that is in the air may land, for those who
    /// wait for it; then the source is [closed](TokenSource::close) with the last token, to revoke
    /// it or to log out. All this within the [close timeout](TokenCacheBuilder::close_timeout),
    /// after which it is given up. What fails is logged.
    ///
    /// A second call waits for the first. Outside of a Tokio runtime the source isn't told.
    ///
    /// # Cancel safety
    ///
    /// The cache is closed when the future is first polled, and the rest runs on a task of its own:
    /// dropping the future changes nothing.
    pub async fn close(&self) {
        let mut changes = self.subscribe();
        let shared = &self.shared;
        let Some(left_behind) = shared.transition(StateMachine::close) else {
            // Whoever was first has the rest to do.
            return drop(changes.wait_for(Status::is_closed).await);
        };
        let closing = Closing::new(shared, left_behind);
        match Handle::try_current() {
            Ok(runtime) => {
                drop(runtime.spawn(closing.finish()));
                drop(changes.wait_for(Status::is_closed).await);
            }
            Err(_) => closing.skip(),
        }
    }

    /// The cache again, as long as somebody uses it: has a handle, waits for a token or fetches one.
    #[cfg(feature = "tenants")]
    pub(crate) fn upgrade(shared: &Weak<CacheInner>) -> Option<Self> {
        shared.upgrade().map(|shared| Self { shared })
    }

    #[cfg(feature = "tenants")]
    pub(crate) fn downgrade(&self) -> Weak<CacheInner> {
        Arc::downgrade(&self.shared)
    }

    /// The most that a fetch takes.
    #[cfg(feature = "tenants")]
    pub(crate) fn fetch_timeout(&self) -> Duration {
        self.shared.limits.fetch_timeout
    }

    #[inline]
    pub(crate) fn now(&self) -> Moment {
        self.shared.now()
    }

    #[inline]
    pub(crate) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.shared.telemetry
    }

    /// Where in a request the tokens of this cache go, by what its source says.
    pub(crate) fn place(&self) -> &Place {
        &self.shared.place
    }

    /// Tells the source what a refusal said. Whether it has an answer to that.
    pub(crate) fn challenged(&self, token: &Token, challenges: &[Challenge]) -> bool {
        self.shared.source.challenged(token, challenges)
    }

    /// Whether it is the token in hand, as it was issued last. Takes no lock.
    #[inline]
    pub(crate) fn is_current(&self, cached: &Arc<CachedToken>) -> bool {
        self.shared.state.is_current(cached)
    }

    /// The token in hand, if it can be served with nothing else to do. Takes no lock.
    #[inline]
    pub(crate) fn servable(&self) -> Option<Arc<CachedToken>> {
        self.shared.state.servable(&self.shared.clock)
    }

    /// What there is, from the state machine if it isn't in hand.
    pub(crate) fn lookup(&self) -> Lookup {
        lookup(&self.shared)
    }

    /// As [`reject`](Self::reject), and says what came of it.
    pub(crate) fn refuse(&self, token: &Token) -> Rejection {
        let (generation, now) = (token.generation(), self.now());
        let verdict = self
            .shared
            .transition(|machine| machine.reject(generation, now));
        if let Rejection::NowLimited { refused, wait } = verdict {
            self.telemetry()
                .refusals_limited(refused, wait, token.scope());
        }
        verdict
    }
}

/// A cache as the source of another: one token, shared by several who make something else of it.
///
/// It is asked for the token in hand, or for a newer one if the reason is that
/// [a server refused](Reason::Refused) the last or the user [asked for a new one](Reason::Forced).
/// Closing what stands above doesn't close it: others may share it. In front of a client it needs
/// no other cache above it: that is `AuthLayer::from(cache)`.
impl TokenSource for TokenCache {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        let want = match reason {
            Reason::Refused | Reason::Forced => Want::Newer,
            Reason::First | Reason::Stale | Reason::Expired => Want::Any,
        };
        let mut acquire = Acquire::new(Arc::clone(&self.shared), want);
        let cached = poll_fn(|cx| acquire.poll_cached(cx)).await?;
        // What is left of quotas is this cache's to tell.
        let token = cached.token().clone().with_quotas([]);
        // Its lifetime counts from when it was fetched, which is a while ago.
        Ok(match cached.expires_at() {
            Some(end) => token.expires_at(end.wall()),
            None => token,
        })
    }

    #[cfg(feature = "fleet")]
    fn store_key(&self) -> Option<StoreKey> {
        self.shared.source.store_key()
    }

    #[cfg(feature = "fleet")]
    fn bind(&self, to: &str, secret: SecretString) -> Result<Token, Error> {
        self.shared.source.bind(to, secret)
    }

    fn place(&self) -> Place {
        self.shared.place.clone()
    }
}

impl TokenCacheBuilder {
    /// The cache.
    pub fn build(self) -> TokenCache {
        TokenCache {
            shared: Arc::new(CacheInner {
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
                flight: TaskSlot::default(),
                keeper: TaskSlot::default(),
            }),
        }
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cached = self.shared.state.current();
        f.debug_struct("TokenCache")
            .field("name", &self.shared.telemetry.cache())
            .field("place", &self.shared.place)
            .field("token", &cached.as_ref().map(|cached| cached.token()))
            .finish_non_exhaustive()
    }
}
