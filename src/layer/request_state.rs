//! The states of one request. The name of a state says what the request waits for.
//!
//! ```text
//!  Acquiring ─▶ Readying ─▶ Sending ─▶ Renewing ─▶ ReadyingAgain ─▶ Sending
//!      no token is cached      ▲  │ refused   a newer token is cached  ▲ ▲
//!      a token is cached ──────┘  ├────────────────────────────────────┘ │
//!                                 └─▶ Pausing ───────────────────────────┘
//!                                   not valid yet
//! ```

use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;

use http::Method;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_service::Service;

use super::auth_request::AuthRequest;
use super::local_credential::SentToken;
use super::settings::LayerSettings;
use crate::cache::acquire::Acquire;
use crate::cache::expiry::CachedToken;
use crate::cache::refusal_evidence::{Resource, SentRequest};
use crate::cache::state_machine::reject::Attempt;
use crate::clock::Moment;
use crate::error::Error;
use crate::origin::{self, OriginDigest};
use crate::token::request_head::RequestHead;

pin_project! {
    #[project = StateProj]
    pub(super) enum RequestState<S, Req>
    where
        S: Service<Req>,
        Req: AuthRequest,
    {
        // Waits for a token. The inner service must not be ready yet, because a ready service may
        // hold a permit that the fetch needs.
        Acquiring { acquire: Acquire, unsent: Option<Unsent<S, Req>> },
        // Waits for the inner service. The credential is attached later, because the token may
        // expire during the wait.
        Readying { unsent: Option<Unsent<S, Req>>, cached: Arc<CachedToken> },
        // Waits for the response.
        Sending { #[pin] response: S::Future, sent: Option<Sent<S, Req>> },
        // Waits for the response to a request that passed unchanged.
        Passing { #[pin] response: S::Future },
        // Waits for a token to replace the refused token.
        Renewing { acquire: Acquire, refused: Option<Box<Refused<S, Req>>> },
        // Waits until the refused token may have become valid.
        Pausing { sleep: Pin<Box<Sleep>>, refused: Option<Box<Refused<S, Req>>> },
        // Waits for the inner service, to send the request again.
        ReadyingAgain { refused: Option<Box<Refused<S, Req>>>, cached: Arc<CachedToken> },
        // The request was not sent.
        Failed { error: Option<Error> },
    }
}

impl<S, Req> RequestState<S, Req>
where
    S: Service<Req>,
    Req: AuthRequest,
{
    /// Returns the state of a request that is not sent.
    #[cold]
    pub(super) fn failed(error: Error, request: &Req) -> Self {
        #[cfg(feature = "tonic")]
        let error = error.for_caller_of(request);
        #[cfg(not(feature = "tonic"))]
        let _ = request;
        Self::Failed { error: Some(error) }
    }
}

/// A request that waits for a token.
pub(super) struct Unsent<S, Req>
where
    Req: AuthRequest,
{
    pub(super) inner: S,
    pub(super) request: Req,
    pub(super) settings: Arc<LayerSettings>,
    pub(super) recorded: Recorded<S, Req>,
}

/// Whether a request was recorded. A body can be recorded only once.
pub(super) enum Recorded<S, Req>
where
    Req: AuthRequest,
{
    NotYet,
    /// The request was recorded. `None` if the request can't be sent twice.
    Already(Option<ReplayCopy<S, Req>>),
}

/// The parts that a replay needs: a clone of the service, and the recording of the request.
pub(crate) type ReplayCopy<S, Req> = Box<(S, <Req as AuthRequest>::Copy)>;

/// The parts that the layer keeps after it sends a request.
pub(super) struct Sent<S, Req>
where
    Req: AuthRequest,
{
    pub(super) sent_token: Arc<SentToken>,
    pub(super) sent_to: OriginDigest,
    /// The recorded facts. `None` if there were no refusals when the request was sent.
    pub(super) watched: Option<WatchedRequest>,
    /// The head of the request, if its credential was made for this request.
    pub(super) target: Option<Box<RequestHead>>,
    pub(super) replay: Option<ReplayCopy<S, Req>>,
    pub(super) tried: Tried,
}

/// The facts about a request that are recorded while there are refusals.
pub(super) struct WatchedRequest {
    sent: SentRequest,
    pub(super) method: Method,
    origin: Option<String>,
}

impl WatchedRequest {
    /// Records the request, or returns `None` if there are no refusals.
    pub(super) fn of(
        request: &impl AuthRequest,
        sent_to: OriginDigest,
        settings: &LayerSettings,
    ) -> Option<Self> {
        if !settings.cache.is_watching() {
            return None;
        }
        let origin = request.scheme().zip(request.host());
        Some(Self {
            sent: SentRequest {
                resource: Resource::new(sent_to, request.path()),
                at: settings.cache.now(),
            },
            method: request.method().clone(),
            origin: origin.map(|(scheme, host)| origin::serialize(scheme, host, request.port())),
        })
    }

    /// Returns the resource that a request was sent to, and the time of sending. Without `watched`,
    /// the request was sent before any refusal.
    pub(super) fn sent(watched: Option<&Self>, unrecorded: Resource) -> SentRequest {
        match watched {
            Some(watched) => watched.sent,
            None => SentRequest {
                resource: unrecorded,
                at: Moment::START,
            },
        }
    }

    /// Returns the request's origin. Returns `None` if the request's URI is only a path.
    pub(super) fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }
}

/// The reasons for which a request was already sent again. Each reason allows one replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tried {
    /// The request was sent again with another token.
    pub(super) new_token: bool,
    /// The request was sent again with the same token and another proof.
    pub(super) new_proof: bool,
    /// The request was sent again with the same token after a pause.
    pub(super) pause: bool,
}

