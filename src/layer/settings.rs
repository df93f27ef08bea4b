//! What the layer was told: one value, shared by all services it makes.

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
        self.allowed_origins.check(request).map(|()| true)
    }
}
