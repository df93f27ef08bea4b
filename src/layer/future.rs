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

use super::attach::SentToken;
use super::auth_request::{AuthRequest, AuthResponse};
use super::future::answer::{Answered, answered_again, is_forbidden, record_acceptance};
use super::redirects::OriginMark;
use super::settings::{Attached, LayerSettings};
use crate::cache::acquire::{Acquire, Lookup};
use crate::cache::expiry::CachedToken;
use crate::error::{BoxError, Error};
use crate::token::request_head::RequestHead;

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

pin_project! {
    #[project = StateProj]
    enum RequestState<S, Req>
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
        Resending { #[pin] response: S::Future, sent_token: SentToken },
        // Nothing: the request couldn't be sent.
        Failed { error: Option<Error> },
    }
}

/// A request that waits for a token.
struct Unsent<S, Req> {
    inner: S,
    request: Req,
    settings: Arc<LayerSettings>,
}

/// What is kept of a request that was sent.
enum Sent<S, Req>
where
    Req: AuthRequest,
{
    /// It carried the caller's own credential: the response is none of our business, but for where
    /// it leads. Whoever follows it drops that credential, and ours would be put in its place.
    CallersOwn(Arc<LayerSettings>),
    /// It carried the token of this handle.
    Attached {
        sent_token: SentToken,
        /// What it takes to send it again.
        again: Option<(S, Req::Copy)>,
    },
    /// It carried a credential that was made for it.
    PerRequest(Option<Box<SentPerRequest<S, Req>>>),
}

impl<S, Req> Sent<S, Req>
where
    Req: AuthRequest,
{
    #[cold]
    fn settings(&self) -> &LayerSettings {
        match self {
            Self::CallersOwn(settings) => settings,
            Self::Attached { sent_token, .. } => sent_token,
            Self::PerRequest(Some(made)) => &made.sent_token,
            Self::PerRequest(None) => unreachable!("polled after it was ready"),
        }
    }
}

/// What is kept of a request whose credential was made for it. Boxed, for the future of every other
/// request would be as large.
struct SentPerRequest<S, Req>
where
    Req: AuthRequest,
{
    sent_token: SentToken,
    target: RequestHead,
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
    sent_token: SentToken,
    tried: Tried,
}

/// What comes of one: the response for the caller, or the next state.
type Step<S, Req> = ControlFlow<<S as Service<Req>>::Response, RequestState<S, Req>>;

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

impl<S, Req> RequestState<S, Req>
where
    S: Service<Req> + Clone,
    Req: AuthRequest,
{
    #[cold]
    fn per_request(
        response: S::Future,
        (copy, target): (Option<Req::Copy>, RequestHead),
        sent_token: SentToken,
        inner: &S,
        tried: Tried,
    ) -> Self {
        let made = SentPerRequest {
            sent_token,
            target,
            again: copy.map(|copy| (inner.clone(), copy)),
            tried,
        };
        let sent = Sent::PerRequest(Some(Box::new(made)));
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
