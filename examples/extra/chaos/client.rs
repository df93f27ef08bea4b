//! The client under test: a cache with client credentials, and the layer. This file contains all
//! settings of the crate.

use std::sync::Arc;
use std::time::Duration;

use tower_auth::oauth2::ClientCredentials;
use tower_auth::{AuthLayer, Error, Place, Reason, Token, TokenCache, TokenSource};

use crate::Stopwatch;
use crate::pace::Pace;
use crate::phases::{self, Spell};
use crate::truth::Truth;

pub(crate) struct Client {
    layer: AuthLayer,
    watch: Stopwatch,
}

impl Client {
    pub(crate) fn new(
        token_url: &str,
        watch: Stopwatch,
        truth: Arc<Truth>,
        pace: &Pace,
    ) -> Result<Self, Error> {
        let source = ClientCredentials::new(token_url, "chaos", "a-secret-for-loopback-only")?
            .timeout(pace.exchange_timeout);
        let source = Witnessed {
            source,
            watch,
            truth,
        };
        let cache = TokenCache::builder(source)
            .refresh_before(pace.refresh_before)
            .expiry_margin(pace.margin)
            .fetch_timeout(pace.fetch_timeout)
            .attempt_floor(pace.attempt_floor)
            .name("chaos")
            .build();
        Ok(Self {
            layer: AuthLayer::from(cache).only_to(["https://api.example.com"])?,
            watch,
        })
    }

    pub(crate) fn layer(&self) -> &AuthLayer {
        &self.layer
    }

    /// Records the cache's state until `end`.
    pub(crate) async fn watch(&self, end: Duration) -> Vec<Spell> {
        phases::sampled(self.layer.cache(), self.watch, end).await
    }

    /// Closes the cache. The last request must have ended.
    pub(crate) async fn close(self) {
        self.layer.cache().close().await;
    }
}

/// Records the fetches of a source.
struct Witnessed<S> {
    source: S,
    watch: Stopwatch,
    truth: Arc<Truth>,
}

impl<S: TokenSource> TokenSource for Witnessed<S> {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        let from = self.watch.now();
        let fetched = self.source.fetch(reason).await;
        if let Ok(token) = &fetched {
            self.truth.received(token.secret(), from);
        }
        fetched
    }

    fn place(&self) -> Place {
        self.source.place()
    }
}
