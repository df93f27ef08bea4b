//! How a caller comes by a token: at once, by joining the one flight, or not at all.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::background_refresh;
use super::cache_inner::CacheInner;
use super::expiry::CachedToken;
use super::fetch_task::launch;
use super::single_flight::{Abandoned, Wait};
use super::state_machine::{Decision, FetchStart, Outcome};
use crate::error::{Error, Kind};
use crate::token::issued_token::Token;

/// What there is for one who asks.
pub(crate) enum Lookup {
    Now(Arc<CachedToken>),
    Later(Acquire),
    Never(Error),
}

/// What there is: the token in hand, or what the state machine says.
pub(crate) fn lookup(shared: &Arc<CacheInner>) -> Lookup {
    if let Some(cached) = shared.state.servable(&shared.clock) {
        return Lookup::Now(cached);
    }
    let now = shared.now();
    let asked = shared.transition(|machine| machine.request(now));
    answer(shared, asked, Want::Any)
}

/// What there is for one who wants a token that is newer than any in hand.
fn force(shared: &Arc<CacheInner>) -> Lookup {
    let now = shared.now();
    let forced = shared.transition(|machine| machine.force_refresh(now));
    answer(shared, forced, Want::Newer)
}

fn answer(shared: &Arc<CacheInner>, asked: (Decision, Option<FetchStart>), want: Want) -> Lookup {
    let (answer, start) = asked;
    if let Some(start) = start {
        launch(shared, start);
        background_refresh::ensure(shared);
    }
    match answer {
        Decision::Serve(cached) => Lookup::Now(cached),
        Decision::Fail(error) => Lookup::Never(error),
        Decision::Join(flight) => Lookup::Later(Acquire {
            shared: Arc::clone(shared),
            want,
            stage: Stage::Waiting {
                wait: flight.wait(),
            },
            losses: 0,
        }),
    }
}

/// A future of a token: [`TokenCache::token`](crate::TokenCache::token) and
/// [`TokenCache::refresh_now`](crate::TokenCache::refresh_now). It has a name so that a struct of your own can
/// hold it without a box.
///
/// # Example
///
/// ```
/// use tower_auth::{Acquire, Token, TokenCache};
///
/// /// A connection that is being made, and what it waits for first.
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
    shared: Arc<CacheInner>,
    want: Want,
    stage: Stage,
    /// How many flights were lost under this one.
    losses: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// One that is good.
    Any,
    /// One that is fetched from now on, or is being fetched.
    Newer,
}

enum Stage {
    Asking,
    Waiting { wait: Wait<Outcome> },
}

/// Flights are lost when their runtime shuts down; one who is left after so many in a row is on
/// such a runtime.
const MOST_LOSSES: u8 = 3;

impl Acquire {
    pub(crate) fn new(shared: Arc<CacheInner>, want: Want) -> Self {
        Self {
            shared,
            want,
            stage: Stage::Asking,
            losses: 0,
        }
    }

    pub(crate) fn poll_cached(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            match &mut self.stage {
                Stage::Asking => match self.ask() {
                    Lookup::Now(cached) => return Poll::Ready(Ok(cached)),
                    Lookup::Never(error) => return Poll::Ready(Err(error)),
                    Lookup::Later(later) => self.stage = later.stage,
                },
                Stage::Waiting { wait } => match ready!(Pin::new(wait).poll(cx)) {
                    // Polled long after the summary.
                    Ok(Ok(cached)) if cached.has_expired(self.shared.now()) => {
                        self.stage = Stage::Asking
                    }
                    Ok(outcome) => return Poll::Ready(outcome),
                    Err(Abandoned) if self.losses == MOST_LOSSES => {
                        let message = "the runtime shut down while the token was fetched";
                        return Poll::Ready(Err(Error::new(Kind::Runtime, message)));
                    }
                    Err(Abandoned) => {
                        self.losses += 1;
                        self.stage = Stage::Asking;
                    }
                },
            }
        }
    }

    fn ask(&self) -> Lookup {
        match self.want {
            Want::Any => lookup(&self.shared),
            Want::Newer => force(&self.shared),
        }
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
