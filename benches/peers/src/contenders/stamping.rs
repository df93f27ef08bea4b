//! A service for contenders that don't use Tower: gets the header and attaches it.

use std::future::Future;
use std::hint::black_box;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use tower::BoxError;

use crate::client::{Call, Inner, ready, request};

/// A source of the `Authorization` header.
pub trait Credential: Clone + Send + Sync + 'static {
    fn header(&self) -> impl Future<Output = Result<HeaderValue, BoxError>> + Send;
}

/// A source in front of a client, as a user would write it. No future is boxed.
#[derive(Clone)]
pub struct Stamping<C, S>(pub C, pub S);

impl<C: Credential, S: Inner> Call for Stamping<C, S> {
    #[inline]
    async fn call(&mut self) -> Result<(), BoxError> {
        let mut request = request();
        let header = self.0.header().await?;
        ready(&mut self.1).await?;
        request.headers_mut().insert(AUTHORIZATION, header);
        black_box(self.1.call(request).await?);
        Ok(())
    }
}
