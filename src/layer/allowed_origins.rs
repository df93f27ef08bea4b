//! The origins that receive the credential. The source or the user names these origins.

use std::sync::OnceLock;

use super::auth_request::AuthRequest;
use crate::error::{Error, Kind};
use crate::origin::{Origin, OriginDigest, authority_port_fault, is_secure};
use crate::sanitize::ServerText;

impl Origin {
    /// Returns the origin that a request is sent to, or `None` if the request's URI is only a path.
    ///
    /// Use this function as the key of `Tenants` (feature `tenants`) to give each origin its own
    /// credential.
    ///
    /// # Example
    ///
    /// ```
    /// use http::Request;
    /// use tower_auth::Origin;
    ///
    /// let request = Request::get("https://api.example.com/v1").body(())?;
    /// assert_eq!(Origin::of(&request), Some("https://api.example.com".parse()?));
    /// assert_eq!(Origin::of(&Request::get("/v1").body(())?), None);
    /// # Ok::<(), tower_auth::BoxError>(())
    /// ```
    pub fn of<Req>(request: &Req) -> Option<Self>
    where
        Req: AuthRequest,
    {
        let target = Target::of(request)?;
        Self::new(target.scheme, target.host, target.port)
    }
}

/// The rules that decide from a request's origin whether the request receives the credential.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllowedOrigins {
    named: Named,
    /// Whether the user, not the source, named the origins.
    by_user: bool,
    /// Whether a request to another origin is sent without the credential. If `false`, such a
    /// request is an error.
    pub(crate) pass_elsewhere: bool,
}

#[derive(Clone, Debug, Default)]
enum Named {
    /// Neither the source nor the user has named origins.
    #[default]
    Nothing,
    Origins(Vec<NamedOrigin>),
    /// Any `https` origin, and loopback. Because most requests go to one origin, the digest of this
    /// origin is computed only once.
    AnyHttps {
        usual: OnceLock<NamedOrigin>,
    },
}

/// An origin with its digest. Comparisons start with the serialized form of the origin, because
/// most requests contain this form.
#[derive(Clone, Debug)]
struct NamedOrigin {
    origin: Origin,
    digest: OriginDigest,
}

/// The decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The request gets the credential. Contains the digest of the request's origin.
    Credential(OriginDigest),
    /// The request passes unchanged.
    Unchanged,
}

impl AllowedOrigins {
    pub(crate) fn only_to(&mut self, origins: Vec<Origin>) {
        self.named = Named::these(origins);
        self.by_user = true;
    }

    /// Allows the origins that the source names. Does nothing if the user has named origins.
    pub(crate) fn set_by_source(&mut self, origins: impl FnOnce() -> Vec<Origin>) {
        if !self.by_user {
            self.named = Named::these(origins());
        }
    }

    pub(crate) fn allow_any_https(&mut self) {
        let usual = OnceLock::new();
        self.named = Named::AnyHttps { usual };
        self.by_user = true;
    }

    /// Returns whether the source or the user has named origins.
    pub(crate) fn are_named(&self) -> bool {
        !matches!(self.named, Named::Nothing)
    }

    /// Returns whether the list of named origins contains this origin. Returns `None` if there is
    /// no list, for example with `any_https`.
    ///
    /// The layer uses this method to check the responses to requests whose URI was only a path.
    pub(crate) fn names(&self, scheme: &str, host: &str, port: Option<u16>) -> Option<bool> {
        match &self.named {
            Named::Origins(origins) => {
                let is_at = |named: &NamedOrigin| named.origin.is_at(scheme, host, port);
                Some(origins.iter().any(is_at))
            }
            Named::Nothing | Named::AnyHttps { .. } => None,
        }
    }

    /// Returns the digest of the request's origin, if this origin is allowed and has the usual
    /// form. Otherwise, returns `None`, and [`admit`](Self::admit) decides.
    #[inline]
    pub(crate) fn admit_usual(&self, request: &impl AuthRequest) -> Option<OriginDigest> {
        let first = match &self.named {
            Named::Origins(origins) => origins.first(),
            Named::AnyHttps { usual } => usual.get(),
            Named::Nothing => None,
        };
        match first {
            Some(first) if first.is_written(request) => Some(first.digest),
            _ => self.admit_usual_other(request),
        }
    }

    /// Does the same as [`admit_usual`](Self::admit_usual) for all named origins except the first.
    #[inline(never)]
    fn admit_usual_other(&self, request: &impl AuthRequest) -> Option<OriginDigest> {
        let Named::Origins(origins) = &self.named else {
            return None;
        };
        let named = origins
            .iter()
            .skip(1)
            .find(|named| named.is_written(request));
        named.map(|named| named.digest)
    }

    /// Decides whether a request gets the credential, or fails if the request must not be sent. A
    /// request whose URI is only a path gets the credential, because the client below the layer
    /// chooses the origin.
    pub(crate) fn admit(&self, request: &impl AuthRequest) -> Result<Admission, Error> {
        match self.admit_usual(request) {
            Some(sent_to) => Ok(Admission::Credential(sent_to)),
            None => self.admit_unusual(request),
        }
    }

