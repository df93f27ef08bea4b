//! One token, shared: the [state machine](crate::state) behind a lock, the token in hand in front
//! of it, and the flights on tasks of their own.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use http::header::HeaderName;
use tokio::runtime::Handle;

use crate::clock::{Clock, Moment};
use crate::error::{Error, Kind};
use crate::flight::{Lost, Wait};
use crate::freshness::{Held, Windows};
use crate::source::{DynTokenSource, TokenSource};
use crate::state::{Answer, Limits, Machine, Outcome, TakeOff};
use crate::token::Token;

/// One token, fetched once for everyone who needs it.
///
/// A clone is a handle to the same token. It works without Tower, for websockets, SDKs and
/// command lines; [`AuthLayer`](crate::AuthLayer) is this in front of an HTTP client.
///
/// 1. While the token is fresh, nobody waits and no lock is taken.
/// 2. While it is about to expire, everyone is served and one fetch runs behind them.
/// 3. When there is none, all who ask wait for one fetch, and all get its one result.
///
/// A fetch runs on a task of its own, so that the one who started it may leave. It is bounded by
/// the [fetch timeout](TokenCacheBuilder::fetch_timeout); a panic in the source is an error like
/// any other.
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
    shared: Arc<Shared>,
}

struct Shared {
    source: Box<dyn DynTokenSource>,
    header: HeaderName,
    clock: Clock,
    fetch_timeout: Duration,
    machine: Mutex<Machine>,
    /// The token that `machine` holds, for those who only read. Written under its lock.
    current: ArcSwapOption<Held>,
    /// The generation of `current`, 0 for none: what a private copy is compared with.
    generation: AtomicU64,
}

/// What there is for one who asks.
pub(crate) enum Lookup {
    Now(Arc<Held>),
    Later(Acquire),
    Never(Error),
}

impl TokenCache {
    /// A cache over `source`, with the defaults of [`TokenCacheBuilder`].
    pub fn new(source: impl TokenSource) -> Self {
        Self::builder(source).build()
    }

    /// A cache over `source` with settings of your own.
    pub fn builder(source: impl TokenSource) -> TokenCacheBuilder {
        TokenCacheBuilder {
            source: Box::new(source),
            clock: Clock::default(),
            limits: Limits {
                windows: Windows {
                    refresh_before: None,
                    expiry_margin: None,
                },
                fetch_timeout: Duration::from_secs(30),
                attempt_floor: Duration::from_secs(1),
            },
        }
    }

    /// A token that is good now. The future does nothing until it is polled.
    ///
    /// # Errors
    ///
    /// What the one fetch came to, the same for all who waited for it; for a second after it, the
    /// same error again instead of another fetch. [`is_runtime`](Error::is_runtime) outside of a
    /// Tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the fetch goes on for the others and for the next.
    pub fn token(&self) -> Acquire {
        Acquire {
            cache: self.clone(),
            stage: Stage::Asking,
            losses: 0,
        }
    }

    /// Says that a server refused `token`. If it is still the one in use, the next who asks
    /// starts a fetch; if there is a newer one by now, nothing happens.
    pub fn reject(&self, token: &Token) {
        self.transition(|machine| machine.reject(token.generation()));
    }

    #[inline]
    pub(crate) fn now(&self) -> Moment {
        self.shared.clock.now()
    }

    #[inline]
    pub(crate) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The header that tokens of this cache travel in, by what its source says.
    pub(crate) fn header(&self) -> &HeaderName {
        &self.shared.header
    }

    /// The generation of the token in use; 0 for none.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// The token in hand, if it can be served with nothing else to do. Takes no lock.
    #[inline]
    pub(crate) fn in_hand(&self) -> Option<Arc<Held>> {
        let current = self.shared.current.load();
        let held = current.as_ref()?;
        held.serves_by(&self.shared.clock).then(|| Arc::clone(held))
    }

