//! What the layer was told: one value, shared by all services it makes.

use http::header::{HeaderName, HeaderValue};

use crate::cache::TokenCache;
use crate::error::{Error, Kind};
use crate::gate::Gate;
use crate::http::AuthRequest;
use crate::refusal::Judge;

#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) cache: TokenCache,
    pub(crate) retry: bool,
    pub(crate) body_limit: usize,
    pub(crate) replace_existing: bool,
    pub(crate) gate: Gate,
    pub(crate) judge: Judge,
}

/// Whose credential is on a request that is ready to be sent.
pub(crate) enum Stamped<C> {
    /// The caller's own.
    Callers,
    /// This layer's. With it what it takes to send the request again, as it was without the
    /// credential.
    Ours(Option<C>),
}

impl Policy {
    /// Whether a credential is to be put on the request. Not if the caller has put one on it in
    /// this header: then it is none of our business where it goes.
    #[inline]
    pub(crate) fn admits(
        &self,
        request: &impl AuthRequest,
        name: &HeaderName,
    ) -> Result<bool, Error> {
        if !self.replace_existing && request.headers().contains_key(name) {
            return Ok(false);
        }
        self.gate.check(request).map(|()| true)
    }

    /// Puts the credential on a request, and keeps a copy for a replay if there may be one. The
    /// copy is taken first: it is one header smaller.
    #[inline]
    pub(crate) fn stamp<Req>(
        &self,
        request: &mut Req,
        name: &HeaderName,
        value: &HeaderValue,
    ) -> Result<Stamped<Req::Copy>, Error>
    where
        Req: AuthRequest,
    {
        if !self.admits(request, name)? {
            return Ok(Stamped::Callers);
        }
        let copy = if self.retry {
            request.record(self.body_limit)
        } else {
            None
        };
        put(request, name, value.clone())?;
        Ok(Stamped::Ours(copy))
    }
}

/// Replaces every value of the header by this one.
#[inline]
pub(crate) fn put(
    request: &mut impl AuthRequest,
    name: &HeaderName,
    value: HeaderValue,
) -> Result<(), Error> {
    request
        .headers_mut()
        .try_insert(name.clone(), value)
        .map_err(too_many)?;
    Ok(())
}

#[cold]
fn too_many(error: http::header::MaxSizeReached) -> Error {
    let message = "the request has so many headers that no credential fits among them";
    Error::new(Kind::Config, message).with_source(error)
}
