//! The future of a response: moves the request from one state to the next.

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
use super::readiness::release;
use super::redirects::OriginMark;
use super::request_state::{RequestState, Sent, StateProj, Tried, Unsent, take};
use super::response_classification::is_forbidden;
use super::response_outcome::{Answered, answered_again, record_acceptance};
use super::settings::LayerSettings;
use crate::cache::acquire::{Acquire, Lookup};
use crate::cache::expiry::CachedToken;
use crate::error::{BoxError, Error};

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
        state: RequestState<S, Req>,
        // Where the request goes, in case that it is redirected.
        from: OriginMark,
    }
}

impl<S, Req> ResponseFuture<S, Req>
where
    S: Service<Req>,
    Req: AuthRequest,
{
    pub(crate) fn acquiring(
        acquire: Acquire,
        inner: S,
        request: Req,
        settings: Arc<LayerSettings>,
        from: OriginMark,
    ) -> Self {
        let unsent = Some(Unsent {
            inner,
            request,
            settings,
        });
        Self {
            state: RequestState::Acquiring { acquire, unsent },
            from,
        }
    }

    /// A request that passes as it is.
    pub(crate) fn passing(
        response: S::Future,
        settings: Arc<LayerSettings>,
        from: OriginMark,
    ) -> Self {
        let sent = Sent::CallersOwn(settings);
        Self {
            state: RequestState::Sending { response, sent },
            from,
        }
    }

    #[cold]
    pub(crate) fn failed(error: Error) -> Self {
        Self {
            state: RequestState::Failed { error: Some(error) },
            from: OriginMark::UNKNOWN,
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
        attached: Attached<Req::Copy>,
        sent_token: SentToken,
        inner: &S,
        from: OriginMark,
    ) -> Self {
        // A whole state for each, because a copy is large: where there is none, none is moved.
        match attached {
            Attached::Rejected(error) => Self::failed(error),
            Attached::CallersOwn => {
                Self::passing(response, Arc::clone(sent_token.settings()), from)
            }
            Attached::NoReplay => Self {
                state: RequestState::Sending {
                    response,
                    sent: Sent::Attached {
                        sent_token,
                        again: None,
                    },
                },
                from,
            },
            Attached::Replayable(copy) => Self {
                state: RequestState::Sending {
                    response,
                    sent: Sent::Attached {
                        sent_token,
                        again: Some((inner.clone(), copy)),
                    },
                },
                from,
            },
            Attached::PerRequest(made) => Self {
                state: RequestState::per_request(
                    response,
                    *made,
                    sent_token,
                    inner,
                    Tried::default(),
                ),
                from,
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
        let this = self.project();
        let (mut state, from) = (this.state, *this.from);
        loop {
            let step = match state.as_mut().project() {
                StateProj::Sending { response, sent } => {
                    let response = ready!(response.poll(cx)).map_err(Into::into)?;
                    if response.status().is_redirection() {
                        sent.settings().allowed_origins.redirected(from, &response);
                    }
                    match sent {
                        Sent::Attached { sent_token, again }
                            if sent_token.refusal_rules.is_refusal(&response) =>
                        {
                            Answered::first(response, sent_token, again).refused()
                        }
                        Sent::Attached { sent_token, again } if is_forbidden(&response) => {
                            Answered::first(response, sent_token, again).forbidden()
                        }
                        Sent::Attached { sent_token, .. } => {
                            record_acceptance(&response, sent_token);
                            return Poll::Ready(Ok(response));
                        }
                        Sent::PerRequest(made) => take(made).answered(response),
                        Sent::CallersOwn(_) => return Poll::Ready(Ok(response)),
                    }
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
                } => {
                    let response = ready!(response.poll(cx)).map_err(Into::into)?;
                    if response.status().is_redirection() {
                        sent_token.allowed_origins.redirected(from, &response);
                    }
                    ControlFlow::Break(answered_again(response, sent_token))
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
        let sent_token = SentToken::Shared(self.settings, cached);
        let attached = sent_token.attach(&mut self.request);
        if let Attached::Rejected(error) = attached {
            return RequestState::Failed { error: Some(error) };
        }
        let response = self.inner.call(self.request);
        ResponseFuture::sent(
            response,
            attached,
            sent_token,
            &self.inner,
            OriginMark::UNKNOWN,
        )
        .state
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
            RequestState::Renewing { .. } => "Renewing",
            RequestState::ReadyingAgain { .. } => "ReadyingAgain",
            RequestState::Resending { .. } => "Resending",
            RequestState::Failed { .. } => "Failed",
        };
        write!(f, "ResponseFuture({state})")
    }
}