    /// What there is, from the state machine if it isn't in hand.
    pub(crate) fn lookup(&self) -> Lookup {
        if let Some(held) = self.in_hand() {
            return Lookup::Now(held);
        }
        let now = self.now();
        let (answer, take_off) = self.transition(|machine| machine.ask(now));
        if let Some(take_off) = take_off {
            self.launch(take_off);
        }
        match answer {
            Answer::Serve(held) => Lookup::Now(held),
            Answer::Fail(error) => Lookup::Never(error),
            Answer::Join(flight) => Lookup::Later(Acquire {
                cache: self.clone(),
                stage: Stage::Waiting {
                    wait: flight.wait(),
                },
                losses: 0,
            }),
        }
    }

    /// Changes the state, and shows the token it leaves in hand to those who only read.
    fn transition<R>(&self, change: impl FnOnce(&mut Machine) -> R) -> R {
        let shared = &*self.shared;
        let mut machine = shared.lock();
        let failure = machine.failure();
        let result = change(&mut machine);
        let held = machine.held();
        // Not by the generation: a source that keeps its token issues the same one for longer.
        if !is_same(shared.current.load().as_ref(), held) {
            let generation = held.map_or(0, |held| held.token().generation());
            shared.current.store(held.cloned());
            shared.generation.store(generation, Ordering::Release);
        }
        drop(machine);
        drop(failure);
        result
    }

    /// Puts a flight on a task of its own. Not under the lock: a runtime that is shutting down
    /// drops the task, and with it the pilot, before `spawn` returns.
    fn launch(&self, mut take_off: TakeOff) {
        if let Some(abandoned) = take_off.replaces.take() {
            abandoned.give_up();
        }
        let flight = InFlight {
            cache: self.clone(),
            take_off: Some(take_off),
        };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(flight.fly())),
            Err(error) => flight.abort(
                Error::new(
                    Kind::Runtime,
                    "a token can only be fetched on a Tokio runtime",
                )
                .with_source(error),
            ),
        }
    }
}

fn is_same(one: Option<&Arc<Held>>, other: Option<&Arc<Held>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A flight's task. Dropped before its end, it tells the machine that the flight is lost.
struct InFlight {
    cache: TokenCache,
    take_off: Option<TakeOff>,
}

impl InFlight {
    async fn fly(self) {
        let Some(take_off) = &self.take_off else {
            return;
        };
        let (shared, reason) = (&*self.cache.shared, take_off.reason);
        if catch_unwind(|| tokio::time::sleep(Duration::ZERO)).is_err() {
            let message = "the Tokio runtime has no timer, so a fetch could hang for ever; \
                           build it with `enable_time` or `enable_all`";
            return self.abort(Error::new(Kind::Runtime, message));
        }
        let attempt = async {
            tokio::time::timeout(shared.fetch_timeout, shared.source.fetch(reason))
                .await
                .unwrap_or_else(|_| Err(timed_out(shared.fetch_timeout)))
        };
        let fetched = AssertUnwindSafe(attempt)
            .catch_unwind()
            .await
            // The panic's message stays with the panic hook: it might hold a secret.
            .unwrap_or_else(|_| Err(Error::new(Kind::Panic, "the token source panicked")));
        self.land(fetched);
    }

    fn land(mut self, fetched: Result<Token, Error>) {
        let Some(take_off) = self.take_off.take() else {
            return;
        };
        let now = self.cache.now();
        // The state first: whoever is woken finds the new token there.
        let outcome = self
            .cache
            .transition(|machine| machine.land(&take_off, fetched, now));
        take_off.pilot.land(outcome);
    }

    /// Ends the flight before it began. The failure isn't remembered: it says nothing of the
    /// source.
    fn abort(mut self, error: Error) {
        let Some(take_off) = self.take_off.take() else {
            return;
        };
        self.cache
            .transition(|machine| machine.lose(&take_off.pilot));
        take_off.pilot.land(Err(error));
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(take_off) = self.take_off.take() {
            self.cache
                .transition(|machine| machine.lose(&take_off.pilot));
        }
    }
}

fn timed_out(limit: Duration) -> Error {
    let message = format!("the token source took longer than its {limit:?}");
    Error::new(Kind::Timeout, message)
}

/// A future of a token: [`TokenCache::token`].
#[must_use = "futures do nothing unless polled"]
pub struct Acquire {
    cache: TokenCache,
    stage: Stage,
    /// How many flights were lost under this one.
    losses: u8,
}

enum Stage {
    Asking,
    Waiting { wait: Wait<Outcome> },
}

/// Flights are lost when their runtime shuts down; one who is left after so many in a row is on
/// such a runtime.
const MOST_LOSSES: u8 = 3;

impl Acquire {
    pub(crate) fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            match &mut self.stage {
                Stage::Asking => match self.cache.lookup() {
                    Lookup::Now(held) => return Poll::Ready(Ok(held)),
                    Lookup::Never(error) => return Poll::Ready(Err(error)),
                    Lookup::Later(later) => self.stage = later.stage,
                },
                Stage::Waiting { wait } => match ready!(Pin::new(wait).poll(cx)) {
                    // Polled long after the landing.
                    Ok(Ok(held)) if held.is_over(self.cache.now()) => self.stage = Stage::Asking,
                    Ok(outcome) => return Poll::Ready(outcome),
                    Err(Lost) if self.losses == MOST_LOSSES => {
                        let message = "the runtime shut down while the token was fetched";
                        return Poll::Ready(Err(Error::new(Kind::Runtime, message)));
                    }
                    Err(Lost) => {
                        self.losses += 1;
                        self.stage = Stage::Asking;
                    }
                },
            }
        }
    }
}

