//! The states of one request: each is named for what the request waits for.
//!
//! ```text
//!  Acquiring ─▶ Readying ─▶ Sending ─▶ Renewing ─▶ ReadyingAgain ─▶ Resending
//!      no token is cached      ▲  │ refused   a newer token is cached  ▲
//!      a token is cached ──────┘  └────────────────────────────────────┘
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
use crate::origin::OriginDigest;
use crate::token::request_head::RequestHead;

pin_project! {
    #[project = StateProj]
    pub(super) enum RequestState<S, Req>
    where
        S: Service<Req>,
        Req: AuthRequest,
    {
        // Waits for a token. The inner service is not ready yet: it could hold the permit that the
        // token's fetch needs.
        Acquiring { acquire: Acquire, unsent: Option<Unsent<S, Req>> },
        // Waits for the inner service. The credential is not attached yet: the token may expire
        // in the meantime.
        Readying { unsent: Option<Unsent<S, Req>>, cached: Arc<CachedToken> },
        // Waits for the response.
        Sending { #[pin] response: S::Future, sent: Sent<S, Req> },
        // Waits for the response to a request that passed unchanged.
        Passing { #[pin] response: S::Future },
        // Waits for another token than the refused one.
        Renewing { acquire: Acquire, refused: Option<Box<Refused<S, Req>>> },
        // Waits for the inner service, to send the request again.
        ReadyingAgain { refused: Option<Box<Refused<S, Req>>>, cached: Arc<CachedToken> },
        // Waits for the response to the last replay.
        Resending { #[pin] response: S::Future, sent_token: SentToken, sent_to: OriginDigest },
        // The request was not sent.
        Failed { error: Option<Error> },
    }
}

/// A request that waits for a token.
pub(super) struct Unsent<S, Req> {
    pub(super) inner: S,
    pub(super) request: Req,
    pub(super) settings: Arc<LayerSettings>,
}

/// What the layer keeps of a request that was sent.
pub(super) enum Sent<S, Req>
where
    Req: AuthRequest,
{
    /// The request had a token that is the same for all requests.
    Attached {
        sent_token: SentToken,
        sent_to: OriginDigest,
        /// What is needed to send the request again.
        replay: Option<(S, Req::Copy)>,
    },
    /// The request had a credential that was made for it.
    PerRequest(Option<Box<SentPerRequest<S, Req>>>),
}

/// What the layer keeps of a request whose credential was made for it. Always boxed: it would make
/// the future of every request larger.
pub(super) struct SentPerRequest<S, Req>
where
    Req: AuthRequest,
{
    pub(super) sent_token: SentToken,
    pub(super) sent_to: OriginDigest,
    pub(super) target: RequestHead,
    /// What is needed to send the request again.
    pub(super) replay: Option<(S, Req::Copy)>,
    pub(super) tried: Tried,
}

/// Why a request was sent again so far: at most once for each reason.
#[derive(Clone, Copy, Default)]
pub(super) struct Tried {
    /// With another token.
    pub(super) new_token: bool,
    /// With the same token and another proof.
    pub(super) new_proof: bool,
}

/// A refused request that can be sent again, and the refusal, which the caller gets if it is not.
/// Always boxed: it is large and rare, and would make the future of every request larger.
pub(super) struct Refused<S, Req>
where
    S: Service<Req>,
{
    pub(super) inner: S,
    pub(super) request: Req,
    pub(super) response: S::Response,
    pub(super) sent_token: SentToken,
    pub(super) sent_to: OriginDigest,
    pub(super) tried: Tried,
}

/// The result of a state: the response for the caller, or the next state.
pub(super) type Step<S, Req> = ControlFlow<<S as Service<Req>>::Response, RequestState<S, Req>>;

impl<S, Req> RequestState<S, Req>
where
    S: Service<Req> + Clone,
    Req: AuthRequest,
{
    /// The state of a request that was sent with a credential made for it.
    #[cold]
    pub(super) fn per_request(
        response: S::Future,
        (copy, target): (Option<Req::Copy>, RequestHead),
        sent_token: SentToken,
        sent_to: OriginDigest,
        inner: &S,
        tried: Tried,
    ) -> Self {
        let sent = SentPerRequest {
            sent_token,
            sent_to,
            target,
            replay: copy.map(|copy| (inner.clone(), copy)),
            tried,
        };
        let sent = Sent::PerRequest(Some(Box::new(sent)));
        Self::Sending { response, sent }
    }
}

/// Takes the content of a state. The future leaves a state as soon as it has taken the content, so
/// this fails only if the future is polled after completion.
pub(super) fn take<T>(part: &mut Option<T>) -> T {
    let Some(part) = part.take() else {
        unreachable!("polled after completion");
    };
    part
}

/// Replaces a ready service that will not be called by a clone that is not ready. Dropping the
/// ready one returns its permit.
pub(crate) fn release<S>(inner: &mut S)
where
    S: Clone,
{
    *inner = inner.clone();
}
