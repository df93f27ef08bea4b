//! Credentials that are made for each request and that observe each response.

use http::StatusCode;
use http::header::HeaderMap;

use super::request_head::RequestHead;
use crate::error::BoxError;

/// A credential that is made for each request. Examples are a signature, a proof of possession and
/// a session's cookies.
///
/// A source returns the credential in a [`Token::per_request`](crate::Token::per_request). The
/// cache treats this token like any other token: one fetch serves all requests. The cache refreshes
/// the token before the expiry, and replaces the token when a server refuses it. The layer calls
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
///     fn apply(
///         &self,
///         request: &RequestHead,
///         headers: &mut HeaderMap,
///     ) -> Result<Applied, BoxError> {
///         // Put a real signature here.
///         let (method, path) = (request.method(), request.path());
///         let signature = format!("{}:{method}:{path}", self.key.len());
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a credential that is made for each request",
    label = "this type doesn't implement `PerRequestCredential`",
    note = "implement `tower_auth::token::PerRequestCredential` for it, or return a fixed credential: `Token::bearer`, `Token::header`"
)]
#[doc(alias = "signature")]
pub trait PerRequestCredential: Send + Sync + 'static {
    /// Adds the credential to the header fields of a request. The layer calls this method every
    /// time it sends the request. The method must not block, so fetch keys in the source. The layer
    /// marks the header of a [`Place::Header`] as sensitive.
    ///
    /// If the caller has set the header of a [`Place::Header`], the layer doesn't call this method.
    /// With [`replace_existing`](crate::AuthLayer::replace_existing), the layer calls this method
    /// anyway. With [`Place::Cookie`], the layer always calls this method.
    ///
    /// [`Place::Cookie`]: crate::Place::Cookie
    /// [`Place::Header`]: crate::Place::Header
    ///
    /// # Errors
    ///
    /// Returns an error if the credential can't be made. The request is then not sent. An
    /// [`Error`](crate::Error) reaches the caller unchanged. Any other error becomes the source of
    /// an `Error` whose [`is_source`](crate::Error::is_source) is true.
    fn apply(&self, request: &RequestHead, headers: &mut HeaderMap) -> Result<Applied, BoxError>;

    /// Reads what a response says about the credential. The layer calls this method once for each
    /// response to a request that [`apply`](Self::apply) changed. The layer doesn't call this
    /// method if the response is known to come from another origin. Default: [`Feedback::Nothing`].
    ///
    /// # Example
    ///
    /// A server that wants its latest nonce in each request:
    ///
    /// ```
    /// use std::sync::Mutex;
    ///
    /// use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
    /// use tower_auth::BoxError;
    /// use tower_auth::token::{Applied, Feedback, PerRequestCredential, RequestHead};
    ///
    /// const NONCE: HeaderName = HeaderName::from_static("x-nonce");
    ///
    /// #[derive(Default)]
    /// struct WithNonce {
    ///     nonce: Mutex<Option<HeaderValue>>,
    /// }
    ///
    /// impl PerRequestCredential for WithNonce {
    ///     fn apply(
    ///         &self,
    ///         _: &RequestHead,
    ///         headers: &mut HeaderMap,
    ///     ) -> Result<Applied, BoxError> {
    ///         let nonce = self.nonce.lock().map_err(|_| "poisoned")?.clone();
    ///         headers.extend(nonce.map(|nonce| (NONCE, nonce)));
    ///         Ok(Applied::Done)
    ///     }
    ///
    ///     fn observe(
    ///         &self,
    ///         _: &RequestHead,
    ///         status: StatusCode,
    ///         headers: &HeaderMap,
    ///     ) -> Feedback {
    ///         let Some(nonce) = headers.get(NONCE) else {
    ///             return Feedback::Nothing;
    ///         };
    ///         if let Ok(mut latest) = self.nonce.lock() {
    ///             *latest = Some(nonce.clone());
    ///         }
    ///         match status {
    ///             StatusCode::UNAUTHORIZED => Feedback::OnceMore,
    ///             _ => Feedback::Nothing,
    ///         }
    ///     }
    /// }
    /// ```
    fn observe(&self, request: &RequestHead, status: StatusCode, headers: &HeaderMap) -> Feedback {
        let _ = (request, status, headers);
        Feedback::Nothing
    }

    /// Returns the thumbprint of the key that the token is bound to. Each process with this key can
    /// use the token. [`TokenSource::bind`](crate::TokenSource::bind) restores the token in such a
    /// process. Default: `None`. Then only this process can use the token.
    ///
    /// # Example
    ///
    /// All processes that have the same key can use the token:
    ///
    /// ```
    /// use http::HeaderMap;
    /// use tower_auth::BoxError;
    /// use tower_auth::token::{Applied, PerRequestCredential, RequestHead};
    ///
    /// struct Signer {
    ///     thumbprint: String,
    /// }
    ///
    /// impl PerRequestCredential for Signer {
    ///     fn apply(
    ///         &self,
    ///         _: &RequestHead,
    ///         _headers: &mut HeaderMap,
    ///     ) -> Result<Applied, BoxError> {
    ///         // Sign the request here.
    ///         Ok(Applied::Done)
    ///     }
    ///
    ///     fn bound_to(&self) -> Option<&str> {
    ///         Some(&self.thumbprint)
    ///     }
    /// }
    /// ```
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
    /// The request is unchanged, because the caller has set the whole credential.
    CallersOwn,
}

/// What a response said about the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feedback {
    /// The response said nothing that changes how the layer handles the response.
    Nothing,
    /// The server wants the *same* token again, and `apply` can now satisfy the server. For
    /// example, the credential now knows the server's nonce. The layer then sends the request
    /// again, at most once and without a fetch.
    OnceMore,
    /// The server has ended the token. All requests wait for a new token. If the fetch of the new
    /// token fails, the requests are sent with the old token. If the budget for fetches after
    /// refusals is used up, the old token stays in use.
    TokenEnded,
}
