//! Where a credential may go: over `https`, to loopback, or to an origin that the user named.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::Authority;

use super::auth_request::{AuthRequest, AuthResponse};
use super::redirects::{OriginMark, Redirects};
use crate::error::{Error, Kind};
use crate::origin::{default_port, is_secure};

/// An origin (RFC 6454 §4): scheme, host and port.
///
/// # Example
///
/// ```
/// use tower_auth::Origin;
///
/// let origin: Origin = "https://API.example.com".parse()?;
/// assert_eq!(origin.to_string(), "https://api.example.com:443");
/// assert!("api.example.com".parse::<Origin>().is_err());
/// # Ok::<(), tower_auth::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// Where a request goes; `None` if it doesn't say, as when its URI is only a path.
    ///
    /// As the key of `Tenants` (feature `tenants`) it gives each origin a credential of its own.
    pub fn of<Req>(request: &Req) -> Option<Self>
    where
        Req: AuthRequest,
    {
        let (scheme, host) = (request.scheme()?, request.host()?);
        Some(Self {
            scheme: scheme.to_ascii_lowercase(),
            host: host.to_ascii_lowercase(),
            port: request.port().or_else(|| default_port(scheme))?,
        })
    }

    /// As a [`Target`](crate::token::per_request::Target) has it.
    #[cfg(feature = "cookies")]
    pub(crate) fn as_text(&self) -> String {
        crate::origin::text(&self.scheme, &self.host, Some(self.port))
    }

    fn is_of(&self, request: &impl AuthRequest) -> bool {
        let (Some(scheme), Some(host)) = (request.scheme(), request.host()) else {
            return false;
        };
        self.scheme.eq_ignore_ascii_case(scheme)
            && self.host.eq_ignore_ascii_case(host)
            && request.port().or_else(|| default_port(scheme)) == Some(self.port)
    }
}

impl FromStr for Origin {
    type Err = Error;

    /// # Errors
    ///
    /// [`is_config`](Error::is_config) unless the text is `scheme://host[:port]`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let message = "an origin is written `scheme://host[:port]`, such as \
                           `https://api.example.com`, with no path or user name";
            Error::new(Kind::Config, message)
        };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let scheme = uri.scheme_str().ok_or_else(wrong)?.to_ascii_lowercase();
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(wrong)?;
        if uri.path() != "/" || uri.query().is_some() {
            return Err(wrong());
        }
        // No user name in front of the host, and behind it nothing but a port that is one.
        let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
        let port = match authority.strip_prefix(host).ok_or_else(wrong)? {
            "" => default_port(&scheme),
            port => port.strip_prefix(':').and_then(|port| port.parse().ok()),
        };
        let port = port.ok_or_else(wrong)?;
        Ok(Self {
            host: host.to_ascii_lowercase(),
            scheme,
            port,
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// Lets a credential through, or says why not.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllowedOrigins {
    /// `None`: any origin, over a secure channel, to which no redirect led.
    only: Option<Vec<Origin>>,
    redirects: Redirects,
}

impl AllowedOrigins {
    pub(crate) fn only_to(origins: Vec<Origin>) -> Self {
        Self {
            only: Some(origins),
            redirects: Redirects::default(),
        }
    }

    /// A request whose URI is only a path passes: the client below decides where it goes, and
    /// knows what it is.
    #[inline]
    pub(crate) fn check(&self, request: &impl AuthRequest) -> Result<(), Error> {
        let open = match &self.only {
            None if request.is_https() => self.redirects.leave(request),
            _ if request.scheme().is_none() && request.host().is_none() => true,
            None => is_secure(request.scheme(), request.host()) && self.redirects.leave(request),
            Some(origins) => origins.iter().any(|origin| origin.is_of(request)),
        };
        if open {
            Ok(())
        } else {
            Err(self.closed(request))
        }
    }

    /// Where the request goes, for [`redirected`](Self::redirected).
    #[inline]
    pub(crate) fn mark(&self, request: &impl AuthRequest) -> OriginMark {
        match self.only {
            None => self.redirects.mark(request),
            Some(_) => OriginMark::UNKNOWN,
        }
    }

    /// Closes itself to the origin that a redirect leads to, if that is another and no user named it.
    #[cold]
    pub(crate) fn redirected(&self, from: OriginMark, response: &impl AuthResponse) {
        if self.only.is_none() {
            self.redirects.take(from, response);
        }
    }

    #[cold]
    fn closed(&self, request: &impl AuthRequest) -> Error {
        let scheme = request.scheme().unwrap_or("(no scheme)");
        let host = request.host().unwrap_or("(no host)");
        let port = request
            .port()
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        let why = match self.only {
            None if is_secure(request.scheme(), request.host()) => {
                "a redirect of another origin may have led there; \
                 name both origins with `AuthLayer::only_to` to allow it"
            }
            None => {
                "a credential goes over https or to loopback; \
                 name the origin with `AuthLayer::only_to` to allow it"
            }
            Some(_) => "it is none of the origins that `AuthLayer::only_to` names",
        };
        let message = format!("no credential is sent to {scheme}://{host}{port}: {why}");
        Error::new(Kind::Origin, message)
    }
}
