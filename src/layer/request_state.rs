//! The life of one request, as states that say what is awaited.
//!
//! ```text
//!  Acquiring ─▶ Readying ─▶ Sending ─▶ Renewing ─▶ ReadyingAgain ─▶ Resending
//!      no token is in hand     ▲  │ refused   a newer token is in hand ▲
//!   a fresh token is in hand ──┘  └────────────────────────────────────┘
//! ```

use std::ops::ControlFlow;
use std::sync::Arc;

use pin_project_lite::pin_project;
use tower_service::Service;

use super::auth_request::AuthRequest;
use super::local_credential::SentToken;
use super::settings::LayerSettings;
use crate::cache::acquire::Acquire;
use crate::cache::expiry::CachedToken;
use crate::error::Error;
use crate::token::request_head::RequestHead;

pin_project! {
    #[project = StateProj]
    pub(super) enum RequestState<S, Req>
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
pub(super) struct Unsent<S, Req> {
    pub(super) inner: S,
    pub(super) request: Req,
    pub(super) settings: Arc<LayerSettings>,
}

/// What is kept of a request that was sent.
pub(super) enum Sent<S, Req>
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
    pub(super) fn settings(&self) -> &LayerSettings {
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
pub(super) struct SentPerRequest<S, Req>
where
    Req: AuthRequest,
{
    pub(super) sent_token: SentToken,
    pub(super) target: RequestHead,
    /// What it takes to send it again.
    pub(super) again: Option<(S, Req::Copy)>,
    pub(super) tried: Tried,
}

/// For what a request has been sent again. Once for each.
#[derive(Clone, Copy, Default)]
pub(super) struct Tried {
    /// For another token.
    pub(super) renewed: bool,
    /// For what the answer taught, with the same token.
    pub(super) taught: bool,
}

/// A request that was refused and can be sent again, and the refusal, which the caller gets if
/// it isn't. Boxed wherever it goes: it is large and rare, and the future of every request would
/// be as large.
pub(super) struct Refused<S, Req>
where
    S: Service<Req>,
{
    pub(super) inner: S,
    pub(super) request: Req,
    pub(super) response: S::Response,
    pub(super) sent_token: SentToken,
    pub(super) tried: Tried,
}

/// What comes of one: the response for the caller, or the next state.
pub(super) type Step<S, Req> = ControlFlow<<S as Service<Req>>::Response, RequestState<S, Req>>;

impl<S, Req> RequestState<S, Req>
where
    S: Service<Req> + Clone,
    Req: AuthRequest,
{
    #[cold]
    pub(super) fn per_request(
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

/// What a state hands on. It is left as soon as that is done, so nothing is taken twice, unless
/// the future is polled again after its end.
pub(super) fn take<T>(part: &mut Option<T>) -> T {
    let Some(part) = part.take() else {
        unreachable!("polled after it was ready");
    };
    part
}
