//! The layer that finds the tenant of each request, and the service of this layer.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Extensions, Request};
use tower::ServiceExt;
use tower_layer::Layer;
use tower_service::Service;

use super::last_tenant::LastTenant;
use super::registry::Tenants;
use crate::error::{BoxError, Error, Kind};
use crate::layer::auth_request::AuthRequest;
use crate::layer::auth_response::AuthResponse;
use crate::layer::clone_service::CloneService;
use crate::layer::future::ResponseFuture;
use crate::layer::request_state::release;
use crate::layer::service::attach_as_usual;

/// Finds the tenant of a request. A closure from a request to an optional key implements this
/// trait.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't find the tenant of a `{Req}`",
    label = "this doesn't implement `TenantKey<{Req}>`",
    note = "pass a closure to `Tenants::by`: `|request: &{Req}| Some(key)`",
    note = "`Tenants::by_extension` needs the request's extensions, and `reqwest::Request` shows none"
)]
pub trait TenantKey<Req> {
    /// The type that identifies a tenant.
    type Key;

    /// Returns the tenant's key, or `None` if the request names no tenant. Such a request is not
    /// sent.
    ///
    /// # Example
    ///
    /// ```
    /// use http::Request;
    /// use tower_auth::tenants::TenantKey;
    ///
    /// let by_host = |request: &Request<()>| request.uri().host().map(str::to_owned);
    /// let request = Request::get("https://acme.example.com/v1").body(())?;
    /// assert_eq!(by_host.key(&request).as_deref(), Some("acme.example.com"));
    /// # Ok::<(), http::Error>(())
    /// ```
    fn key(&self, request: &Req) -> Option<Self::Key>;
}

impl<F, Req, K> TenantKey<Req> for F
where
    F: Fn(&Req) -> Option<K>,
{
    type Key = K;

    fn key(&self, request: &Req) -> Option<K> {
        self(request)
    }
}

/// Takes the key from the request's [extensions](http::Extensions), as in
/// [`Tenants::by_extension`].
pub struct ByExtension<K> {
    key: PhantomData<fn() -> K>,
}

impl<K> ByExtension<K> {
    fn new() -> Self {
        Self { key: PhantomData }
    }
}

/// A request that shows its [extensions](http::Extensions) to [`Tenants::by_extension`]. This is
/// `http::Request`. Implement the trait for a request type of your own.
///
/// # Example
///
/// ```
/// use bytes::Bytes;
/// use http::{Extensions, Request};
/// use tower_auth::tenants::HasExtensions;
///
/// struct Numbered {
///     number: u64,
///     inner: Request<Bytes>,
/// }
///
/// impl HasExtensions for Numbered {
///     fn extensions(&self) -> &Extensions {
///         self.inner.extensions()
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`Tenants::by_extension` can't read the extensions of a `{Self}`",
    label = "this doesn't implement `HasExtensions`",
    note = "pass a closure to `Tenants::by`: `|request: &{Self}| Some(key)`"
)]
pub trait HasExtensions {
    /// Returns the request's extensions.
    fn extensions(&self) -> &Extensions;
}

impl<B> HasExtensions for Request<B> {
    fn extensions(&self) -> &Extensions {
        self.extensions()
    }
}

/// `Req` is any type here, so that the compiler's error for a `reqwest::Request` is about
/// [`TenantKey`]. With `Request<B>`, the error would be about closures.
impl<Req, K> TenantKey<Req> for ByExtension<K>
where
    Req: HasExtensions,
    K: Clone + Send + Sync + 'static,
{
    type Key = K;

    fn key(&self, request: &Req) -> Option<K> {
        request.extensions().get().cloned()
    }
}

/// A layer that authenticates each request as its tenant. [`Tenants::by`] and
/// [`Tenants::by_extension`] create such a layer.
///
/// All services of the layer, and all its clones, share the tenants.
#[must_use = "a layer does nothing until it is put in front of a service"]
pub struct TenantsLayer<K, By> {
    tenants: Tenants<K>,
    by: Arc<By>,
}

