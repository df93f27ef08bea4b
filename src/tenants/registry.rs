//! A cache for each tenant, behind one layer.

use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::runtime::Handle;

use super::evicted::{EvictedCache, EvictedCaches};
use crate::cache::status::Status;
use crate::cache::token_cache::TokenCache;
use crate::error::Error;
use crate::layer::auth_layer::AuthLayer;

/// A family of caches: one for each tenant, or for whatever else a credential depends on, such as an
/// audience, a set of scopes or an origin.
///
/// The key says which. It is taken from each request ([`by_extension`](Self::by_extension),
/// [`by`](Self::by)), and a closure makes the [`AuthLayer`] of a tenant who is seen for the first time,
/// with a source, settings and origins of its own. Tenants share nothing but the client below: that the
/// authorization server of one hangs or fails is seen by no other.
///
/// | setting | default | |
/// | --- | --- | --- |
/// | [`capacity`](TenantsBuilder::capacity) | 10,000 | the most tenants that are kept; then the one goes whose last request is longest ago |
/// | [`idle`](TenantsBuilder::idle) | 1 h | for how long one is kept that nobody asks for |
/// | [`close_on_eviction`](TenantsBuilder::close_on_eviction) | `false` | whether the source of one that goes is [closed](crate::TokenSource::close) |
///
/// Who goes is forgotten with the token in hand, and nothing is revoked unless asked. A cache that is
/// still in use as its tenant goes, because a token is being fetched, a request waits or there is a
/// handle, is found again by the tenant's next request: there are never two of one tenant, and no fetch
/// is made twice. Tenants go as others are asked for; it takes no task and no timer.
///
/// A clone is a handle to the same tenants. A key is cloned for each request that is
/// [`by_extension`](Self::by_extension): an `Arc<str>` is cheaper than a `String`.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
///
/// use http::{Request, Response, header::AUTHORIZATION};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_auth::{AuthLayer, Tenants, Token};
///
/// #[derive(Clone, PartialEq, Eq, Hash)]
/// struct Tenant(Arc<str>);
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower::BoxError> {
/// let tenants = Tenants::new(|Tenant(name): &Tenant| {
///     // With `oauth2::ClientCredentials`, say, of this tenant's client.
///     let secret = format!("secret-of-{name}");
///     Ok(AuthLayer::new(move |_| std::future::ready(Token::bearer(secret.clone()))))
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
/// By the origin that a request goes to, so that the credential of one goes to no other:
///
/// ```
/// # use http::Request;
/// # use tower_auth::{AuthLayer, Error, Origin, Tenants, Token};
/// let layer = Tenants::new(|origin: &Origin| {
///     let secret = format!("for-{origin}");
///     AuthLayer::new(move |_| std::future::ready(Token::bearer(secret.clone())))
///         .only_to([origin.to_string()])
/// })
/// .by(Origin::of::<Request<String>>);
/// ```
///
/// By audience and scope, here that of a path:
///
/// ```
/// # #[cfg(feature = "reqwest")] {
/// use tower_auth::oauth2::{Client, ClientCredentials};
/// # use tower_auth::{AuthLayer, Error, Tenants};
///
/// # fn example(client: Client) {
/// let layer = Tenants::new(move |(audience, scope): &(String, &'static str)| {
///     let source = ClientCredentials::with_client(client.clone());
///     Ok(AuthLayer::new(source.audience(audience).scope(*scope)))
/// })
/// .by(|request: &reqwest::Request| {
///     let scope = match request.method().is_safe() {
///         true => "read",
///         false => "read write",
///     };
///     Some((format!("https://{}", request.url().host_str()?), scope))
/// });
/// # } }
/// ```
pub struct Tenants<K> {
    inner: Arc<TenantsInner<K>>,
}

struct TenantsInner<K> {
    make: Make<K>,
    layers: Cache<K, Arc<TenantLayer>>,
    evicted_caches: Arc<EvictedCaches<K>>,
    closes: bool,
}

type Make<K> = Box<dyn Fn(&K) -> Result<AuthLayer, Error> + Send + Sync>;

/// The layer of one tenant.
///
/// It is made before it is in the cache, for a tenant that can't be made must put nobody out. Only
/// when it is there is an eviction of the same tenant surely over, which may be under way at the same
/// time: moka tells of it before it lets anything else in. So only then is it settled whether there is a
/// former cache in use, by whoever comes first.
struct TenantLayer {
    made: AuthLayer,
    shared_layer: OnceLock<AuthLayer>,
}

impl TenantLayer {
    fn layer<K>(&self, key: &K, evicted_caches: &EvictedCaches<K>) -> &AuthLayer
    where
        K: Hash + Eq,
    {
        self.shared_layer.get_or_init(|| {
            let made = self.made.clone();
            match evicted_caches.take(key) {
                Some(cache) => made.over(cache),
                None => made,
            }
        })
    }
}

impl<K> Tenants<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// Tenants whose layers `make` makes, with all defaults.
    ///
    /// It is called when a tenant is seen for the first time, or again after it went, once for all who
    /// ask at the same time; they wait for it on their threads. It should be quick, then, and must not ask the
    /// same tenants. What takes its time belongs in the source. An error of it is the error of the
    /// requests that wait, and nothing is kept: the next request calls it again.
    pub fn new<F>(make: F) -> Self
    where
        F: Fn(&K) -> Result<AuthLayer, Error> + Send + Sync + 'static,
    {
        Self::builder(make).build()
    }

    /// The same, with settings of your own.
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

    /// The layer of one tenant, made if need be; for websockets and SDKs its
    /// [cache](AuthLayer::cache).
    ///
    /// # Errors
    ///
    /// That of the closure which makes it.
    pub fn get(&self, key: &K) -> Result<AuthLayer, Error> {
        let TenantsInner {
            make,
            layers,
            evicted_caches,
            ..
        } = &*self.inner;
        let found = layers.try_get_with_by_ref(key, || {
            // One whose time is over may still be there. It is put out first, so that it is known to
            // be a former one.
            layers.invalidate(key);
            make(key).map(|made| {
                let shared_layer = OnceLock::new();
                Arc::new(TenantLayer { made, shared_layer })
            })
        });
        self.close_evicted();
        match found {
            Ok(found) => Ok(found.layer(key, evicted_caches).clone()),
            Err(error) => Err(Error::clone(&error)),
        }
    }

    /// Lets a tenant go and returns its layer, if it was there. The next request makes a new one, whatever
    /// is in use: for when its client or its secret has changed. Nothing is closed:
    /// `layer.cache().close()` does that.
    pub fn remove(&self, key: &K) -> Option<AuthLayer> {
        let TenantsInner {
            layers,
            evicted_caches,
            ..
        } = &*self.inner;
        let removed = layers.remove(key);
        let layer = removed.map(|layers| layers.layer(key, evicted_caches).clone());
        drop(evicted_caches.take(key));
        self.close_evicted();
        layer
    }

    /// How many there are. First lets those go whose time is over.
    pub fn len(&self) -> usize {
        self.inner.layers.run_pending_tasks();
        self.close_evicted();
        usize::try_from(self.inner.layers.entry_count()).unwrap_or(usize::MAX)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes those that were evicted, if that was asked for. Not where they are evicted, since that is
    /// under moka's locks.
    fn close_evicted(&self) {
        if !self.inner.closes {
            return;
        }
        for evicted in self.inner.evicted_caches.take_to_close() {
            let evicted_caches = Arc::clone(&self.inner.evicted_caches);
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(close(evicted_caches, evicted))),
                // Nobody can close the source; that is logged.
                Err(_) if evicted_caches.forget(&evicted) => {
                    _ = evicted.cache.close().now_or_never();
                }
                Err(_) => {}
            }
        }
    }
}

