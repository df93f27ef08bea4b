//! The life of one request, as states that say what is awaited.
//!
//! ```text
//!  Acquiring ─▶ Readying ─▶ Sending ─▶ Renewing ─▶ ReadyingAgain ─▶ Resending
//!      no token is in hand     ▲  │ refused   a newer token is in hand ▲
//!   a fresh token is in hand ──┘  └────────────────────────────────────┘
//! ```

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::acquire::{Acquire, Lookup};
use crate::challenge::Challenge;
use crate::error::{BoxError, Error};
use crate::freshness::Held;
use crate::http::{AuthRequest, AuthResponse};
use crate::policy::{Policy, Prepared};
use crate::present::{Lesson, Target};
use crate::refusal::{Judge, NotReplayed, is_from_elsewhere, target};
use crate::stamp::Handle;
use crate::state::{Outcome, Verdict};
use crate::step_up::StepUpChallenge;
use crate::token::Credential;

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
        // The inner service. The credential isn't on the request yet: this may take longer than
        // the token is good.
        Readying { unsent: Option<Unsent<S, Req>>, held: Arc<Held> },
        // The response.
        Sending { #[pin] response: S::Future, sent: Sent<S, Req> },
        // A token other than the one that was refused.
        Renewing { acquire: Acquire, refused: Option<Box<Refused<S, Req>>> },
        // The inner service, to send the request again.
        ReadyingAgain { refused: Option<Box<Refused<S, Req>>>, held: Arc<Held> },
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
    /// It carried the caller's own credential: the response is none of our business.
    Untouched,
    /// It carried the token of this handle.
    Stamped {
        handle: Handle,
        /// What it takes to send it again.
        again: Option<(S, Req::Copy)>,
    },
    /// It carried a credential that was made for it.
    Made(Option<Box<Made<S, Req>>>),
}

/// What is kept of a request whose credential was made for it. Boxed, for the future of every other
/// request would be as large.
struct Made<S, Req>
where
    Req: AuthRequest,
{
    handle: Handle,
    target: Box<Target>,
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
    pub(crate) fn acquiring(acquire: Acquire, inner: S, request: Req, policy: Arc<Policy>) -> Self {
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
    ) -> Self {
        // A whole state for each, because a copy is large: where there is none, none is moved.
        match prepared {
            Prepared::Never(error) => Self::failed(error),
            Prepared::Callers => Self::passing(response),
            Prepared::Once => Self {
                state: State::Sending {
                    response,
                    sent: Sent::Stamped {
                        handle,
                        again: None,
                    },
                },
            },
            Prepared::Twice(copy) => Self {
                state: State::Sending {
                    response,
                    sent: Sent::Stamped {
                        handle,
                        again: Some((inner.clone(), copy)),
                    },
                },
            },
            Prepared::Made(copy, target) => {
                Self::made(response, copy, target, handle, inner, Tried::default())
            }
        }
    }

    #[cold]
    fn made(
        response: S::Future,
        copy: Option<Req::Copy>,
        target: Box<Target>,
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
        Self::sending(response, Sent::Made(Some(Box::new(made))))
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
                        Sent::Stamped { handle, again } if handle.judge.refuses(&response) => {
                            refused(response, handle.clone(), again.take(), Tried::default())
                        }
                        Sent::Stamped { handle, again } if is_forbidden(&response) => {
                            forbidden(response, handle.clone(), again.take(), Tried::default())
                        }
                        Sent::Stamped { handle, .. } => {
                            settle(&response, handle);
                            return Poll::Ready(Ok(response));
                        }
                        Sent::Made(made) => take(made).answered(response),
                        Sent::Untouched => return Poll::Ready(Ok(response)),
                    }
                }
                StateProj::Acquiring { acquire, unsent } => {
                    let held = ready!(acquire.poll_held(cx))?;
                    let unsent = unsent.take();
                    ControlFlow::Continue(State::Readying { unsent, held })
                }
                StateProj::Readying { unsent, held } => {
                    if let Some(Unsent { inner, .. }) = unsent {
                        ready!(inner.poll_ready(cx)).map_err(Into::into)?;
                    }
                    ControlFlow::Continue(take(unsent).ready(Arc::clone(held)))
                }
                StateProj::Renewing { acquire, refused } => {
                    let held = ready!(acquire.poll_held(cx));
                    take(refused).renewed(held)
                }
                StateProj::ReadyingAgain { refused, held } => {
                    let ready = match refused {
                        Some(refused) => ready!(refused.inner.poll_ready(cx)),
                        None => Ok(()),
                    };
                    take(refused).ready_again(ready, Arc::clone(held))
                }
                StateProj::Resending { response, handle } => {
                    let response = ready!(response.poll(cx)).map_err(Into::into)?;
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
    fn ready(mut self, mut held: Arc<Held>) -> State<S, Req> {
        if held.is_over(self.policy.cache.now()) {
            held = match self.policy.cache.lookup() {
                Lookup::Now(newer) => newer,
                Lookup::Never(error) => return State::Failed { error: Some(error) },
                Lookup::Later(acquire) => {
                    release(&mut self.inner);
                    let unsent = Some(self);
                    return State::Acquiring { acquire, unsent };
                }
            };
        }
        let handle = Handle::Shared(self.policy, held);
        let prepared = handle.stamp(&mut self.request);
        if let Prepared::Never(error) = prepared {
            return State::Failed { error: Some(error) };
        }
        let response = self.inner.call(self.request);
        ResponseFuture::sent(response, prepared, handle, &self.inner).state
    }
}

