//! The error of a call, with one variant for each part that can fail.

use std::error::Error as StdError;
use std::fmt;

use crate::error::{BoxError, Error};

/// The error of a call through [`Auth`](crate::Auth), with one variant for each part that can fail.
/// `E` is the error of the client below, such as `reqwest::Error`.
///
/// `Auth` returns a [`BoxError`], because the error comes either from this crate or from the
/// client. In a function that returns a `CallError`, `?` converts the `BoxError`. For an error enum
/// of your own, write one `match`.
///
/// The conversion checks only the outermost error. This check is enough with Tower's layers,
/// because these layers don't wrap the error of a call. [`Error::find`] also finds an error that
/// another error wraps.
///
/// # Example
///
/// ```
/// use http::{Request, Response};
/// use tower::{BoxError, Layer, ServiceExt, service_fn};
/// use tower_auth::layer::CallError;
/// use tower_auth::{AuthLayer, Error, Token};
/// # type ClientError = std::io::Error;
///
/// enum ReportError {
///     NoToken(Error),
///     Client(ClientError),
///     Other(BoxError),
/// }
///
/// impl From<BoxError> for ReportError {
///     fn from(error: BoxError) -> Self {
///         match CallError::from(error) {
///             CallError::Auth(error) => Self::NoToken(error),
///             CallError::Client(error) => Self::Client(error),
///             CallError::Other(error) => Self::Other(error),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
/// # let client = service_fn(|_: Request<String>| async { Err::<Response<()>, _>(ClientError::other("no route")) });
/// let layer = AuthLayer::new(|_| async { Token::bearer("secret") }).any_https();
/// let request = Request::get("https://api.example.com").body(String::new())?;
/// match layer.layer(client).oneshot(request).await.map_err(ReportError::from) {
///     Err(ReportError::Client(error)) => assert_eq!(error.to_string(), "no route"),
///     _ => unreachable!("this client has no network"),
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub enum CallError<E> {
    /// The request was not sent: there is no token, or the request's origin may not receive the
    /// credential.
    Auth(Error),
    /// The client below failed.
    Client(E),
    /// Another layer failed, for example with a timeout.
    Other(BoxError),
}

impl<E> From<BoxError> for CallError<E>
where
    E: StdError + 'static,
{
    fn from(error: BoxError) -> Self {
        let error = match error.downcast() {
            Ok(error) => return Self::Auth(*error),
            Err(error) => error,
        };
        match error.downcast() {
            Ok(error) => Self::Client(*error),
            Err(error) => Self::Other(error),
        }
    }
}

/// Converts the error of a [`TokenCache`](crate::TokenCache), for functions that also call a cache.
impl<E> From<Error> for CallError<E> {
    fn from(error: Error) -> Self {
        Self::Auth(error)
    }
}

impl<E> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auth(_) => "the request could not be authenticated",
            Self::Client(_) => "the client failed",
            Self::Other(_) => "a layer around the client failed",
        })
    }
}

impl<E> StdError for CallError<E>
where
    E: StdError + 'static,
{
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Auth(error) => Some(error),
            Self::Client(error) => Some(error),
            Self::Other(error) => Some(&**error),
        }
    }
}
