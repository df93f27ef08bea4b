//! The registry of tenants. Each tenant has a layer with its own cache. The layer is created on the
//! tenant's first request and evicted later.

use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::runtime::Handle;

use super::evicted::{EvictedCache, EvictedCaches};
use super::remembered::{CredentialRef, RememberedCredentials};
use crate::cache::status::Status;
use crate::cache::token_cache::TokenCache;
use crate::clock;
use crate::error::{Error, Kind};
use crate::layer::auth_layer::AuthLayer;

/// Keeps a cache for each tenant.
///
/// A tenant can be anything that a credential depends on. Examples are a customer, an audience, a
/// set of scopes and an origin.
///
/// A key identifies the tenant. A service takes the key from each request
/// ([`by_extension`](Self::by_extension), [`by`](Self::by)). For a tenant's first request, a
/// closure creates an [`AuthLayer`]. Each layer has its own source, settings and origins. Tenants
/// share only the client below. If one tenant's authorization server hangs or fails, other tenants
/// aren't affected.
///
/// Each layer must name its origins: by its source, [`AuthLayer::only_to`] or
/// [`AuthLayer::any_https`]. Otherwise the tenant's requests fail with an
/// [`is_config`](Error::is_config) error. A redirect or a link can choose the tenant if, for
/// example, the key comes from the request's path. The named origins then limit where the tenant's
/// credential goes.
///
/// | setting | default | |
/// | --- | --- | --- |
/// | [`capacity`](TenantsBuilder::capacity) | 10,000 | the maximum number of tenants; above this number, the least recently used tenant is evicted |
/// | [`idle`](TenantsBuilder::idle) | 1 h | a tenant without requests for this long is evicted |
/// | [`close_on_eviction`](TenantsBuilder::close_on_eviction) | `false` | whether an evicted tenant's source is [closed](crate::TokenSource::close) |
///
/// An evicted tenant's token is dropped. The token is revoked only if `close_on_eviction` is set.
///
/// An evicted cache may still be used by a running fetch, a waiting request or a clone of the
/// cache's handle. Then the tenant's next request uses that cache again. So a tenant never has two
/// caches, and no token is fetched twice. Evictions happen during requests of any tenant. Evictions
/// need no task and no timer.
///
/// Clones share the tenants. [`by_extension`](Self::by_extension) clones the key for each request,
/// so an `Arc<str>` is cheaper than a `String`.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
///
/// use http::{Request, Response, header::AUTHORIZATION};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_auth::tenants::Tenants;
/// use tower_auth::{AuthLayer, Token};
///
/// #[derive(Clone, PartialEq, Eq, Hash)]
/// struct Tenant(Arc<str>);
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower::BoxError> {
/// let tenants = Tenants::new(|Tenant(name): &Tenant| {
///     // A real program uses, for example, this tenant's `ClientCredentials`.
///     let secret = format!("secret-of-{name}");
///     AuthLayer::new(move |_| std::future::ready(Token::bearer(secret.clone())))
///         .only_to(["https://api.example.com"])
/// });
/// let client = service_fn(|request: Request<String>| async move {
///     let credential = request.headers()[AUTHORIZATION].to_str().unwrap().to_owned();
///     Ok::<_, std::convert::Infallible>(Response::new(credential))
/// });
/// let client = ServiceBuilder::new().layer(tenants.by_extension()).service(client);
///
/// for name in ["acme", "globex"] {
///     let mut request = Request::get("https://api.example.com/v1").body(String::new())?;
///     request.extensions_mut().insert(Tenant(name.into()));
///     let response = client.clone().oneshot(request).await?;
///     assert_eq!(response.body(), &format!("Bearer secret-of-{name}"));
/// }
/// assert_eq!(tenants.len(), 2);
/// # Ok(()) }
/// ```
///
/// Each origin has its own credential, which is never sent to another origin:
///
/// ```
/// # use http::Request;
/// # use tower_auth::tenants::Tenants;
/// # use tower_auth::{AuthLayer, Error, Origin, Token};
/// let layer = Tenants::new(|origin: &Origin| {
///     let secret = format!("for-{origin}");
///     AuthLayer::new(move |_| std::future::ready(Token::bearer(secret.clone())))
///         .only_to([origin.to_string()])
/// })
/// .by(Origin::of::<Request<String>>);
/// ```
///
/// Each audience and scope has its own token:
///
/// ```
/// # #[cfg(feature = "reqwest")] {
/// use tower_auth::oauth2::{Client, ClientCredentials};
/// # use tower_auth::tenants::Tenants;
/// # use tower_auth::{AuthLayer, Error};
///
/// const APIS: [&str; 2] = ["https://api.example.com", "https://files.example.com"];
///
/// # fn example(client: Client) {
/// let layer = Tenants::new(move |&(api, scope): &(&'static str, &'static str)| {
///     let source = ClientCredentials::with_client(client.clone());
///     AuthLayer::new(source.audience(api).scope(scope)).only_to([api])
/// })
/// .by(|request: &reqwest::Request| {
///     // A redirect or a link may lead to any host, so only keys from the list are used.
///     let origin = request.url().origin().ascii_serialization();
///     let api = APIS.into_iter().find(|api| *api == origin)?;
///     let scope = match request.method().is_safe() {
///         true => "read",
///         false => "read write",
///     };
///     Some((api, scope))
/// });
/// # } }
/// ```
#[doc(alias = "multi-tenant")]
pub struct Tenants<K> {
    inner: Arc<TenantsInner<K>>,
}

struct TenantsInner<K> {
    make: Make<K>,
    layers: Cache<K, Arc<TenantLayer>>,
    evicted_caches: Arc<EvictedCaches<K>>,
    closes: bool,
    use_order: UseOrder,
    lookup_interval: LookupInterval,
}

type Make<K> = Box<dyn Fn(&K) -> Result<AuthLayer, Error> + Send + Sync>;

/// The layer of one tenant.
///
/// The new layer is created before it is inserted. So if a tenant's layer can't be created, no
/// other tenant is evicted.
///
/// An eviction of the same tenant may run concurrently. The eviction always ends before the new
/// layer is inserted. moka calls the eviction listener first, and then inserts another value for
/// the key. So the first user after the insertion looks for an evicted cache to use again.
struct TenantLayer {
    new_layer: AuthLayer,
    layer: OnceLock<AuthLayer>,
    /// The number of the tenant, which is unique among the tenants.
    id: u64,
    credentials: Arc<RememberedCredentials>,
}

impl TenantLayer {
    /// Returns the layer for the tenant's requests. The layer uses the evicted cache if that cache
    /// is still in use.
    fn layer<K>(&self, key: &K, evicted_caches: &EvictedCaches<K>) -> &AuthLayer
    where
        K: Hash + Eq,
    {
        self.layer.get_or_init(|| {
            let new_layer = self.new_layer.clone();
            match evicted_caches.take(key) {
                Some(cache) => new_layer.with_cache(cache),
                None => new_layer,
            }
        })
    }
}

/// The result of looking up a tenant.
pub(super) struct FoundTenant {
    tenant: Arc<TenantLayer>,
    /// The order of use after the lookup.
    pub(super) order: u64,
}

impl FoundTenant {
    pub(super) fn layer<K>(&self, key: &K, tenants: &Tenants<K>) -> &AuthLayer
    where
        K: Hash + Eq,
    {
        self.tenant.layer(key, &tenants.inner.evicted_caches)
    }

    /// Remembers the tenant's token for one service clone. Returns `None` if there is no fresh
    /// token or the idle time is too short to remember tenants.
    pub(super) fn remember<K>(&self, tenants: &Tenants<K>) -> Option<CredentialRef> {
        if !tenants.inner.lookup_interval.is_used() {
            return None;
        }
        self.tenant.credentials.remember(self.tenant.layer.get()?)
    }
}

/// Decides when a service clone must look up its remembered tenant again.
///
/// For moka, only lookups count as use. Without lookups, moka could evict a tenant that clones
/// still use.
///
/// With at most [`EXACT_ORDER`] tenants, the order is exact. A clone looks up its tenant if another
/// tenant was looked up in the meantime. With more tenants, an exact order would be too slow. With
/// requests of two tenants, two threads would look up a tenant for nearly every request. With more
/// tenants, a clone therefore looks up its tenant only if a new tenant was created in the meantime.
/// Only a new tenant can evict another tenant.
///
/// Without an exact order, the wrong tenant can be evicted. This happens only if all other tenants
/// were looked up within the last [lookup interval](LookupInterval).
pub(super) struct UseOrder {
    /// The number of tenants created so far.
    made: AtomicU64,
    /// The tenant that was looked up last; `None` if the order isn't exact.
    last: Option<AtomicU64>,
}

/// The largest capacity for which the order of use is exact.
const EXACT_ORDER: u64 = 64;

impl UseOrder {
    fn new(capacity: u64) -> Self {
        Self {
            made: AtomicU64::new(0),
            last: (capacity <= EXACT_ORDER).then(AtomicU64::default),
        }
    }

    /// Returns a number. When the number changes, remembered tenants must be looked up again.
    #[inline]
    pub(super) fn current(&self) -> u64 {
        self.last
            .as_ref()
            .unwrap_or(&self.made)
            .load(Ordering::Acquire)
    }

    /// Counts a new tenant and returns its number.
    fn count(&self) -> u64 {
        self.made.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Records a lookup of a tenant and returns the order after the lookup.
    fn record(&self, before: u64, tenant: u64) -> u64 {
        let Some(last) = &self.last else {
            // Another tenant may have been created after the lookup, so the order from before the
            // lookup is returned.
            return before;
        };
        // Other threads read this value for each request, so it is written only if it changes.
        if last.load(Ordering::Acquire) != tenant {
            last.store(tenant, Ordering::Release);
        }
        tenant
    }
}

/// How many nanoseconds a clone uses a remembered tenant without a lookup. The interval is a small
/// part of the idle time, because moka counts idle time from the last lookup.
pub(super) struct LookupInterval(u64);

impl LookupInterval {
    const MAX: Duration = Duration::from_secs(1);
    /// The minimum interval. The coarse clock of some systems has a resolution of 10 ms.
    const MIN: Duration = Duration::from_millis(20);

    fn new(idle: Duration) -> Self {
        let interval = (idle / 16).min(Self::MAX);
        if interval < Self::MIN {
            return Self(0);
        }
        Self(u64::try_from(interval.as_nanos()).unwrap_or(0))
    }

    /// Returns whether tenants are remembered. Tenants aren't remembered if the idle time is too
    /// short for the clock's resolution.
    fn is_used(&self) -> bool {
        self.0 > 0
    }

    /// Returns whether the interval has passed since `since`. Uses the monotonic clock, as moka
    /// does. The wall clock and a test's own clock have no effect.
    #[inline]
    pub(super) fn has_passed(&self, since: u64) -> bool {
        clock::monotonic_nanos().saturating_sub(since) >= self.0
    }
}

impl<K> Tenants<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// Creates tenants with default settings. `make` creates the layer of a tenant.
    ///
    /// `make` is called for a tenant's first request, and again for the first request after an
    /// eviction. Concurrent requests share one call and block their threads until `make` returns.
    /// So `make` should be quick: put slow work in the source. `make` must not use the same
    /// [`Tenants`].
    ///
    /// If `make` fails, the waiting requests fail with the error of `make`. The next request calls
    /// `make` again.
    pub fn new<F>(make: F) -> Self
    where
        F: Fn(&K) -> Result<AuthLayer, Error> + Send + Sync + 'static,
    {
        Self::builder(make).build()
    }

    /// Creates a builder for tenants with custom settings.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::tenants::Tenants;
    /// use tower_auth::{AuthLayer, Token};
    ///
    /// let tenants = Tenants::builder(|_: &u64| {
    ///     AuthLayer::new(|_| async { Token::bearer("secret") })
    ///         .only_to(["https://api.example.com"])
    /// })
    /// .capacity(100_000)
    /// .build();
    /// ```
    pub fn builder<F>(make: F) -> TenantsBuilder<K>
    where
        F: Fn(&K) -> Result<AuthLayer, Error> + Send + Sync + 'static,
    {
        TenantsBuilder {
            make: Box::new(make),
            capacity: CAPACITY,
            idle: IDLE,
            closes: false,
        }
    }

    /// Returns the layer of one tenant. Creates the layer if necessary. The layer's
    /// [cache](AuthLayer::cache) provides tokens for WebSockets and SDKs.
    ///
    /// # Errors
    ///
    /// Returns the error of the closure that creates the layer. Returns
    /// [`is_config`](Error::is_config) if the layer names no origins.
    ///
    /// # Example
    ///
    /// ```
    /// use std::future::ready;
    ///
    /// use tower_auth::tenants::Tenants;
    /// use tower_auth::{AuthLayer, Token};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let tenants = Tenants::new(|tenant: &u64| {
    ///     let secret = format!("secret-of-{tenant}");
    ///     AuthLayer::new(move |_| ready(Token::bearer(secret.clone())))
    ///         .only_to(["https://api.example.com"])
    /// });
    /// let layer = tenants.get(&7)?;
    /// assert_eq!(layer.cache().token().await?.secret(), "secret-of-7");
    /// # Ok(()) }
    /// ```
    pub fn get(&self, key: &K) -> Result<AuthLayer, Error> {
        Ok(self.look_up(key)?.layer(key, self).clone())
    }

    /// Finds a tenant or creates it. moka counts this as a use of the tenant.
    pub(super) fn look_up(&self, key: &K) -> Result<FoundTenant, Error> {
        let TenantsInner {
            make,
            layers,
            use_order,
            ..
        } = &*self.inner;
        let before = use_order.current();
        let tenant = layers.try_get_with_by_ref(key, || {
            // moka may still keep an idle tenant that it no longer returns. This line evicts the
            // tenant, so that the tenant's cache becomes one of the evicted caches.
            layers.invalidate(key);
            let new_layer = make(key)?;
            if !new_layer.names_origins() {
                return Err(unnamed_origins());
            }
            Ok(Arc::new(TenantLayer {
                new_layer,
                layer: OnceLock::new(),
                id: use_order.count(),
                credentials: Arc::default(),
            }))
        });
        self.close_evicted();
        match tenant {
            Ok(tenant) => {
                let order = use_order.record(before, tenant.id);
                Ok(FoundTenant { tenant, order })
            }
            Err(error) => Err(Error::clone(&error)),
        }
    }

    #[inline]
    pub(super) fn use_order(&self) -> &UseOrder {
        &self.inner.use_order
    }

    #[inline]
    pub(super) fn lookup_interval(&self) -> &LookupInterval {
        &self.inner.lookup_interval
    }

    /// Removes a tenant and returns its layer. Returns `None` if the tenant has no layer. Call this
    /// method when the tenant's client or secret has changed.
    ///
    /// The next request creates a new layer, even if the old cache is still in use. The old cache
    /// is not closed. To close it, call `layer.cache().close()`.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::tenants::Tenants;
    /// use tower_auth::{AuthLayer, Token};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let tenants = Tenants::new(|_: &u64| {
    ///     AuthLayer::new(|_| async { Token::bearer("secret") })
    ///         .only_to(["https://api.example.com"])
    /// });
    /// tenants.get(&7)?;
    /// // The tenant has another secret now.
    /// if let Some(layer) = tenants.remove(&7) {
    ///     layer.cache().close().await;
    /// }
    /// assert!(tenants.is_empty());
    /// # Ok(()) }
    /// ```
    pub fn remove(&self, key: &K) -> Option<AuthLayer> {
        let TenantsInner {
            layers,
            evicted_caches,
            ..
        } = &*self.inner;
        let removed = layers.remove(key);
        let layer = removed.map(|tenant| tenant.layer(key, evicted_caches).clone());
        drop(evicted_caches.take(key));
        self.close_evicted();
        layer
    }

    /// Evicts idle tenants, and returns the number of remaining tenants.
    pub fn len(&self) -> usize {
        self.inner.layers.run_pending_tasks();
        self.close_evicted();
        usize::try_from(self.inner.layers.entry_count()).unwrap_or(usize::MAX)
    }

    /// Evicts idle tenants, and returns whether no tenants remain.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::tenants::Tenants;
    /// use tower_auth::{AuthLayer, Token};
    ///
    /// let tenants = Tenants::new(|_: &u64| {
    ///     AuthLayer::new(|_| async { Token::bearer("secret") })
    ///         .only_to(["https://api.example.com"])
    /// });
    /// assert!(tenants.is_empty());
    /// tenants.get(&7)?;
    /// assert!(!tenants.is_empty());
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes the evicted caches if `close_on_eviction` is set. Must not be called from the
    /// eviction listener, because moka calls the listener under its own locks.
    fn close_evicted(&self) {
        if !self.inner.closes {
            return;
        }
        for evicted in self.inner.evicted_caches.take_to_close() {
            let evicted_caches = Arc::clone(&self.inner.evicted_caches);
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(close(evicted_caches, evicted))),
                // Without a runtime, the source can't be closed. `TokenCache::close` logs this.
                Err(_) if evicted_caches.forget(&evicted) => {
                    _ = evicted.cache.close().now_or_never();
                }
                Err(_) => {}
            }
        }
    }
}