impl<S, Req> Made<S, Req>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    Req: AuthRequest,
{
    /// The credential learns from the answer before the answer is judged.
    fn answered(self, response: S::Response) -> Step<S, Req> {
        let lesson = match self.handle.credential() {
            // Another origin can't teach what this one wants.
            Credential::Made(by) if !is_from_elsewhere(&self.target, &response) => {
                by.learn(&self.target, response.status(), response.headers())
            }
            _ => Lesson::Nothing,
        };
        if lesson == Lesson::Again {
            return self.again(response);
        }
        let Self {
            handle,
            again,
            tried,
            ..
        } = self;
        let is_refusal = handle.judge.refuses(&response);
        let stands = is_refusal.then(|| handle.judge.stands(&response)).flatten();
        // Whatever else it says. A refusal that doesn't stand rejects the token itself.
        if lesson == Lesson::Over && (!is_refusal || stands.is_some()) {
            settle(&response, &handle);
            handle.cache.refuse(handle.token());
            return ControlFlow::Break(match stands {
                Some(why) => noted(response, why, &handle),
                None => response,
            });
        }
        if is_refusal {
            return refused(response, handle, again, tried);
        }
        if is_forbidden(&response) {
            return forbidden(response, handle, again, tried);
        }
        settle(&response, &handle);
        ControlFlow::Break(response)
    }

    /// Sends it again with the same token, presented as the server wants it.
    fn again(self, response: S::Response) -> Step<S, Req> {
        let Self { handle, tried, .. } = self;
        if tried.taught {
            return ControlFlow::Break(noted(response, NotReplayed::Again, &handle));
        }
        let (inner, request) = match replayable(self.again, &handle) {
            Ok(replay) => replay,
            Err(why) => return ControlFlow::Break(noted(response, why, &handle)),
        };
        let held = Arc::clone(handle.held());
        let refused = Box::new(Refused {
            inner,
            request,
            response,
            handle,
            tried: Tried {
                taught: true,
                ..tried
            },
        });
        ControlFlow::Continue(State::ReadyingAgain {
            refused: Some(refused),
            held,
        })
    }
}

/// The request again, or why there is none.
fn replayable<S, Req>(
    again: Option<(S, Req::Copy)>,
    handle: &Handle,
) -> Result<(S, Req), NotReplayed>
where
    Req: AuthRequest,
{
    if !handle.retry {
        return Err(NotReplayed::Off);
    }
    let replay = again.and_then(|(inner, copy)| Some((inner, Req::replay(copy)?)));
    replay.ok_or(NotReplayed::Body)
}

