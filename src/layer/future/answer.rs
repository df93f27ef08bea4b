//! What is made of an answer: it is the caller's, or the request is sent again.
//!
//! ```text
//!   401, gRPC 16, …  ──▶ reject that token, join the flight for another
//!   403, 401 that wants more than the token has ──▶ the same if the source knows of a better one
//!   401 that wants another proof ──▶ the same token, presented anew
//! ```
//!
//! Each of the last two lines costs one more try, and whatever is sent again is judged anew.

use std::ops::ControlFlow;
use std::sync::Arc;

use http::StatusCode;
use tower_service::Service;

use crate::cache::acquire::Lookup;
use crate::cache::expiry::CachedToken;
use crate::cache::state_machine::{Outcome, Rejection};
use crate::challenge::step_up::StepUpChallenge;
use crate::challenge::www_authenticate::Challenge;
use crate::error::BoxError;
use crate::layer::attach::Handle;
use crate::layer::auth_request::{AuthRequest, AuthResponse};
use crate::layer::future::{Made, Refused, State, Step, Tried, release};
use crate::layer::refusal::{Judge, NotReplayed, is_from_elsewhere, target};
use crate::layer::settings::Prepared;
use crate::token::issued_token::Credential;
use crate::token::per_request::Lesson;

impl<S, Req> Made<S, Req>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    Req: AuthRequest,
{
    /// The credential learns from the answer before the answer is judged.
    pub(super) fn answered(self, response: S::Response) -> Step<S, Req> {
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
        if !is_refusal && !is_forbidden(&response) {
            settle(&response, &handle);
            return ControlFlow::Break(response);
        }
        let answered = Answered {
            response,
            handle,
            again,
            tried,
        };
        if is_refusal {
            answered.refused()
        } else {
            answered.forbidden()
        }
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
        let cached = Arc::clone(handle.cached());
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
            cached,
        })
    }
}

/// An answer that isn't simply the caller's, with what is known of its request.
pub(super) struct Answered<S, Req>
where
    S: Service<Req>,
    Req: AuthRequest,
{
    response: S::Response,
    handle: Handle,
    again: Option<(S, Req::Copy)>,
    tried: Tried,
}

impl<S, Req> Answered<S, Req>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    Req: AuthRequest,
{
    /// Of a request that was sent once.
    pub(super) fn first(
        response: S::Response,
        handle: &Handle,
        again: &mut Option<(S, Req::Copy)>,
    ) -> Self {
        Self {
            response,
            handle: handle.clone(),
            again: again.take(),
            tried: Tried::default(),
        }
    }

    /// Rejects the token, and starts on a replay if there is what it takes.
    #[cold]
    pub(super) fn refused(self) -> Step<S, Req> {
        if self.tried.renewed {
            return ControlFlow::Break(answered_again(self.response, &self.handle));
        }
        let challenges = Challenge::parse(self.response.headers());
        if let Some(wanted) = StepUpChallenge::of(&challenges) {
            return self.insufficient(&challenges, wanted);
        }
        let Self {
            response,
            handle,
            again,
            tried,
        } = self;
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
        let kept = matches!(verdict, Rejection::Limited | Rejection::NowLimited { .. });
        let (inner, request) = match replay {
            Err(NotReplayed::Off) => {
                return ControlFlow::Break(noted(response, NotReplayed::Off, &handle));
            }
            _ if kept => return ControlFlow::Break(noted(response, NotReplayed::Latched, &handle)),
            Err(why) => return ControlFlow::Break(noted(response, why, &handle)),
            Ok(replay) => replay,
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
            Lookup::Now(cached) => refused.renewed(Ok(cached)),
            Lookup::Never(error) => refused.renewed(Err(error)),
            Lookup::Later(acquire) => {
                let refused = Some(refused);
                ControlFlow::Continue(State::Renewing { acquire, refused })
            }
        }
    }

