//! The origins that may receive a credential: those reached over `https`, loopback, or those that
//! the user named.

use super::auth_request::AuthRequest;
use super::auth_response::AuthResponse;
use super::redirects::{OriginDigest, Redirects};
use crate::error::{Error, Kind};
use crate::origin::{Origin, is_secure};

impl Origin {
    /// The origin that a request is sent to. `None` if the request's URI is only a path.
    ///
    /// As the key of `Tenants` (feature `tenants`), it gives each origin its own credential.
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

/// Decides whether a credential may be sent to the origin of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllowedOrigins {
    /// `None`: any origin over a secure channel that no redirect named.
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

    /// Fails if the request's origin may not receive the credential. A request whose URI is only a
    /// path passes: the client below decides where it goes.
    #[inline]
    pub(crate) fn check(&self, request: &impl AuthRequest) -> Result<(), Error> {
        let is_allowed = match &self.only {
            None if request.is_https() => self.redirects.allow(request),
            _ if request.scheme().is_none() && request.host().is_none() => true,
            None => is_secure(request.scheme(), request.host()) && self.redirects.allow(request),
            Some(origins) => origins.iter().any(|origin| origin.is_of(request)),
        };
        if is_allowed {
            Ok(())
        } else {
            Err(self.denied(request))
        }
    }

    /// The origin that the request is sent to, for [`redirected`](Self::redirected).
    #[inline]
    pub(crate) fn origin_of(&self, request: &impl AuthRequest) -> OriginDigest {
        match self.only {
            None => self.redirects.origin_of(request),
            Some(_) => OriginDigest::UNKNOWN,
        }
    }

    /// Denies the target of a redirect from now on, if it is another origin and the user named none.
    #[cold]
    pub(crate) fn redirected(&self, from: OriginDigest, response: &impl AuthResponse) {
        if self.only.is_none() {
            self.redirects.record(from, response);
        }
    }

    #[cold]
    fn denied(&self, request: &impl AuthRequest) -> Error {
        let scheme = request.scheme().unwrap_or("(no scheme)");
        let host = request.host().unwrap_or("(no host)");
        let port = request
            .port()
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        let why = match self.only {
            None if is_secure(request.scheme(), request.host()) => {
                "another origin may have redirected the request there; \
                 name both origins with `AuthLayer::only_to` to allow it"
            }
            None => {
                "a credential is only sent over https or to loopback; \
                 name the origin with `AuthLayer::only_to` to allow it"
            }
            Some(_) => "`AuthLayer::only_to` does not name this origin",
        };
        let message = format!("no credential is sent to {scheme}://{host}{port}: {why}");
        Error::new(Kind::Origin, message)
    }
}
