//! The interface between the layer and the requests of any HTTP client.

use std::{fmt, mem};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Extensions, Method, Uri, Version};
use zeroize::Zeroizing;

use super::body::replay::Replay;
use super::query;
use crate::error::{Error, Kind};
use crate::origin;
use crate::token::request_head::RequestHead;

/// A request to which the layer can attach a credential. Two types implement this trait:
/// `http::Request` with any body that implements [`Replay`], and `reqwest::Request`.
///
/// # Example
///
/// ```
/// use http::Request;
/// use tower_auth::layer::AuthRequest;
///
/// /// Chooses the tenant of a request, for `Tenants::by`.
/// fn host_of(request: &impl AuthRequest) -> Option<String> {
///     request.host().map(str::to_owned)
/// }
///
/// let request = Request::get("https://api.example.com/v1").body(String::new())?;
/// assert_eq!(host_of(&request).as_deref(), Some("api.example.com"));
/// # Ok::<(), http::Error>(())
/// ```
///
/// A request type of your own, around `http::Request`:
///
/// ```
/// use bytes::Bytes;
/// use http::{HeaderMap, Method, Request};
/// use tower_auth::Error;
/// use tower_auth::layer::AuthRequest;
///
/// struct Numbered {
///     number: u64,
///     inner: Request<Bytes>,
/// }
///
/// impl AuthRequest for Numbered {
///     type Copy = (u64, <Request<Bytes> as AuthRequest>::Copy);
///
///     fn headers(&self) -> &HeaderMap { self.inner.headers() }
///     fn headers_mut(&mut self) -> &mut HeaderMap { self.inner.headers_mut() }
///     fn method(&self) -> &Method { self.inner.method() }
///     fn path(&self) -> &str { self.inner.path() }
///     fn query(&self) -> Option<&str> { self.inner.query() }
///     fn scheme(&self) -> Option<&str> { self.inner.scheme() }
///     fn host(&self) -> Option<&str> { self.inner.host() }
///     fn port(&self) -> Option<u16> { self.inner.port() }
///     fn authority(&self) -> Option<&str> { self.inner.authority() }
///     fn has_query(&self, name: &str) -> bool { self.inner.has_query(name) }
///
///     fn set_query(&mut self, name: &str, pair: &str) -> Result<(), Error> {
///         self.inner.set_query(name, pair)
///     }
///
///     fn record(&mut self, limit: usize) -> Option<Self::Copy> {
///         Some((self.number, self.inner.record(limit)?))
///     }
///
///     fn replay((number, copy): Self::Copy) -> Option<Self> {
///         Some(Self { number, inner: Request::replay(copy)? })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "the layer can't authenticate requests of type `{Self}`",
    label = "this type doesn't implement `AuthRequest`",
    note = "the layer takes `http::Request` of http 1, and `reqwest::Request` of reqwest 0.13 with tower-auth's feature `reqwest`",
    note = "types of two versions of a crate have the same name: `cargo tree --duplicates` lists such crates"
)]
pub trait AuthRequest: Sized {
    /// The recorded parts of the request, used to send the request again.
    type Copy;

    /// Returns the header fields.
    fn headers(&self) -> &HeaderMap;

    /// Returns the header fields, mutably. The layer inserts the credential here.
    fn headers_mut(&mut self) -> &mut HeaderMap;

    /// Returns the method.
    fn method(&self) -> &Method;

    /// Returns the path of the request's URI, without the query.
    fn path(&self) -> &str;

    /// Returns the query of the request's URI, for credentials that sign the query. Default:
    /// `None`.
    fn query(&self) -> Option<&str> {
        None
    }

    /// Returns the scheme of the request's URI, such as `https`. Returns `None` if the URI is only
    /// a path. In this case, the client below the layer chooses the origin.
    fn scheme(&self) -> Option<&str>;

    /// Returns the host of the request's URI. An IPv6 address is in brackets.
    fn host(&self) -> Option<&str>;

    /// Returns the port, if the URI contains a port.
    fn port(&self) -> Option<u16>;

    /// Returns the authority of the request's URI as written: `[user@]host[:port]` (RFC 3986 §3.2).
    /// Returns `None` if the URI is only a path.
    ///
    /// The layer calls this method for every request. The layer calls [`host`](Self::host) and
    /// [`port`](Self::port) only for an authority in an unusual form, and for per-request
    /// credentials.
    fn authority(&self) -> Option<&str>;

