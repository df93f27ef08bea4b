//! Three contenders with tower-http's header layer, which can't refresh a token:
//!
//! - `StaticHeader` is that layer alone. Its cost is the lower limit.
//! - `WithLook` also looks at the response. This is the minimum work of a layer that notices
//!   refusals.
//! - `WithRetry` adds `tower::retry` with a policy that clones the request. Teams write such a
//!   policy to retry once after a 401.

use std::future::{Ready, ready};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, StatusCode};
use tower::Layer;
use tower::retry::{Policy, Retry};
use tower_http::set_header::SetRequestHeaderLayer;

use super::Contender;
use crate::client::{Body, Call, Inner, Sending};
use crate::issuer::{Issuer, Terms};
use crate::look_for_401::LookFor401;

pub struct StaticHeader(SetRequestHeaderLayer<HeaderValue>);

impl Contender for StaticHeader {
    const NAME: &str = "static header (tower-http)";
    const PACKAGE: &str = "tower-http";
    const FETCHES: bool = false;
    const NOTE: Option<&str> = Some("the lower limit; it can't refresh a token");

    async fn new(_: &Issuer) -> Self {
        let header = Issuer::new(Terms::DAY).issue().header();
        Self(SetRequestHeaderLayer::overriding(AUTHORIZATION, header))
    }

    fn over<S: Inner>(&self, inner: S) -> impl Call + use<S> {
        Sending(self.0.layer(inner))
    }
}

pub struct WithLook(StaticHeader);

impl Contender for WithLook {
    const NAME: &str = "static header + a look for 401";
    const PACKAGE: &str = "tower-http";
    const FETCHES: bool = false;
    const NOTE: Option<&str> =
        Some("notices a refusal at the least cost; it can't refresh a token");

    async fn new(issuer: &Issuer) -> Self {
        Self(StaticHeader::new(issuer).await)
    }

    fn over<S: Inner>(&self, inner: S) -> impl Call + use<S> {
        Sending(LookFor401(self.0.0.layer(inner)))
    }
}

pub struct WithRetry(StaticHeader);

impl Contender for WithRetry {
    const NAME: &str = "static header + tower::retry";
    const PACKAGE: &str = "tower";
    const FETCHES: bool = false;
    const NOTE: Option<&str> =
        Some("keeps a copy of each request, as replay does; it can't refresh a token");

    async fn new(issuer: &Issuer) -> Self {
        Self(StaticHeader::new(issuer).await)
    }

    fn over<S: Inner>(&self, inner: S) -> impl Call + use<S> {
        Sending(Retry::new(OnceOn401, self.0.0.layer(inner)))
    }
}

#[derive(Clone)]
struct OnceOn401;

impl<E> Policy<Request<Body>, Response<()>, E> for OnceOn401 {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Body>,
        result: &mut Result<Response<()>, E>,
    ) -> Option<Ready<()>> {
        let refused = matches!(result, Ok(r) if r.status() == StatusCode::UNAUTHORIZED);
        refused.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Some(request.clone())
    }
}
