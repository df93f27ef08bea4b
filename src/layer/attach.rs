//! Attaches a credential to a request.

#[cfg(feature = "cookies")]
use http::header::COOKIE;
use http::header::Entry;

use super::auth_request::{AuthRequest, request_head};
use super::local_credential::SentToken;
use crate::error::Error;
use crate::token::header_value::too_many_headers;
use crate::token::issued_token::Credential;
use crate::token::per_request::{Applied, PerRequestCredential};
use crate::token::place::Place;
use crate::token::request_head::RequestHead;

/// The result of attaching a credential to a request.
pub(crate) enum Attached {
    /// The request is unchanged: it has the caller's own credential.
    Unchanged,
    /// The request has the same credential as other requests.
    Fixed,
    /// The request has a credential that was made for this request.
    PerRequest(Box<RequestHead>),
}

impl SentToken {
    /// Attaches the credential to an admitted request, in place of any credential of the caller.
    ///
    /// Takes the request by reference. A request has 250 bytes, so moving the request costs more
    /// than inserting the header.
    pub(crate) fn attach(&self, request: &mut impl AuthRequest) -> Result<Attached, Error> {
        match self.credential() {
            Credential::Header(name, value) => {
                let inserted = request.headers_mut().try_insert(name, value.clone());
                inserted.map(|_| Attached::Fixed).map_err(too_many_headers)
            }
            Credential::Query(name, pair) => {
                request.set_query(name, pair).map(|()| Attached::Fixed)
            }
            Credential::PerRequest(credential) => self.apply(credential, request),
        }
    }

    /// Attaches a credential that is made for the request.
    #[cold]
    fn apply(
        &self,
        credential: &dyn PerRequestCredential,
        request: &mut impl AuthRequest,
    ) -> Result<Attached, Error> {
        let mut target = request_head(request, self.settings.replace_existing);
        #[cfg(feature = "cookies")]
        if *self.token().place() == Place::Cookie {
            let callers = request.headers_mut().get_all(COOKIE);
            target.callers_cookies = callers.iter().cloned().collect();
        }
        let applied = credential.apply(&target, request.headers_mut());
        if applied.map_err(Error::not_applied)? == Applied::CallersOwn {
            return Ok(Attached::Unchanged);
        }
        if let Place::Header(name) = self.token().place()
            && let Entry::Occupied(mut values) = request.headers_mut().entry(name)
        {
            // Marks the values as sensitive, so that layers below don't print them.
            for value in values.iter_mut() {
                value.set_sensitive(true);
            }
            target.sent_credential = Some(values.get().clone());
        }
        Ok(Attached::PerRequest(Box::new(target)))
    }
}
