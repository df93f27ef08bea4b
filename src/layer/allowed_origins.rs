//! Where a credential may go: over `https`, to loopback, or to an origin that the user named.

use super::auth_request::AuthRequest;
use super::auth_response::AuthResponse;
use super::redirects::{OriginMark, Redirects};
use crate::error::{Error, Kind};
use crate::origin::{Origin, is_secure};

impl Origin {
    /// Where a request goes; `None` if it doesn't say, as when its URI is only a path.
    ///
    /// As the key of `Tenants` (feature `tenants`) it gives each origin a credential of its own.
    pub fn of<Req>(request: &Req) -> Option<Self>
    where
        Req: AuthRequest,
    {
        Self::new(request.scheme()?, request.host()?, request.port())
    }

    fn is_of(&self, request: &impl AuthRequest) -> bool {
        let (Some(scheme), Some(host)) = (request.scheme(), request.host()) else {
            return false;
        };
        self.is_at(scheme, host, request.port())
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
