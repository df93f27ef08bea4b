//! Finds out whether a response came from an origin other than the request's origin.
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
    /// Returns the origin that sent the response, if the origin is known and isn't `sent_to`.
    #[cold]
    pub(crate) fn elsewhere(
        &self,
        response: &impl AuthResponse,
        sent_to: OriginDigest,
        allowed_origins: &AllowedOrigins,
    ) -> Option<String> {
        let uri = match &self.answered_by {
            Some(answered_by) => match answered_by(response.extensions()) {
                Some(uri) => Some(uri),
                None => return None,
            },
            None => None,
        };
        let by_user = uri.as_ref().and_then(origin::parts_of);
        let (scheme, host, port) = by_user.or_else(|| response.answered_by())?;
        let is_elsewhere = match sent_to {
            // The URI was only a path, so the client below chose the origin. Only the named origins
            // count as expected.
            OriginDigest::UNKNOWN => allowed_origins.names(scheme, host, port) == Some(false),
            sent_to => sent_to != OriginDigest::new(scheme, host, port),
        };
        is_elsewhere.then(|| origin::serialize(scheme, host, port))
    }
}

impl fmt::Debug for ResponseOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseOrigin")
            .field("answered_by", &self.answered_by.is_some())
            .finish()
    }
}
