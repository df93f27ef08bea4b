//! Wakers, errors and sources of the user can call back into the cache. The cache must not hold a
//! lock while it calls or drops such user code.

use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio_test::{assert_pending, task};
use tower_auth::cache::{Acquire, Clock};
use tower_auth::token::{Applied, PerRequestCredential, RequestHead};
use tower_auth::{BoxError, Error, Place, Token, TokenCache};
use tower_auth_test::{controlled_source, run_until_idle};

use crate::support::{clocked, paused};

/// A task that waits for a token. When it is woken or dropped, it stops waiting.
struct Other(Mutex<Option<Acquire>>);

impl Wake for Other {
    fn wake(self: Arc<Self>) {
        let waiting = self.0.lock().unwrap().take();
        drop(waiting);
    }
}

fn poll(acquire: &mut Acquire, waker: &Waker) {
    let mut cx = Context::from_waker(waker);
    assert!(std::pin::Pin::new(acquire).poll(&mut cx).is_pending());
}

/// Returns a waker that owns another waiter of the same fetch.
fn other(cache: &TokenCache) -> Waker {
    let mut waiting = cache.token();
    poll(&mut waiting, Waker::noop());
    Arc::new(Other(Mutex::new(Some(waiting)))).into()
}

/// Runs the test on its own thread. A deadlock then fails the test instead of hanging it.
fn no_deadlock<F>(test: impl FnOnce() -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(test());
        done.send(()).unwrap();
    });
    let ended = ended.recv_timeout(Duration::from_secs(10));
    ended.expect("a deadlock, or a panic above");
}

#[test]
fn a_waker_may_drop_another_waiter_as_it_is_woken() {
    no_deadlock(|| async {
        let (source, mut fetches) = controlled_source();
        let cache = TokenCache::new(source);
        let mut waiting = cache.token();
        poll(&mut waiting, &other(&cache));
        fetches.next().await.issue("token");
        run_until_idle().await;
        // `waiting` isn't polled in between, because a poll would replace its waker.
        assert_eq!(waiting.await.unwrap().secret(), "token");
    });
}

#[test]
fn a_waker_may_drop_another_waiter_as_it_is_replaced() {
    no_deadlock(|| async {
        let (source, _fetches) = controlled_source();
        let cache = TokenCache::new(source);
        let mut waiting = cache.token();
        poll(&mut waiting, &other(&cache));
        poll(&mut waiting, Waker::noop());
    });
}

#[test]
fn a_waker_may_drop_another_waiter_as_its_own_is_dropped() {
    no_deadlock(|| async {
        let (source, _fetches) = controlled_source();
        let cache = TokenCache::new(source);
        let mut waiting = cache.token();
        poll(&mut waiting, &other(&cache));
        drop(waiting);
    });
}

#[tokio::test]
async fn a_waiter_that_left_leaves_no_waker_behind() {
    let (source, _fetches) = controlled_source();
    let cache = TokenCache::new(source);
    let mut stays = task::spawn(cache.token());
    assert_pending!(stays.poll());
    let task = Arc::new(Other(Mutex::new(None)));
    let mut leaves = cache.token();
    poll(&mut leaves, &Arc::clone(&task).into());
    assert_eq!(Arc::strong_count(&task), 2);
    drop(leaves);
    assert_eq!(Arc::strong_count(&task), 1);
}

/// An error that changes the cache in its `drop`.
#[derive(Debug, thiserror::Error)]
#[error("down")]
struct Clinging(TokenCache);

impl Drop for Clinging {
    fn drop(&mut self) {
        self.0.reject(&Token::bearer("another").unwrap());
    }
}

#[test]
fn an_error_may_use_the_cache_as_it_is_dropped() {
    no_deadlock(|| async {
        let (source, mut fetches) = controlled_source();
        let clock = Clock::manual();
        let cache = clocked(source, &clock).build();
        let failing = tokio::spawn(cache.token());
        let error = Error::other(Clinging(cache.clone()));
        fetches.next().await.complete(Err(error));
        drop(failing.await);
        // The next attempt drops the cached error.
        clock.advance(Duration::from_secs(1));
        let next = tokio::spawn(cache.token());
        fetches.next().await.issue("token");
        next.await.unwrap().unwrap();
    });
}

/// An error that subscribes to the cache in its `drop`.
#[derive(Debug, thiserror::Error)]
#[error("down")]
struct Watching(TokenCache);

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.0.subscribe());
    }
}

#[test]
fn an_error_may_watch_the_cache_as_it_is_dropped() {
    no_deadlock(|| async {
        let (source, mut fetches) = controlled_source();
        let clock = Clock::manual();
        let cache = clocked(source, &clock).build();
        // The watched status keeps the error until the next attempt starts.
        let _watcher = cache.subscribe();
        let failing = tokio::spawn(cache.token());
        let error = Error::other(Watching(cache.clone()));
        fetches.next().await.complete(Err(error));
        drop(failing.await);
        clock.advance(Duration::from_secs(1));
        let next = tokio::spawn(cache.token());
        fetches.next().await.issue("token");
        next.await.unwrap().unwrap();
    });
}

/// A credential that uses the cache in its `drop`.
struct Signing(TokenCache);

impl PerRequestCredential for Signing {
    fn apply(&self, _: &RequestHead, _: &mut HeaderMap) -> Result<Applied, BoxError> {
        Ok(Applied::Done)
    }
}

impl Drop for Signing {
    fn drop(&mut self) {
        self.0.reject(&Token::bearer("another").unwrap());
    }
}

fn signing(cache: &TokenCache, lifetime: Duration) -> Token {
    let credential = Arc::new(Signing(cache.clone()));
    let token = Token::per_request(Place::Header(AUTHORIZATION), "key id", credential);
    token.expires_in(lifetime)
}

#[test]
fn a_token_that_expired_before_it_arrived_may_use_the_cache_as_it_is_dropped() {
    no_deadlock(|| async {
        let (source, mut fetches) = controlled_source();
        let cache = clocked(source, Clock::manual());
        let cache = cache.fetch_attempts(1).build();
        let waiting = tokio::spawn(cache.token());
        let token = signing(&cache, Duration::ZERO);
        fetches.next().await.complete(Ok(token));
        assert!(waiting.await.unwrap().is_err());
    });
}

#[test]
fn a_replaced_token_may_use_the_cache_as_it_is_dropped() {
    no_deadlock(|| async {
        let (source, mut fetches) = controlled_source();
        let cache = clocked(source, Clock::manual()).build();
        let waiting = tokio::spawn(cache.token());
        let token = signing(&cache, Duration::from_secs(3600));
        fetches.next().await.complete(Ok(token));
        drop(waiting.await);
        let waiting = tokio::spawn(cache.refresh_now());
        fetches.next().await.issue("token");
        waiting.await.unwrap().unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn a_source_that_waits_for_its_own_token_is_cut_off_and_not_for_ever() {
    let own = Arc::new(Mutex::new(None::<TokenCache>));
    let asks = Arc::clone(&own);
    let cache = paused(move |_| {
        let cache = asks.lock().unwrap().clone().unwrap();
        async move { cache.token().await }
    })
    .build();
    *own.lock().unwrap() = Some(cache.clone());
    let waiting = tokio::spawn(cache.token());
    run_until_idle().await;
    assert!(waiting.await.unwrap().unwrap_err().is_timeout());
}
