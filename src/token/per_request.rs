//! Credentials that no fixed header will do for: made for each request, and taught by its answer.

use http::StatusCode;
use http::header::HeaderMap;

use super::request_head::RequestHead;
use crate::error::Error;

/// How such a credential goes on requests.
#[cfg_attr(
    not(any(feature = "cookies", feature = "dpop")),
    allow(dead_code, reason = "the credentials that do so are behind features")
)]
pub(crate) trait PerRequestCredential: Send + Sync {
    /// Puts it among the headers. If `replaces`, in the place of what the caller has put there.
    fn apply(
        &self,
        target: &RequestHead,
        headers: &mut HeaderMap,
        replaces: bool,
    ) -> Result<Applied, Error>;

    /// Looks at the answer of the one who was asked. Called once for each time that it was put.
    fn observe(&self, target: &RequestHead, status: StatusCode, headers: &HeaderMap) -> Feedback;

    /// What it is bound to, if any process that has that can present it. Default: nothing, and it is
    /// of use to this process alone.
    #[cfg(feature = "fleet")]
    fn bound_to(&self) -> Option<&str> {
        None
    }
}

/// What became of a request on which a credential was to be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(all(feature = "cookies", feature = "dpop")),
    allow(dead_code, reason = "the credentials that do so are behind features")
)]
pub(crate) enum Applied {
    Done,
    /// The caller has put all of it on already.
    CallersOwn,
}

/// What an answer taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(all(feature = "cookies", feature = "dpop")),
    allow(dead_code, reason = "the credentials that do so are behind features")
)]
pub(crate) enum Feedback {
    /// Nothing that changes what comes next.
    Nothing,
    /// The server wants something else with the *same* token, and now it is known what.
    OnceMore,
    /// The server has ended it.
    TokenEnded,
}