impl<K, By> TenantsLayer<K, By> {
    fn new(tenants: Tenants<K>, by: By) -> Self {
        let by = Arc::new(by);
        Self { tenants, by }
    }
}

impl<K> Tenants<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// Makes a layer that takes the key from the request's [extensions](http::Extensions).
    /// `reqwest::Request` doesn't show its extensions, so use [`by`](Self::by) instead.
    ///
    /// A request without a key fails and is not sent.
    pub fn by_extension(&self) -> TenantsLayer<K, ByExtension<K>> {
        TenantsLayer::new(self.clone(), ByExtension::new())
    }

    /// Makes a layer that gets the key from a closure. If the closure returns `None`, the request
    /// fails and is not sent.
    pub fn by<Req, F>(&self, key: F) -> TenantsLayer<K, F>
    where
        F: Fn(&Req) -> Option<K>,
    {
        TenantsLayer::new(self.clone(), key)
    }
}

impl<S, K, By> Layer<S> for TenantsLayer<K, By>
where
    S: CloneService,
{
    type Service = TenantsAuth<S, K, By>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self { tenants, by } = self.clone();
        TenantsAuth::new(inner, tenants, by)
    }
}

/// Attaches the tenant's credential to every request. This is the service of a [`TenantsLayer`].
/// The service sends each request through the tenant's [`Auth`](crate::Auth).
///
/// Clones share the tenants. A clone that serves only one tenant is the fastest. Such a clone
/// remembers the tenant, with a private copy of the header value.
///
/// # Errors
///
/// Calls fail with the errors of [`Auth`](crate::Auth). If the request names no tenant, the error is
/// [`is_config`](Error::is_config). If the closure can't make the tenant's layer, the error is the
/// closure's error. In the last two cases, the request is not sent.
///
/// # Example
///
/// ```
/// use http::Request;
/// use tower::Layer;
/// use tower_auth::tenants::Tenants;
/// use tower_auth::{AuthLayer, Token};
///
/// /// A client with a setting that can change.
/// #[derive(Clone)]
/// struct Client {
///     retries: u32,
/// }
///
/// let tenants = Tenants::new(|_: &u64| {
///     AuthLayer::new(|_| async { Token::bearer("secret") })
///         .only_to(["https://api.example.com"])
/// });
/// let layer = tenants.by(|request: &Request<()>| request.extensions().get().copied());
/// let mut client = layer.layer(Client { retries: 3 });
/// client.get_mut().retries = 0;
/// assert_eq!(client.get_ref().retries, 0);
/// let below: Client = client.into_inner();
/// ```
pub struct TenantsAuth<S, K, By> {
    inner: S,
    tenants: Tenants<K>,
    by: Arc<By>,
    last_tenant: LastTenant<K>,
}

impl<S, K, By> TenantsAuth<S, K, By> {
    fn new(inner: S, tenants: Tenants<K>, by: Arc<By>) -> Self {
        Self {
            inner,
            tenants,
            by,
            last_tenant: LastTenant::Unused,
        }
    }

    /// Sends a request, as [`Auth::send`](crate::Auth::send) does. Waits until a clone of this
    /// service is ready, and calls the clone. Unlike with tower's `oneshot`, the compiler's errors
    /// name what is missing: see [When it doesn't
    /// compile](crate::Auth#when-it-doesnt-compile).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`TenantsAuth`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the request. If the request waits for a fetch, the fetch continues
    /// for other callers.
    ///
    /// # Example
    ///
    /// ```
    /// use http::{Request, Response};
    /// use tower::{Layer, service_fn};
    /// use tower_auth::tenants::Tenants;
    /// use tower_auth::{AuthLayer, Token};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
    /// let api = service_fn(|_: Request<String>| async {
    ///     Ok::<_, std::io::Error>(Response::new("hello"))
    /// });
    /// let tenants = Tenants::new(|_: &u64| {
    ///     AuthLayer::new(|_| async { Token::bearer("secret") })
    ///         .only_to(["https://api.example.com"])
    /// });
    /// let client = tenants.by_extension().layer(api);
    ///
    /// let request = Request::get("https://api.example.com/v1").extension(7_u64);
    /// let response = client.send(request.body(String::new())?).await?;
    /// assert_eq!(response.body(), &"hello");
    /// # Ok(()) }
    /// ```
    pub fn send<Req>(
        &self,
        request: Req,
    ) -> impl Future<Output = Result<S::Response, BoxError>> + use<S, K, By, Req>
    where
        S: Service<Req> + Clone,
        S::Response: AuthResponse,
        S::Error: Into<BoxError>,
        Req: AuthRequest,
        By: TenantKey<Req, Key = K>,
        K: Hash + Eq + Clone + Send + Sync + 'static,
    {
        self.clone().oneshot(request)
    }

