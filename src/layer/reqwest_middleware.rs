//! The layer as a middleware of [`reqwest_middleware`]'s client: the same service, over the rest of the
//! chain.

use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use http::Extensions;
use reqwest::{Request, Response};
use reqwest_middleware::{Middleware, Next, Result};
use tokio::sync::Mutex;
use tower_layer::Layer;
use tower_service::Service;

use super::auth_layer::AuthLayer;
use crate::error::{BoxError, Error};

/// An [`AuthLayer`] for the clients of [`reqwest_middleware`].
///
/// What is attached before it is outside, and sees one request and one answer whatever it took; what
/// is attached after it is inside, and sees each try. So retries go before it: each of theirs is
/// stamped anew. The [`Extensions`] are the same for both tries.
///
/// # Errors
///
/// Those of the chain below as they are. An [`Error`] of this crate is
/// [`reqwest_middleware::Error::Middleware`], from which `downcast_ref` takes it.
///
/// # Example
///
/// ```
/// use reqwest_middleware::ClientBuilder;
/// use tower_auth::{AuthLayer, AuthMiddleware, Token};
///
/// let layer = AuthLayer::new(|_| async { Token::bearer("secret") });
/// let client = ClientBuilder::new(reqwest::Client::new())
///     .with(AuthMiddleware::new(layer))
///     .build();
/// ```
#[derive(Clone, Debug)]
pub struct AuthMiddleware {
    layer: AuthLayer,
}

impl AuthMiddleware {
    /// A middleware that shares its token with whatever else the layer is for.
    pub fn new(layer: AuthLayer) -> Self {
        Self { layer }
    }
}

#[async_trait]
impl Middleware for AuthMiddleware {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let extensions = Arc::new(Mutex::new(extensions));
        let mut client = self.layer.layer(Chain { next, extensions });
        client.call(request).await.map_err(unboxed)
    }
}

/// What comes after this middleware. It is always ready.
#[derive(Clone)]
struct Chain<'a> {
    next: Next<'a>,
    /// For one try after the other.
    extensions: Arc<Mutex<&'a mut Extensions>>,
}

impl<'a> Service<Request> for Chain<'a> {
    type Response = Response;
    type Error = reqwest_middleware::Error;
    type Future = BoxFuture<'a, Result<Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self { next, extensions } = self.clone();
        Box::pin(async move {
            let mut extensions = extensions.lock_owned().await;
            next.run(request, &mut extensions).await
        })
    }
}

/// As what it was before the service boxed it.
fn unboxed(error: BoxError) -> reqwest_middleware::Error {
    match error.downcast::<reqwest_middleware::Error>() {
        Ok(below) => *below,
        Err(error) => reqwest_middleware::Error::middleware(match error.downcast::<Error>() {
            Ok(ours) => *ours,
            // Nothing else comes out of the service.
            Err(other) => Error::other(other),
        }),
    }
}
