//! What is under test: a cache over client credentials, and the layer over that. All that is said
//! to the crate about tokens is said here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::HeaderName;
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{AuthLayer, Error, Reason, Token, TokenCache, TokenSource};

use crate::Stopwatch;
use crate::pace::Pace;
use crate::phases::{self, Fetch, Spell};
use crate::truth::Truth;

pub(crate) struct Client {
    layer: AuthLayer,
    watch: Stopwatch,
    truth: Arc<Truth>,
    fetches: Arc<Mutex<Vec<Fetch>>>,
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
        let fetches = Arc::default();
        let source = Witnessed {
            source,
            watch,
            truth: Arc::clone(&truth),
            fetches: Arc::clone(&fetches),
        };
        let cache = TokenCache::builder(source)
            .refresh_before(pace.refresh_before)
            .expiry_margin(pace.margin)
            .fetch_timeout(pace.fetch_timeout)
            .attempt_floor(pace.attempt_floor)
            .build();
        Ok(Self {
            layer: AuthLayer::from(cache),
            watch,
            truth,
            fetches,
        })
    }

    pub(crate) fn layer(&self) -> &AuthLayer {
        &self.layer
    }

    /// What state the cache is in, until `end`. It doesn't say, so that is read off afterwards
    /// from what the source was asked and what became of the tokens.
    pub(crate) async fn watch(&self, pace: &Pace, end: Duration) -> Vec<Spell> {
        self.watch.until(end).await;
        let fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        phases::inferred(&self.truth.tokens_received(), &fetches, pace, end)
    }

    /// Nobody asks any more.
    pub(crate) async fn close(self) {
        drop(self);
    }
}

/// A source, and someone who writes down what it does.
struct Witnessed<S> {
    source: S,
    watch: Stopwatch,
    truth: Arc<Truth>,
    fetches: Arc<Mutex<Vec<Fetch>>>,
}

impl<S: TokenSource> TokenSource for Witnessed<S> {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        let from = self.watch.now();
        let fetched = self.source.fetch(reason).await;
        if let Ok(token) = &fetched {
            self.truth.received(token.secret(), from);
        }
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        fetches.push(Fetch {
            from,
            until: self.watch.now(),
            succeeded: fetched.is_ok(),
        });
        fetched
    }

    fn header(&self) -> HeaderName {
        self.source.header()
    }
}
