//! How a caller comes by a token: at once, by joining the one flight, or not at all.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::cache::background_refresh;
use crate::cache::cache_inner::Shared;
use crate::cache::expiry::Held;
use crate::cache::fetch_task::launch;
use crate::cache::single_flight::{Lost, Wait};
use crate::cache::state_machine::{Answer, Outcome, TakeOff};
use crate::error::{Error, Kind};
use crate::token::issued_token::Token;

/// What there is for one who asks.
pub(crate) enum Lookup {
    Now(Arc<Held>),
    Later(Acquire),
    Never(Error),
}

/// What there is: the token in hand, or what the state machine says.
pub(crate) fn lookup(shared: &Arc<Shared>) -> Lookup {
    if let Some(held) = shared.hub.in_hand(&shared.clock) {
        return Lookup::Now(held);
    }
    let now = shared.now();
    let asked = shared.transition(|machine| machine.ask(now));
    answer(shared, asked, Want::Any)
}

/// What there is for one who wants a token that is newer than any in hand.
fn force(shared: &Arc<Shared>) -> Lookup {
    let now = shared.now();
    let forced = shared.transition(|machine| machine.force(now));
    answer(shared, forced, Want::Newer)
}

fn answer(shared: &Arc<Shared>, asked: (Answer, Option<TakeOff>), want: Want) -> Lookup {
    let (answer, take_off) = asked;
    if let Some(take_off) = take_off {
        launch(shared, take_off);
        background_refresh::ensure(shared);
    }
    match answer {
        Answer::Serve(held) => Lookup::Now(held),
        Answer::Fail(error) => Lookup::Never(error),
        Answer::Join(flight) => Lookup::Later(Acquire {
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
    shared: Arc<Shared>,
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
    pub(crate) fn new(shared: Arc<Shared>, want: Want) -> Self {
        Self {
            shared,
            want,
            stage: Stage::Asking,
            losses: 0,
        }
    }

    pub(crate) fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            match &mut self.stage {
                Stage::Asking => match self.ask() {
                    Lookup::Now(held) => return Poll::Ready(Ok(held)),
                    Lookup::Never(error) => return Poll::Ready(Err(error)),
                    Lookup::Later(later) => self.stage = later.stage,
                },
                Stage::Waiting { wait } => match ready!(Pin::new(wait).poll(cx)) {
                    // Polled long after the landing.
                    Ok(Ok(held)) if held.is_over(self.shared.now()) => self.stage = Stage::Asking,
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
        let outcome = ready!(self.poll_held(cx));
        Poll::Ready(outcome.map(|held| held.token().clone()))
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").finish_non_exhaustive()
    }
}
