//! What the layer was told: one value, shared by all services it makes.

use http::header::{Entry, HeaderName, HeaderValue};

use crate::cache::TokenCache;
use crate::error::{BoxError, Error, Kind};
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

impl Policy {
    /// Whether the caller has put a credential of their own on the request. It is left as it is
    /// then, and it is none of our business where it goes.
    #[inline]
    fn is_callers_own(&self, request: &impl AuthRequest, name: &HeaderName) -> bool {
        !self.replace_existing && request.headers().contains_key(name)
    }

    /// Whether a credential is to be put on the request, before there is one.
    pub(crate) fn admits(
        &self,
        request: &impl AuthRequest,
        name: &HeaderName,
    ) -> Result<bool, Error> {
        if self.is_callers_own(request, name) {
            return Ok(false);
        }
        self.gate.check(request).map(|()| true)
    }

    /// What it takes to send the request again, if it may be. Taken before the credential is put
    /// on it: one header less to copy.
    #[inline]
    pub(crate) fn record<Req>(&self, request: &mut Req, name: &HeaderName) -> Option<Req::Copy>
    where
        Req: AuthRequest,
    {
        if self.retry && !self.is_callers_own(request, name) {
            request.record(self.body_limit)
        } else {
            None
        }
    }

    /// Puts the credential on a request that may have it, and says whether it did: not if the
    /// caller has. Looks the header up once.
    #[inline]
    pub(crate) fn stamp(
        &self,
        request: &mut impl AuthRequest,
        (name, value): (&HeaderName, &HeaderValue),
    ) -> Result<bool, Error> {
        let gate = self.gate.check(request);
        match request.headers_mut().try_entry(name) {
            Ok(Entry::Vacant(place)) => {
                gate?;
                place.try_insert(value.clone()).map_err(too_many)?;
            }
            Ok(Entry::Occupied(_)) if !self.replace_existing => return Ok(false),
            Ok(Entry::Occupied(mut place)) => {
                gate?;
                place.insert(value.clone());
            }
            Err(error) => return Err(too_many(error)),
        }
        Ok(true)
    }
}

/// Puts the credential on a request that is sent again.
pub(crate) fn put(
    request: &mut impl AuthRequest,
    (name, value): (&HeaderName, &HeaderValue),
) -> Result<(), Error> {
    let put = request
        .headers_mut()
        .try_insert(name.clone(), value.clone());
    put.map(drop).map_err(too_many)
}

#[cold]
fn too_many(error: impl Into<BoxError>) -> Error {
    let message = "the request has so many headers that no credential fits among them";
    Error::new(Kind::Config, message).with_source(error)
}