    /// Does the same as [`admit`](Self::admit) for an origin in an unusual form, or an origin that
    /// isn't named.
    #[cold]
    fn admit_unusual(&self, request: &impl AuthRequest) -> Result<Admission, Error> {
        if request.scheme().is_none() && request.host().is_none() {
            return match names_a_host(request.path()) {
                true => Err(ambiguous_path()),
                false => Ok(Admission::Credential(OriginDigest::UNKNOWN)),
            };
        }
        let target = Target::of(request);
        let digest = match (&self.named, &target) {
            (Named::Origins(origins), Some(target)) => {
                let named = origins.iter().find(|named| target.is_at(&named.origin));
                named.map(|named| named.digest)
            }
            (Named::AnyHttps { usual }, Some(target)) if target.is_secure() => {
                if usual.get().is_none()
                    && let Some(first) = Origin::of(request)
                {
                    // A concurrent request may have set `usual` first.
                    drop(usual.set(NamedOrigin::new(first)));
                }
                Some(match usual.get() {
                    Some(usual) if target.is_at(&usual.origin) => usual.digest,
                    _ => OriginDigest::new(target.scheme, target.host, target.port),
                })
            }
            _ => None,
        };
        match digest {
            Some(digest) => Ok(Admission::Credential(digest)),
            None if self.pass_elsewhere && self.are_named() => Ok(Admission::Unchanged),
            None => Err(self.denied(request)),
        }
    }

    #[cold]
    fn denied(&self, request: &impl AuthRequest) -> Error {
        // The address may come from a server, for example from a link to the next page.
        let scheme = ServerText::new(request.scheme().unwrap_or("(no scheme)"));
        let host = ServerText::new(request.host().unwrap_or("(no host)"));
        let port = request
            .port()
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        let fault = request.authority().and_then(authority_port_fault);
        if let Some(fault) = fault.filter(|_| port.is_empty()) {
            let message = format!("no credential is sent to {scheme}://{host}: the URI {fault}");
            return Error::new(Kind::Origin, message);
        }
        let why = match self.named {
            Named::Nothing => {
                "no origin is named; name the API's origin with `AuthLayer::only_to`, allow every https \
                 origin with `AuthLayer::any_https`, or let the source name its origins \
                 (`TokenSource::origins`, which `resource` of the OAuth 2 sources sets)"
            }
            Named::AnyHttps { .. } => {
                "`AuthLayer::any_https` allows only https and loopback; name the origin with \
                 `AuthLayer::only_to` instead"
            }
            Named::Origins(_) => {
                "this origin is not named; add the origin to `AuthLayer::only_to`, or let such requests \
                 pass without the credential with `AuthLayer::pass_elsewhere`"
            }
        };
        let message = format!("no credential is sent to {scheme}://{host}{port}: {why}");
        Error::new(Kind::Origin, message)
    }
}

/// Returns whether a client with a base URL may read this path as a reference to another host (RFC
/// 3986 §4.2). WHATWG URL parsers read a backslash as a slash.
fn names_a_host(path: &str) -> bool {
    let is_slash = |byte: Option<&u8>| matches!(byte, Some(b'/' | b'\\'));
    let bytes = path.as_bytes();
    is_slash(bytes.first()) && is_slash(bytes.get(1))
}

#[cold]
fn ambiguous_path() -> Error {
    let message = "no credential is sent to a path that starts with two slashes, which some clients read \
                   as another host; use a URI with a scheme and a host";
    Error::new(Kind::Origin, message)
}

impl Named {
    /// Names only these origins. An empty list means that no origin is named.
    fn these(origins: Vec<Origin>) -> Self {
        match origins.is_empty() {
            true => Self::Nothing,
            false => Self::Origins(origins.into_iter().map(NamedOrigin::new).collect()),
        }
    }
}

impl NamedOrigin {
    fn new(origin: Origin) -> Self {
        let digest = origin.digest();
        Self { origin, digest }
    }

    #[inline]
    fn is_written(&self, request: &impl AuthRequest) -> bool {
        match (request.scheme(), request.authority()) {
            (Some(scheme), Some(authority)) => self.origin.is_written(scheme, authority),
            _ => false,
        }
    }
}

/// The parts of the origin that a request is sent to.
struct Target<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Target<'a> {
    /// Returns `None` if the URI is only a path, or if its port is invalid.
    fn of(request: &'a impl AuthRequest) -> Option<Self> {
        let (scheme, host) = (request.scheme()?, request.host()?);
        let authority = request.authority()?;
        // The user name ends at the last `@`, because a host contains no `@`.
        let authority = match authority.rfind('@') {
            Some(at) => &authority[at + 1..],
            None => authority,
        };
        let port = match authority.strip_prefix(host)? {
            "" | ":" => None,
            port => Some(port.strip_prefix(':')?.parse().ok()?),
        };
        Some(Self { scheme, host, port })
    }

    fn is_at(&self, origin: &Origin) -> bool {
        origin.is_at(self.scheme, self.host, self.port)
    }

    fn is_secure(&self) -> bool {
        is_secure(Some(self.scheme), Some(self.host))
    }
}
