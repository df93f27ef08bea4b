//! Attaching a credential to a request.

use http::header::Entry;

use super::allowed_origins::Admission;
use super::auth_request::{AuthRequest, request_head};
use super::settings::LayerSettings;
use crate::error::Error;
use crate::origin::OriginDigest;
use crate::token::header_value::too_many_headers;
use crate::token::issued_token::Credential;
use crate::token::per_request::{Applied, PerRequestCredential};
use crate::token::place::Place;
use crate::token::request_head::RequestHead;

/// The result of attaching a credential to a request.
pub(crate) enum Attached<C> {
    /// The request is unchanged: it has the caller's own credential, or passes without one.
    Unchanged,
    /// The request has the credential, and can't be sent again.
    NoReplay(OriginDigest),
    /// The request has the credential. The copy is needed to send the request again.
    Replayable(OriginDigest, C),
    /// The request has a credential that was made for it. There is a copy if it can be sent again.
    PerRequest(OriginDigest, Box<(Option<C>, RequestHead)>),
    /// The request must not be sent.
    Rejected(Error),
}

impl LayerSettings {
    /// Attaches the credential to a request that may have it. With `records`, it also records what
    /// is needed to send the request again.
    ///
    /// Takes the request by reference. Each move of its 250 bytes costs more than the header does.
    #[inline(always)]
    pub(crate) fn attach_credential<Req>(
        &self,
        request: &mut Req,
        place: &Place,
        credential: Credential<'_>,
        records: bool,
    ) -> Attached<Req::Copy>
    where
        Req: AuthRequest,
    {
        let sent_to = match self.admit(request, place) {
            Ok(Admission::Credential(sent_to)) => sent_to,
            Ok(Admission::Unchanged) => return Attached::Unchanged,
            Err(error) => return Attached::Rejected(error),
        };
        if let Credential::PerRequest(credential) = credential {
            return self.attach_per_request(request, place, credential, records, sent_to);
        }
        if !records {
            return insert(request, credential)
                .map_or_else(Attached::Rejected, |()| Attached::NoReplay(sent_to));
        }
        // Before the credential is attached: one header less to copy.
        let copy = request.record(self.body_limit);
        match insert(request, credential) {
            Err(error) => Attached::Rejected(error),
            Ok(()) => match copy {
                Some(copy) => Attached::Replayable(sent_to, copy),
                None => Attached::NoReplay(sent_to),
            },
        }
    }

    /// Attaches a credential that is made for the request.
    #[cold]
    #[inline(never)]
    fn attach_per_request<Req>(
        &self,
        request: &mut Req,
        place: &Place,
        credential: &dyn PerRequestCredential,
        records: bool,
        sent_to: OriginDigest,
    ) -> Attached<Req::Copy>
    where
        Req: AuthRequest,
    {
        let mut target = request_head(request, self.replace_existing);
        let copy = if records {
            request.record(self.body_limit)
        } else {
            None
        };
        match credential.apply(&target, request.headers_mut()) {
            Err(error) => Attached::Rejected(Error::not_applied(error)),
            Ok(Applied::CallersOwn) => Attached::Unchanged,
            Ok(Applied::Done) => {
                if let Place::Header(name) = place
                    && let Entry::Occupied(mut values) = request.headers_mut().entry(name)
                {
                    // So that no layer below prints them.
                    for value in values.iter_mut() {
                        value.set_sensitive(true);
                    }
                    target.sent_credential = Some(values.get().clone());
                }
                Attached::PerRequest(sent_to, Box::new((copy, target)))
            }
        }
    }
}

/// Inserts a credential that is the same for all requests, and replaces any other in its place.
#[inline(always)]
fn insert(request: &mut impl AuthRequest, credential: Credential<'_>) -> Result<(), Error> {
    match credential {
        Credential::Header(name, value) => {
            let inserted = request.headers_mut().try_insert(name, value.clone());
            inserted.map(drop).map_err(too_many_headers)
        }
        Credential::Query(name, pair) => request.set_query(name, pair),
        Credential::PerRequest(_) => unreachable!("per-request credentials are applied instead"),
    }
}
