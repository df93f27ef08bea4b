//! What the layer needs of a request and of a response, so that it fits every client.

use http::header::HeaderMap;
use http::uri::{Authority, Scheme};
use http::{Extensions, Method, StatusCode, Uri, Version};

use zeroize::Zeroizing;

use super::body::replay::Replay;
use super::query;
use crate::error::{Error, Kind};

/// A request that a credential can be put on: `http::Request` with any body that is
/// [`Replay`], and `reqwest::Request`.
///
/// # Example
///
/// ```
/// use http::Request;
/// use tower_auth::AuthRequest;
///
/// /// Whose credential it is to have: what `Tenants::by` takes.
/// fn host_of(request: &impl AuthRequest) -> Option<String> {
///     request.host().map(str::to_owned)
/// }
///
/// let request = Request::get("https://api.example.com/v1").body(String::new())?;
/// assert_eq!(host_of(&request).as_deref(), Some("api.example.com"));
/// # Ok::<(), http::Error>(())
/// ```
pub trait AuthRequest: Sized {
    /// What is kept of the request while it is sent for the first time.
    type Copy;

    /// The header fields.
    fn headers(&self) -> &HeaderMap;

    /// The header fields, to put the credential in.
    fn headers_mut(&mut self) -> &mut HeaderMap;

    /// The method.
    fn method(&self) -> &Method;

    /// The path of the request's URI, without the query.
    fn path(&self) -> &str;

    /// The scheme of the request's URI: `https`, `http`, … `None` where it is only a path, and
    /// the client below decides where it goes.
    fn scheme(&self) -> Option<&str>;

    /// Whether the scheme is `https`; asked of every request.
    #[inline]
    fn is_https(&self) -> bool {
        self.scheme()
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
    }

    /// The host of the request's URI; an IPv6 address stands in brackets.
    fn host(&self) -> Option<&str>;

    /// The port, if the URI names one.
    fn port(&self) -> Option<u16>;

    /// The authority of the request's URI as it stands there: `[user@]host[:port]` (RFC 3986 §3.2).
    /// `None` where the URI is only a path. Asked of every request, in the place of host and port.
    fn authority(&self) -> Option<&str>;

    /// Whether the query has a parameter of this name. Default: no, as with requests that have no
    /// query to put a credential in.
    fn has_query(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Puts `pair`, which is encoded and starts with the encoded `name`, in the query: in the place
    /// of any other parameter of that name, and behind all others, which are left as they are.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address can't have it. Default: it can't.
    fn set_query(&mut self, name: &str, pair: &str) -> Result<(), Error> {
        let _ = pair;
        Err(no_query(name))
    }

    /// Sees to it that the request can be sent again after this one has been sent, holding no
    /// more than `limit` bytes of its body. `None`: it can't be sent twice.
    fn record(&mut self, limit: usize) -> Option<Self::Copy>;

    /// The request again, or `None` if what was kept doesn't suffice.
    fn replay(copy: Self::Copy) -> Option<Self>;
}

/// A response that can refuse a credential: `http::Response` with any body, and
/// `reqwest::Response`.
///
/// # Example
///
/// ```
/// use tower_auth::{AuthResponse, NotReplayed};
///
/// /// The same of whatever client's responses.
/// fn why_refused(response: &mut impl AuthResponse) -> Option<String> {
///     let reason = response.extensions_mut().get::<NotReplayed>();
///     reason.map(ToString::to_string)
/// }
/// ```
pub trait AuthResponse {
    /// The status code.
    fn status(&self) -> StatusCode;

    /// The header fields.
    fn headers(&self) -> &HeaderMap;

    /// Who answered, where the client says so: scheme, host, and port if it isn't the scheme's own.
    /// One that follows redirects may bring the answer of another origin than the one asked.
    fn answered_by(&self) -> Option<(&str, &str, Option<u16>)> {
        None
    }

    /// The extensions, where the layer leaves why it didn't [replay](crate::NotReplayed).
    fn extensions_mut(&mut self) -> &mut Extensions;
}

#[cold]
fn no_query(name: &str) -> Error {
    let name = name.escape_debug();
    let message = format!("the request's address can't have the credential `{name}` in its query");
    Error::new(Kind::Config, message)
}

/// What is kept of an [`http::Request`] to send it again.
pub struct RequestCopy<B>
where
    B: Replay,
{
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    extensions: Extensions,
    body: B::Copy,
}

impl<B> AuthRequest for http::Request<B>
where
    B: Replay,
{
    type Copy = RequestCopy<B>;

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }

    fn method(&self) -> &Method {
        self.method()
    }

    fn path(&self) -> &str {
        self.uri().path()
    }

    #[inline]
    fn scheme(&self) -> Option<&str> {
        self.uri().scheme_str()
    }

    #[inline]
    fn is_https(&self) -> bool {
        self.uri().scheme() == Some(&Scheme::HTTPS)
    }

    fn host(&self) -> Option<&str> {
        self.uri().host()
    }

