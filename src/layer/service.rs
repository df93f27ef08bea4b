//! The service: attaches the current token, or returns a future that waits for one.

use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::allowed_origins::Admission;
use super::attach::Attached;
use super::auth_request::AuthRequest;
use super::auth_response::AuthResponse;
use super::future::ResponseFuture;
use super::local_credential::{LocalCredential, SentToken};
use super::request_state::release;
use super::settings::LayerSettings;
use crate::cache::acquire::Lookup;
use crate::error::{BoxError, Error};

/// Attaches a credential to every request; the service of an [`AuthLayer`](crate::AuthLayer).
///
/// Clones share the token. From its second request on, each clone keeps a private copy of the header
/// value.
///
/// # Errors
///
/// An error of the inner service, or an [`Error`](crate::Error) if the request was not sent: there
/// was no token, or the credential may not go to the request's origin. Both are boxed, as usual for
/// Tower layers; `downcast_ref` distinguishes them. A refusal is not an error: it is the server's
/// response, with a [`NotReplayed`](crate::NotReplayed) in its extensions.
///
/// # Example
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_auth::{AuthLayer, Error, Token};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
/// let client = service_fn(|_: Request<String>| async {
///     Ok::<_, std::io::Error>(Response::new(String::from("hello")))
/// });
/// let down = AuthLayer::new(|_| async { Err::<Token, _>(Error::other("the vault is sealed")) })
///     .only_to(["https://api.example.com"])?;
///
/// let request = Request::get("https://api.example.com/v1").body(String::new())?;
/// let error = down.layer(client).oneshot(request).await.unwrap_err();
/// match error.downcast_ref::<Error>() {
///     Some(error) => assert!(error.is_source(), "no token: {error}"),
///     None => unreachable!("the client's own: {error}"),
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Auth<S> {
    inner: S,
    settings: Arc<LayerSettings>,
    local_credential: LocalCredential,
}

impl<S> Auth<S> {
    pub(crate) fn new(inner: S, settings: Arc<LayerSettings>) -> Self {
        Self {
            inner,
            settings,
            local_credential: LocalCredential::default(),
        }
    }

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

impl<S> Clone for Auth<S>
where
    S: Clone,
{
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.settings))
    }
}

impl<S, Req> Service<Req> for Auth<S>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    S::Error: Into<BoxError>,
    Req: AuthRequest,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S, Req>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let Some(sent_token) = self.local_credential.servable(&self.settings) else {
            return self.call_without_fresh(request);
        };
        let attached = sent_token.attach(&mut request);
        if let Attached::Rejected(error) = attached {
            return self.fail(error);
        }
        let response = self.inner.call(request);
        ResponseFuture::sent(response, attached, sent_token, &self.inner)
    }
}

impl<S> Auth<S> {
    /// Sends a request for which no fresh token is cached, or that waits for a token.
    #[cold]
    fn call_without_fresh<Req>(&mut self, mut request: Req) -> ResponseFuture<S, Req>
    where
        S: Service<Req> + Clone,
        Req: AuthRequest,
    {
        // Before the request waits for a token or starts a fetch.
        match self.settings.admit(&request, self.settings.cache.place()) {
            Ok(Admission::Credential(_)) => {}
            Ok(Admission::Unchanged) => return ResponseFuture::passing(self.inner.call(request)),
            Err(error) => return self.fail(error),
        }
        match self.settings.cache.lookup() {
            Lookup::Never(error) => self.fail(error),
            Lookup::Later(acquire) => {
                release(&mut self.inner);
                let (inner, settings) = (self.inner.clone(), Arc::clone(&self.settings));
                ResponseFuture::acquiring(acquire, inner, request, settings)
            }
            Lookup::Now(cached) => {
                let sent_token = SentToken::Cached(Arc::clone(&self.settings), cached);
                let attached = sent_token.attach(&mut request);
                if let Attached::Rejected(error) = attached {
                    return self.fail(error);
                }
                let response = self.inner.call(request);
                ResponseFuture::sent(response, attached, sent_token, &self.inner)
            }
        }
    }

    /// Returns the error of a request that is not sent.
    #[cold]
    fn fail<Req>(&mut self, error: Error) -> ResponseFuture<S, Req>
    where
        S: Service<Req> + Clone,
        Req: AuthRequest,
    {
        release(&mut self.inner);
        ResponseFuture::failed(error)
    }
}