    /// Returns whether the query has a parameter with this name. Default: `false`, for requests
    /// without a query.
    fn has_query(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Removes all query parameters named `name`, and appends `pair` to the query. `pair` is
    /// already encoded and starts with the encoded name. Other parameters stay unchanged.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the request can't have a query. The default
    /// implementation always fails.
    fn set_query(&mut self, name: &str, pair: &str) -> Result<(), Error> {
        let _ = pair;
        Err(no_query(name))
    }

    /// Records the request, with at most `limit` bytes of its body, so that the layer can send it
    /// again. Returns `None` if the request can't be sent twice.
    fn record(&mut self, limit: usize) -> Option<Self::Copy>;

    /// Rebuilds the request from its copy. Returns `None` if the recording is incomplete.
    fn replay(copy: Self::Copy) -> Option<Self>;
}

#[cold]
fn no_query(name: &str) -> Error {
    let name = name.escape_debug();
    let message = format!(
        "the request's URI can't have a query for the credential `{name}`; use a URI with a path"
    );
    Error::new(Kind::Config, message)
}

/// Returns the head of a request, for per-request credentials.
pub(crate) fn request_head(request: &impl AuthRequest, replaces_existing: bool) -> RequestHead {
    let origin = request.scheme().zip(request.host());
    RequestHead {
        method: request.method().clone(),
        origin: origin.map(|(scheme, host)| origin::serialize(scheme, host, request.port())),
        path: request.path().to_owned(),
        query: request.query().map(str::to_owned),
        replaces_existing,
        sent_credential: None,
        #[cfg(feature = "cookies")]
        callers_cookies: Vec::new(),
    }
}

/// A request target that contains a credential, zeroized when dropped.
struct ZeroizedTarget(Zeroizing<String>);

impl AsRef<[u8]> for ZeroizedTarget {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The recorded parts of an [`http::Request`], used to send it again.
pub struct RequestCopy<B>
where
    B: Replay,
{
    method: Method,
    uri: Uri,
    version: Version,
    /// The header fields as a list, because a list needs fewer allocations than a map.
    headers: Vec<(HeaderName, HeaderValue)>,
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

    fn query(&self) -> Option<&str> {
        self.uri().query()
    }

    #[inline]
    fn scheme(&self) -> Option<&str> {
        self.uri().scheme_str()
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
        let uri = self.uri();
        // The URI of a `CONNECT` request is only an authority, which can't have a query.
        if uri.path_and_query().is_none() {
            return Err(no_query(name));
        }
        let target = query::target(uri.path(), uri.query(), name, pair);
        // Dropping the last clone of the URI zeroizes this buffer.
        let target = Bytes::from_owner(ZeroizedTarget(target));
        let target = PathAndQuery::from_maybe_shared(target).map_err(|_| no_query(name))?;
        let mut parts = mem::take(self.uri_mut()).into_parts();
        parts.path_and_query = Some(target);
        *self.uri_mut() = Uri::from_parts(parts).map_err(|_| no_query(name))?;
        Ok(())
    }

    #[inline]
    fn record(&mut self, limit: usize) -> Option<Self::Copy> {
        Some(RequestCopy {
            body: self.body_mut().record(limit)?,
            method: self.method().clone(),
            uri: self.uri().clone(),
            version: self.version(),
            headers: list(self.headers()),
            extensions: self.extensions().clone(),
        })
    }

    fn replay(copy: Self::Copy) -> Option<Self> {
        let mut request = Self::new(B::replay(copy.body)?);
        *request.method_mut() = copy.method;
        *request.uri_mut() = copy.uri;
        *request.version_mut() = copy.version;
        *request.extensions_mut() = copy.extensions;
        let headers = request.headers_mut();
        // Reserves space for the credential as well.
        headers.reserve(copy.headers.len() + 1);
        for (name, value) in copy.headers {
            headers.append(name, value);
        }
        Some(request)
    }
}

#[inline]
fn list(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let mut list = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        list.push((name.clone(), value.clone()));
    }
    list
}

impl<B> fmt::Debug for RequestCopy<B>
where
    B: Replay,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestCopy").finish_non_exhaustive()
    }
}
