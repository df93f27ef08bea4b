//! Decides whether a response came from an origin other than the request's origin.
//!
//! A client that follows redirects may return the response of another origin. The other origin did
//! not receive the token, so its response says nothing about the token.

use std::fmt;
use std::sync::Arc;

use http::{Extensions, Uri};

use super::allowed_origins::AllowedOrigins;
use super::auth_response::AuthResponse;
use crate::origin::{self, OriginDigest};

/// The closure of [`AuthLayer::answered_by`](crate::AuthLayer::answered_by).
pub(crate) type AnsweredBy = Arc<dyn Fn(&Extensions) -> Option<Uri> + Send + Sync>;

/// Determines which origin sent a response.
#[derive(Clone, Default)]
pub(crate) struct ResponseOrigin {
    /// The user's closure. It takes precedence over the URI in the response.
    pub(crate) answered_by: Option<AnsweredBy>,
}

impl ResponseOrigin {
    /// Returns whether the response is known to come from an origin other than `sent_to`.
    #[cold]
    pub(crate) fn is_elsewhere(
        &self,
        response: &impl AuthResponse,
        sent_to: OriginDigest,
        allowed_origins: &AllowedOrigins,
    ) -> bool {
        let uri = match &self.answered_by {
            Some(answered_by) => match answered_by(response.extensions()) {
                Some(uri) => Some(uri),
                None => return false,
            },
            None => None,
        };
        let by_user = uri.as_ref().and_then(origin::parts_of);
        let Some((scheme, host, port)) = by_user.or_else(|| response.answered_by()) else {
            return false;
        };
        if sent_to != OriginDigest::UNKNOWN {
            return sent_to != OriginDigest::new(scheme, host, port);
        }
        // The URI was only a path, so the client below chose the origin. Only the named origins
        // count as expected.
        allowed_origins.names(scheme, host, port) == Some(false)
    }
}

impl fmt::Debug for ResponseOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseOrigin")
            .field("answered_by", &self.answered_by.is_some())
            .finish()
    }
}
