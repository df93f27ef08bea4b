//! The outcome of a response: the caller gets the response, or the layer sends the request again.
//!
//! ```text
//!   401, gRPC 16, …                ──▶ reject that token, join the flight for another
//!       from a token just fetched  ──▶ wait a second, send the same token
//!   401 or 403, step-up challenge  ──▶ fetch a better token, if the source can
//!   401 that wants another proof   ──▶ send the same token with a new proof
//! ```
//!
//! The layer sends a request again at most once with another token, once with another proof and
//! once after a pause. The response to each replay is classified again.

use std::ops::ControlFlow;
use std::sync::Arc;

use tower_service::Service;

use super::attach::Attached;
use super::auth_request::AuthRequest;
use super::auth_response::AuthResponse;
use super::local_credential::SentToken;
use super::not_replayed::NotReplayed;
use super::request_state::{Refused, RequestState, Sent, Step, WatchedRequest, record, release};
use super::response_classification::{
    ResponseClass, ResponseFacts, classify, is_acceptance, is_forbidden,
};
use crate::cache::acquire::Lookup;
use crate::cache::expiry::CachedToken;
use crate::cache::fetch_task::has_timer;
use crate::cache::refusal_evidence::Resource;
use crate::cache::state_machine::machine::Outcome;
use crate::cache::state_machine::reject::{CLOCK_LAG, PAUSE, Refusal, Rejection, Report};
use crate::cache::state_machine::request::Caller;
use crate::challenge::step_up::StepUpChallenge;
use crate::challenge::www_authenticate::Challenge;
use crate::error::BoxError;
use crate::sanitize::ServerText;
use crate::token::issued_token::Credential;
use crate::token::per_request::Feedback;
use crate::token::redact::Redactor;

impl<S, Req> Sent<S, Req>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    Req: AuthRequest,
{
    /// Decides what follows a response.
    pub(super) fn outcome(self, response: S::Response) -> Step<S, Req> {
        let response = self.sent_token.response_without_key(response);
        let settings = &self.sent_token.settings;
        let is_refusal = settings.is_refusal(&response);
        let challenges = match is_refusal || is_forbidden(&response) {
            true => Challenge::parse(response.headers()),
            false => Vec::new(),
        };
        let wanted = StepUpChallenge::of(&challenges);
        let elsewhere = settings.elsewhere(&response, self.sent_to);
        let is_from_elsewhere = elsewhere.is_some();
        let class = classify(&ResponseFacts {
            is_from_elsewhere,
            is_refusal,
            is_acceptance: is_acceptance(&response),
            lacks_challenge: is_refusal && settings.refusal_rules.lacks_challenge(&response),
            wanted: wanted.as_ref(),
            feedback: match is_from_elsewhere {
                true => Feedback::Nothing,
                false => self.observe(&response),
            },
        });
        match class {
            ResponseClass::Neutral => ControlFlow::Break(response),
            ResponseClass::Accepted => {
                self.accept();
                ControlFlow::Break(response)
            }
            ResponseClass::DeniedElsewhere => {
                // The API may put the token into the address of the redirect.
                let mut redactor = Redactor::default();
                redactor.hide(self.sent_token.token().secret());
                let origin = redactor.redact(&elsewhere.unwrap_or_default());
                settings.cache.telemetry().shut_out(format!(
                    "`{origin}` refused a request after a redirect, but got no credential; if this \
                     origin belongs to the API, send requests to it, and name it with `only_to`"
                ));
                self.give_up(response, NotReplayed::Elsewhere)
            }
            ResponseClass::WantsProof => self.send_new_proof(response),
            ResponseClass::Ended => self.end_token(response, is_refusal),
            ResponseClass::WantsMore(wanted) => self.step_up(response, &challenges, wanted),
            ResponseClass::Ignored => self.give_up(response, NotReplayed::NoChallenge),
            ResponseClass::Refused { is_final } => self.refused(response, &challenges, is_final),
        }
    }

    /// Lets a credential that was made for the request observe the response.
    fn observe(&self, response: &S::Response) -> Feedback {
        match (self.sent_token.credential(), &self.target) {
            (Credential::PerRequest(credential), Some(target)) => {
                credential.observe(target, response.status(), response.headers())
            }
            _ => Feedback::Nothing,
        }
    }

