//! The life of one request, as states that say what is awaited.
//!
//! ```text
//!  Acquiring ─▶ Readying ─▶ Sending ─▶ Renewing ─▶ ReadyingAgain ─▶ Resending
//!      no token is in hand     ▲  │ refused   a newer token is in hand ▲
//!   a fresh token is in hand ──┘  └────────────────────────────────────┘
//! ```
//!
//! What is made of an answer stands in [`answer`].

mod answer;

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::attach::Handle;
use super::auth_request::{AuthRequest, AuthResponse};
use super::future::answer::{Answered, answered_again, is_forbidden, settle};
use super::redirects::Mark;
use super::settings::{Policy, Prepared};
use crate::cache::acquire::{Acquire, Lookup};
use crate::cache::expiry::CachedToken;
use crate::error::{BoxError, Error};
use crate::token::per_request::Target;

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
        // Where the request goes, in case that it is redirected.
        from: Mark,
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
        // The inner service. The credential isn't on the request yet: this may take longer than
        // the token is good.
        Readying { unsent: Option<Unsent<S, Req>>, cached: Arc<CachedToken> },
        // The response.
        Sending { #[pin] response: S::Future, sent: Sent<S, Req> },
        // A token other than the one that was refused.
        Renewing { acquire: Acquire, refused: Option<Box<Refused<S, Req>>> },
        // The inner service, to send the request again.
        ReadyingAgain { refused: Option<Box<Refused<S, Req>>>, cached: Arc<CachedToken> },
        // The response to the replay. After it there is none.
        Resending { #[pin] response: S::Future, handle: Handle },
        // Nothing: the request couldn't be sent.
        Failed { error: Option<Error> },
    }
}

/// A request that waits for a token.
struct Unsent<S, Req> {
    inner: S,
    request: Req,
    policy: Arc<Policy>,
}

/// What is kept of a request that was sent.
enum Sent<S, Req>
where
    Req: AuthRequest,
{
    /// It carried the caller's own credential: the response is none of our business, but for where
    /// it leads. Whoever follows it drops that credential, and ours would be put in its place.
    Untouched(Arc<Policy>),
    /// It carried the token of this handle.
    Stamped {
        handle: Handle,
        /// What it takes to send it again.
        again: Option<(S, Req::Copy)>,
    },
    /// It carried a credential that was made for it.
    Made(Option<Box<Made<S, Req>>>),
}

impl<S, Req> Sent<S, Req>
where
    Req: AuthRequest,
{
    #[cold]
    fn policy(&self) -> &Policy {
        match self {
            Self::Untouched(policy) => policy,
            Self::Stamped { handle, .. } => handle,
            Self::Made(Some(made)) => &made.handle,
            Self::Made(None) => unreachable!("polled after it was ready"),
        }
    }
}

/// What is kept of a request whose credential was made for it. Boxed, for the future of every other
/// request would be as large.
struct Made<S, Req>
where
    Req: AuthRequest,
{
    handle: Handle,
    target: Target,
    /// What it takes to send it again.
    again: Option<(S, Req::Copy)>,
    tried: Tried,
}

/// For what a request has been sent again. Once for each.
#[derive(Clone, Copy, Default)]
struct Tried {
    /// For another token.
    renewed: bool,
    /// For what the answer taught, with the same token.
    taught: bool,
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
    handle: Handle,
    tried: Tried,
}

/// What comes of one: the response for the caller, or the next state.
type Step<S, Req> = ControlFlow<<S as Service<Req>>::Response, State<S, Req>>;

impl<S, Req> ResponseFuture<S, Req>
where
    S: Service<Req>,
    Req: AuthRequest,
{
    pub(crate) fn acquiring(
        acquire: Acquire,
        inner: S,
        request: Req,
        policy: Arc<Policy>,
        from: Mark,
    ) -> Self {
        let unsent = Some(Unsent {
            inner,
            request,
            policy,
        });
        Self {
            state: State::Acquiring { acquire, unsent },
            from,
        }
    }

    /// A request that passes as it is.
    pub(crate) fn passing(response: S::Future, policy: Arc<Policy>, from: Mark) -> Self {
        let sent = Sent::Untouched(policy);
        Self {
            state: State::Sending { response, sent },
            from,
        }
    }

    #[cold]
    pub(crate) fn failed(error: Error) -> Self {
        Self {
            state: State::Failed { error: Some(error) },
            from: Mark::UNKNOWN,
        }
    }
}

