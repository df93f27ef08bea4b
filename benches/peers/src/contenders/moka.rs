//! moka's concurrent cache with one entry. Its `try_get_with` runs one fetch. All waiting callers
//! share the result or the error.

use std::time::Duration;

use http::HeaderValue;
use moka::future::Cache;
use tower::BoxError;

use super::Contender;
use super::stamping::{Credential, Stamping};
use crate::client::{Call, Inner};
use crate::issuer::{Issuer, Refused};

#[derive(Clone)]
pub struct Moka {
    issuer: Issuer,
    cache: Cache<(), HeaderValue>,
}

/// The cache drops a token this long before the token expires.
const MARGIN: Duration = Duration::from_millis(10);

impl Credential for Moka {
    #[inline]
    async fn header(&self) -> Result<HeaderValue, BoxError> {
        let fetch = async { Ok::<_, Refused>(self.issuer.fetch().await?.header()) };
        let header = self.cache.try_get_with((), fetch).await;
        header.map_err(|error| BoxError::from(Refused::clone(&error)))
    }
}

impl Contender for Moka {
    const NAME: &str = "moka, try_get_with";
    const PACKAGE: &str = "moka";

    async fn new(issuer: &Issuer) -> Self {
        let cache = Cache::builder().max_capacity(1);
        Self {
            issuer: issuer.clone(),
            cache: cache.time_to_live(issuer.terms().lives - MARGIN).build(),
        }
    }

    fn over<S: Inner>(&self, inner: S) -> impl Call + use<S> {
        Stamping(self.clone(), inner)
    }
}
