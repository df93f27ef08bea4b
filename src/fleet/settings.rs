//! The settings with which the processes of a fleet share their tokens.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::keyring::{Keyring, Sealing};
#[cfg(feature = "file")]
use super::store::file::FileStore;
use super::store::token_store::{DynTokenStore, TokenStore};
use crate::error::{Error, Kind};
use crate::source::store_key::StoreKey;
use crate::source::token_source::DynTokenSource;

/// Shares tokens between processes through a store. Keys seal the tokens.
///
/// Give the fleet to a cache with
/// [`TokenCacheBuilder::fleet`](crate::cache::TokenCacheBuilder::fleet). One process fetches a
/// token, and the other processes load the token from the store. [The guide's page about
/// fleets](crate::docs::fleet) says what the processes share, and what happens when the store
/// fails.
///
/// | setting | default |
/// | --- | --- |
/// | [`key`](Self::key) | the source's own ([`TokenSource::store_key`](crate::TokenSource::store_key)) |
/// | [`tenant`](Self::tenant) | none |
/// | [`lease_time`](Self::lease_time) | 10 s |
/// | [`store_timeout`](Self::store_timeout) | 250 ms |
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::ClientCredentials;
/// use tower_auth::fleet::{Fleet, Keyring, MemoryStore};
/// use tower_auth::{AuthLayer, TokenCache};
///
/// # fn example(id: String, secret: String, key: String) -> Result<(), tower_auth::Error> {
/// # #[cfg(feature = "reqwest")] {
/// let fleet = Fleet::new(MemoryStore::new(), Keyring::new("2026-11", key)?);
///
/// let source = ClientCredentials::new("https://id.example.com/oauth/token", id, secret)?
///     .audience("https://api.example.com");
/// let cache = TokenCache::builder(source).fleet(fleet)?.build();
/// let layer = AuthLayer::from(cache).only_to(["https://api.example.com"])?;
/// # }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Fleet {
    pub(crate) store: Arc<dyn DynTokenStore>,
    pub(crate) sealing: Sealing,
    key: Option<StoreKey>,
    tenant: Option<String>,
    pub(crate) lease_time: Duration,
    pub(crate) store_timeout: Duration,
}

/// The default lease time, which is the default timeout of a token request of a
/// [`Client`](crate::oauth2::Client).
const LEASE_TIME: Duration = Duration::from_secs(10);

/// The default timeout of a call to the store. It covers about fifty round trips in a data centre,
/// and is shorter than a token request.
const STORE_TIMEOUT: Duration = Duration::from_millis(250);

impl Fleet {
    /// Shares tokens with the processes that use this store and these keys.
    pub fn new(store: impl TokenStore, keys: Keyring) -> Self {
        Self::of(store, Sealing::Sealed(keys))
    }

    /// Shares tokens through unsealed files that only their owner can read. Use this constructor
    /// for command-line tools. Such tools would keep the sealing key in a file beside the tokens
    /// anyway.
    ///
    /// # Example
    ///
    /// ```
    /// # #[cfg(feature = "file")] {
    /// use tower_auth::TokenCache;
    /// use tower_auth::fleet::{FileStore, Fleet};
    /// use tower_auth::oauth2::ClientCredentials;
    ///
    /// # fn example(id: String, secret: String) -> Result<(), tower_auth::Error> {
    /// let fleet = Fleet::unsealed(FileStore::new("/home/me/.cache/my-app/tokens"));
    /// let source = ClientCredentials::new("https://id.example.com/oauth/token", id, secret)?;
    /// let cache = TokenCache::builder(source).fleet(fleet)?.build();
    /// # Ok(()) } }
    /// ```
    #[cfg(feature = "file")]
    pub fn unsealed(store: FileStore) -> Self {
        Self::of(store, Sealing::Plain)
    }

    fn of(store: impl TokenStore, sealing: Sealing) -> Self {
        Self {
            store: Arc::new(store),
            sealing,
            key: None,
            tenant: None,
            lease_time: LEASE_TIME,
            store_timeout: STORE_TIMEOUT,
        }
    }

    /// Sets the key that describes what the tokens depend on. This key replaces the source's own
    /// key. Closures need this setting. A source needs this setting too if it doesn't know
    /// everything that its tokens depend on. For example, a source with a refresh token knows its
    /// client but not the user.
    #[must_use]
    pub fn key(mut self, key: StoreKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Adds a tenant to the key. A tenant is anything that the tokens depend on but the source
    /// doesn't know, such as the client's certificate. A later call replaces the tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Sets the maximum time of one process's fetch before another process may fetch. The lease
    /// time is limited to 2 min, and to a third of the cache's [fetch
    /// timeout](crate::cache::TokenCacheBuilder::fetch_timeout).
    ///
    /// A lease lasts at most 3 s, and the process renews the lease during its fetch until the lease
    /// time has passed. So if a process dies during a fetch, another process gets the lease within
    /// 3 s. If the [store timeout](Self::store_timeout) is longer than 1 s, these 3 s become three
    /// store timeouts. A process waits for another process's lease for at most 1.5 times the lease
    /// time. The wait ends earlier if the current token is about to expire. After the wait, the
    /// process fetches without the lease.
    ///
    /// With a [one-time grant](crate::TokenSource::has_one_time_grant), the process extends the
    /// lease just before it sends the grant. From then on, the lease lasts 3 s longer than the
    /// lease time. So a process that stalls during its fetch keeps its lease, if the lease time is
    /// at least the [client's timeout](crate::oauth2::Client::timeout). The process renews the
    /// lease as long as its fetch takes, and no process fetches without the lease.
    #[must_use]
    pub fn lease_time(mut self, time: Duration) -> Self {
        self.lease_time = time;
        self
    }

    /// Sets the timeout of each call to the store. After a timeout, the process continues without
    /// the store.
    #[must_use]
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.store_timeout = timeout;
        self
    }

    /// Returns the store key for a source's tokens.
    pub(crate) fn key_of(&self, source: &dyn DynTokenSource) -> Result<StoreKey, Error> {
        let known = self.key.clone().or_else(|| source.store_key());
        let Some(key) = known else {
            let message = "this source doesn't say what its tokens depend on, so they can't be shared; \
                           set the key with `Fleet::key`";
            return Err(Error::new(Kind::Config, message));
        };
        Ok(match &self.tenant {
            Some(tenant) => key.with("tenant", tenant),
            None => key,
        })
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("sealing", &self.sealing)
            .field("key", &self.key)
            .field("tenant", &self.tenant)
            .field("lease_time", &self.lease_time)
            .field("store_timeout", &self.store_timeout)
            .finish_non_exhaustive()
    }
}
