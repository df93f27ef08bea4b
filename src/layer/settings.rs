//! The settings of a layer, shared by all of its services.

use super::allowed_origins::{Admission, AllowedOrigins};
use super::auth_request::AuthRequest;
use super::auth_response::AuthResponse;
use super::response_classification::RefusalRules;
use super::response_origin::ResponseOrigin;
use crate::cache::token_cache::TokenCache;
use crate::error::Error;
use crate::origin::OriginDigest;
use crate::token::place::Place;

#[derive(Clone, Debug)]
pub(crate) struct LayerSettings {
    pub(crate) cache: TokenCache,
    pub(crate) retry: bool,
    pub(crate) body_limit: usize,
    pub(crate) replace_existing: bool,
    pub(crate) allowed_origins: AllowedOrigins,
    pub(crate) response_origin: ResponseOrigin,
    pub(crate) refusal_rules: RefusalRules,
}

impl LayerSettings {
    /// Decides whether the layer attaches a credential to the request. If the caller has already
    /// set a credential in the same place, the request is sent unchanged, to any origin.
    pub(crate) fn admit(
        &self,
        request: &impl AuthRequest,
        place: &Place,
    ) -> Result<Admission, Error> {
        let is_callers = match place {
            Place::Header(name) => request.headers().contains_key(name),
            Place::Query(name) => request.has_query(name),
            // The caller's cookies may be unrelated to the credential, so
            // `PerRequestCredential::apply` decides.
            Place::Cookie => false,
        };
        if is_callers && !self.replace_existing {
            return Ok(Admission::Unchanged);
        }
        match self.allowed_origins.admit(request) {
            Err(error) => self.admit_by_source(request, error),
            admitted => admitted,
        }
    }

    /// Asks the source again for its origins if there are no named origins. The source may not have
    /// known its origins when the layer was created.
    #[cold]
    fn admit_by_source(
        &self,
        request: &impl AuthRequest,
        error: Error,
    ) -> Result<Admission, Error> {
        if self.allowed_origins.are_named() {
            return Err(error);
        }
        let mut allowed_origins = self.allowed_origins.clone();
        allowed_origins.set_by_source(|| self.cache.origins());
        allowed_origins.admit(request)
    }

    /// Returns whether the response refuses the request's credential.
    pub(crate) fn is_refusal(&self, response: &impl AuthResponse) -> bool {
        self.refusal_rules.is_refusal(response)
            || (!response.status().is_success() && self.is_refusal_by_source(response))
    }

    fn is_refusal_by_source(&self, response: &impl AuthResponse) -> bool {
        let (status, headers) = (response.status(), response.headers());
        self.refusal_rules.also.is_none() && self.cache.is_refusal(status, headers)
    }

    /// Returns the origin that sent the response, if this origin is known and isn't the request's
    /// origin.
    pub(crate) fn elsewhere(
        &self,
        response: &impl AuthResponse,
        sent_to: OriginDigest,
    ) -> Option<String> {
        self.response_origin
            .elsewhere(response, sent_to, &self.allowed_origins)
    }
}