/// Rejects the token, and starts on a replay if there is what it takes.
#[cold]
fn refused<S, Req>(
    response: S::Response,
    handle: Handle,
    again: Option<(S, Req::Copy)>,
    tried: Tried,
) -> Step<S, Req>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    Req: AuthRequest,
{
    if tried.renewed {
        return ControlFlow::Break(answered_again(response, &handle));
    }
    let challenges = Challenge::parse(response.headers());
    if let Some(wanted) = StepUpChallenge::of(&challenges) {
        return insufficient(response, handle, again, tried, &challenges, wanted);
    }
    if let Some(why) = handle.judge.stands(&response) {
        return ControlFlow::Break(noted(response, why, &handle));
    }
    // Before a token is waited for: without a body there is nothing to wait for.
    let replay = replayable::<S, Req>(again, &handle);
    if let Ok((_, request)) = &replay
        && is_from_elsewhere(&target(request), &response)
    {
        return ControlFlow::Break(noted(response, NotReplayed::Elsewhere, &handle));
    }
    handle.cache.challenged(handle.token(), &challenges);
    let verdict = handle.cache.refuse(handle.token());
    let kept = matches!(verdict, Verdict::Latched | Verdict::Latches { .. });
    let (inner, request) = match replay {
        Ok(_) if kept => {
            return ControlFlow::Break(noted(response, NotReplayed::Latched, &handle));
        }
        Ok(replay) => replay,
        Err(NotReplayed::Body) if kept => {
            return ControlFlow::Break(noted(response, NotReplayed::Latched, &handle));
        }
        Err(why) => return ControlFlow::Break(noted(response, why, &handle)),
    };
    let lookup = handle.cache.lookup();
    let refused = Box::new(Refused {
        inner,
        request,
        response,
        handle,
        tried,
    });
    match lookup {
        Lookup::Now(held) => refused.renewed(Ok(held)),
        Lookup::Never(error) => refused.renewed(Err(error)),
        Lookup::Later(acquire) => {
            let refused = Some(refused);
            ControlFlow::Continue(State::Renewing { acquire, refused })
        }
    }
}

#[inline]
fn is_forbidden(response: &impl AuthResponse) -> bool {
    response.status() == StatusCode::FORBIDDEN
}

/// A 403 is no refusal of the token, but it may say what the token lacks.
#[cold]
fn forbidden<S, Req>(
    response: S::Response,
    handle: Handle,
    again: Option<(S, Req::Copy)>,
    tried: Tried,
) -> Step<S, Req>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    Req: AuthRequest,
{
    let challenges = Challenge::parse(response.headers());
    match StepUpChallenge::of(&challenges) {
        Some(wanted) => insufficient(response, handle, again, tried, &challenges, wanted),
        None => ControlFlow::Break(response),
    }
}

/// The token is good but not enough: another is fetched only if the source knows of a better one.
/// Who says so has accepted it, and until the other is here it is in use for the others.
fn insufficient<S, Req>(
    mut response: S::Response,
    handle: Handle,
    again: Option<(S, Req::Copy)>,
    tried: Tried,
    challenges: &[Challenge],
    wanted: StepUpChallenge,
) -> Step<S, Req>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    Req: AuthRequest,
{
    accepted(&handle);
    let why = NotReplayed::lacking(&wanted);
    response.extensions_mut().insert(wanted);
    // No scope is asked for because of what another origin said.
    let replay = replayable::<S, Req>(again, &handle);
    let is_elsewhere = |request: &Req| is_from_elsewhere(&target(request), &response);
    let (inner, request) = match replay {
        Ok((_, request)) if is_elsewhere(&request) => {
            return ControlFlow::Break(noted(response, NotReplayed::Elsewhere, &handle));
        }
        Ok(replay) if !tried.renewed && handle.cache.challenged(handle.token(), challenges) => {
            replay
        }
        _ => return ControlFlow::Break(noted(response, why, &handle)),
    };
    let newer = match handle.cache.in_hand() {
        Some(newer) if !Arc::ptr_eq(&newer, handle.held()) => Some(newer),
        _ => None,
    };
    let acquire = handle.cache.refresh_now();
    let refused = Box::new(Refused {
        inner,
        request,
        response,
        handle,
        tried,
    });
    match newer {
        // As with any other refusal: it names the token that it is about.
        Some(newer) => refused.renewed(Ok(newer)),
        None => ControlFlow::Continue(State::Renewing {
            acquire,
            refused: Some(refused),
        }),
    }
}

