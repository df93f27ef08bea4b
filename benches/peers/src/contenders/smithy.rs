//! The AWS SDK's lazy identity cache, with an identity that contains the finished header value. The
//! SDK's own bearer scheme is slower, because it writes the header for each request.
//!
//! The cache needs a clock and a timer. The cache uses nothing else of an SDK client, so the SDK's
//! test stubs replace the rest. `buffer_time` equals the margin of the other contenders. The load
//! timeout is the default.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::SystemTimeSource;
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime_api::client::identity::{
    Identity, IdentityFuture, ResolveCachedIdentity, ResolveIdentity, SharedIdentityCache,
    SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::{
    RuntimeComponents, RuntimeComponentsBuilder,
};
use aws_smithy_types::config_bag::ConfigBag;
use http::HeaderValue;
use tower::BoxError;

use super::Contender;
use super::stamping::{Credential, Stamping};
use crate::client::{Call, Inner};
use crate::issuer::Issuer;

#[derive(Clone)]
pub struct Smithy(Arc<Parts>);

struct Parts {
    cache: SharedIdentityCache,
    resolver: SharedIdentityResolver,
    components: RuntimeComponents,
    config: ConfigBag,
}

struct Resolver(Issuer);

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolveIdentity for Resolver {
    fn resolve_identity<'a>(
        &'a self,
        _: &'a RuntimeComponents,
        _: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        IdentityFuture::new(async move {
            let issued = self.0.fetch().await?;
            let end = SystemTime::now() + issued.lives;
            Ok(Identity::new(issued.header(), Some(end)))
        })
    }
}

impl Credential for Smithy {
    #[inline]
    async fn header(&self) -> Result<HeaderValue, BoxError> {
        let Parts {
            cache,
            resolver,
            components,
            config,
        } = &*self.0;
        let identity = cache.resolve_cached_identity(resolver.clone(), components, config);
        let identity = identity.await?;
        let header = identity.data::<HeaderValue>();
        Ok(header.ok_or("an identity of another kind")?.clone())
    }
}

impl Contender for Smithy {
    const NAME: &str = "aws-smithy-runtime, lazy cache";
    const PACKAGE: &str = "aws-smithy-runtime";

    async fn new(issuer: &Issuer) -> Self {
        let components = RuntimeComponentsBuilder::for_tests()
            .with_time_source(Some(SystemTimeSource::new()))
            .with_sleep_impl(Some(SharedAsyncSleep::new(TokioSleep::new())))
            .build();
        let cache = IdentityCache::lazy().buffer_time(Duration::from_millis(10));
        Self(Arc::new(Parts {
            cache: cache.build(),
            resolver: SharedIdentityResolver::new(Resolver(issuer.clone())),
            components: components.expect("all that it needs"),
            config: ConfigBag::base(),
        }))
    }

    fn over<S: Inner>(&self, inner: S) -> impl Call + use<S> {
        Stamping(self.clone(), inner)
    }
}
