//! The caches that were evicted and are still in use.
//!
//! Nothing here keeps a cache alive: whoever uses one does, be it a fetch in the air, a request that
//! waits, or a handle. As long as there is somebody, the tenant's next request finds that cache, and
//! joins what is in the air there.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::cache::cache_inner::CacheInner;
use crate::cache::status::Phase;
use crate::cache::token_cache::TokenCache;

pub(super) struct EvictedCaches<K> {
    caches: Mutex<Caches<K>>,
}

struct Caches<K> {
    evicted: HashMap<Arc<K>, Weak<CacheInner>>,
    /// With so many of them, those that nobody uses any more are let go.
    sweep_at: usize,
    /// Those of them that are to be closed.
    to_close: Vec<EvictedCache<K>>,
}

/// A cache that was evicted and is to be closed.
pub(super) struct EvictedCache<K> {
    pub(super) key: Arc<K>,
    pub(super) cache: TokenCache,
}

/// Fewer than this aren't worth a look.
const FEW: usize = 64;

impl<K> Default for EvictedCaches<K> {
    fn default() -> Self {
        Self {
            caches: Mutex::new(Caches {
                evicted: HashMap::new(),
                sweep_at: FEW,
                to_close: Vec::new(),
            }),
        }
    }
}

impl<K> EvictedCaches<K>
where
    K: Hash + Eq,
{
    /// Called by moka, which holds locks of its own: nothing is closed, woken or spawned here.
    pub(super) fn evicted(&self, key: Arc<K>, cache: &TokenCache, closes: bool) {
        let mut caches = self.lock();
        if closes {
            let (key, cache) = (Arc::clone(&key), cache.clone());
            caches.to_close.push(EvictedCache { key, cache });
        }
        let before = caches.evicted.insert(key, cache.downgrade());
        let swept = caches.sweep();
        drop(caches);
        drop((before, swept));
    }

    /// The tenant's former cache, if somebody uses it still. Whoever has it has to keep it.
    pub(super) fn take(&self, key: &K) -> Option<TokenCache> {
        let taken = self.lock().evicted.remove_entry(key);
        let (_, weak) = taken?;
        let cache = TokenCache::upgrade(&weak)?;
        (cache.status().phase() != Phase::Closed).then_some(cache)
    }

    /// Forgets this cache, unless the tenant has come back to it.
    pub(super) fn forget(&self, EvictedCache { key, cache }: &EvictedCache<K>) -> bool {
        let mut caches = self.lock();
        let is_it = |weak: &Weak<CacheInner>| weak.ptr_eq(&cache.downgrade());
        let taken = match caches.evicted.get(key) {
            Some(weak) if is_it(weak) => caches.evicted.remove_entry(key),
            Some(_) | None => None,
        };
        drop(caches);
        taken.is_some()
    }

    pub(super) fn take_to_close(&self) -> Vec<EvictedCache<K>> {
        mem::take(&mut self.lock().to_close)
    }

    fn lock(&self) -> MutexGuard<'_, Caches<K>> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Caches<K>
where
    K: Hash + Eq,
{
    /// Lets go of those that nobody uses, once there are twice as many as were left the last time: so
    /// it costs the same for each eviction, and there are never more than that.
    fn sweep(&mut self) -> Vec<(Arc<K>, Weak<CacheInner>)> {
        if self.evicted.len() < self.sweep_at {
            return Vec::new();
        }
        let is_unused = |_: &Arc<K>, weak: &mut Weak<CacheInner>| weak.strong_count() == 0;
        let unused = self.evicted.extract_if(is_unused).collect();
        self.sweep_at = FEW.max(2 * self.evicted.len());
        unused
    }
}

/// Inside, because from outside nobody sees what is kept of caches that nobody uses.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::issued_token::Token;

    fn cache() -> TokenCache {
        TokenCache::new(|_| async { Token::bearer("secret") })
    }

    #[test]
    fn what_nobody_uses_is_let_go_and_what_somebody_uses_is_found() {
        let evicted_caches = EvictedCaches::default();
        let used: Vec<_> = (0..200).map(|_| cache()).collect();
        for (key, cache) in used.iter().enumerate() {
            evicted_caches.evicted(Arc::new(key), cache, false);
        }
        for key in 1_000..100_000 {
            evicted_caches.evicted(Arc::new(key), &cache(), false);
            // The one that is being evicted is in use itself.
            assert!(evicted_caches.lock().evicted.len() <= 2 * (used.len() + 1));
        }
        for (key, cache) in used.iter().enumerate() {
            let found = evicted_caches.take(&key).map(|found| found.downgrade());
            assert!(found.is_some_and(|found| found.ptr_eq(&cache.downgrade())));
            assert!(evicted_caches.take(&key).is_none());
        }
    }
}
