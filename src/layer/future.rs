//! The future of a response. Nearly all requests have only the state `Sending`, which is stored in
//! the future. All other [states](super::request_state) are boxed.

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::allowed_origins::Admission;
use super::attach::Attached;
use super::auth_request::AuthRequest;
use super::auth_response::AuthResponse;
use super::local_credential::SentToken;
use super::request_state::{
    Recorded, ReplayCopy, RequestState, Sent, StateProj, Tried, Unsent, WatchedRequest, record,
    release, take,
};
use crate::cache::acquire::Lookup;
use crate::cache::expiry::CachedToken;
use crate::cache::state_machine::request::Caller;
use crate::error::BoxError;
#[cfg(feature = "tenants")]
use crate::error::Error;
use crate::origin::OriginDigest;

pin_project! {
    /// The future that [`Auth`](crate::Auth) returns: it resolves to the response.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the request, as with the client below. A running fetch continues
    /// for the other callers.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req>
    where
        S: Service<Req>,
        Req: AuthRequest,
    {
        #[pin]
        stage: Stage<S, Req>,
    }
}

pin_project! {
    #[project = StageProj]
    enum Stage<S, Req>
    where
        S: Service<Req>,
        Req: AuthRequest,
    {
        // Waits for the response to a request that was sent with the current token.
        Sending {
            #[pin]
            response: S::Future,
            sent_token: Arc<SentToken>,
            sent_to: OriginDigest,
            replay: Option<ReplayCopy<S, Req>>,
        },
        // Waits for the response to a request that passed unchanged.
        Passing { #[pin] response: S::Future },
        // Any other state. The state is boxed, because it is rare and would enlarge the future of
        // every request.
        Other { state: OtherState<S, Req> },
    }
}

/// The state of a request that is not sent in the usual way.
pub(super) type OtherState<S, Req> = Pin<Box<RequestState<S, Req>>>;

/// The parts that the future keeps after it sends a request with the current token.
pub(crate) struct SentAsUsual<S, Req>
where
    Req: AuthRequest,
{
    pub(crate) sent_token: Arc<SentToken>,
    pub(crate) sent_to: OriginDigest,
    pub(crate) replay: Option<ReplayCopy<S, Req>>,
}

/// Constructors are inlined, so that the compiler builds the future in place.
impl<S, Req> ResponseFuture<S, Req>
where
    S: Service<Req>,
    Req: AuthRequest,
{
    #[inline(always)]
    pub(crate) fn sending(response: S::Future, sent: SentAsUsual<S, Req>) -> Self {
        let SentAsUsual {
            sent_token,
            sent_to,
            replay,
        } = sent;
        Self {
            stage: Stage::Sending {
                response,
                sent_token,
                sent_to,
                replay,
            },
        }
    }

    #[inline(always)]
    pub(super) fn passing(response: S::Future) -> Self {
        Self {
            stage: Stage::Passing { response },
        }
    }

    #[inline(always)]
    pub(super) fn other(state: OtherState<S, Req>) -> Self {
        Self {
            stage: Stage::Other { state },
        }
    }

    /// Returns the future for a request that is not sent.
    #[cfg(feature = "tenants")]
    pub(crate) fn failed(error: Error, request: &Req) -> Self {
        Self::other(Box::pin(RequestState::failed(error, request)))
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
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.as_mut().project().stage.project() {
            StageProj::Sending {
                response,
                sent_token,
                ..
            } => match response.poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(error)) => {
                    Poll::Ready(Err(sent_token.error_without_key(error.into())))
                }
                Poll::Ready(Ok(response)) if sent_token.is_usual(&response) => {
                    Poll::Ready(Ok(response))
                }
                Poll::Ready(Ok(response)) => self.finish_sending(response, cx),
            },
            StageProj::Passing { response } => response.poll(cx).map_err(Into::into),
            StageProj::Other { .. } => self.poll_other(cx),
        }
    }
}

