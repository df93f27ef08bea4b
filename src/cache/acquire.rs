//! Gives a caller a token: immediately, after waiting for the running fetch, or not at all.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;

use super::cache_inner::CacheInner;
use super::expiry::{CachedToken, Freshness};
use super::fetch_task::has_timer;
use super::single_flight::{Abandoned, Wait};
use super::state_machine::machine::Outcome;
use super::state_machine::request::{Caller, Decision, FetchStart};
use crate::error::{Error, Kind};
use crate::token::issued_token::Token;

/// The result of asking the cache for a token.
pub(crate) enum Lookup {
    Now(Arc<CachedToken>),
    Later(Acquire),
    Never(Error),
}

impl CacheInner {
    /// Returns the current token if it can be served. Otherwise, the state machine decides what the
    /// caller gets.
    #[inline]
    pub(crate) fn lookup(self: &Arc<Self>, caller: Caller) -> Lookup {
        match self.state.servable(&self.clock) {
            Some(cached) => Lookup::Now(cached),
            None => self.request(caller),
        }
    }

    fn request(self: &Arc<Self>, caller: Caller) -> Lookup {
        let now = self.now();
        self.end_watch(now);
        let decided = self.transition(|machine| machine.request(caller, now));
        self.carry_out(decided, Want::Any)
    }

    /// Requests a token that replaces the refused token of this `generation`.
    pub(crate) fn renew(self: &Arc<Self>, generation: u64) -> Lookup {
        let now = self.now();
        let decided = self.transition(|machine| machine.renew(generation, now));
        self.carry_out(decided, Want::InsteadOf(generation))
    }

    /// Requests a token that is newer than the current token.
    fn force_refresh(self: &Arc<Self>) -> Lookup {
        let now = self.now();
        let decided = self.transition(|machine| machine.force_refresh(now));
        self.carry_out(decided, Want::Newer)
    }

    fn carry_out(
        self: &Arc<Self>,
        (decision, start): (Decision, Option<FetchStart>),
        want: Want,
    ) -> Lookup {
        if let Some(start) = start {
            self.start_fetch(start);
            self.ensure_background_refresh();
        }
        match decision {
            Decision::Serve(cached) => Lookup::Now(cached),
            Decision::Fail(error) => Lookup::Never(error),
            Decision::Join(flight) => Lookup::Later(Acquire {
                inner: Arc::clone(self),
                want,
                stage: Stage::Waiting {
                    wait: flight.wait(),
                },
                abandoned: 0,
            }),
        }
    }
}

/// A future that returns a token, made by [`TokenCache::token`](crate::TokenCache::token) and
/// [`TokenCache::refresh_now`](crate::TokenCache::refresh_now).
///
/// The type has a name, so your own struct can contain it without a box.
///
/// # Example
///
/// ```
/// use tower_auth::cache::Acquire;
/// use tower_auth::{Token, TokenCache};
///
/// /// A connection that waits for a token before it is opened.
/// struct Connecting {
///     token: Acquire,
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
/// let cache = TokenCache::new(|_| async { Token::bearer("secret") });
/// let connecting = Connecting { token: cache.token() };
/// assert_eq!(connecting.token.await?.secret(), "secret");
/// # Ok(()) }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct Acquire {
    inner: Arc<CacheInner>,
    want: Want,
    stage: Stage,
    /// How many fetches in a row were abandoned while this future waited.
    abandoned: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// The caller wants any token that can be served.
    Any,
    /// The caller wants the token of the running fetch. If no fetch is running, a fetch starts.
    Newer,
    /// The caller wants a token that replaces the refused token of this generation.
    InsteadOf(u64),
}

enum Stage {
    Start,
    Waiting { wait: Wait<Outcome> },
}

/// The maximum number of abandoned fetches in a row that a caller tolerates.
///
/// A fetch is abandoned when its runtime shuts down. If more fetches are abandoned, the caller
/// itself probably runs on a runtime that shuts down.
const MOST_ABANDONED: u8 = 3;

impl Acquire {
    pub(crate) fn new(inner: Arc<CacheInner>, want: Want) -> Self {
        Self {
            inner,
            want,
            stage: Stage::Start,
            abandoned: 0,
        }
    }

    pub(crate) fn poll_cached(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            match &mut self.stage {
                Stage::Start => match self.lookup() {
                    Lookup::Now(cached) => return Poll::Ready(Ok(cached)),
                    Lookup::Never(error) => return Poll::Ready(Err(error)),
                    Lookup::Later(later) => self.stage = later.stage,
                },
                Stage::Waiting { wait } => match ready!(Pin::new(wait).poll(cx)) {
                    // The token can expire between the end of the fetch and this poll.
                    Ok(Ok(cached)) if cached.has_expired(self.inner.now()) => {
                        self.stage = Stage::Start;
                    }
                    Ok(Err(error)) => {
                        return Poll::Ready(self.fallback().ok_or(error));
                    }
                    Ok(outcome) => return Poll::Ready(outcome),
                    Err(Abandoned) if self.abandoned == MOST_ABANDONED => {
                        let message = "the Tokio runtime shut down during the token fetch; \
                                       request the token on another runtime";
                        return Poll::Ready(Err(Error::new(Kind::Runtime, message)));
                    }
                    Err(Abandoned) => {
                        self.abandoned += 1;
                        self.stage = Stage::Start;
                    }
                },
            }
        }
    }

    /// Waits for the token, at most for `limit`.
    pub(crate) async fn within(mut self, limit: Duration) -> Result<Token, Error> {
        // Neither a cached token nor a cached error needs a timer.
        if let Some(outcome) = (&mut self).now_or_never() {
            return outcome;
        }
        if !has_timer() {
            let message = "waiting for a token needs a Tokio runtime with a timer; \
                           build it with `enable_time` or `enable_all`";
            return Err(Error::new(Kind::Runtime, message));
        }
        let longest = self.inner.limits.fetch_timeout;
        tokio::time::timeout(limit, self).await.unwrap_or_else(|_| {
            let message = format!(
                "no token was fetched within {limit:?}, and the fetch continues; \
                 call again, or wait longer: a fetch may take {longest:?}"
            );
            Err(Error::new(Kind::Timeout, message))
        })
    }

    fn lookup(&self) -> Lookup {
        match self.want {
            Want::Any => self.inner.lookup(Caller::CannotReplay),
            Want::Newer => self.inner.force_refresh(),
            Want::InsteadOf(generation) => self.inner.renew(generation),
        }
    }

    /// Returns the withdrawn token. Callers get this token if the fetch of its successor fails.
    fn fallback(&self) -> Option<Arc<CachedToken>> {
        let is_fallback = self.want == Want::Any;
        let cached = self.inner.state.current().filter(|_| is_fallback)?;
        (cached.freshness(self.inner.now()) != Freshness::Expired).then_some(cached)
    }
}

impl Future for Acquire {
    type Output = Result<Token, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(self.poll_cached(cx));
        Poll::Ready(outcome.map(|cached| cached.token().clone()))
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").finish_non_exhaustive()
    }
}
