//! Credentials that are made for each request, and that learn from each response.

use http::StatusCode;
use http::header::HeaderMap;

use super::request_head::RequestHead;
use crate::error::Error;

/// A credential that is made for each request, such as a DPoP proof or a session's cookies.
pub(crate) trait PerRequestCredential: Send + Sync {
    /// Adds the credential to the headers. With `replaces`, it replaces what the caller has set.
    fn apply(
        &self,
        target: &RequestHead,
        headers: &mut HeaderMap,
        replaces: bool,
    ) -> Result<Applied, Error>;

    /// Reads what the response says about the credential. The layer calls this once for each time
    /// that it applied the credential, and only with a response of the request's own origin.
    fn observe(&self, target: &RequestHead, status: StatusCode, headers: &HeaderMap) -> Feedback;

    /// The thumbprint of the key that the token is bound to. Each process that has this key can use
    /// the token. Default: `None`, only this process can use it.
    #[cfg(feature = "fleet")]
    fn bound_to(&self) -> Option<&str> {
        None
    }
}

/// The result of applying a credential to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The request has the credential.
    Done,
    /// The request is unchanged: the caller has set the whole credential already.
    CallersOwn,
}

/// What a response said about the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feedback {
    /// Nothing that changes how the response is handled.
    Nothing,
    /// The server wants the *same* token with another proof, and the credential can now make it.
    OnceMore,
    /// The server has ended the token.
    TokenEnded,
}
