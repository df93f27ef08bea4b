//! A quick hand-written solution: a `tokio::sync::Mutex` around an `Option`. The fetch runs under
//! the lock, so only one fetch runs at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use tokio::sync::Mutex;
use tower::BoxError;

use super::Contender;
use super::stamping::{Credential, Stamping};
use crate::client::{Call, Inner};
use crate::issuer::Issuer;

#[derive(Clone)]
pub struct Handrolled {
    issuer: Issuer,
    held: Arc<Mutex<Option<(HeaderValue, Instant)>>>,
}

/// The next token is fetched this long before the current token expires.
const MARGIN: Duration = Duration::from_millis(10);

impl Credential for Handrolled {
    #[inline]
    async fn header(&self) -> Result<HeaderValue, BoxError> {
        let mut held = self.held.lock().await;
        if let Some((header, end)) = &*held
            && Instant::now() + MARGIN < *end
        {
            return Ok(header.clone());
        }
        let issued = self.issuer.fetch().await?;
        let header = issued.header();
        *held = Some((header.clone(), Instant::now() + issued.lives));
        Ok(header)
    }
}

impl Contender for Handrolled {
    const NAME: &str = "tokio Mutex, by hand";
    const PACKAGE: &str = "tokio";

    async fn new(issuer: &Issuer) -> Self {
        let (issuer, held) = (issuer.clone(), Arc::default());
        Self { issuer, held }
    }

    fn over<S: Inner>(&self, inner: S) -> impl Call + use<S> {
        Stamping(self.clone(), inner)
    }
}
