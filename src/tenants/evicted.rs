//! Remembers evicted caches that are still in use.
//!
//! Only its users keep an evicted cache alive: a running fetch, a waiting request or a clone of the
//! cache's handle. As long as the cache exists, the tenant's next request uses this cache too, and
//! joins the running fetch.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::cache::cache_inner::CacheInner;
use crate::cache::status::Phase;
use crate::cache::token_cache::TokenCache;

/// The evicted caches, by tenant key.
pub(super) struct EvictedCaches<K> {
    caches: Mutex<Caches<K>>,
}

struct Caches<K> {
    evicted: HashMap<Arc<K>, Weak<CacheInner>>,
    /// At this number of entries, the entries of unused caches are removed.
    sweep_at: usize,
    /// The caches to close.
    to_close: Vec<EvictedCache<K>>,
}

/// An evicted cache to close.
pub(super) struct EvictedCache<K> {
    pub(super) key: Arc<K>,
    pub(super) cache: TokenCache,
}

/// The minimum number of entries at which the entries of unused caches are removed.
const MIN_SWEEP: usize = 64;

impl<K> Default for EvictedCaches<K> {
    fn default() -> Self {
        Self {
            caches: Mutex::new(Caches {
                evicted: HashMap::new(),
                sweep_at: MIN_SWEEP,
                to_close: Vec::new(),
            }),
        }
    }
}

impl<K> EvictedCaches<K>
where
    K: Hash + Eq,
{
    /// Adds an evicted cache. moka holds its locks during this call, so nothing is closed, woken or
    /// spawned here.
    pub(super) fn insert(&self, key: Arc<K>, cache: &TokenCache, closes: bool) {
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

    /// Removes the tenant's evicted cache. Returns the cache if it is still in use and not closed.
    pub(super) fn take(&self, key: &K) -> Option<TokenCache> {
        let taken = self.lock().evicted.remove_entry(key);
        let (_, weak) = taken?;
        let cache = TokenCache::upgrade(&weak)?;
        let phase = cache.status().phase();
        (!matches!(phase, Phase::Closing | Phase::Closed)).then_some(cache)
    }

    /// Removes this cache. Returns `false` if the tenant already uses the cache again.
    pub(super) fn forget(&self, EvictedCache { key, cache }: &EvictedCache<K>) -> bool {
        let mut caches = self.lock();
        let is_same = |weak: &Weak<CacheInner>| weak.ptr_eq(&cache.downgrade());
        let removed = match caches.evicted.get(key) {
            Some(weak) if is_same(weak) => caches.evicted.remove_entry(key),
            Some(_) | None => None,
        };
        drop(caches);
        removed.is_some()
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
    /// Removes the entries of unused caches when the number of entries has doubled since the last
    /// removal. So the cost per eviction is constant, and the number of entries is bounded.
    fn sweep(&mut self) -> Vec<(Arc<K>, Weak<CacheInner>)> {
        if self.evicted.len() < self.sweep_at {
            return Vec::new();
        }
        let is_unused = |_: &Arc<K>, weak: &mut Weak<CacheInner>| weak.strong_count() == 0;
        let unused = self.evicted.extract_if(is_unused).collect();
        self.sweep_at = MIN_SWEEP.max(2 * self.evicted.len());
        unused
    }
}

/// This is a unit test because integration tests can't see the entries of unused caches.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::issued_token::Token;

    fn cache() -> TokenCache {
        TokenCache::new(|_| async { Token::bearer("secret") })
    }

    #[test]
    fn unused_caches_are_removed_and_used_ones_are_found() {
        let evicted_caches = EvictedCaches::default();
        let used: Vec<_> = (0..200).map(|_| cache()).collect();
        for (key, cache) in used.iter().enumerate() {
            evicted_caches.insert(Arc::new(key), cache, false);
        }
        for key in 1_000..100_000 {
            evicted_caches.insert(Arc::new(key), &cache(), false);
            // The cache that is just being inserted is also in use.
            assert!(evicted_caches.lock().evicted.len() <= 2 * (used.len() + 1));
        }
        for (key, cache) in used.iter().enumerate() {
            let found = evicted_caches.take(&key).map(|found| found.downgrade());
            assert!(found.is_some_and(|found| found.ptr_eq(&cache.downgrade())));
            assert!(evicted_caches.take(&key).is_none());
        }
    }
}
