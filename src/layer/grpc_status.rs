//! The gRPC status of a call that is not sent.
//!
//! tonic's generated clients convert any error to a `tonic::Status`. They look for a status in the chain of
//! sources, and without one the code is `Unknown`. So an error for the caller of a gRPC client gets a status as
//! its source. Other callers' errors have none: it would be of no use to them, and takes the place of the cause.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use tonic::{Code, Status};

use super::auth_request::AuthRequest;
use super::response_classification::is_grpc;
use crate::error::Error;

impl Error {
    /// The error as the caller of this request gets it.
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

/// The status says nothing of the cause: a server may pass it on to its own callers. Nor does it repeat what the
/// other levels of the chain say.
fn status_of(error: &Error) -> Status {
    let code = match error.is_permanent() {
        true => Code::Unauthenticated,
        false => Code::Unavailable,
    };
    let message =
        "the call was not sent, because it has no credential; the source of this status says why";
    Status::new(code, message)
}

/// The source of a status: a level of its own, because tonic prints the source of a status with the status.
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

/// [`Unauthenticated`](Code::Unauthenticated) if the error [is permanent](Error::is_permanent) or the credential
/// may not go to the request's origin, else [`Unavailable`](Code::Unavailable). The error is the status's source.
///
/// For interceptors and layers of your own, which ask a [`TokenCache`](crate::TokenCache). Callers of a generated
/// client over [`Auth`](crate::Auth) get such a status.
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
