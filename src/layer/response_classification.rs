//! Decides what a response says about the credential.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, WWW_AUTHENTICATE};

use super::auth_response::AuthResponse;
use crate::challenge::step_up::StepUpChallenge;
use crate::token::per_request::Feedback;

/// The closure of [`AuthLayer::refused_if`](crate::AuthLayer::refused_if).
pub(crate) type RefusedIf = Arc<dyn Fn(StatusCode, &HeaderMap) -> bool + Send + Sync>;

/// Decides which responses are refusals of the token.
#[derive(Clone)]
pub(crate) struct RefusalRules {
    /// The user's own rule, in addition to the standard rules.
    pub(crate) also: Option<RefusedIf>,
    /// Whether a 401 without `WWW-Authenticate` counts as a refusal of the token.
    pub(crate) without_challenge: bool,
}

/// gRPC's `UNAUTHENTICATED`.
const UNAUTHENTICATED: &str = "16";

impl RefusalRules {
    /// Returns whether the response refuses the request's credential.
    pub(crate) fn is_refusal(&self, response: &impl AuthResponse) -> bool {
        let (status, headers) = (response.status(), response.headers());
        status == StatusCode::UNAUTHORIZED
            || is_unauthenticated(response)
            || self.also.as_ref().is_some_and(|also| also(status, headers))
    }

    /// Returns whether the refusal has no challenge and the layer ignores such refusals.
    pub(crate) fn lacks_challenge(&self, refusal: &impl AuthResponse) -> bool {
        refusal.status() == StatusCode::UNAUTHORIZED
            && !self.without_challenge
            && !refusal.headers().contains_key(WWW_AUTHENTICATE)
    }
}

/// Returns whether the response is a success or a redirect. Such a response shows that the server
/// accepted the credential. A server may send other responses before it checks the credential.
pub(super) fn is_acceptance(response: &impl AuthResponse) -> bool {
    let status = response.status();
    status.is_success() || status.is_redirection()
}

/// Returns whether the status is 403. A 403 doesn't refuse the token, but may contain a step-up
/// challenge.
pub(super) fn is_forbidden(response: &impl AuthResponse) -> bool {
    response.status() == StatusCode::FORBIDDEN
}

/// Returns whether a gRPC response has the status `UNAUTHENTICATED` in its headers.
///
/// If a gRPC response has no message, its headers contain the status ("Trailers-Only" in the gRPC
/// over HTTP/2 protocol). The content type is checked first, so that all other responses cost only
/// one lookup.
#[inline]
pub(super) fn is_unauthenticated(response: &impl AuthResponse) -> bool {
    if response.status() != StatusCode::OK {
        return false;
    }
    let headers = response.headers();
    headers
        .get(&CONTENT_TYPE_NAME)
        .is_some_and(|kind| is_grpc(kind.as_bytes()))
        && headers
            .get("grpc-status")
            .is_some_and(|status| status == UNAUTHENTICATED)
}

/// Returns whether this value of `Content-Type` is a media type of gRPC.
#[inline]
pub(super) fn is_grpc(content_type: &[u8]) -> bool {
    let kind = content_type.get(..GRPC.len()).unwrap_or_default();
    kind.eq_ignore_ascii_case(GRPC)
}

/// A static item, because each use of a constant would construct the header name.
static CONTENT_TYPE_NAME: HeaderName = CONTENT_TYPE;
const GRPC: &[u8] = b"application/grpc";

impl fmt::Debug for RefusalRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusalRules")
            .field("also", &self.also.is_some())
            .field("without_challenge", &self.without_challenge)
            .finish()
    }
}

/// The facts about a response that decide its class.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseFacts<'a> {
    /// Whether the response came from an origin other than the request's origin.
    pub(super) is_from_elsewhere: bool,
    pub(super) is_refusal: bool,
    pub(super) is_acceptance: bool,
    /// Whether the layer ignores the response, because it is a refusal without a challenge.
    pub(super) lacks_challenge: bool,
    /// What the token lacks, according to a 401 or 403 response.
    pub(super) wanted: Option<&'a StepUpChallenge>,
    /// The feedback from a per-request credential that observed the response.
    pub(super) feedback: Feedback,
}