    /// Returns the service below.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the service below, mutably.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the service below, and drops the wrapper.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, K, By, Req> Service<Req> for TenantsAuth<S, K, By>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    S::Error: Into<BoxError>,
    Req: AuthRequest,
    By: TenantKey<Req, Key = K>,
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let Some(key) = self.by.key(&request) else {
            return self.fail(no_key::<K>(), &request);
        };
        let Some(sent_token) = self.last_tenant.servable(&key, &self.tenants) else {
            return self.call_after_lookup(key, request);
        };
        match attach_as_usual(sent_token, &mut request, &self.inner) {
            Ok(sent) => ResponseFuture::sending(self.inner.call(request), sent),
            Err(_) => self.call_after_lookup(key, request),
        }
    }
}

impl<S, K, By> TenantsAuth<S, K, By>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    /// Sends a request whose tenant must be looked up.
    #[inline(never)]
    fn call_after_lookup<Req>(&mut self, key: K, request: Req) -> ResponseFuture<S, Req>
    where
        S: Service<Req> + Clone,
        S::Response: AuthResponse,
        S::Error: Into<BoxError>,
        Req: AuthRequest,
    {
        let found = match self.tenants.look_up(&key) {
            Ok(found) => found,
            Err(error) => return self.fail(error, &request),
        };
        // Calls the ready service, and leaves a clone that isn't ready in its place.
        let unready = self.inner.clone();
        let ready = mem::replace(&mut self.inner, unready);
        let mut auth = found.layer(&key, &self.tenants).layer(ready);
        self.last_tenant.update(key, &found, &self.tenants);
        auth.call(request)
    }

    /// Fails a request without sending it.
    #[cold]
    fn fail<Req>(&mut self, error: Error, request: &Req) -> ResponseFuture<S, Req>
    where
        S: Service<Req> + Clone,
        Req: AuthRequest,
    {
        release(&mut self.inner);
        ResponseFuture::failed(error, request)
    }
}

#[cold]
fn no_key<K>() -> Error {
    let key = std::any::type_name::<K>();
    let message = format!(
        "the request names no tenant, so it has no credential; insert a `{key}` in its extensions \
         for `Tenants::by_extension`, or return one from the closure of `Tenants::by`"
    );
    Error::new(Kind::Config, message)
}

impl<K> Clone for ByExtension<K> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<K, By> Clone for TenantsLayer<K, By> {
    fn clone(&self) -> Self {
        Self {
            tenants: self.tenants.clone(),
            by: Arc::clone(&self.by),
        }
    }
}

impl<S, K, By> Clone for TenantsAuth<S, K, By>
where
    S: Clone,
{
    fn clone(&self) -> Self {
        let (tenants, by) = (self.tenants.clone(), Arc::clone(&self.by));
        Self::new(self.inner.clone(), tenants, by)
    }
}

impl<K> fmt::Debug for ByExtension<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByExtension({})", std::any::type_name::<K>())
    }
}

impl<K, By> fmt::Debug for TenantsLayer<K, By> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantsLayer")
            .field("tenants", &self.tenants)
            .finish_non_exhaustive()
    }
}

impl<S, K, By> fmt::Debug for TenantsAuth<S, K, By>
where
    S: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantsAuth")
            .field("inner", &self.inner)
            .field("tenants", &self.tenants)
            .finish_non_exhaustive()
    }
}