/// Returns the error for a tenant whose layer names no origins. Origins are required because a
/// redirect or a link in a response can choose the tenant of the next request.
#[cold]
fn unnamed_origins() -> Error {
    let message = "the tenant's layer names no origins; name the API's origin with `AuthLayer::only_to`, \
                   allow every https origin with `AuthLayer::any_https`, or let the source name its \
                   origins (`TokenSource::origins`)";
    Error::new(Kind::Config, message)
}

/// Closes an evicted cache after its fetch has completed. Leaves the cache open if the tenant uses
/// the cache again before the fetch completes.
async fn close<K>(evicted_caches: Arc<EvictedCaches<K>>, evicted: EvictedCache<K>)
where
    K: Hash + Eq,
{
    wait_for_fetch(&evicted.cache).await;
    if evicted_caches.forget(&evicted) {
        evicted.cache.close().await;
    }
}

/// Waits for a running fetch, but no longer than the fetch timeout, because the runtime of the
/// fetch may have shut down.
async fn wait_for_fetch(cache: &TokenCache) {
    let mut changes = cache.subscribe();
    let completed = changes.wait_for(|status: &Status| status.fetching().is_none());
    drop(tokio::time::timeout(cache.fetch_timeout(), completed).await);
}

/// Builds [`Tenants`].
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use tower_auth::tenants::Tenants;
/// use tower_auth::{AuthLayer, Token};
///
/// let tenants = Tenants::builder(|_: &u64| {
///     AuthLayer::new(|_| async { Token::bearer("secret") })
///         .only_to(["https://api.example.com"])
/// })
/// .capacity(100_000)
/// .idle(Duration::from_secs(600))
/// .close_on_eviction(true)
/// .build();
/// assert!(tenants.is_empty());
/// ```
#[must_use = "a builder does nothing until `build` is called"]
pub struct TenantsBuilder<K> {
    make: Make<K>,
    capacity: u64,
    idle: Duration,
    closes: bool,
}

