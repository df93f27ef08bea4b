//! Whether a response refuses the credential, and whether a new one could help.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};

use super::auth_response::AuthResponse;
use super::not_replayed::NotReplayed;

/// The closure of [`AuthLayer::refused_if`](crate::AuthLayer::refused_if).
pub(crate) type RefusedIf = Arc<dyn Fn(StatusCode, &HeaderMap) -> bool + Send + Sync>;

/// Decides which responses are refusals of the token.
#[derive(Clone)]
pub(crate) struct RefusalRules {
    /// The caller's own rule, besides the standard ones.
    pub(crate) also: Option<RefusedIf>,
    /// Whether a 401 without `WWW-Authenticate` is a refusal of the token.
    pub(crate) without_challenge: bool,
}

/// gRPC's `UNAUTHENTICATED`.
const UNAUTHENTICATED: &str = "16";

impl RefusalRules {
    /// Whether the response refuses the request's credential.
    #[inline]
    pub(crate) fn is_refusal(&self, response: &impl AuthResponse) -> bool {
        let (status, headers) = (response.status(), response.headers());
        status == StatusCode::UNAUTHORIZED
            || (status == StatusCode::OK && is_unauthenticated(headers))
            || self.also.as_ref().is_some_and(|also| also(status, headers))
    }

    /// Whether the response shows that the server accepted the credential: it is a success or a
    /// redirect. The server may send any other error before it looks at the credential.
    #[inline]
    pub(crate) fn accepts(response: &impl AuthResponse) -> bool {
        let status = response.status();
        status.is_success() || status.is_redirection()
    }

    /// The reason not to replay although a new token could be fetched: the response would be the
    /// same.
    #[cold]
    pub(crate) fn no_replay_reason(&self, refusal: &impl AuthResponse) -> Option<NotReplayed> {
        let is_bare = refusal.status() == StatusCode::UNAUTHORIZED
            && !refusal.headers().contains_key(WWW_AUTHENTICATE);
        (is_bare && !self.without_challenge).then_some(NotReplayed::NoChallenge)
    }
}

/// Whether the status is 403: not a refusal of the token, but perhaps a step-up challenge.
#[inline]
pub(super) fn is_forbidden(response: &impl AuthResponse) -> bool {
    response.status() == StatusCode::FORBIDDEN
}

/// Whether a gRPC response has the status `UNAUTHENTICATED` in its headers.
///
/// A gRPC response without a message has its status there ("Trailers-Only" in the gRPC over HTTP/2
/// protocol). The content type is compared first: for responses that are not gRPC, that is all.
#[inline]
fn is_unauthenticated(headers: &HeaderMap) -> bool {
    let is_grpc = |kind: &[u8]| {
        let kind = kind.get(..GRPC.len()).unwrap_or_default();
        kind.eq_ignore_ascii_case(GRPC)
    };
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| is_grpc(kind.as_bytes()))
        && headers
            .get("grpc-status")
            .is_some_and(|status| status == UNAUTHENTICATED)
}

const GRPC: &[u8] = b"application/grpc";

impl fmt::Debug for RefusalRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusalRules")
            .field("also", &self.also.is_some())
            .field("without_challenge", &self.without_challenge)
            .finish()
    }
}