    /// Tells the cache that a server has accepted the token. While there are no refusals, the cache
    /// needs this call only once for each token.
    fn accept(&self) {
        let SentToken {
            settings, cached, ..
        } = &*self.sent_token;
        if self.watched.is_none() && cached.is_accepted() {
            return;
        }
        let generation = cached.token().generation();
        let sent = WatchedRequest::sent(self.watched.as_ref(), Resource::UNKNOWN);
        settings.cache.accept_from(generation, sent);
        // Also sets the token's own flag, because the cache may already have another current token.
        // The flag is set last, because the cache notifies its subscribers only if the flag isn't
        // set yet.
        cached.accept();
    }

    /// Rejects a token that the server has ended, and gives the response to the caller.
    fn end_token(self, response: S::Response, is_refusal: bool) -> Step<S, Req> {
        if is_acceptance(&response) && !is_refusal {
            self.accept();
        }
        self.reject(true);
        match is_refusal {
            true => self.give_up(response, NotReplayed::NoChallenge),
            false => ControlFlow::Break(response),
        }
    }

    /// Sends the request again with the same token and the proof that the server wants.
    fn send_new_proof(self, response: S::Response) -> Step<S, Req> {
        if self.tried.new_proof {
            return self.give_up(response, NotReplayed::Again);
        }
        let cached = Arc::clone(&self.sent_token.cached);
        match self.replayable(response) {
            Err((sent, response, why)) => sent.give_up(response, why),
            Ok(mut refused) => {
                refused.tried.new_proof = true;
                ControlFlow::Continue(RequestState::ReadyingAgain {
                    refused: Some(refused),
                    cached,
                })
            }
        }
    }

    /// Fetches another token if the source can get a sufficient token. The current token is valid,
    /// and other requests use it until the fetch completes.
    fn step_up(
        self,
        mut response: S::Response,
        challenges: &[Challenge],
        wanted: &StepUpChallenge,
    ) -> Step<S, Req> {
        // A server has accepted the token if it says what the token lacks.
        self.accept();
        let why = NotReplayed::lacking(wanted);
        response.extensions_mut().insert(wanted.clone());
        if self.tried.new_token {
            return self.give_up(response, why);
        }
        let refused = match self.replayable(response) {
            Ok(refused) => refused,
            Err((sent, response, _)) => return sent.give_up(response, why),
        };
        let SentToken {
            settings, cached, ..
        } = &*refused.sent_token;
        let cache = &settings.cache;
        if !cache.challenged(cached.token(), challenges) {
            return refused.give_up(why);
        }
        let newer = cache.newer_than(cached);
        let acquire = cache.refresh_now();
        match newer {
            // The cache already contains a newer token than the token that was sent.
            Some(newer) => refused.renewed(Ok(newer)),
            None => ControlFlow::Continue(RequestState::Renewing {
                acquire,
                refused: Some(refused),
            }),
        }
    }

    /// Rejects the token, and starts a replay if the request can be sent again and a new token may
    /// help.
    fn refused(
        self,
        response: S::Response,
        challenges: &[Challenge],
        is_final: bool,
    ) -> Step<S, Req> {
        let settings = Arc::clone(&self.sent_token.settings);
        let generation = self.sent_token.token().generation();
        let tried = self.tried;
        if !tried.new_token {
            settings
                .cache
                .challenged(self.sent_token.token(), challenges);
        }
        // Rebuilds the request before waiting for a token. The wait is useless if the body can't be
        // sent again.
        let (rejection, replayable) = match self.replayable(response) {
            Ok(refused) => (refused.reject(is_final), Ok(refused)),
            Err((sent, response, why)) => {
                let rejection = sent.reject(is_final);
                (rejection, Err((sent, response, why)))
            }
        };
        let why = match rejection {
            Rejection::TooYoung => None,
            Rejection::NotFetched(ref error) => Some(NotReplayed::Fetch(error.clone())),
            Rejection::SuccessorWanted | Rejection::Outdated => {
                tried.new_token.then_some(NotReplayed::Again)
            }
            Rejection::Limited {
                is_accepted_otherwise: true,
                ..
            } => Some(NotReplayed::Resource),
            Rejection::Limited { .. } if tried.new_token => Some(NotReplayed::Again),
            Rejection::Limited { .. } => Some(NotReplayed::RefusalBudget),
        };
        let refused = match (replayable, why) {
            (Err((sent, response, obstacle)), why) => {
                sent.start_fetch(&rejection);
                let why = match obstacle {
                    NotReplayed::Off => NotReplayed::Off,
                    obstacle => why.unwrap_or(obstacle),
                };
                return sent.give_up(response, why);
            }
            (Ok(refused), Some(why)) => return refused.give_up(why),
            (Ok(refused), None) => refused,
        };
        if let Rejection::TooYoung = rejection {
            return ControlFlow::Continue(RequestState::Pausing {
                sleep: Box::pin(tokio::time::sleep(PAUSE)),
                refused: Some(refused),
            });
        }
        refused.look_up(settings.cache.renew(generation))
    }

