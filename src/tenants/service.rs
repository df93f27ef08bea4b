//! The layer that finds each request's tenant, and its service.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use super::registry::Tenants;
use crate::error::{BoxError, Error, Kind};
use crate::layer::auth_request::AuthRequest;
use crate::layer::auth_response::AuthResponse;
use crate::layer::future::ResponseFuture;
use crate::layer::request_state::release;

/// Finds the tenant of a request. Closures from a request to an optional key implement it.
pub trait TenantKey<Req> {
    /// The type that identifies a tenant.
    type Key;

    /// The tenant's key. `None` if the request names no tenant: such a request is not sent.
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

/// Takes the key from the request's [extensions](http::Extensions); see [`Tenants::by_extension`].
pub struct ByExtension<K> {
    key: PhantomData<fn() -> K>,
}

impl<K> ByExtension<K> {
    fn new() -> Self {
        Self { key: PhantomData }
    }
}

impl<B, K> TenantKey<Request<B>> for ByExtension<K>
where
    K: Clone + Send + Sync + 'static,
{
    type Key = K;

    fn key(&self, request: &Request<B>) -> Option<K> {
        request.extensions().get().cloned()
    }
}

/// Authenticates each request as its tenant; made by [`Tenants::by`] and [`Tenants::by_extension`].
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
    /// `reqwest::Request` has none: use [`by`](Self::by) instead.
    ///
    /// A request without a key is an error, and is not sent.
    pub fn by_extension(&self) -> TenantsLayer<K, ByExtension<K>> {
        TenantsLayer::new(self.clone(), ByExtension::new())
    }

    /// Makes a layer that gets the key from a closure. If the closure returns `None`, the request is an
    /// error, and is not sent.
    pub fn by<Req, F>(&self, key: F) -> TenantsLayer<K, F>
    where
        F: Fn(&Req) -> Option<K>,
    {
        TenantsLayer::new(self.clone(), key)
    }
}

impl<S, K, By> Layer<S> for TenantsLayer<K, By> {
    type Service = TenantsAuth<S, K, By>;

    fn layer(&self, inner: S) -> Self::Service {
        let Self { tenants, by } = self.clone();
        TenantsAuth { inner, tenants, by }
    }
}

/// Attaches the tenant's credential to every request; the service of a [`TenantsLayer`]. It sends each
/// request through the tenant's [`Auth`](crate::Auth).
///
/// # Errors
///
/// Those of [`Auth`](crate::Auth). [`is_config`](Error::is_config) if the request names no tenant. The
/// error of the closure if it can't make the tenant's layer. The request is then not sent.
pub struct TenantsAuth<S, K, By> {
    inner: S,
    tenants: Tenants<K>,
    by: Arc<By>,
}

impl<S, K, By> TenantsAuth<S, K, By> {
    /// The service below.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service below, mutably.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service below, without this one around it.
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

    fn call(&mut self, request: Req) -> Self::Future {
        let key = self.by.key(&request).ok_or_else(no_key::<K>);
        match key.and_then(|key| self.tenants.get(&key)) {
            Ok(layer) => {
                // The ready service is called, and a clone that is not ready takes its place.
                let unready = self.inner.clone();
                let ready = mem::replace(&mut self.inner, unready);
                layer.layer(ready).call(request)
            }
            Err(error) => {
                release(&mut self.inner);
                ResponseFuture::failed(error)
            }
        }
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
        Self {
            inner: self.inner.clone(),
            tenants: self.tenants.clone(),
            by: Arc::clone(&self.by),
        }
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