impl Tried {
    pub(super) fn attempt(self) -> Attempt {
        match self {
            Self { pause: true, .. } => Attempt::Paused,
            Self {
                new_token: true, ..
            } => Attempt::NewToken,
            _ => Attempt::First,
        }
    }
}

/// A refused request that can be sent again, and the refusal. If the layer doesn't send the request
/// again, the caller gets the refusal. This struct is always boxed, because it is rare and would
/// enlarge the state of every waiting request.
pub(super) struct Refused<S, Req>
where
    S: Service<Req>,
{
    pub(super) inner: S,
    pub(super) request: Req,
    pub(super) response: S::Response,
    pub(super) sent_token: Arc<SentToken>,
    pub(super) sent_to: OriginDigest,
    pub(super) watched: Option<WatchedRequest>,
    pub(super) tried: Tried,
}

/// The result of a state: the response for the caller, or the next state.
pub(super) type Step<S, Req> = ControlFlow<<S as Service<Req>>::Response, RequestState<S, Req>>;

/// Takes the content of a state. A future that takes the content also leaves the state. Therefore
/// only a poll after completion can take the content twice.
pub(super) fn take<T>(part: &mut Option<T>) -> T {
    let Some(part) = part.take() else {
        unreachable!("polled after completion");
    };
    part
}

/// Records a request so that it can be sent again. Returns `None` if replays are off, or if the
/// request can't be sent twice.
///
/// Call this function before attaching the credential, so that the recording contains no
/// credential.
pub(super) fn record<S, Req>(
    request: &mut Req,
    inner: &S,
    settings: &LayerSettings,
) -> Option<ReplayCopy<S, Req>>
where
    S: Clone,
    Req: AuthRequest,
{
    if !settings.retry {
        return None;
    }
    // Allocates the box first, so that the copy is built in place.
    let place = Box::new_uninit();
    let copy = request.record(settings.body_limit)?;
    Some(Box::write(place, (inner.clone(), copy)))
}

/// Drops a ready service that will not be called, and puts a clone in its place. The clone isn't
/// ready. The drop returns the service's permit, for example to a concurrency limit.
pub(crate) fn release<S>(inner: &mut S)
where
    S: Clone,
{
    *inner = inner.clone();
}
