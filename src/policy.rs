//! What the layer was told: one value, shared by all services it makes.

use http::header::MaxSizeReached;

use crate::cache::TokenCache;
use crate::error::{Error, Kind};
use crate::gate::Gate;
use crate::http::AuthRequest;
use crate::present::{Present, Presented, Target};
use crate::refusal::{Judge, target};
use crate::token::{Credential, Place};

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
    /// Whether a credential is to be put on the request. Not if the caller has put one on it in
    /// this place: it is left as it is then, and it is none of our business where it goes.
    #[inline]
    pub(crate) fn admits(&self, request: &impl AuthRequest, place: &Place) -> Result<bool, Error> {
        let is_callers = match place {
            Place::Header(name) => request.headers().contains_key(name),
            Place::Query(name) => request.has_query(name),
            // Cookies stand side by side: whose they are is seen when ours are put there.
            Place::Cookie => false,
        };
        if is_callers && !self.replace_existing {
            return Ok(false);
        }
        self.gate.check(request).map(|()| true)
    }

    /// Puts the credential on a request that may have it. With `keeps`, what it takes to send it again
    /// is kept.
    ///
    /// Takes the request by reference: handed on by value, its 250 bytes are copied each time, and
    /// that costs more than the header does.
    #[inline]
    pub(crate) fn prepare<Req>(
        &self,
        request: &mut Req,
        place: &Place,
        credential: Credential<'_>,
        keeps: bool,
    ) -> Prepared<Req::Copy>
    where
        Req: AuthRequest,
    {
        match self.admits(request, place) {
            Ok(true) => {}
            Ok(false) => return Prepared::Callers,
            Err(error) => return Prepared::Never(error),
        }
        if !keeps {
            return match self.put(request, credential) {
                Ok(Put::Fixed) => Prepared::Once,
                Ok(Put::Made(target)) => Prepared::Made(None, target),
                Ok(Put::Callers) => Prepared::Callers,
                Err(error) => Prepared::Never(error),
            };
        }
        // Before the credential is on it: one header less to copy.
        let copy = request.record(self.body_limit);
        match self.put(request, credential) {
            Ok(Put::Fixed) => copy.map_or(Prepared::Once, Prepared::Twice),
            Ok(Put::Made(target)) => Prepared::Made(copy, target),
            Ok(Put::Callers) => Prepared::Callers,
            Err(error) => Prepared::Never(error),
        }
    }

    /// Puts the credential on a request in the place of any other.
    #[inline]
    fn put(
        &self,
        request: &mut impl AuthRequest,
        credential: Credential<'_>,
    ) -> Result<Put, Error> {
        match credential {
            Credential::Header(name, value) => {
                let put = request.headers_mut().try_insert(name, value.clone());
                put.map(|_| Put::Fixed).map_err(too_many)
            }
            Credential::Query(name, pair) => request.set_query(name, pair).map(|()| Put::Fixed),
            Credential::Made(by) => self.present(request, by),
        }
    }

    #[cold]
    fn present(&self, request: &mut impl AuthRequest, by: &dyn Present) -> Result<Put, Error> {
        let target = target(request);
        Ok(
            match by.put(&target, request.headers_mut(), self.replace_existing)? {
                Presented::Done => Put::Made(Box::new(target)),
                Presented::Callers => Put::Callers,
            },
        )
    }
}

/// What became of a request that was to have a credential.
pub(crate) enum Prepared<C> {
    /// It has the caller's own.
    Callers,
    /// It has ours, and can't be sent again.
    Once,
    /// It has ours, and this is what it takes to send it again.
    Twice(C),
    /// It has one that was made for it on its way there, and if it can be sent again, what it takes.
    Made(Option<C>, Box<Target>),
    /// It must not be sent.
    Never(Error),
}

/// How a credential was put.
enum Put {
    Fixed,
    Made(Box<Target>),
    Callers,
}

#[cold]
pub(crate) fn too_many(error: MaxSizeReached) -> Error {
    let message = "the request has so many headers that no credential fits among them";
    Error::new(Kind::Config, message).with_source(error)
}