    fn port(&self) -> Option<u16> {
        self.uri().port_u16()
    }

    #[inline]
    fn authority(&self) -> Option<&str> {
        self.uri().authority().map(Authority::as_str)
    }

    fn has_query(&self, name: &str) -> bool {
        query::contains(self.uri().query(), name)
    }

    fn set_query(&mut self, name: &str, pair: &str) -> Result<(), Error> {
        let query = query::with(self.uri().query(), name, pair);
        let mut parts = self.uri().clone().into_parts();
        let path = self.uri().path();
        let target = Zeroizing::new(format!("{path}?{}", *query));
        parts.path_and_query = target.parse().ok();
        // An address that is an authority alone, as of `CONNECT`, has no query.
        let uri = parts
            .path_and_query
            .is_some()
            .then(|| Uri::from_parts(parts));
        *self.uri_mut() = uri.and_then(Result::ok).ok_or_else(|| no_query(name))?;
        Ok(())
    }

    #[inline]
    fn record(&mut self, limit: usize) -> Option<Self::Copy> {
        Some(RequestCopy {
            body: self.body_mut().record(limit)?,
            method: self.method().clone(),
            uri: self.uri().clone(),
            version: self.version(),
            headers: self.headers().clone(),
            extensions: self.extensions().clone(),
        })
    }

    fn replay(copy: Self::Copy) -> Option<Self> {
        let mut request = Self::new(B::replay(copy.body)?);
        *request.method_mut() = copy.method;
        *request.uri_mut() = copy.uri;
        *request.version_mut() = copy.version;
        *request.headers_mut() = copy.headers;
        *request.extensions_mut() = copy.extensions;
        Some(request)
    }
}

impl<B> AuthResponse for http::Response<B> {
    fn status(&self) -> StatusCode {
        self.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.headers()
    }

    fn extensions_mut(&mut self) -> &mut Extensions {
        self.extensions_mut()
    }
}

impl<B> std::fmt::Debug for RequestCopy<B>
where
    B: Replay,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestCopy").finish_non_exhaustive()
    }
}

#[cfg(feature = "reqwest")]
mod with_reqwest {
    use std::fmt;

    use super::{
        AuthRequest, AuthResponse, Error, Extensions, HeaderMap, Method, Replay, StatusCode, query,
    };

    /// What is kept of a [`reqwest::Request`] to send it again.
    pub struct ReqwestCopy {
        head: reqwest::Request,
        body: Option<<reqwest::Body as Replay>::Copy>,
    }

    impl AuthRequest for reqwest::Request {
        type Copy = ReqwestCopy;

        fn headers(&self) -> &HeaderMap {
            self.headers()
        }

        fn headers_mut(&mut self) -> &mut HeaderMap {
            self.headers_mut()
        }

        fn method(&self) -> &Method {
            self.method()
        }

        fn path(&self) -> &str {
            self.url().path()
        }

        fn scheme(&self) -> Option<&str> {
            Some(self.url().scheme())
        }

        fn host(&self) -> Option<&str> {
            self.url().host_str()
        }

        fn port(&self) -> Option<u16> {
            self.url().port()
        }

        fn authority(&self) -> Option<&str> {
            self.url().has_host().then(|| self.url().authority())
        }

        fn has_query(&self, name: &str) -> bool {
            query::contains(self.url().query(), name)
        }

        fn set_query(&mut self, name: &str, pair: &str) -> Result<(), Error> {
            let query = query::with(self.url().query(), name, pair);
            self.url_mut().set_query(Some(&query));
            Ok(())
        }

        fn record(&mut self, limit: usize) -> Option<Self::Copy> {
            // A request can be cloned as long as it has no stream in it.
            let mut body = self.body_mut().take();
            let head = self.try_clone();
            let kept = match &mut body {
                None => Some(None),
                Some(body) => body.record(limit).map(Some),
            };
            *self.body_mut() = body;
            let (head, body) = head.zip(kept)?;
            Some(ReqwestCopy { head, body })
        }

        fn replay(copy: Self::Copy) -> Option<Self> {
            let mut request = copy.head;
            *request.body_mut() = match copy.body {
                None => None,
                Some(body) => Some(reqwest::Body::replay(body)?),
            };
            Some(request)
        }
    }

    /// Like that of [`RequestCopy`](super::RequestCopy): the headers and the body are the caller's.
    impl fmt::Debug for ReqwestCopy {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("ReqwestCopy").finish_non_exhaustive()
        }
    }

    impl AuthResponse for reqwest::Response {
        fn status(&self) -> StatusCode {
            self.status()
        }

        fn headers(&self) -> &HeaderMap {
            self.headers()
        }

        fn answered_by(&self) -> Option<(&str, &str, Option<u16>)> {
            let url = self.url();
            Some((url.scheme(), url.host_str()?, url.port()))
        }

        fn extensions_mut(&mut self) -> &mut Extensions {
            self.extensions_mut()
        }
    }
}

#[cfg(feature = "reqwest")]
pub use with_reqwest::ReqwestCopy;