/// Puts a clone that isn't ready in the place of a service that is and won't be called, so that
/// the permit which came with its readiness is given back.
pub(crate) fn release<S>(inner: &mut S)
where
    S: Clone,
{
    *inner = inner.clone();
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
        handle: Handle,
        inner: &S,
        from: Mark,
    ) -> Self {
        // A whole state for each, because a copy is large: where there is none, none is moved.
        match prepared {
            Prepared::Never(error) => Self::failed(error),
            Prepared::Callers => Self::passing(response, Arc::clone(handle.policy()), from),
            Prepared::Once => Self {
                state: State::Sending {
                    response,
                    sent: Sent::Stamped {
                        handle,
                        again: None,
                    },
                },
                from,
            },
            Prepared::Twice(copy) => Self {
                state: State::Sending {
                    response,
                    sent: Sent::Stamped {
                        handle,
                        again: Some((inner.clone(), copy)),
                    },
                },
                from,
            },
            Prepared::Made(made) => Self {
                state: State::made(response, *made, handle, inner, Tried::default()),
                from,
            },
        }
    }
}

impl<S, Req> State<S, Req>
where
    S: Service<Req> + Clone,
    Req: AuthRequest,
{
    #[cold]
    fn made(
        response: S::Future,
        (copy, target): (Option<Req::Copy>, Target),
        handle: Handle,
        inner: &S,
        tried: Tried,
    ) -> Self {
        let made = Made {
            handle,
            target,
            again: copy.map(|copy| (inner.clone(), copy)),
            tried,
        };
        let sent = Sent::Made(Some(Box::new(made)));
        Self::Sending { response, sent }
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
        let this = self.project();
        let (mut state, from) = (this.state, *this.from);
        loop {
            let step = match state.as_mut().project() {
                StateProj::Sending { response, sent } => {
                    let response = ready!(response.poll(cx)).map_err(Into::into)?;
                    if response.status().is_redirection() {
                        sent.policy().gate.redirected(from, &response);
                    }
                    match sent {
                        Sent::Stamped { handle, again } if handle.judge.refuses(&response) => {
                            Answered::first(response, handle, again).refused()
                        }
                        Sent::Stamped { handle, again } if is_forbidden(&response) => {
                            Answered::first(response, handle, again).forbidden()
                        }
                        Sent::Stamped { handle, .. } => {
                            settle(&response, handle);
                            return Poll::Ready(Ok(response));
                        }
                        Sent::Made(made) => take(made).answered(response),
                        Sent::Untouched(_) => return Poll::Ready(Ok(response)),
                    }
                }
                StateProj::Acquiring { acquire, unsent } => {
                    let cached = ready!(acquire.poll_cached(cx))?;
                    let unsent = unsent.take();
                    ControlFlow::Continue(State::Readying { unsent, cached })
                }
                StateProj::Readying { unsent, cached } => {
                    if let Some(Unsent { inner, .. }) = unsent {
                        ready!(inner.poll_ready(cx)).map_err(Into::into)?;
                    }
                    ControlFlow::Continue(take(unsent).ready(Arc::clone(cached)))
                }
                StateProj::Renewing { acquire, refused } => {
                    let cached = ready!(acquire.poll_cached(cx));
                    take(refused).renewed(cached)
                }
                StateProj::ReadyingAgain { refused, cached } => {
                    let ready = match refused {
                        Some(refused) => ready!(refused.inner.poll_ready(cx)),
                        None => Ok(()),
                    };
                    take(refused).ready_again(ready, Arc::clone(cached))
                }
                StateProj::Resending { response, handle } => {
                    let response = ready!(response.poll(cx)).map_err(Into::into)?;
                    if response.status().is_redirection() {
                        handle.gate.redirected(from, &response);
                    }
                    ControlFlow::Break(answered_again(response, handle))
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
    fn ready(mut self, mut cached: Arc<CachedToken>) -> State<S, Req> {
        if cached.has_expired(self.policy.cache.now()) {
            cached = match self.policy.cache.lookup() {
                Lookup::Now(newer) => newer,
                Lookup::Never(error) => return State::Failed { error: Some(error) },
                Lookup::Later(acquire) => {
                    release(&mut self.inner);
                    let unsent = Some(self);
                    return State::Acquiring { acquire, unsent };
                }
            };
        }
        let handle = Handle::Shared(self.policy, cached);
        let prepared = handle.stamp(&mut self.request);
        if let Prepared::Never(error) = prepared {
            return State::Failed { error: Some(error) };
        }
        let response = self.inner.call(self.request);
        ResponseFuture::sent(response, prepared, handle, &self.inner, Mark::UNKNOWN).state
    }
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
