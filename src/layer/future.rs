//! The future of a response, which moves the request from one [state](super::request_state) to the
//! next.

use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::attach::Attached;
use super::auth_request::AuthRequest;
use super::auth_response::AuthResponse;
use super::local_credential::SentToken;
use super::request_state::release;
use super::request_state::{RequestState, Sent, StateProj, Tried, Unsent, take};
use super::response_classification::is_forbidden;
use super::response_outcome::{DeniedResponse, finish_replay, record_acceptance};
use super::settings::LayerSettings;
use crate::cache::acquire::{Acquire, Lookup};
use crate::cache::expiry::CachedToken;
use crate::error::{BoxError, Error};

pin_project! {
    /// The future that [`Auth`](crate::Auth) returns: it resolves to the response.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the request, as with the client below. A fetch that it waits for
    /// continues for the other callers.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req>
    where
        S: Service<Req>,
        Req: AuthRequest,
    {
        #[pin]
        state: RequestState<S, Req>,
    }
}

impl<S, Req> ResponseFuture<S, Req>
where
    S: Service<Req>,
    Req: AuthRequest,
{
    /// A request that waits for a token.
    pub(crate) fn acquiring(
        acquire: Acquire,
        inner: S,
        request: Req,
        settings: Arc<LayerSettings>,
    ) -> Self {
        let unsent = Some(Unsent {
            inner,
            request,
            settings,
        });
        Self {
            state: RequestState::Acquiring { acquire, unsent },
        }
    }

    /// A request that was sent unchanged.
    #[cold]
    pub(crate) fn passing(response: S::Future) -> Self {
        Self {
            state: RequestState::Passing { response },
        }
    }

    /// A request that is not sent.
    #[cold]
    pub(crate) fn failed(error: Error) -> Self {
        Self {
            state: RequestState::Failed { error: Some(error) },
        }
    }
}

impl<S, Req> ResponseFuture<S, Req>
where
    S: Service<Req> + Clone,
    Req: AuthRequest,
{
    /// A request that was sent to a service of which `inner` is a clone, unless attaching the
    /// credential failed.
    #[inline(always)]
    pub(crate) fn sent(
        response: S::Future,
        attached: Attached<Req::Copy>,
        sent_token: SentToken,
        inner: &S,
    ) -> Self {
        // Each arm builds a whole state: a copy is large, so only arms that have one move it.
        match attached {
            Attached::Rejected(error) => Self::failed(error),
            Attached::Unchanged => Self::passing(response),
            Attached::NoReplay(sent_to) => Self {
                state: RequestState::Sending {
                    response,
                    sent: Sent::Attached {
                        sent_token,
                        sent_to,
                        replay: None,
                    },
                },
            },
            Attached::Replayable(sent_to, copy) => Self {
                state: RequestState::Sending {
                    response,
                    sent: Sent::Attached {
                        sent_token,
                        sent_to,
                        replay: Some((inner.clone(), copy)),
                    },
                },
            },
            Attached::PerRequest(sent_to, per_request) => Self {
                state: RequestState::per_request(
                    response,
                    *per_request,
                    sent_token,
                    sent_to,
                    inner,
                    Tried::default(),
                ),
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
                        Sent::Attached {
                            sent_token,
                            sent_to,
                            replay,
                        } if sent_token.is_refusal(&response) => {
                            DeniedResponse::first(response, sent_token, *sent_to, replay).refused()
                        }
                        Sent::Attached {
                            sent_token,
                            sent_to,
                            replay,
                        } if is_forbidden(&response) => {
                            DeniedResponse::first(response, sent_token, *sent_to, replay)
                                .forbidden()
                        }
                        Sent::Attached {
                            sent_token,
                            sent_to,
                            ..
                        } => {
                            record_acceptance(&response, sent_token, *sent_to);
                            return Poll::Ready(Ok(response));
                        }
                        Sent::PerRequest(sent) => take(sent).classify(response),
                    }
                }
                StateProj::Passing { response } => {
                    return response.poll(cx).map_err(Into::into);
                }
                StateProj::Acquiring { acquire, unsent } => {
                    let cached = ready!(acquire.poll_cached(cx))?;
                    let unsent = unsent.take();
                    ControlFlow::Continue(RequestState::Readying { unsent, cached })
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
                StateProj::Resending {
                    response,
                    sent_token,
                    sent_to,
                } => {
                    let response = ready!(response.poll(cx)).map_err(Into::into)?;
                    ControlFlow::Break(finish_replay(response, sent_token, *sent_to))
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
    fn ready(mut self, mut cached: Arc<CachedToken>) -> RequestState<S, Req> {
        if cached.has_expired(self.settings.cache.now()) {
            cached = match self.settings.cache.lookup() {
                Lookup::Now(newer) => newer,
                Lookup::Never(error) => return RequestState::Failed { error: Some(error) },
                Lookup::Later(acquire) => {
                    release(&mut self.inner);
                    let unsent = Some(self);
                    return RequestState::Acquiring { acquire, unsent };
                }
            };
        }
        let sent_token = SentToken::Cached(self.settings, cached);
        let attached = sent_token.attach(&mut self.request);
        if let Attached::Rejected(error) = attached {
            return RequestState::Failed { error: Some(error) };
        }
        let response = self.inner.call(self.request);
        ResponseFuture::sent(response, attached, sent_token, &self.inner).state
    }
}

impl<S, Req> fmt::Debug for ResponseFuture<S, Req>
where
    S: Service<Req>,
    Req: AuthRequest,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            RequestState::Acquiring { .. } => "Acquiring",
            RequestState::Readying { .. } => "Readying",
            RequestState::Sending { .. } => "Sending",
            RequestState::Passing { .. } => "Passing",
            RequestState::Renewing { .. } => "Renewing",
            RequestState::ReadyingAgain { .. } => "ReadyingAgain",
            RequestState::Resending { .. } => "Resending",
            RequestState::Failed { .. } => "Failed",
        };
        write!(f, "ResponseFuture({state})")
    }
}
