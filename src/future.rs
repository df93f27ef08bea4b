//! The life of one request, as states that say what is awaited.
//!
//! ```text
//!  Acquiring ─▶ Readying ─▶ Sending ─▶ Renewing ─▶ ReadyingAgain ─▶ Resending
//!      no token is in hand     ▲  │ refused   a newer token is in hand ▲
//!   a fresh token is in hand ──┘  └────────────────────────────────────┘
//! ```

use std::fmt;
use std::future::Future;
use std::mem;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::cache::{Acquire, Lookup};
use crate::error::{BoxError, Error};
use crate::http::{AuthRequest, AuthResponse};
use crate::policy::{Policy, Prepared, put};
use crate::refusal::NotReplayed;
use crate::stamp::Handle;
use crate::token::Token;

pin_project! {
    /// The future of a response: what [`Auth`](crate::Auth) returns.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the request in it, as with the client below. A token that is being
    /// fetched for it is fetched to the end, for the others.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req>
    where
        S: Service<Req>,
        Req: AuthRequest,
    {
        #[pin]
        state: State<S, Req>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req>
    where
        S: Service<Req>,
        Req: AuthRequest,
    {
        // A token. The inner service isn't ready yet: a permit held while waiting could be the
        // very one that the token's fetch needs.
        Acquiring { acquire: Acquire, unsent: Option<Unsent<S, Req>> },
        // The inner service, to send the request with the credential on it.
        Readying { inner: S, request: Option<Req>, sent: Sent<S, Req> },
        // The response.
        Sending { #[pin] response: S::Future, sent: Sent<S, Req> },
        // A token other than the one that was refused.
        Renewing { acquire: Acquire, refused: Option<Box<Refused<S, Req>>> },
        // The inner service, to send the request again.
        ReadyingAgain { refused: Option<Box<Refused<S, Req>>>, generation: u64 },
        // The response to the replay.
        Resending { #[pin] response: S::Future, generation: u64, policy: Handle },
        // Nothing: the request couldn't be sent.
        Failed { error: Option<Error> },
    }
}

/// A request that waits for a token.
struct Unsent<S, Req> {
    inner: S,
    request: Req,
    policy: Handle,
}

/// What is kept of a request that was sent.
#[derive(Default)]
enum Sent<S, Req>
where
    Req: AuthRequest,
{
    /// It carried the caller's own credential: the response is none of our business.
    #[default]
    Untouched,
    /// It carried the token of this generation.
    Stamped {
        generation: u64,
        policy: Handle,
        /// What it takes to send it again.
        again: Option<(S, Req::Copy)>,
    },
}

/// A request that was refused and can be sent again, and the refusal, which the caller gets if
/// it isn't. Boxed wherever it goes: it is large and rare, and the future of every request would
/// be as large.
struct Refused<S, Req>
where
    S: Service<Req>,
{
    inner: S,
    request: Req,
    response: S::Response,
    policy: Handle,
}

/// What comes of one: the response for the caller, or the next state.
type Step<S, Req> = ControlFlow<<S as Service<Req>>::Response, State<S, Req>>;

impl<S, Req> ResponseFuture<S, Req>
where
    S: Service<Req>,
    Req: AuthRequest,
{
    pub(crate) fn acquiring(acquire: Acquire, inner: S, request: Req, policy: Handle) -> Self {
        let unsent = Some(Unsent {
            inner,
            request,
            policy,
        });
        Self {
            state: State::Acquiring { acquire, unsent },
        }
    }

    /// A request that passes as it is.
    pub(crate) fn passing(response: S::Future) -> Self {
        Self::sending(response, Sent::Untouched)
    }

    #[inline]
    fn sending(response: S::Future, sent: Sent<S, Req>) -> Self {
        Self {
            state: State::Sending { response, sent },
        }
    }

    #[cold]
    pub(crate) fn failed(error: Error) -> Self {
        Self {
            state: State::Failed { error: Some(error) },
        }
    }
}

impl<S, Req> ResponseFuture<S, Req>
where
    S: Service<Req> + Clone,
    Req: AuthRequest,
{
    /// A request that was prepared, and sent to a service of which `inner` is a clone.
    #[inline(always)]
    pub(crate) fn sent(
        response: S::Future,
        prepared: Prepared<Req::Copy>,
        generation: u64,
        policy: Handle,
        inner: &S,
    ) -> Self {
        // A whole state for each, because a copy is large: where there is none, none is moved.
        match prepared {
            Prepared::Never(error) => Self::failed(error),
            Prepared::Callers => Self::passing(response),
            Prepared::Once => Self {
                state: State::Sending {
                    response,
                    sent: Sent::Stamped {
                        generation,
                        policy,
                        again: None,
                    },
                },
            },
            Prepared::Twice(copy) => Self {
                state: State::Sending {
                    response,
                    sent: Sent::Stamped {
                        generation,
                        policy,
                        again: Some((inner.clone(), copy)),
                    },
                },
            },
        }
    }
}

impl<S, Req> Future for ResponseFuture<S, Req>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    S::Error: Into<BoxError>,
    Req: AuthRequest,
{
    type Output = Result<S::Response, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let step = match state.as_mut().project() {
                StateProj::Sending { response, sent } => {
                    let response = ready!(response.poll(cx)).map_err(Into::into)?;
                    match sent {
                        Sent::Stamped {
                            generation,
                            policy,
                            again,
                        } if policy.judge.refuses(&response) => {
                            refused(response, *generation, policy.clone(), again.take())
                        }
                        Sent::Stamped { .. } | Sent::Untouched => {
                            return Poll::Ready(Ok(response));
                        }
                    }
                }
                StateProj::Acquiring { acquire, unsent } => {
                    let token = ready!(Pin::new(acquire).poll(cx))?;
                    ControlFlow::Continue(take(unsent).acquired(&token)?)
                }
                StateProj::Readying {
                    inner,
                    request,
                    sent,
                } => {
                    ready!(inner.poll_ready(cx)).map_err(Into::into)?;
                    let response = inner.call(take(request));
                    let sent = mem::take(sent);
                    ControlFlow::Continue(State::Sending { response, sent })
                }
                StateProj::Renewing { acquire, refused } => {
                    let token = ready!(Pin::new(acquire).poll(cx));
                    take(refused).renewed(token.as_ref())
                }
                StateProj::ReadyingAgain {
                    refused,
                    generation,
                } => {
                    let ready = match refused {
                        Some(refused) => ready!(refused.inner.poll_ready(cx)),
                        None => Ok(()),
                    };
                    take(refused).ready_again(ready, *generation)
                }
                StateProj::Resending {
                    response,
                    generation,
                    policy,
                } => {
                    let response = ready!(response.poll(cx)).map_err(Into::into)?;
                    ControlFlow::Break(answered_again(response, *generation, policy))
                }
                StateProj::Failed { error } => return Poll::Ready(Err(take(error).into())),
            };
            match step {
                ControlFlow::Continue(next) => state.set(next),
                ControlFlow::Break(response) => return Poll::Ready(Ok(response)),
            }
        }
    }
}

impl<S, Req> Unsent<S, Req>
where
    S: Service<Req> + Clone,
    Req: AuthRequest,
{
    fn acquired(self, token: &Token) -> Result<State<S, Req>, Error> {
        let Self {
            inner,
            mut request,
            policy,
        } = self;
        let credential = (token.header_name(), token.header_value());
        let generation = token.generation();
        let sent = match policy.prepare(&mut request, credential) {
            Prepared::Never(error) => return Err(error),
            Prepared::Callers => Sent::Untouched,
            Prepared::Once => Sent::Stamped {
                generation,
                policy,
                again: None,
            },
            Prepared::Twice(copy) => Sent::Stamped {
                generation,
                policy,
                again: Some((inner.clone(), copy)),
            },
        };
        let request = Some(request);
        Ok(State::Readying {
            inner,
            request,
            sent,
        })
    }
}

/// Rejects the token, and starts on a replay if there is what it takes.
#[cold]
fn refused<S, Req>(
    response: S::Response,
    generation: u64,
    policy: Handle,
    again: Option<(S, Req::Copy)>,
) -> Step<S, Req>
where
    S: Service<Req>,
    S::Response: AuthResponse,
    Req: AuthRequest,
{
    if let Some(why) = policy.judge.stands(&response) {
        return ControlFlow::Break(noted(response, why));
    }
    policy.cache.reject_generation(generation);
    if !policy.retry {
        return ControlFlow::Break(noted(response, NotReplayed::Off));
    }
    // Before a token is waited for: without a body there is nothing to wait for.
    let replay = again.and_then(|(inner, copy)| Some((inner, Req::replay(copy)?)));
    let Some((inner, request)) = replay else {
        return ControlFlow::Break(noted(response, NotReplayed::Body));
    };
    let lookup = policy.cache.lookup(policy.cache.now());
    let refused = Box::new(Refused {
        inner,
        request,
        response,
        policy,
    });
    match lookup {
        Lookup::Now(held) => refused.renewed(Ok(held.token())),
        Lookup::Never(error) => refused.renewed(Err(&error)),
        Lookup::Later(acquire) => {
            let refused = Some(refused);
            ControlFlow::Continue(State::Renewing { acquire, refused })
        }
    }
}

impl<S, Req> Refused<S, Req>
where
    S: Service<Req>,
    S::Response: AuthResponse,
    Req: AuthRequest,
{
    fn renewed(mut self: Box<Self>, token: Result<&Token, &Error>) -> Step<S, Req> {
        let stamped = token.map_err(Error::clone).and_then(|token| {
            let credential = (token.header_name(), token.header_value());
            put(&mut self.request, credential).map(|()| token)
        });
        match stamped {
            Err(error) => self.give_up(NotReplayed::Fetch(error)),
            Ok(token) if self.policy.cache.was_refused(token) => {
                self.give_up(NotReplayed::SameToken)
            }
            Ok(token) => ControlFlow::Continue(State::ReadyingAgain {
                refused: Some(self),
                generation: token.generation(),
            }),
        }
    }

    fn ready_again(self, ready: Result<(), S::Error>, generation: u64) -> Step<S, Req>
    where
        S::Error: Into<BoxError>,
    {
        if let Err(error) = ready {
            return self.give_up(NotReplayed::NotReady(Arc::from(error.into())));
        }
        let Self {
            mut inner,
            request,
            response,
            policy,
        } = self;
        // The refusal goes first: it may hold the connection that the replay needs.
        drop(response);
        ControlFlow::Continue(State::Resending {
            response: inner.call(request),
            generation,
            policy,
        })
    }

    fn give_up(self, why: NotReplayed) -> Step<S, Req> {
        ControlFlow::Break(noted(self.response, why))
    }
}

/// The second answer is the caller's, whatever it is; a second refusal rejects the second token.
fn answered_again<R>(response: R, generation: u64, policy: &Policy) -> R
where
    R: AuthResponse,
{
    if !policy.judge.refuses(&response) {
        return response;
    }
    let why = policy.judge.stands(&response).unwrap_or_else(|| {
        policy.cache.reject_generation(generation);
        NotReplayed::Again
    });
    noted(response, why)
}

/// The refusal as the server sent it, with the reason why it stands.
fn noted<R>(mut response: R, why: NotReplayed) -> R
where
    R: AuthResponse,
{
    tracing::debug!(reason = %why, "a refused request is not replayed");
    response.extensions_mut().insert(why);
    response
}

/// What a state hands on. It is left as soon as that is done, so nothing is taken twice, unless
/// the future is polled again after its end.
fn take<T>(part: &mut Option<T>) -> T {
    let Some(part) = part.take() else {
        unreachable!("polled after it was ready");
    };
    part
}

impl<S, Req> fmt::Debug for ResponseFuture<S, Req>
where
    S: Service<Req>,
    Req: AuthRequest,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Acquiring { .. } => "Acquiring",
            State::Readying { .. } => "Readying",
            State::Sending { .. } => "Sending",
            State::Renewing { .. } => "Renewing",
            State::ReadyingAgain { .. } => "ReadyingAgain",
            State::Resending { .. } => "Resending",
            State::Failed { .. } => "Failed",
        };
        write!(f, "ResponseFuture({state})")
    }
}
