//! The credentials that service clones remember.
//!
//! The tenant owns these credentials, and a clone has only a weak reference. So an idle clone
//! doesn't keep the cache of an evicted tenant in use:
//!
//! - The cache's token is dropped.
//! - Nothing is refreshed in the background.
//! - [`EvictedCaches`](super::evicted::EvictedCaches) doesn't find the cache.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use slab::Slab;

use crate::layer::auth_layer::AuthLayer;
use crate::layer::local_credential::SentToken;

/// The credentials that service clones remember for one tenant.
#[derive(Default)]
pub(super) struct RememberedCredentials {
    /// Whether the tenant was removed or evicted. The atomic is separate, so that requests read it
    /// without changing a reference count of the tenant.
    ended: Arc<AtomicBool>,
    credentials: Mutex<Slab<Arc<RememberedCredential>>>,
}

/// The credential that one service clone remembers.
struct RememberedCredential {
    sent_token: Arc<SentToken>,
    tenant_ended: Arc<AtomicBool>,
}

/// A service clone's reference to the credential that it remembers.
pub(super) struct CredentialRef {
    credential: Weak<RememberedCredential>,
    credentials: Weak<RememberedCredentials>,
    index: usize,
}

impl RememberedCredentials {
    /// Makes all clones forget the tenant, because it is removed or evicted. Waiting until the
    /// tenant is dropped isn't enough, because moka may drop the tenant later.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Remembers a private copy of the tenant's token for one clone. Returns `None` if there is no
    /// fresh token.
    pub(super) fn remember(self: &Arc<Self>, layer: &AuthLayer) -> Option<CredentialRef> {
        let settings = layer.settings();
        let sent_token = SentToken::private(settings, settings.cache.servable()?);
        let credential = Arc::new(RememberedCredential {
            sent_token,
            tenant_ended: Arc::clone(&self.ended),
        });
        let weak = Arc::downgrade(&credential);
        Some(CredentialRef {
            credential: weak,
            credentials: Arc::downgrade(self),
            index: self.lock().insert(credential),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Arc<RememberedCredential>>> {
        self.credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl CredentialRef {
    /// Returns the token, if the tenant still has this token and no refresh is due. Takes no lock,
    /// and changes only reference counts of this clone.
    #[inline]
    pub(super) fn servable(&self) -> Option<Arc<SentToken>> {
        let credential = self.credential.upgrade()?;
        let is_servable =
            !credential.tenant_ended.load(Ordering::Acquire) && credential.sent_token.is_servable();
        is_servable.then(|| Arc::clone(&credential.sent_token))
    }
}

impl Drop for CredentialRef {
    fn drop(&mut self) {
        if let Some(credentials) = self.credentials.upgrade() {
            let credential = credentials.lock().try_remove(self.index);
            drop(credential);
        }
    }
}
