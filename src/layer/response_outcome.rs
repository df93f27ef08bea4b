//! The outcome of a response: the caller gets it, or the request is sent again.
//!
//! ```text
//!   401, gRPC 16, …                ──▶ reject that token, join the flight for another
//!   401 or 403, step-up challenge  ──▶ fetch a better token, if the source knows of one
//!   401 that wants another proof   ──▶ send the same token with a new proof
//! ```
//!
//! A request is sent again at most once with another token, and once with another proof. The response
//! to a replay is classified again.

use std::ops::ControlFlow;
use std::sync::Arc;

use tower_service::Service;

use super::attach::Attached;
use super::auth_request::AuthRequest;
use super::auth_response::AuthResponse;
use super::local_credential::SentToken;
use super::not_replayed::NotReplayed;
use super::request_state::release;
use super::request_state::{Refused, RequestState, SentPerRequest, Step, Tried};
use super::response_classification::{RefusalRules, is_forbidden};
use crate::cache::acquire::Lookup;
use crate::cache::expiry::CachedToken;
use crate::cache::refusal_budget::Rejection;
use crate::cache::state_machine::machine::Outcome;
use crate::challenge::step_up::StepUpChallenge;
use crate::challenge::www_authenticate::Challenge;
use crate::error::BoxError;
use crate::origin::OriginDigest;
use crate::token::issued_token::Credential;
use crate::token::per_request::Feedback;

impl<S, Req> SentPerRequest<S, Req>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    Req: AuthRequest,
{
    /// Lets the credential observe the response, then classifies the response.
    pub(super) fn classify(self, response: S::Response) -> Step<S, Req> {
        if self.sent_token.is_from_elsewhere(&response, self.sent_to) {
            return ControlFlow::Break(answered_elsewhere(response, &self.sent_token));
        }
        let feedback = match self.sent_token.credential() {
            Credential::PerRequest(credential) => {
                credential.observe(&self.target, response.status(), response.headers())
            }
            _ => Feedback::Nothing,
        };
        if feedback == Feedback::OnceMore {
            return self.send_new_proof(response);
        }
        let Self {
            sent_token,
            sent_to,
            replay,
            tried,
            ..
        } = self;
        let is_refusal = sent_token.is_refusal(&response);
        let no_replay_reason = is_refusal
            .then(|| sent_token.refusal_rules.no_replay_reason(&response))
            .flatten();
        // Any other refusal rejects the token in `DeniedResponse::refused`.
        if feedback == Feedback::TokenEnded && (!is_refusal || no_replay_reason.is_some()) {
            record_acceptance(&response, &sent_token, sent_to);
            sent_token.cache.refuse(sent_token.token());
            return ControlFlow::Break(match no_replay_reason {
                Some(why) => with_reason(response, why, &sent_token),
                None => response,
            });
        }
        if !is_refusal && !is_forbidden(&response) {
            record_acceptance(&response, &sent_token, sent_to);
            return ControlFlow::Break(response);
        }
        let denied = DeniedResponse {
            response,
            sent_token,
            sent_to,
            replay,
            tried,
        };
        if is_refusal {
            denied.refused()
        } else {
            denied.forbidden()
        }
    }

    /// Sends the request again with the same token and the proof that the server wants.
    fn send_new_proof(self, response: S::Response) -> Step<S, Req> {
        let Self {
            sent_token,
            sent_to,
            tried,
            ..
        } = self;
        if tried.new_proof {
            return ControlFlow::Break(with_reason(response, NotReplayed::Again, &sent_token));
        }
        let (inner, request) = match replayable(self.replay, &sent_token) {
            Ok(replay) => replay,
            Err(why) => return ControlFlow::Break(with_reason(response, why, &sent_token)),
        };
        let cached = Arc::clone(sent_token.cached());
        let refused = Box::new(Refused {
            inner,
            request,
            response,
            sent_token,
            sent_to,
            tried: Tried {
                new_proof: true,
                ..tried
            },
        });
        ControlFlow::Continue(RequestState::ReadyingAgain {
            refused: Some(refused),
            cached,
        })
    }
}