    /// A 403 is no refusal of the token, but it may say what the token lacks.
    #[cold]
    pub(super) fn forbidden(self) -> Step<S, Req> {
        let challenges = Challenge::parse(self.response.headers());
        match StepUpChallenge::of(&challenges) {
            Some(wanted) => self.insufficient(&challenges, wanted),
            None => ControlFlow::Break(self.response),
        }
    }

    /// The token is good but not enough: another is fetched only if the source knows of a better one.
    /// Until that is here the token is in use for the others.
    fn insufficient(self, challenges: &[Challenge], wanted: StepUpChallenge) -> Step<S, Req> {
        let Self {
            mut response,
            handle,
            again,
            tried,
        } = self;
        let why = lacking(&mut response, wanted, &handle);
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
        let newer = match handle.cache.servable() {
            Some(newer) if !Arc::ptr_eq(&newer, handle.cached()) => Some(newer),
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

#[inline]
pub(super) fn is_forbidden(response: &impl AuthResponse) -> bool {
    response.status() == StatusCode::FORBIDDEN
}

/// Leaves with the answer what the token lacks. Who says that it lacks something has accepted it.
fn lacking(
    response: &mut impl AuthResponse,
    wanted: StepUpChallenge,
    handle: &Handle,
) -> NotReplayed {
    accepted(handle);
    let why = NotReplayed::lacking(&wanted);
    response.extensions_mut().insert(wanted);
    why
}

impl<S, Req> Refused<S, Req>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    Req: AuthRequest,
{
    pub(super) fn renewed(mut self: Box<Self>, cached: Outcome) -> Step<S, Req> {
        self.tried.renewed = true;
        match cached {
            Err(error) => self.give_up(NotReplayed::Fetch(error)),
            // The one that this request was refused with, whatever became of it since.
            Ok(cached) if cached.token().is_same_credential(self.handle.token()) => {
                self.give_up(NotReplayed::SameToken)
            }
            Ok(cached) => ControlFlow::Continue(State::ReadyingAgain {
                refused: Some(self),
                cached,
            }),
        }
    }

    pub(super) fn ready_again(
        mut self: Box<Self>,
        ready: Result<(), S::Error>,
        cached: Arc<CachedToken>,
    ) -> Step<S, Req>
    where
        S::Error: Into<BoxError>,
    {
        if let Err(error) = ready {
            return self.give_up(NotReplayed::NotReady(Arc::from(error.into())));
        }
        if cached.has_expired(self.handle.cache.now()) {
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
        let handle = Handle::Shared(Arc::clone(self.handle.policy()), cached);
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
        handle.cache.telemetry().replayed();
        let response = inner.call(request);
        ControlFlow::Continue(match prepared {
            Prepared::Made(made) => State::made(response, *made, handle, &inner, tried),
            _ => State::Resending { response, handle },
        })
    }

    fn give_up(self, why: NotReplayed) -> Step<S, Req> {
        ControlFlow::Break(noted(self.response, why, &self.handle))
    }
}

/// The second answer is the caller's, whatever it is; a second refusal rejects the second token.
pub(super) fn answered_again<R>(mut response: R, handle: &Handle) -> R
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
        let why = lacking(&mut response, wanted, handle);
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
pub(super) fn settle(response: &impl AuthResponse, handle: &Handle) {
    if !handle.cached().is_accepted() && Judge::accepts(response) {
        accepted(handle);
    }
}

#[cold]
fn accepted(handle: &Handle) {
    handle.cache.accept(handle.token());
    // By this request's own account too: it may not be the one in use any more. Afterwards: to the
    // cache it would be no news otherwise.
    handle.cached().accept();
}

/// The refusal as the server sent it, with the reason why it stands.
fn noted<R>(mut response: R, why: NotReplayed, handle: &Handle) -> R
where
    R: AuthResponse,
{
    handle.cache.telemetry().not_replayed(why.as_str());
    response.extensions_mut().insert(why);
    response
}