const CAPACITY: u64 = 10_000;
const IDLE: Duration = Duration::from_secs(60 * 60);

impl<K> TenantsBuilder<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// Sets the maximum number of tenants. Default: 10,000; minimum: 1. The maximum may be exceeded
    /// slightly for a short time.
    pub fn capacity(mut self, tenants: u64) -> Self {
        // With a capacity of 0, each request would create a new tenant and cost a fetch.
        self.capacity = tenants.max(1);
        self
    }

    /// Sets how long a tenant without requests is kept. Default: 1 h; maximum: 1,000 years.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle.min(MAX_IDLE);
        self
    }

    /// Sets whether a tenant's cache is [closed](TokenCache::close) when the tenant is evicted.
    /// Default: `false`. Closing lets the source revoke the last token or log out.
    ///
    /// A running fetch completes first. If the tenant has another request before the fetch
    /// completes, the cache stays open. Otherwise, callers get an [`is_closed`](Error::is_closed)
    /// error. A server may also refuse requests that were already sent.
    ///
    /// The next request of any tenant starts a task that closes the cache. The task runs on the
    /// runtime of that request. Outside of a runtime, the source isn't closed. A log event reports
    /// that the source wasn't closed.
    pub fn close_on_eviction(mut self, close: bool) -> Self {
        self.closes = close;
        self
    }

    /// Builds the tenants.
    pub fn build(self) -> Tenants<K> {
        let (evicted_caches, closes) = (Arc::new(EvictedCaches::default()), self.closes);
        let evicted = {
            let evicted_caches = Arc::clone(&evicted_caches);
            move |key: Arc<K>, tenant: Arc<TenantLayer>, cause| {
                // moka calls this listener before `remove` returns and before another layer is
                // inserted for the key. So no clone uses two caches of one tenant.
                tenant.credentials.end();
                // After `remove`, no request uses the tenant's cache again.
                if cause != RemovalCause::Explicit {
                    let cache = tenant.layer(&*key, &evicted_caches).cache();
                    evicted_caches.insert(key, cache, closes);
                }
            }
        };
        let layers = Cache::builder()
            .max_capacity(self.capacity)
            .time_to_idle(self.idle)
            // moka's default policy doesn't admit a tenant with fewer requests than the tenants in
            // the cache. Each request of such a tenant would cost a fetch.
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(evicted)
            .build();
        Tenants {
            inner: Arc::new(TenantsInner {
                make: self.make,
                layers,
                evicted_caches,
                closes,
                use_order: UseOrder::new(self.capacity),
                lookup_interval: LookupInterval::new(self.idle),
            }),
        }
    }
}

/// The maximum idle time. moka panics if the idle time is longer.
const MAX_IDLE: Duration = Duration::from_secs(1_000 * 365 * 24 * 60 * 60);

impl<K> Clone for Tenants<K> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

/// Omits the keys, because keys may identify customers.
impl<K> fmt::Debug for Tenants<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenants")
            .field("closes", &self.inner.closes)
            .finish_non_exhaustive()
    }
}

impl<K> fmt::Debug for TenantsBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantsBuilder")
            .field("capacity", &self.capacity)
            .field("idle", &self.idle)
            .field("closes", &self.closes)
            .finish_non_exhaustive()
    }
}
