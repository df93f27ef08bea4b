//! The service: puts the credential on, or has the future see to one.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use crate::cache::Lookup;
use crate::error::BoxError;
use crate::future::ResponseFuture;
use crate::http::{AuthRequest, AuthResponse};
use crate::policy::{Policy, Prepared};
use crate::stamp::{Handle, Stamp};

/// A service that puts a credential on every request: what [`AuthLayer`](crate::AuthLayer) makes
/// of the client below it.
///
/// Clones share the token. Each keeps a copy of the prepared header for itself from its second
/// request on.
///
/// # Errors
///
/// An error of the inner service, or an [`Error`](crate::Error) if the request couldn't be sent: no token could
/// be had, or it was not to go where the request goes. Both come boxed, as is the custom of Tower's
/// layers; `downcast_ref` tells them apart. A refusal is no error: it is the server's response,
/// with a [`NotReplayed`](crate::NotReplayed) in its extensions.
#[derive(Debug)]
pub struct Auth<S> {
    inner: S,
    policy: Arc<Policy>,
    stamp: Stamp,
}

impl<S> Auth<S> {
    pub(crate) fn new(inner: S, policy: Arc<Policy>) -> Self {
        Self {
            inner,
            policy,
            stamp: Stamp::default(),
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
        Self::new(self.inner.clone(), Arc::clone(&self.policy))
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
        let Some(copy) = self.stamp.current(&self.policy) else {
            return self.call_looking_up(request);
        };
        let prepared = self.policy.prepare(&mut request, copy.header());
        if let Prepared::Never(error) = prepared {
            return ResponseFuture::failed(error);
        }
        let (generation, policy) = (copy.generation(), Handle::Private(Arc::clone(copy)));
        let response = self.inner.call(request);
        ResponseFuture::sent(response, prepared, generation, policy, &self.inner)
    }
}

impl<S> Auth<S> {
    /// Without a private copy that is up to date.
    fn call_looking_up<Req>(&mut self, mut request: Req) -> ResponseFuture<S, Req>
    where
        S: Service<Req> + Clone,
        Req: AuthRequest,
    {
        // Before a token is waited for, or even fetched.
        match self.policy.admits(&request, self.policy.cache.header()) {
            Ok(true) => {}
            Ok(false) => return ResponseFuture::passing(self.inner.call(request)),
            Err(error) => return ResponseFuture::failed(error),
        }
        let policy = Handle::Shared(Arc::clone(&self.policy));
        match self.stamp.look_up(&self.policy) {
            Lookup::Never(error) => ResponseFuture::failed(error),
            Lookup::Later(acquire) => {
                let inner = self.release();
                ResponseFuture::acquiring(acquire, inner, request, policy)
            }
            Lookup::Now(held) => {
                let token = held.token();
                let credential = (token.header_name(), token.header_value());
                let prepared = policy.prepare(&mut request, credential);
                if let Prepared::Never(error) = prepared {
                    return ResponseFuture::failed(error);
                }
                let response = self.inner.call(request);
                ResponseFuture::sent(response, prepared, token.generation(), policy, &self.inner)
            }
        }
    }

    /// Puts a clone that isn't ready in the place of the one that is, so that the permit which
    /// came with its readiness is given back, and returns another for when there is a token.
    fn release(&mut self) -> S
    where
        S: Clone,
    {
        let later = self.inner.clone();
        drop(mem::replace(&mut self.inner, later.clone()));
        later
    }
}
