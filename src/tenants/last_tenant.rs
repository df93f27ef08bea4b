//! The tenant of the last requests of a service clone.
//!
//! A lookup costs more than everything else that the layer does for a request. To avoid lookups, a
//! clone remembers its last tenant. After one request, the clone remembers only the tenant's key.
//! After two requests of the same tenant in a row, the clone also remembers a private copy of the
//! tenant's token.
//!
//! The clone looks up the tenant again:
//!
//! - immediately after the tenant was removed or evicted (see [`RememberedCredentials`])
//! - when the token is no longer current or fresh
//! - when the [order of use](super::registry::UseOrder) has changed, so that recently used tenants
//!   are evicted last
//! - after the [lookup interval](super::registry::LookupInterval), so that moka doesn't count the
//!   tenant as idle

use std::hash::Hash;
use std::sync::Arc;

use super::registry::{FoundTenant, Tenants};
use super::remembered::CredentialRef;
use crate::clock;
use crate::layer::local_credential::SentToken;

/// What a service clone remembers about its last tenant.
#[derive(Default)]
pub(super) enum LastTenant<K> {
    /// The clone has sent no requests yet.
    #[default]
    Unused,
    /// Only the last request was a request of this tenant, or there was no token to remember.
    Named(K),
    /// At least the last two requests were requests of this tenant.
    Remembered(RememberedTenant<K>),
}

pub(super) struct RememberedTenant<K> {
    key: K,
    credential: CredentialRef,
    order: u64,
    looked_up_at: u64,
}

impl<K> LastTenant<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// Returns the token for a request of this tenant, unless the tenant must be looked up.
    #[inline]
    pub(super) fn servable(&self, key: &K, tenants: &Tenants<K>) -> Option<Arc<SentToken>> {
        let Self::Remembered(remembered) = self else {
            return None;
        };
        let needs_no_lookup = remembered.key == *key
            && remembered.order == tenants.use_order().current()
            && !tenants
                .lookup_interval()
                .has_passed(remembered.looked_up_at);
        if !needs_no_lookup {
            return None;
        }
        remembered.credential.servable()
    }

    /// Records a lookup.
    pub(super) fn update(&mut self, key: K, found: &FoundTenant, tenants: &Tenants<K>) {
        match self {
            Self::Named(last) if *last == key => {}
            Self::Remembered(last) if last.key == key => {
                // `servable` also returns `None` if the tenant was removed and created again.
                if last.credential.servable().is_some() {
                    last.order = found.order;
                    last.looked_up_at = clock::monotonic_nanos();
                    return;
                }
            }
            Self::Unused | Self::Named(_) | Self::Remembered(_) => {
                *self = Self::Named(key);
                return;
            }
        }
        *self = match found.remember(tenants) {
            None => Self::Named(key),
            Some(credential) => Self::Remembered(RememberedTenant {
                key,
                credential,
                order: found.order,
                looked_up_at: clock::monotonic_nanos(),
            }),
        };
    }
}
