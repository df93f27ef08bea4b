//! Adapts the layer to [`reqwest_middleware`]. The rest of the middleware chain is the inner
//! service.

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
use crate::sanitize::ErrorText;

/// Adds an [`AuthLayer`] to a [`reqwest_middleware`] chain.
///
/// Middleware added before this middleware sees one request and one response, even if the request
/// is sent twice. Middleware added after this middleware sees each try. Add a retry middleware
/// before this middleware, so that each retry gets the current token.
///
/// Both tries of a request share their [`Extensions`].
///
/// # Errors
///
/// Errors of the inner chain are returned unchanged. If such an error contains a credential of the
/// query, the layer [removes the credential](crate::Auth#errors). An [`Error`] of this crate
/// becomes a [`reqwest_middleware::Error::Middleware`]; `downcast_ref` returns the original error.
///
/// # Example
///
/// ```
/// use reqwest_middleware::ClientBuilder;
/// use tower_auth::layer::AuthMiddleware;
/// use tower_auth::{AuthLayer, Token};
///
/// let layer = AuthLayer::new(|_| async { Token::bearer("secret") })
///     .only_to(["https://api.example.com"])?;
/// let client = ClientBuilder::new(reqwest::Client::new())
///     .with(AuthMiddleware::new(layer))
///     .build();
/// # Ok::<(), tower_auth::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AuthMiddleware {
    layer: AuthLayer,
}

impl AuthMiddleware {
    /// Creates a middleware that shares the token with all other services of the layer.
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
        client.call(request).await.map_err(unbox)
    }
}

/// The rest of the chain as a service, which is always ready.
#[derive(Clone)]
struct Chain<'a> {
    next: Next<'a>,
    /// Each try locks the extensions until the try ends.
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

/// Converts the boxed error of the service back to its original type.
fn unbox(error: BoxError) -> reqwest_middleware::Error {
    match error.downcast::<reqwest_middleware::Error>() {
        Ok(below) => *below,
        Err(error) => reqwest_middleware::Error::middleware(match error.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => match other.downcast::<ErrorText>() {
                Ok(text) => return reqwest_middleware::Error::middleware(*text),
                // The service returns no other error type.
                Err(other) => Error::other(other),
            },
        }),
    }
}