    /// Starts the fetch that a refusal requires. Later requests use the new token.
    fn start_fetch(&self, rejection: &Rejection) {
        if !self.tried.new_token && matches!(rejection, Rejection::SuccessorWanted) {
            let SentToken {
                settings, cached, ..
            } = &*self.sent_token;
            drop(settings.cache.renew(cached.token().generation()));
        }
    }

    /// Rejects the token of a request that can't be sent again.
    fn reject(&self, is_final: bool) -> Rejection {
        let refusal = Refusal {
            generation: self.sent_token.token().generation(),
            sent: WatchedRequest::sent(self.watched.as_ref(), Resource::UNKNOWN),
            is_final,
            attempt: self.tried.attempt(),
            can_pause: false,
        };
        reject(&self.sent_token, self.watched.as_ref(), &refusal)
    }

    /// Rebuilds the request, or returns the reason why it can't be sent again.
    #[allow(
        clippy::type_complexity,
        clippy::result_large_err,
        reason = "all of it is used at once"
    )]
    fn replayable(
        mut self,
        response: S::Response,
    ) -> Result<Box<Refused<S, Req>>, (Self, S::Response, NotReplayed)> {
        if !self.sent_token.settings.retry {
            return Err((self, response, NotReplayed::Off));
        }
        let replay = self.replay.take().and_then(|replay| {
            let (inner, copy) = *replay;
            Some((inner, Req::replay(copy)?))
        });
        let Some((inner, request)) = replay else {
            return Err((self, response, NotReplayed::Body));
        };
        let Self {
            sent_token,
            sent_to,
            watched,
            tried,
            ..
        } = self;
        Ok(Box::new(Refused {
            inner,
            request,
            response,
            sent_token,
            sent_to,
            watched,
            tried,
        }))
    }

    fn give_up(self, response: S::Response, why: NotReplayed) -> Step<S, Req> {
        ControlFlow::Break(with_reason(response, why, &self.sent_token))
    }
}

impl<S, Req> Refused<S, Req>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    Req: AuthRequest,
{
    fn reject(&self, is_final: bool) -> Rejection {
        let resource = Resource::new(self.sent_to, self.request.path());
        let refusal = Refusal {
            generation: self.sent_token.token().generation(),
            sent: WatchedRequest::sent(self.watched.as_ref(), resource),
            is_final,
            attempt: self.tried.attempt(),
            // `has_timer` comes last, because it prints a panic message if there is no timer.
            can_pause: self.is_young() && has_timer(),
        };
        reject(&self.sent_token, self.watched.as_ref(), &refusal)
    }

    /// Returns whether the token is so young that it may not be valid yet.
    fn is_young(&self) -> bool {
        let SentToken {
            settings, cached, ..
        } = &*self.sent_token;
        !cached.is_aged(CLOCK_LAG, settings.cache.now())
    }

    /// Sends the request again after a pause, with the current token. The current token is usually
    /// still the refused token.
    pub(super) fn paused(mut self: Box<Self>) -> Step<S, Req> {
        self.tried.pause = true;
        match self.sent_token.settings.cache.lookup(Caller::CanReplay) {
            Lookup::Now(cached) => {
                let token = cached.token();
                self.tried.new_token |= !token.is_same_credential(self.sent_token.token());
                ControlFlow::Continue(RequestState::ReadyingAgain {
                    refused: Some(self),
                    cached,
                })
            }
            other => self.look_up(other),
        }
    }

