//! The gRPC status of a call that is not sent.
//!
//! tonic's generated clients convert any error to a `tonic::Status`. The clients search the error's
//! chain of sources for a status. If there is no status, the code is `Unknown`. An error for the
//! caller of a gRPC client therefore gets a status as its source. Other errors get no status,
//! because a status replaces the cause in the chain.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use tonic::{Code, Status};

use super::auth_request::AuthRequest;
use super::response_classification::is_grpc;
use crate::error::Error;

impl Error {
    /// Returns the error for the caller of this request. For a gRPC request, the error has a status
    /// as its source.
    pub(crate) fn for_caller_of(self, request: &impl AuthRequest) -> Self {
        let content_type = request.headers().get(CONTENT_TYPE);
        if !content_type.is_some_and(|kind| is_grpc(kind.as_bytes())) {
            return self;
        }
        let mut status = status_of(&self);
        if let Some(source) = self.shared_source() {
            let source = Arc::clone(source);
            status.set_source(Arc::new(UnderlyingError { source }));
        }
        self.with_grpc_status(status)
    }
}

/// Makes a status without the error's cause, because a server may pass the status on to its own
/// callers. The message doesn't repeat other levels of the chain.
fn status_of(error: &Error) -> Status {
    let code = match error.is_permanent() {
        true => Code::Unauthenticated,
        false => Code::Unavailable,
    };
    let message =
        "the call was not sent, because it has no credential; the source of this status says why";
    Status::new(code, message)
}

/// The source of a status. This level hides the cause, because tonic prints a status together with
/// its source.
struct UnderlyingError {
    source: Arc<dyn StdError + Send + Sync>,
}

impl fmt::Debug for UnderlyingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl fmt::Display for UnderlyingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the underlying error")
    }
}

impl StdError for UnderlyingError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}

/// Converts an error to a status, with the error as its source.
///
/// The code is [`Unauthenticated`](Code::Unauthenticated) if the error [is
/// permanent](Error::is_permanent) or the request's origin may not receive the credential.
/// Otherwise the code is [`Unavailable`](Code::Unavailable).
///
/// Use this conversion in your own interceptors and layers that call a
/// [`TokenCache`](crate::TokenCache). Callers of a generated client over [`Auth`](crate::Auth)
/// already get such a status.
///
/// # Example
///
/// ```
/// use tonic::{Code, Status};
/// use tower_auth::{Error, Token, TokenCache};
///
/// async fn token(cache: &TokenCache) -> Result<Token, Status> {
///     Ok(cache.token().await?)
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let cache = TokenCache::new(|_| async { Err(Error::other("the vault is sealed")) });
/// let status = token(&cache).await.unwrap_err();
/// assert_eq!(status.code(), Code::Unavailable);
/// assert!(Error::find(&status).is_some_and(Error::is_source));
/// # }
/// ```
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut status = status_of(&error);
        status.set_source(Arc::new(error));
        status
    }
}
