//! Helpers that many tests share.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::runtime::{Builder, Runtime};
use tower_auth::cache::{Clock, ManualClock, TokenCacheBuilder};
use tower_auth::{AuthLayer, TokenCache, TokenSource};
use tower_auth_test::{Api, Fetches, RecordedRequest};
use tower_service::Service;

#[cfg(feature = "azure")]
pub(crate) mod azure_server;
#[cfg(feature = "fleet")]
pub(crate) mod breakable_store;
#[cfg(feature = "file")]
pub(crate) mod child_process;
#[cfg(feature = "reqwest")]
pub(crate) mod digest_server;
pub(crate) mod echo;
pub(crate) mod form_server;
#[cfg(feature = "redis")]
mod free_port;
#[cfg(feature = "github")]
pub(crate) mod github_server;
#[cfg(feature = "gcp")]
pub(crate) mod google_cloud;
pub(crate) mod house;
#[cfg(feature = "jwt")]
pub(crate) mod keys;
pub(crate) mod log;
pub(crate) mod login_server;
#[cfg(feature = "metrics")]
pub(crate) mod recorder;
#[cfg(feature = "redis")]
pub(crate) mod redis_server;
pub(crate) mod refresh_store;
pub(crate) mod scenarios;
pub(crate) mod secret_finder;
pub(crate) mod serving;
#[cfg(feature = "cookies")]
pub(crate) mod session_site;
#[cfg(feature = "fleet")]
pub(crate) mod slow_store;
pub(crate) mod test_names;
pub(crate) mod token_server;
pub(crate) mod tree;
#[cfg(feature = "vault")]
pub(crate) mod vault_server;
pub(crate) mod web;

/// Builds a layer that attaches the token for any `https` origin and for loopback.
pub(crate) fn layer(source: impl TokenSource) -> AuthLayer {
    AuthLayer::new(source).any_https()
}

/// Builds the same layer around a cache that the test keeps.
pub(crate) fn layer_from(cache: TokenCache) -> AuthLayer {
    AuthLayer::from(cache).any_https()
}

/// Asks the cache for a token, and completes the fetch with a token of this lifetime. Returns
/// when this token is the current one.
pub(crate) async fn issued(
    fetches: &mut Fetches,
    cache: &TokenCache,
    secret: &str,
    lifetime: Duration,
) {
    let caller = tokio::spawn(cache.token());
    fetches.next().await.issue_for(secret, lifetime);
    caller.await.unwrap().unwrap();
}

/// Builds a single-threaded runtime, for tests that need several runtimes or drop one.
pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Starts a cache builder with this clock and without jitter.
pub(crate) fn clocked(source: impl TokenSource, clock: impl Into<Clock>) -> TokenCacheBuilder {
    TokenCache::builder(source).jitter(0.0).clock(clock)
}

/// Starts such a builder with a clock that follows Tokio's, which the test pauses.
pub(crate) fn paused(source: impl TokenSource) -> TokenCacheBuilder {
    clocked(source, Clock::tokio())
}

/// The time that a [`manual_clock`] shows first.
pub(crate) fn clock_start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

/// Returns a clock that starts at the same time in each run.
pub(crate) fn manual_clock() -> ManualClock {
    let clock = Clock::manual();
    clock.set_back(Duration::MAX);
    clock.suspend(clock_start().duration_since(UNIX_EPOCH).unwrap());
    clock
}

/// Returns the `Authorization` of every request so far. `-` stands for a missing header.
pub(crate) fn credentials(api: &Api) -> Vec<String> {
    let credential =
        |request: &RecordedRequest| request.header("authorization").unwrap_or("-").to_owned();
    api.requests().iter().map(credential).collect()
}

/// Builds a request with an in-memory body to an API over `https`.
pub(crate) fn request(body: &'static str) -> Request<Full<Bytes>> {
    Request::post("https://api.example.com/things")
        .body(Full::from(body))
        .unwrap()
}

/// Polls a service ready and calls it. The service can be called again.
pub(crate) async fn call<S, Req>(client: &mut S, request: Req) -> Result<S::Response, S::Error>
where
    S: Service<Req>,
{
    std::future::poll_fn(|cx| client.poll_ready(cx)).await?;
    client.call(request).await
}