/// Closes a cache when its fetch has landed, unless its tenant has come back by then.
async fn close<K>(evicted_caches: Arc<EvictedCaches<K>>, evicted: EvictedCache<K>)
where
    K: Hash + Eq,
{
    landed(&evicted.cache).await;
    if evicted_caches.forget(&evicted) {
        evicted.cache.close().await;
    }
}

/// Waits for the fetch in the air, if there is one, and no longer than it may take: its runtime may be
/// gone.
async fn landed(cache: &TokenCache) {
    let mut changes = cache.subscribe();
    let landed = changes.wait_for(|status: &Status| status.fetching().is_none());
    drop(tokio::time::timeout(cache.fetch_timeout(), landed).await);
}

/// Settings of [`Tenants`].
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use tower_auth::{AuthLayer, Tenants, Token};
///
/// let tenants = Tenants::builder(|_: &u64| Ok(AuthLayer::new(|_| async { Token::bearer("secret") })))
///     .capacity(100_000)
///     .idle(Duration::from_secs(600))
///     .close_on_eviction(true)
///     .build();
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
    /// The most tenants that are kept; default 10,000, at least 1. For a moment there may be a few more.
    pub fn capacity(mut self, tenants: u64) -> Self {
        // With none, each request would be a tenant of its own, and cost a fetch.
        self.capacity = tenants.max(1);
        self
    }

    /// For how long a tenant is kept that nobody asks for; default 1 h, and at most 1,000 years.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle.min(LONGEST_IDLE);
        self
    }

    /// Whether a tenant's cache is [closed](TokenCache::close) as it is evicted, which has its source
    /// revoke the last token, or log out; default `false`. A fetch in the air lands first, and if
    /// the tenant is back by then, nothing is closed. Else whoever still has a handle is told
    /// that the cache [is closed](Error::is_closed), and a request on its way may be refused.
    ///
    /// It is done on a task of the runtime that the next request of any tenant is on; outside of one the
    /// source isn't told, which is logged.
    pub fn close_on_eviction(mut self, close: bool) -> Self {
        self.closes = close;
        self
    }

    /// The tenants.
    pub fn build(self) -> Tenants<K> {
        let (evicted_caches, closes) = (Arc::new(EvictedCaches::default()), self.closes);
        let evicted = {
            let evicted_caches = Arc::clone(&evicted_caches);
            move |key: Arc<K>, layers: Arc<TenantLayer>, cause| {
                // What is removed by hand isn't to come back.
                if cause != RemovalCause::Explicit {
                    let cache = layers.layer(&*key, &evicted_caches).cache();
                    evicted_caches.evicted(key, cache, closes);
                }
            }
        };
        let layers = Cache::builder()
            .max_capacity(self.capacity)
            .time_to_idle(self.idle)
            // By its default policy moka doesn't let a newcomer in who comes more rarely than those
            // who are there: each of its requests would cost a fetch.
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(evicted)
            .build();
        let make = self.make;
        Tenants {
            inner: Arc::new(TenantsInner {
                make,
                layers,
                evicted_caches,
                closes,
            }),
        }
    }
}

/// moka panics above this.
const LONGEST_IDLE: Duration = Duration::from_secs(1_000 * 365 * 24 * 60 * 60);

impl<K> Clone for Tenants<K> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

/// Keys aren't shown: they may say who a program's customers are.
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
