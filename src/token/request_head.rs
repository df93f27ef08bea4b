//! The head of a request, from which credentials are made.

use std::fmt;

use http::{HeaderValue, Method};

#[cfg(feature = "cookies")]
use crate::origin;

/// The method and the target of a request. A [`PerRequestCredential`] may depend on these and the
/// header fields, but on nothing else.
///
/// [`PerRequestCredential`]: super::PerRequestCredential
///
/// # Example
///
/// ```
/// use tower_auth::token::RequestHead;
///
/// /// Returns the part of this request that a signature covers.
/// fn covered(request: &RequestHead) -> String {
///     let query = request.query().unwrap_or_default();
///     format!("{}\n{}\n{query}", request.method(), request.path())
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RequestHead {
    pub(crate) method: Method,
    /// The target's origin, as [`origin::serialize`](crate::origin::serialize) writes it.
    pub(crate) origin: Option<String>,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) replaces_existing: bool,
    pub(crate) sent_credential: Option<HeaderValue>,
    /// The caller's own `Cookie` headers, if the credential is cookies.
    #[cfg(feature = "cookies")]
    pub(crate) callers_cookies: Vec<HeaderValue>,
}

impl RequestHead {
    /// Returns the method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Returns the target's origin as RFC 6454 §6.2 writes it, such as `https://api.example.com`.
    /// The origin is in lower case, without the port if that is the scheme's default. `None` if the
    /// request's URI is only a path. In this case, the client below the layer decides where the
    /// request goes.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::token::RequestHead;
    ///
    /// /// Returns the id of the key that this API accepts.
    /// fn key_id(request: &RequestHead) -> Option<&'static str> {
    ///     match request.origin()? {
    ///         "https://api.example.com" => Some("main"),
    ///         "https://files.example.com" => Some("files"),
    ///         _ => None,
    ///     }
    /// }
    /// ```
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// Returns the host, and the port if it isn't the scheme's default. The result is the
    /// [`origin`](Self::origin) without the scheme. A client sends this text as `Host`, unless the
    /// caller has set that header.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::token::RequestHead;
    ///
    /// /// Returns the line of a signed text that names the host.
    /// fn host_line(request: &RequestHead) -> Option<String> {
    ///     Some(format!("host:{}\n", request.authority()?))
    /// }
    /// ```
    pub fn authority(&self) -> Option<&str> {
        let (_, authority) = self.origin()?.split_once("://")?;
        Some(authority)
    }

    /// Returns the path as it is in the request.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the query as it is in the request, without the `?`.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Returns the path and the query, if any. The result is the request target in origin form (RFC
    /// 9112 §3.2.1).
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::token::RequestHead;
    ///
    /// /// Returns the first line of a signed text.
    /// fn request_line(request: &RequestHead) -> String {
    ///     format!("{} {}\n", request.method(), request.path_and_query())
    /// }
    /// ```
    pub fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// Returns the origin, the path and the query. The result is the target URI (RFC 9110 §7.1).
    /// `None` if there is no origin.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::BoxError;
    /// use tower_auth::token::RequestHead;
    ///
    /// /// Returns the text that a signature over the whole address covers.
    /// fn covered(request: &RequestHead) -> Result<String, BoxError> {
    ///     let url = request.url().ok_or("the request has only a path; add the origin")?;
    ///     Ok(format!("{} {url}", request.method()))
    /// }
    /// ```
    pub fn url(&self) -> Option<String> {
        let origin = self.origin()?;
        Some(format!("{origin}{}", self.path_and_query()))
    }

    /// Returns whether the credential replaces a credential that the caller has set.
    /// [`AuthLayer::replace_existing`](crate::AuthLayer::replace_existing) decides this.
    ///
    /// # Example
    ///
    /// ```
    /// use http::{HeaderMap, HeaderValue};
    /// use tower_auth::token::{Applied, RequestHead};
    ///
    /// /// Adds a date, unless the caller chose one.
    /// fn add_date(request: &RequestHead, headers: &mut HeaderMap, now: HeaderValue) -> Applied {
    ///     if headers.contains_key("x-date") && !request.replaces_existing() {
    ///         return Applied::CallersOwn;
    ///     }
    ///     headers.insert("x-date", now);
    ///     Applied::Done
    /// }
    /// ```
    pub fn replaces_existing(&self) -> bool {
        self.replaces_existing
    }

    /// Returns the header value that [`apply`] set in the token's [`Place::Header`]. The value is
    /// known only in [`observe`]. `None` if [`apply`] set no value. For example, `apply` ran before
    /// any response contained the server's nonce. Another request may have received the nonce since
    /// then.
    ///
    /// [`apply`]: super::PerRequestCredential::apply
    /// [`observe`]: super::PerRequestCredential::observe
    /// [`Place::Header`]: crate::Place::Header
    ///
    /// # Example
    ///
    /// ```
    /// use http::{HeaderMap, StatusCode};
    /// use tower_auth::token::{Feedback, RequestHead};
    ///
    /// /// The server wants its nonce in the credential, and this request had no nonce yet.
    /// fn observe(request: &RequestHead, status: StatusCode, headers: &HeaderMap) -> Feedback {
    ///     let has_nonce = headers.contains_key("x-nonce");
    ///     match request.sent_credential() {
    ///         None if status == StatusCode::UNAUTHORIZED && has_nonce => Feedback::OnceMore,
    ///         _ => Feedback::Nothing,
    ///     }
    /// }
    /// ```
    pub fn sent_credential(&self) -> Option<&HeaderValue> {
        self.sent_credential.as_ref()
    }

    /// Makes the head of a request that this crate itself sends.
    #[cfg(feature = "cookies")]
    pub(crate) fn of<B>(request: &http::Request<B>) -> Self {
        let uri = request.uri();
        Self {
            method: request.method().clone(),
            origin: uri.host().map(|_| origin::serialize_uri(uri)),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            replaces_existing: false,
            sent_credential: None,
            callers_cookies: Vec::new(),
        }
    }
}

/// Omits the credential, the path and the query. The path and the query may contain a caller's
/// secret.
impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}