impl<S, Req> Refused<S, Req>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    Req: AuthRequest,
{
    fn renewed(mut self: Box<Self>, held: Outcome) -> Step<S, Req> {
        self.tried.renewed = true;
        match held {
            Err(error) => self.give_up(NotReplayed::Fetch(error)),
            // The one that this request was refused with, whatever became of it since.
            Ok(held) if held.token().is_same_credential(self.handle.token()) => {
                self.give_up(NotReplayed::SameToken)
            }
            Ok(held) => ControlFlow::Continue(State::ReadyingAgain {
                refused: Some(self),
                held,
            }),
        }
    }

    fn ready_again(
        mut self: Box<Self>,
        ready: Result<(), S::Error>,
        held: Arc<Held>,
    ) -> Step<S, Req>
    where
        S::Error: Into<BoxError>,
    {
        if let Err(error) = ready {
            return self.give_up(NotReplayed::NotReady(Arc::from(error.into())));
        }
        if held.is_over(self.handle.cache.now()) {
            return match self.handle.cache.lookup() {
                Lookup::Now(newer) => self.renewed(Ok(newer)),
                Lookup::Never(error) => self.renewed(Err(error)),
                Lookup::Later(acquire) => {
                    release(&mut self.inner);
                    let refused = Some(self);
                    ControlFlow::Continue(State::Renewing { acquire, refused })
                }
            };
        }
        let handle = Handle::Shared(Arc::clone(self.handle.policy()), held);
        let prepared = handle.stamp_again(&mut self.request);
        if let Prepared::Never(error) = prepared {
            return self.give_up(NotReplayed::Fetch(error));
        }
        let Self {
            mut inner,
            request,
            response,
            handle: _,
            tried,
        } = *self;
        // The refusal goes first: it may hold the connection that the replay needs.
        drop(response);
        handle.cache.events().replayed();
        let response = inner.call(request);
        ControlFlow::Continue(match prepared {
            Prepared::Made(copy, target) => {
                ResponseFuture::made(response, copy, target, handle, &inner, tried).state
            }
            _ => State::Resending { response, handle },
        })
    }

    fn give_up(self, why: NotReplayed) -> Step<S, Req> {
        ControlFlow::Break(noted(self.response, why, &self.handle))
    }
}

/// The second answer is the caller's, whatever it is; a second refusal rejects the second token.
fn answered_again<R>(mut response: R, handle: &Handle) -> R
where
    R: AuthResponse,
{
    let is_refusal = handle.judge.refuses(&response);
    if !is_refusal && !is_forbidden(&response) {
        settle(&response, handle);
        return response;
    }
    let challenges = Challenge::parse(response.headers());
    if let Some(wanted) = StepUpChallenge::of(&challenges) {
        accepted(handle);
        let why = NotReplayed::lacking(&wanted);
        response.extensions_mut().insert(wanted);
        return noted(response, why, handle);
    }
    if !is_refusal {
        return response;
    }
    if let Some(why) = handle.judge.stands(&response) {
        return noted(response, why, handle);
    }
    handle.cache.refuse(handle.token());
    noted(response, NotReplayed::Again, handle)
}

/// A token that is accepted for the first time is known to be of use from then on.
#[inline]
fn settle(response: &impl AuthResponse, handle: &Handle) {
    if !handle.held().is_accepted() && Judge::accepts(response) {
        accepted(handle);
    }
}

#[cold]
fn accepted(handle: &Handle) {
    handle.cache.accept(handle.token());
    // By this request's own account too: it may not be the one in use any more. Afterwards: to the
    // cache it would be no news otherwise.
    handle.held().accept();
}

/// The refusal as the server sent it, with the reason why it stands.
fn noted<R>(mut response: R, why: NotReplayed, handle: &Handle) -> R
where
    R: AuthResponse,
{
    handle.cache.events().not_replayed(why.as_str());
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
