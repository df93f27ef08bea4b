//! Attaching a credential to a request.

use super::auth_request::{AuthRequest, request_head};
use super::settings::LayerSettings;
use crate::error::Error;
use crate::token::header_value::too_many;
use crate::token::issued_token::Credential;
use crate::token::per_request::{Applied, PerRequestCredential};
use crate::token::place::Place;
use crate::token::request_head::RequestHead;

/// What became of a request that was to have a credential.
pub(crate) enum Attached<C> {
    /// It has the caller's own.
    CallersOwn,
    /// It has ours, and can't be sent again.
    NoReplay,
    /// It has ours, and this is what it takes to send it again.
    Replayable(C),
    /// It has one that was made for it on its way there, and if it can be sent again, what it takes.
    PerRequest(Box<(Option<C>, RequestHead)>),
    /// It must not be sent.
    Rejected(Error),
}

impl LayerSettings {
    /// Puts the credential on a request that may have it. With `keeps`, what it takes to send it again
    /// is kept.
    ///
    /// Takes the request by reference: handed on by value, its 250 bytes are copied each time, and
    /// that costs more than the header does.
    #[inline(always)]
    pub(crate) fn attach_credential<Req>(
        &self,
        request: &mut Req,
        place: &Place,
        credential: Credential<'_>,
        keeps: bool,
    ) -> Attached<Req::Copy>
    where
        Req: AuthRequest,
    {
        match self.admits(request, place) {
            Ok(true) => {}
            Ok(false) => return Attached::CallersOwn,
            Err(error) => return Attached::Rejected(error),
        }
        if let Credential::PerRequest(by) = credential {
            return self.attach_per_request(request, by, keeps);
        }
        if !keeps {
            return put(request, credential)
                .map_or_else(Attached::Rejected, |()| Attached::NoReplay);
        }
        // Before the credential is on it: one header less to copy.
        let copy = request.record(self.body_limit);
        match put(request, credential) {
            Err(error) => Attached::Rejected(error),
            Ok(()) => copy.map_or(Attached::NoReplay, Attached::Replayable),
        }
    }

    /// The same with a credential that is made for the request.
    #[cold]
    #[inline(never)]
    fn attach_per_request<Req>(
        &self,
        request: &mut Req,
        by: &dyn PerRequestCredential,
        keeps: bool,
    ) -> Attached<Req::Copy>
    where
        Req: AuthRequest,
    {
        let target = request_head(request);
        let copy = if keeps {
            request.record(self.body_limit)
        } else {
            None
        };
        match by.apply(&target, request.headers_mut(), self.replace_existing) {
            Err(error) => Attached::Rejected(error),
            Ok(Applied::CallersOwn) => Attached::CallersOwn,
            Ok(Applied::Done) => Attached::PerRequest(Box::new((copy, target))),
        }
    }
}

/// Puts a credential that is always the same on a request, in the place of any other.
#[inline(always)]
fn put(request: &mut impl AuthRequest, credential: Credential<'_>) -> Result<(), Error> {
    match credential {
        Credential::Header(name, value) => {
            let put = request.headers_mut().try_insert(name, value.clone());
            put.map(drop).map_err(too_many)
        }
        Credential::Query(name, pair) => request.set_query(name, pair),
        Credential::PerRequest(_) => unreachable!("it is presented instead"),
    }
}
