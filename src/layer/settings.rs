//! The settings of a layer: one value that all of its services share.

use super::allowed_origins::AllowedOrigins;
use super::auth_request::AuthRequest;
use super::response_classification::RefusalRules;
use crate::cache::token_cache::TokenCache;
use crate::error::Error;
use crate::token::place::Place;

#[derive(Clone, Debug)]
pub(crate) struct LayerSettings {
    pub(crate) cache: TokenCache,
    pub(crate) retry: bool,
    pub(crate) body_limit: usize,
    pub(crate) replace_existing: bool,
    pub(crate) allowed_origins: AllowedOrigins,
    pub(crate) refusal_rules: RefusalRules,
}

impl LayerSettings {
    /// Whether the layer attaches a credential to the request. `false` if the caller has set one in
    /// the same place: such a request stays as it is, and may go to any origin.
    #[inline]
    pub(crate) fn admits(&self, request: &impl AuthRequest, place: &Place) -> Result<bool, Error> {
        let is_callers = match place {
            Place::Header(name) => request.headers().contains_key(name),
            Place::Query(name) => request.has_query(name),
            // The caller's cookies may be others than ours. `PerRequestCredential::apply` decides.
            Place::Cookie => false,
        };
        if is_callers && !self.replace_existing {
            return Ok(false);
        }
        self.allowed_origins.check(request).map(|()| true)
    }
}