impl Future for Acquire {
    type Output = Result<Token, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(self.poll_held(cx));
        Poll::Ready(outcome.map(|held| held.token().clone()))
    }
}

/// Settings of a [`TokenCache`].
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use tower_auth::{Token, TokenCache};
///
/// let cache = TokenCache::builder(|_| async { Token::bearer("secret") })
///     .fetch_timeout(Duration::from_secs(5))
///     .refresh_before(Duration::from_secs(60))
///     .build();
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct TokenCacheBuilder {
    source: Box<dyn DynTokenSource>,
    clock: Clock,
    limits: Limits,
}

impl TokenCacheBuilder {
    /// The most a fetch may take before those who wait get an error; default 30 s.
    pub fn fetch_timeout(mut self, timeout: Duration) -> Self {
        self.limits.fetch_timeout = timeout;
        self
    }

    /// How long before a token expires a new one is fetched behind those it still serves; default
    /// 5 min for lifetimes of 20 min and more, else a quarter of the lifetime. Never more than
    /// half of the lifetime, and at least twice the [expiry margin](Self::expiry_margin).
    pub fn refresh_before(mut self, window: Duration) -> Self {
        self.limits.windows.refresh_before = Some(window);
        self
    }

    /// How long before a token expires it is no longer sent; default 30 s, or a quarter of the
    /// lifetime if that is less. Never more than half of the lifetime.
    pub fn expiry_margin(mut self, margin: Duration) -> Self {
        self.limits.windows.expiry_margin = Some(margin);
        self
    }

    /// The least time from a failed fetch to the next one; default 1 s. Until then a token that is
    /// still good is served, and those without one get the error again.
    pub fn attempt_floor(mut self, floor: Duration) -> Self {
        self.limits.attempt_floor = floor;
        self
    }

    /// Where the time is read; default the system's clocks.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The cache.
    pub fn build(self) -> TokenCache {
        TokenCache {
            shared: Arc::new(Shared {
                header: self.source.header(),
                source: self.source,
                clock: self.clock,
                fetch_timeout: self.limits.fetch_timeout,
                machine: Mutex::new(Machine::new(self.limits)),
                current: ArcSwapOption::empty(),
                generation: AtomicU64::new(0),
            }),
        }
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.shared.current.load();
        f.debug_struct("TokenCache")
            .field("header", &self.shared.header)
            .field("token", &held.as_ref().map(|held| held.token()))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TokenCacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCacheBuilder")
            .field("limits", &self.limits)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").finish_non_exhaustive()
    }
}