impl<S, Req> ResponseFuture<S, Req>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    S::Error: Into<BoxError>,
    Req: AuthRequest,
{
    /// Handles a response that may say something about the token.
    #[cold]
    #[inline(never)]
    fn finish_sending(
        mut self: Pin<&mut Self>,
        response: S::Response,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, BoxError>> {
        let mut stage = self.as_mut().project().stage;
        let StageProj::Sending {
            sent_token,
            sent_to,
            replay,
            ..
        } = stage.as_mut().project()
        else {
            return Poll::Ready(Ok(response));
        };
        let sent = Sent {
            sent_token: Arc::clone(sent_token),
            sent_to: *sent_to,
            watched: None,
            target: None,
            replay: replay.take(),
            tried: Tried::default(),
        };
        match sent.outcome(response) {
            ControlFlow::Break(response) => Poll::Ready(Ok(response)),
            ControlFlow::Continue(next) => {
                let state = Box::pin(next);
                stage.set(Stage::Other { state });
                self.poll_other(cx)
            }
        }
    }

    /// Moves a request from one state to the next.
    #[cold]
    #[inline(never)]
    fn poll_other(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, BoxError>> {
        let StageProj::Other { state } = self.project().stage.project() else {
            unreachable!("the caller has seen the stage");
        };
        loop {
            let step = match state.as_mut().project() {
                StateProj::Acquiring { acquire, unsent } => {
                    let acquired = ready!(acquire.poll_cached(cx));
                    ControlFlow::Continue(match acquired {
                        Ok(cached) => {
                            let unsent = unsent.take();
                            RequestState::Readying { unsent, cached }
                        }
                        Err(error) => RequestState::failed(error, &take(unsent).request),
                    })
                }
                StateProj::Readying { unsent, cached } => {
                    if let Some(Unsent { inner, .. }) = unsent {
                        ready!(inner.poll_ready(cx)).map_err(Into::into)?;
                    }
                    ControlFlow::Continue(take(unsent).ready(Arc::clone(cached)))
                }
                StateProj::Sending { response, sent } => {
                    let response = ready!(response.poll(cx));
                    let sent = take(sent);
                    match response {
                        Ok(response) => sent.outcome(response),
                        Err(error) => {
                            let error = sent.sent_token.error_without_key(error.into());
                            return Poll::Ready(Err(error));
                        }
                    }
                }
                StateProj::Passing { response } => {
                    return response.poll(cx).map_err(Into::into);
                }
                StateProj::Renewing { acquire, refused } => {
                    let cached = ready!(acquire.poll_cached(cx));
                    take(refused).renewed(cached)
                }
                StateProj::Pausing { sleep, refused } => {
                    ready!(sleep.as_mut().poll(cx));
                    take(refused).paused()
                }
                StateProj::ReadyingAgain { refused, cached } => {
                    let ready = match refused {
                        Some(refused) => ready!(refused.inner.poll_ready(cx)),
                        None => Ok(()),
                    };
                    take(refused).ready_again(ready, Arc::clone(cached))
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
    /// Sends the request with the cached token. The inner service is ready.
    fn ready(mut self, mut cached: Arc<CachedToken>) -> RequestState<S, Req> {
        let cache = &self.settings.cache;
        if cached.has_expired(cache.now()) {
            cached = match cache.lookup(Caller::CannotReplay) {
                Lookup::Now(newer) => newer,
                Lookup::Never(error) => return RequestState::failed(error, &self.request),
                Lookup::Later(acquire) => {
                    release(&mut self.inner);
                    let unsent = Some(self);
                    return RequestState::Acquiring { acquire, unsent };
                }
            };
        }
        let sent_token = SentToken::shared(&self.settings, cached);
        send(sent_token, self.request, self.recorded, &mut self.inner)
    }
}

/// Attaches the credential if the request may have it, and sends the request to a ready service.
/// Records the request if it isn't recorded yet.
pub(super) fn send<S, Req>(
    sent_token: Arc<SentToken>,
    mut request: Req,
    recorded: Recorded<S, Req>,
    inner: &mut S,
) -> RequestState<S, Req>
where
    S: Service<Req> + Clone,
    Req: AuthRequest,
{
    let settings = &*sent_token.settings;
    // Checks the origin again, now for the place of this token. The first check used the place that
    // the source named, because the token was still unknown.
    let sent_to = match settings.admit(&request, sent_token.token().place()) {
        Ok(Admission::Credential(sent_to)) => sent_to,
        Ok(Admission::Unchanged) => {
            let response = inner.call(request);
            return RequestState::Passing { response };
        }
        Err(error) => {
            release(inner);
            return RequestState::failed(error, &request);
        }
    };
    let replay = match recorded {
        Recorded::Already(replay) => replay,
        Recorded::NotYet => record(&mut request, inner, settings),
    };
    let watched = WatchedRequest::of(&request, sent_to, settings);
    let target = match sent_token.attach(&mut request) {
        Err(error) => {
            release(inner);
            return RequestState::failed(error, &request);
        }
        Ok(Attached::Unchanged) => {
            let response = inner.call(request);
            return RequestState::Passing { response };
        }
        Ok(Attached::Fixed) => None,
        Ok(Attached::PerRequest(target)) => Some(target),
    };
    let response = inner.call(request);
    let sent = Some(Sent {
        sent_token,
        sent_to,
        watched,
        target,
        replay,
        tried: Tried::default(),
    });
    RequestState::Sending { response, sent }
}

impl<S, Req> fmt::Debug for ResponseFuture<S, Req>
where
    S: Service<Req>,
    Req: AuthRequest,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.stage {
            Stage::Sending { .. } => "Sending",
            Stage::Passing { .. } => "Passing",
            Stage::Other { state } => match &**state {
                RequestState::Acquiring { .. } => "Acquiring",
                RequestState::Readying { .. } => "Readying",
                RequestState::Sending { .. } => "Sending",
                RequestState::Passing { .. } => "Passing",
                RequestState::Renewing { .. } => "Renewing",
                RequestState::Pausing { .. } => "Pausing",
                RequestState::ReadyingAgain { .. } => "ReadyingAgain",
                RequestState::Failed { .. } => "Failed",
            },
        };
        write!(f, "ResponseFuture({state})")
    }
}