    /// Continues with the result of a lookup: a token, an error, or a running fetch.
    fn look_up(self: Box<Self>, lookup: Lookup) -> Step<S, Req> {
        match lookup {
            Lookup::Now(cached) => self.renewed(Ok(cached)),
            Lookup::Never(error) => self.renewed(Err(error)),
            Lookup::Later(acquire) => ControlFlow::Continue(RequestState::Renewing {
                acquire,
                refused: Some(self),
            }),
        }
    }

    /// Continues with the new token, or gives up if its fetch has failed.
    pub(super) fn renewed(mut self: Box<Self>, cached: Outcome) -> Step<S, Req> {
        self.tried.new_token = true;
        match cached {
            Err(error) => self.give_up(NotReplayed::Fetch(error)),
            // The server has already refused this credential, even if another fetch returned it.
            Ok(cached) if cached.token().is_same_credential(self.sent_token.token()) => {
                self.give_up(NotReplayed::SameToken)
            }
            Ok(cached) => ControlFlow::Continue(RequestState::ReadyingAgain {
                refused: Some(self),
                cached,
            }),
        }
    }

    /// Sends the request again once the inner service is ready, or gives up if the service has
    /// failed.
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
        let settings = Arc::clone(&self.sent_token.settings);
        if cached.has_expired(settings.cache.now()) {
            let lookup = settings.cache.lookup(Caller::CanReplay);
            if let Lookup::Later(_) = lookup {
                release(&mut self.inner);
            }
            return self.look_up(lookup);
        }
        let sent_token = SentToken::shared(&settings, cached);
        let watched = WatchedRequest::of(&self.request, self.sent_to, &settings);
        // Records the request again, because another replay may follow. The server may want another
        // proof, or may refuse a token that isn't valid yet.
        let replay = record(&mut self.request, &self.inner, &settings);
        let target = match sent_token.attach(&mut self.request) {
            Ok(Attached::PerRequest(target)) => Some(target),
            Ok(Attached::Fixed | Attached::Unchanged) => None,
            Err(error) => return self.give_up(NotReplayed::Fetch(error)),
        };
        let Self {
            mut inner,
            request,
            response,
            sent_to,
            tried,
            ..
        } = *self;
        // Drops the refusal before sending the replay, because the refusal may hold the connection
        // that the replay needs.
        drop(response);
        settings.cache.telemetry().replayed();
        let response = inner.call(request);
        ControlFlow::Continue(RequestState::Sending {
            response,
            sent: Some(Sent {
                sent_token,
                sent_to,
                watched,
                target,
                replay,
                tried,
            }),
        })
    }

    fn give_up(self, why: NotReplayed) -> Step<S, Req> {
        ControlFlow::Break(with_reason(self.response, why, &self.sent_token))
    }
}

/// Rejects the token that a request was sent with. Reports the refusal if the refusal budget
/// prevents or delays a fetch.
fn reject(
    sent_token: &SentToken,
    watched: Option<&WatchedRequest>,
    refusal: &Refusal,
) -> Rejection {
    let cache = &sent_token.settings.cache;
    let rejection = cache.refuse(refusal);
    if let Rejection::Limited {
        report: Some(report),
        ..
    } = rejection
    {
        match report {
            Report::AllRefused { tokens, wait } => {
                let scope = sent_token.token().scope().map(ServerText::new);
                cache
                    .telemetry()
                    .refusals_limited(tokens, wait, scope.as_ref());
            }
            Report::Resource => {
                let method = watched.map(|watched| watched.method.as_str());
                let origin = watched.and_then(WatchedRequest::origin);
                let origin = origin.map(ServerText::new);
                cache.telemetry().resource_refuses(method, origin.as_ref());
            }
        }
    }
    rejection
}

/// Returns the refusal as the server sent it, with the reason why the request was not sent again.
fn with_reason<R>(mut response: R, why: NotReplayed, sent_token: &SentToken) -> R
where
    R: AuthResponse,
{
    let cache = &sent_token.settings.cache;
    cache.telemetry().not_replayed(why.as_str());
    response.extensions_mut().insert(why);
    response
}