/// A response that may cause a replay, with what the layer keeps of its request.
pub(super) struct DeniedResponse<S, Req>
where
    S: Service<Req>,
    Req: AuthRequest,
{
    response: S::Response,
    sent_token: SentToken,
    sent_to: OriginDigest,
    replay: Option<(S, Req::Copy)>,
    tried: Tried,
}

impl<S, Req> DeniedResponse<S, Req>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    Req: AuthRequest,
{
    /// The response to a request that was sent once.
    pub(super) fn first(
        response: S::Response,
        sent_token: &SentToken,
        sent_to: OriginDigest,
        replay: &mut Option<(S, Req::Copy)>,
    ) -> Self {
        Self {
            response,
            sent_token: sent_token.clone(),
            sent_to,
            replay: replay.take(),
            tried: Tried::default(),
        }
    }

    /// Rejects the token, and starts a replay if the request can be sent again.
    #[cold]
    pub(super) fn refused(self) -> Step<S, Req> {
        if self
            .sent_token
            .is_from_elsewhere(&self.response, self.sent_to)
        {
            return ControlFlow::Break(answered_elsewhere(self.response, &self.sent_token));
        }
        if self.tried.new_token {
            let response = finish_replay(self.response, &self.sent_token, self.sent_to);
            return ControlFlow::Break(response);
        }
        let challenges = Challenge::parse(self.response.headers());
        if let Some(wanted) = StepUpChallenge::of(&challenges) {
            return self.step_up(&challenges, wanted);
        }
        let Self {
            response,
            sent_token,
            sent_to,
            replay,
            tried,
        } = self;
        if let Some(why) = sent_token.refusal_rules.no_replay_reason(&response) {
            return ControlFlow::Break(with_reason(response, why, &sent_token));
        }
        // Before waiting for a token: without a body there is nothing to wait for.
        let replay = replayable::<S, Req>(replay, &sent_token);
        sent_token.cache.challenged(sent_token.token(), &challenges);
        let rejection = sent_token.cache.refuse(sent_token.token());
        let is_limited = matches!(rejection, Rejection::Limited | Rejection::NowLimited { .. });
        let (inner, request) = match replay {
            Err(NotReplayed::Off) => {
                return ControlFlow::Break(with_reason(response, NotReplayed::Off, &sent_token));
            }
            _ if is_limited => {
                return ControlFlow::Break(with_reason(
                    response,
                    NotReplayed::RefusalBudget,
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
            sent_to,
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

    /// A 403 does not refuse the token, but it may name what the token lacks.
    #[cold]
    pub(super) fn forbidden(self) -> Step<S, Req> {
        if self
            .sent_token
            .is_from_elsewhere(&self.response, self.sent_to)
        {
            return ControlFlow::Break(answered_elsewhere(self.response, &self.sent_token));
        }
        let challenges = Challenge::parse(self.response.headers());
        match StepUpChallenge::of(&challenges) {
            Some(wanted) => self.step_up(&challenges, wanted),
            None => ControlFlow::Break(self.response),
        }
    }

    /// Fetches another token if the source knows of one that is enough. The current token is valid,
    /// and other requests use it until the fetch completes.
    fn step_up(self, challenges: &[Challenge], wanted: StepUpChallenge) -> Step<S, Req> {
        let Self {
            mut response,
            sent_token,
            sent_to,
            replay,
            tried,
        } = self;
        let why = record_step_up(&mut response, wanted, &sent_token);
        let (inner, request) = match replayable::<S, Req>(replay, &sent_token) {
            Ok(replay)
                if !tried.new_token
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
            sent_to,
            tried,
        });
        match newer {
            // The response is about the token that it was sent with, and a newer one is cached.
            Some(newer) => refused.renewed(Ok(newer)),
            None => ControlFlow::Continue(RequestState::Renewing {
                acquire,
                refused: Some(refused),
            }),
        }
    }
}

/// The request again, or the reason why it can't be sent again.
fn replayable<S, Req>(
    replay: Option<(S, Req::Copy)>,
    sent_token: &SentToken,
) -> Result<(S, Req), NotReplayed>
where
    Req: AuthRequest,
{
    if !sent_token.retry {
        return Err(NotReplayed::Off);
    }
    let replay = replay.and_then(|(inner, copy)| Some((inner, Req::replay(copy)?)));
    replay.ok_or(NotReplayed::Body)
}

/// Inserts in the response what the token lacks. A server that says so has accepted the token.
fn record_step_up(
    response: &mut impl AuthResponse,
    wanted: StepUpChallenge,
    sent_token: &SentToken,
) -> NotReplayed {
    accept(sent_token);
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
    /// Another token is here, or its fetch has failed.
    pub(super) fn renewed(mut self: Box<Self>, cached: Outcome) -> Step<S, Req> {
        self.tried.new_token = true;
        match cached {
            Err(error) => self.give_up(NotReplayed::Fetch(error)),
            // The server has refused this credential already, whichever fetch returned it.
            Ok(cached) if cached.token().is_same_credential(self.sent_token.token()) => {
                self.give_up(NotReplayed::SameToken)
            }
            Ok(cached) => ControlFlow::Continue(RequestState::ReadyingAgain {
                refused: Some(self),
                cached,
            }),
        }
    }

    /// The inner service is ready, or has failed: sends the request again.
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
        let sent_token = SentToken::Cached(Arc::clone(self.sent_token.settings()), cached);
        let attached = sent_token.attach_again(&mut self.request);
        if let Attached::Rejected(error) = attached {
            return self.give_up(NotReplayed::Fetch(error));
        }
        let Self {
            mut inner,
            request,
            response,
            sent_token: _,
            sent_to,
            tried,
        } = *self;
        // Dropped before the replay is sent: it may hold the connection that the replay needs.
        drop(response);
        sent_token.cache.telemetry().replayed();
        let response = inner.call(request);
        ControlFlow::Continue(match attached {
            Attached::PerRequest(_, per_request) => RequestState::per_request(
                response,
                *per_request,
                sent_token,
                sent_to,
                &inner,
                tried,
            ),
            _ => RequestState::Resending {
                response,
                sent_token,
                sent_to,
            },
        })
    }

    fn give_up(self, why: NotReplayed) -> Step<S, Req> {
        ControlFlow::Break(with_reason(self.response, why, &self.sent_token))
    }
}

/// Returns the response to a replay to the caller. A second refusal rejects the second token.
pub(super) fn finish_replay<R>(mut response: R, sent_token: &SentToken, sent_to: OriginDigest) -> R
where
    R: AuthResponse,
{
    let is_refusal = sent_token.is_refusal(&response);
    if !is_refusal && !is_forbidden(&response) {
        record_acceptance(&response, sent_token, sent_to);
        return response;
    }
    if sent_token.is_from_elsewhere(&response, sent_to) {
        return answered_elsewhere(response, sent_token);
    }
    let challenges = Challenge::parse(response.headers());
    if let Some(wanted) = StepUpChallenge::of(&challenges) {
        let why = record_step_up(&mut response, wanted, sent_token);
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

/// Tells the cache when a server accepts the token for the first time.
#[inline]
pub(super) fn record_acceptance(
    response: &impl AuthResponse,
    sent_token: &SentToken,
    sent_to: OriginDigest,
) {
    if !sent_token.cached().is_accepted()
        && RefusalRules::accepts(response)
        && !sent_token.is_from_elsewhere(response, sent_to)
    {
        accept(sent_token);
    }
}

/// A response of another origin, to which the client was redirected. The other origin did not receive
/// the token, so its response neither refuses nor accepts the token.
#[cold]
fn answered_elsewhere<R>(response: R, sent_token: &SentToken) -> R
where
    R: AuthResponse,
{
    let wants_more = || StepUpChallenge::of(&Challenge::parse(response.headers())).is_some();
    match sent_token.is_refusal(&response) || (is_forbidden(&response) && wants_more()) {
        true => with_reason(response, NotReplayed::Elsewhere, sent_token),
        false => response,
    }
}

#[cold]
fn accept(sent_token: &SentToken) {
    sent_token.cache.accept(sent_token.token());
    // The token may no longer be the current one, so its own flag is set too. The flag is set last:
    // the cache ignores a token that has it already.
    sent_token.cached().accept();
}

/// The refusal as the server sent it, with the reason why the request was not sent again.
fn with_reason<R>(mut response: R, why: NotReplayed, sent_token: &SentToken) -> R
where
    R: AuthResponse,
{
    sent_token.cache.telemetry().not_replayed(why.as_str());
    response.extensions_mut().insert(why);
    response
}
