//! Credentials that are made for each request, and that observe each response.

use http::StatusCode;
use http::header::HeaderMap;

use super::request_head::RequestHead;
use crate::error::BoxError;

/// A credential that is made for each request, such as a signature, a proof of possession, or a
/// session's cookies.
///
/// A source returns the credential in a [`Token::per_request`](crate::Token::per_request). The
/// cache treats this token like any other: one fetch serves all requests. The cache refreshes the
/// token before it expires, and replaces it when a server refuses it. The layer calls
/// [`apply`](Self::apply) for each request, and again for its replay.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
///
/// use http::{HeaderMap, HeaderValue, header::HeaderName};
/// use tower_auth::token::{Applied, PerRequestCredential, RequestHead};
/// use tower_auth::{AuthLayer, BoxError, Error, Place, Token};
///
/// struct Signer {
///     key: &'static str,
/// }
///
/// const SIGNATURE: HeaderName = HeaderName::from_static("x-signature");
///
/// impl PerRequestCredential for Signer {
///     fn apply(&self, request: &RequestHead, headers: &mut HeaderMap) -> Result<Applied, BoxError> {
///         // Put a real signature here.
///         let signature = format!("{}:{}:{}", self.key.len(), request.method(), request.path());
///         let mut value = HeaderValue::try_from(signature)?;
///         value.set_sensitive(true);
///         headers.insert(SIGNATURE, value);
///         Ok(Applied::Done)
///     }
/// }
///
/// let layer = AuthLayer::new(|_| async {
///     let signer = Arc::new(Signer { key: "secret" });
///     Ok(Token::per_request(Place::Header(SIGNATURE), signer.key, signer))
/// })
/// .only_to(["https://api.example.com"])?;
/// # Ok::<(), Error>(())
/// ```
pub trait PerRequestCredential: Send + Sync + 'static {
    /// Adds the credential to the header fields of a request. The layer calls this method each time
    /// it sends the request. The method must not block: fetch keys in the source. The layer marks
    /// the field of [`Place::Header`] sensitive.
    ///
    /// If the caller has set the field of [`Place::Header`], the layer doesn't call this method,
    /// unless [`replace_existing`](crate::AuthLayer::replace_existing) is set. With
    /// [`Place::Cookie`], the layer always calls this method.
    ///
    /// [`Place::Cookie`]: crate::Place::Cookie
    /// [`Place::Header`]: crate::Place::Header
    ///
    /// # Errors
    ///
    /// If the credential can't be made. The request is then not sent. An [`Error`](crate::Error)
    /// reaches the caller unchanged; any other error becomes the source of an `Error` whose
    /// [`is_source`](crate::Error::is_source) is true.
    fn apply(&self, request: &RequestHead, headers: &mut HeaderMap) -> Result<Applied, BoxError>;

    /// Reads what a response says about the credential. The layer calls this method once for each
    /// response to a request that [`apply`](Self::apply) changed, unless the response is known to
    /// come from another origin. Default: [`Feedback::Nothing`].
    fn observe(&self, request: &RequestHead, status: StatusCode, headers: &HeaderMap) -> Feedback {
        let _ = (request, status, headers);
        Feedback::Nothing
    }

    /// Returns the thumbprint of the key that the token is bound to. Each process that has this key
    /// can use the token; [`TokenSource::bind`](crate::TokenSource::bind) restores it there.
    /// Default: `None`, and only this process can use the token.
    #[cfg(feature = "fleet")]
    fn bound_to(&self) -> Option<&str> {
        None
    }
}

/// The result of applying a credential to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Applied {
    /// The request has the credential.
    Done,
    /// The request is unchanged: the caller has set the whole credential.
    CallersOwn,
}

/// What a response said about the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feedback {
    /// The response said nothing that changes how the layer handles it.
    Nothing,
    /// The server wants the *same* token again, and `apply` can now satisfy the server, for example
    /// with the server's nonce. For this, the layer sends the request again at most once, without a
    /// fetch.
    OnceMore,
    /// The server has ended the token. All requests wait for a new token; if its fetch fails, they
    /// are sent with the old token. While the budget for fetches after refusals is used up, the old
    /// token stays in use.
    TokenEnded,
}
