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
use crate::cache::state_machine::machine::Outcome;
use crate::cache::state_machine::reject::Rejection;
use crate::challenge::step_up::StepUpChallenge;
use crate::challenge::www_authenticate::Challenge;
use crate::error::BoxError;
use crate::layer::attach::SentToken;
use crate::layer::auth_request::{AuthRequest, AuthResponse};
use crate::layer::future::{Refused, RequestState, SentPerRequest, Step, Tried, release};
use crate::layer::refusal::{NotReplayed, RefusalRules, is_from_elsewhere, target};
use crate::layer::settings::Attached;
use crate::token::issued_token::Credential;
use crate::token::per_request::Feedback;

impl<S, Req> SentPerRequest<S, Req>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    Req: AuthRequest,
{
    /// The credential learns from the answer before the answer is judged.
    pub(super) fn answered(self, response: S::Response) -> Step<S, Req> {
        let lesson = match self.sent_token.credential() {
            // Another origin can't teach what this one wants.
            Credential::PerRequest(by) if !is_from_elsewhere(&self.target, &response) => {
                by.observe(&self.target, response.status(), response.headers())
            }
            _ => Feedback::Nothing,
        };
        if lesson == Feedback::OnceMore {
            return self.again(response);
        }
        let Self {
            sent_token,
            again,
            tried,
            ..
        } = self;
        let is_refusal = sent_token.refusal_rules.is_refusal(&response);
        let no_replay_reason = is_refusal
            .then(|| sent_token.refusal_rules.no_replay_reason(&response))
            .flatten();
        // Whatever else it says. A refusal that doesn't stand rejects the token itself.
        if lesson == Feedback::TokenEnded && (!is_refusal || no_replay_reason.is_some()) {
            record_acceptance(&response, &sent_token);
            sent_token.cache.refuse(sent_token.token());
            return ControlFlow::Break(match no_replay_reason {
                Some(why) => with_reason(response, why, &sent_token),
                None => response,
            });
        }
        if !is_refusal && !is_forbidden(&response) {
            record_acceptance(&response, &sent_token);
            return ControlFlow::Break(response);
        }
        let answered = Answered {
            response,
            sent_token,
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
        let Self {
            sent_token, tried, ..
        } = self;
        if tried.taught {
            return ControlFlow::Break(with_reason(response, NotReplayed::Again, &sent_token));
        }
        let (inner, request) = match replayable(self.again, &sent_token) {
            Ok(replay) => replay,
            Err(why) => return ControlFlow::Break(with_reason(response, why, &sent_token)),
        };
        let cached = Arc::clone(sent_token.cached());
        let refused = Box::new(Refused {
            inner,
            request,
            response,
            sent_token,
            tried: Tried {
                taught: true,
                ..tried
            },
        });
        ControlFlow::Continue(RequestState::ReadyingAgain {
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
    sent_token: SentToken,
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
        sent_token: &SentToken,
        again: &mut Option<(S, Req::Copy)>,
    ) -> Self {
        Self {
            response,
            sent_token: sent_token.clone(),
            again: again.take(),
            tried: Tried::default(),
        }
    }

    /// Rejects the token, and starts on a replay if there is what it takes.
    #[cold]
    pub(super) fn refused(self) -> Step<S, Req> {
        if self.tried.renewed {
            return ControlFlow::Break(answered_again(self.response, &self.sent_token));
        }
        let challenges = Challenge::parse(self.response.headers());
        if let Some(wanted) = StepUpChallenge::of(&challenges) {
            return self.insufficient(&challenges, wanted);
        }
        let Self {
            response,
            sent_token,
            again,
            tried,
        } = self;
        if let Some(why) = sent_token.refusal_rules.no_replay_reason(&response) {
            return ControlFlow::Break(with_reason(response, why, &sent_token));
        }
        // Before a token is waited for: without a body there is nothing to wait for.
        let replay = replayable::<S, Req>(again, &sent_token);
        if let Ok((_, request)) = &replay
            && is_from_elsewhere(&target(request), &response)
        {
            return ControlFlow::Break(with_reason(response, NotReplayed::Elsewhere, &sent_token));
        }
        sent_token.cache.challenged(sent_token.token(), &challenges);
        let verdict = sent_token.cache.refuse(sent_token.token());
        let kept = matches!(verdict, Rejection::Limited | Rejection::NowLimited { .. });
        let (inner, request) = match replay {
            Err(NotReplayed::Off) => {
                return ControlFlow::Break(with_reason(response, NotReplayed::Off, &sent_token));
            }
            _ if kept => {
                return ControlFlow::Break(with_reason(
                    response,
                    NotReplayed::Latched,
                    &sent_token,
                ));
            }
            Err(why) => return ControlFlow::Break(with_reason(response, why, &sent_token)),
            Ok(replay) => replay,
        };
        let lookup = sent_token.cache.lookup();
        let refused = Box::new(Refused {
            inner,
            request,
            response,
            sent_token,
            tried,
        });
        match lookup {
            Lookup::Now(cached) => refused.renewed(Ok(cached)),
            Lookup::Never(error) => refused.renewed(Err(error)),
            Lookup::Later(acquire) => {
                let refused = Some(refused);
                ControlFlow::Continue(RequestState::Renewing { acquire, refused })
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
            sent_token,
            again,
            tried,
        } = self;
        let why = lacking(&mut response, wanted, &sent_token);
        // No scope is asked for because of what another origin said.
        let replay = replayable::<S, Req>(again, &sent_token);
        let is_elsewhere = |request: &Req| is_from_elsewhere(&target(request), &response);
        let (inner, request) = match replay {
            Ok((_, request)) if is_elsewhere(&request) => {
                return ControlFlow::Break(with_reason(
                    response,
                    NotReplayed::Elsewhere,
                    &sent_token,
                ));
            }
            Ok(replay)
                if !tried.renewed
                    && sent_token.cache.challenged(sent_token.token(), challenges) =>
            {
                replay
            }
            _ => return ControlFlow::Break(with_reason(response, why, &sent_token)),
        };
        let newer = match sent_token.cache.servable() {
            Some(newer) if !Arc::ptr_eq(&newer, sent_token.cached()) => Some(newer),
            _ => None,
        };
        let acquire = sent_token.cache.refresh_now();
        let refused = Box::new(Refused {
            inner,
            request,
            response,
            sent_token,
            tried,
        });
        match newer {
            // As with any other refusal: it names the token that it is about.
            Some(newer) => refused.renewed(Ok(newer)),
            None => ControlFlow::Continue(RequestState::Renewing {
                acquire,
                refused: Some(refused),
            }),
        }
    }
}

/// The request again, or why there is none.
fn replayable<S, Req>(
    again: Option<(S, Req::Copy)>,
    sent_token: &SentToken,
) -> Result<(S, Req), NotReplayed>
where
    Req: AuthRequest,
{
    if !sent_token.retry {
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
    sent_token: &SentToken,
) -> NotReplayed {
    accepted(sent_token);
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
            Ok(cached) if cached.token().is_same_credential(self.sent_token.token()) => {
                self.give_up(NotReplayed::SameToken)
            }
            Ok(cached) => ControlFlow::Continue(RequestState::ReadyingAgain {
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
        if cached.has_expired(self.sent_token.cache.now()) {
            return match self.sent_token.cache.lookup() {
                Lookup::Now(newer) => self.renewed(Ok(newer)),
                Lookup::Never(error) => self.renewed(Err(error)),
                Lookup::Later(acquire) => {
                    release(&mut self.inner);
                    let refused = Some(self);
                    ControlFlow::Continue(RequestState::Renewing { acquire, refused })
                }
            };
        }
        let sent_token = SentToken::Shared(Arc::clone(self.sent_token.settings()), cached);
        let attached = sent_token.attach_again(&mut self.request);
        if let Attached::Rejected(error) = attached {
            return self.give_up(NotReplayed::Fetch(error));
        }
        let Self {
            mut inner,
            request,
            response,
            sent_token: _,
            tried,
        } = *self;
        // The refusal goes first: it may hold the connection that the replay needs.
        drop(response);
        sent_token.cache.telemetry().replayed();
        let response = inner.call(request);
        ControlFlow::Continue(match attached {
            Attached::PerRequest(made) => {
                RequestState::per_request(response, *made, sent_token, &inner, tried)
            }
            _ => RequestState::Resending {
                response,
                sent_token,
            },
        })
    }

    fn give_up(self, why: NotReplayed) -> Step<S, Req> {
        ControlFlow::Break(with_reason(self.response, why, &self.sent_token))
    }
}

/// The second answer is the caller's, whatever it is; a second refusal rejects the second token.
pub(super) fn answered_again<R>(mut response: R, sent_token: &SentToken) -> R
where
    R: AuthResponse,
{
    let is_refusal = sent_token.refusal_rules.is_refusal(&response);
    if !is_refusal && !is_forbidden(&response) {
        record_acceptance(&response, sent_token);
        return response;
    }
    let challenges = Challenge::parse(response.headers());
    if let Some(wanted) = StepUpChallenge::of(&challenges) {
        let why = lacking(&mut response, wanted, sent_token);
        return with_reason(response, why, sent_token);
    }
    if !is_refusal {
        return response;
    }
    if let Some(why) = sent_token.refusal_rules.no_replay_reason(&response) {
        return with_reason(response, why, sent_token);
    }
    sent_token.cache.refuse(sent_token.token());
    with_reason(response, NotReplayed::Again, sent_token)
}

/// A token that is accepted for the first time is known to be of use from then on.
#[inline]
pub(super) fn record_acceptance(response: &impl AuthResponse, sent_token: &SentToken) {
    if !sent_token.cached().is_accepted() && RefusalRules::accepts(response) {
        accepted(sent_token);
    }
}

#[cold]
fn accepted(sent_token: &SentToken) {
    sent_token.cache.accept(sent_token.token());
    // By this request's own account too: it may not be the one in use any more. Afterwards: to the
    // cache it would be no news otherwise.
    sent_token.cached().accept();
}

/// The refusal as the server sent it, with the reason why it stands.
fn with_reason<R>(mut response: R, why: NotReplayed, sent_token: &SentToken) -> R
where
    R: AuthResponse,
{
    sent_token.cache.telemetry().not_replayed(why.as_str());
    response.extensions_mut().insert(why);
    response
}