/// The meaning of a response for the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseClass<'a> {
    /// The response says nothing about the token.
    Neutral,
    /// The server accepted the token.
    Accepted,
    /// Another origin, which did not receive the token, denied the request.
    DeniedElsewhere,
    /// The server wants a new proof with the same token.
    WantsProof,
    /// The server has ended the token, but there is no replay. Either the response isn't a refusal,
    /// or the layer ignores the refusal.
    Ended,
    /// The server accepted the token, but requires more scope or a stronger login for this request.
    WantsMore(&'a StepUpChallenge),
    /// The server refused the token, but the layer is configured to ignore such refusals.
    Ignored,
    /// The server refused the token.
    Refused {
        /// Whether the server said that the token has ended.
        is_final: bool,
    },
}

/// Decides what a response means for the token.
pub(super) fn classify<'a>(facts: &ResponseFacts<'a>) -> ResponseClass<'a> {
    if facts.is_from_elsewhere {
        return match facts.is_refusal || facts.wanted.is_some() {
            true => ResponseClass::DeniedElsewhere,
            false => ResponseClass::Neutral,
        };
    }
    if facts.feedback == Feedback::OnceMore {
        return ResponseClass::WantsProof;
    }
    let is_replayed = facts.is_refusal && !facts.lacks_challenge;
    if facts.feedback == Feedback::TokenEnded && !is_replayed {
        return ResponseClass::Ended;
    }
    if let Some(wanted) = facts.wanted {
        return ResponseClass::WantsMore(wanted);
    }
    match (facts.is_refusal, facts.is_acceptance) {
        (true, _) if facts.lacks_challenge => ResponseClass::Ignored,
        (true, _) => ResponseClass::Refused {
            is_final: facts.feedback == Feedback::TokenEnded,
        },
        (false, true) => ResponseClass::Accepted,
        (false, false) => ResponseClass::Neutral,
    }
}

/// A unit test, because integration tests can't see the class of a response.
#[cfg(test)]
mod tests {
    use http::header::{HeaderMap, HeaderValue};

    use super::*;
    use crate::challenge::www_authenticate::Challenge;

    fn wants_scope() -> Option<StepUpChallenge> {
        let value = HeaderValue::from_static("Bearer error=\"insufficient_scope\"");
        let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]);
        StepUpChallenge::of(&Challenge::parse(&headers))
    }

    #[test]
    fn what_a_response_comes_to() {
        use Feedback::{Nothing, OnceMore, TokenEnded};
        use ResponseClass::{
            Accepted, DeniedElsewhere, Ended, Ignored, Neutral, Refused, WantsMore, WantsProof,
        };
        let wanted = wants_scope();
        let wanted = wanted.as_ref();
        let more = wanted.map_or(Neutral, WantsMore);
        let (again, last) = (Refused { is_final: false }, Refused { is_final: true });
        // Columns: from elsewhere, refusal, acceptance, no challenge, what the token lacks,
        // feedback, expected class.
        let table = [
            (false, false, false, false, None, Nothing, Neutral),
            (false, false, true, false, None, Nothing, Accepted),
            (false, true, false, false, None, Nothing, again),
            // gRPC refuses with a 200 response.
            (false, true, true, false, None, Nothing, again),
            (false, true, false, true, None, Nothing, Ignored),
            (false, true, false, false, wanted, Nothing, more),
            (false, false, false, false, wanted, Nothing, more),
            (false, true, false, false, None, OnceMore, WantsProof),
            (false, false, false, false, None, OnceMore, WantsProof),
            (false, false, true, false, None, TokenEnded, Ended),
            (false, false, false, false, None, TokenEnded, Ended),
            (false, true, false, true, None, TokenEnded, Ended),
            (false, true, false, false, None, TokenEnded, last),
            (false, true, false, false, wanted, TokenEnded, more),
            (true, false, true, false, None, Nothing, Neutral),
            (true, true, false, false, None, Nothing, DeniedElsewhere),
            (true, true, false, true, None, Nothing, DeniedElsewhere),
            (true, false, false, false, wanted, Nothing, DeniedElsewhere),
        ];
        for (elsewhere, refusal, acceptance, bare, wanted, feedback, class) in table {
            let facts = ResponseFacts {
                is_from_elsewhere: elsewhere,
                is_refusal: refusal,
                is_acceptance: acceptance,
                lacks_challenge: bare,
                wanted,
                feedback,
            };
            assert_eq!(classify(&facts), class, "{facts:?}");
        }
    }
}
