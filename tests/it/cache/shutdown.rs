//! After a cache is shut down, no caller waits, the source is closed, and no task remains.

use std::future::{Future, pending};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, ServiceExt};
use tower_auth::cache::Phase;
use tower_auth::{Error, Reason, Token, TokenCache, TokenSource};
use tower_auth_test::{Api, controlled_source, run_until_idle};

use crate::support::{issued, paused, request, runtime};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A source that records the token that is passed to `close`. The field `how` says how `close`
/// ends.
#[derive(Clone)]
struct Closable<S> {
    fetches: S,
    closed_with: Arc<Mutex<Vec<Option<String>>>>,
    how: How,
}

#[derive(Clone)]
enum How {
    Well,
    Fails,
    Panics,
    Hangs,
    WhenTold(Arc<Notify>),
}

impl<S> Closable<S> {
    fn new(fetches: S, how: How) -> Self {
        Self {
            fetches,
            closed_with: Arc::default(),
            how,
        }
    }
}

impl<S> TokenSource for Closable<S>
where
    S: TokenSource,
{
    fn fetch(&self, reason: Reason) -> impl Future<Output = Result<Token, Error>> + Send {
        self.fetches.fetch(reason)
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        let last = last.map(|token| token.secret().to_owned());
        self.closed_with.lock().unwrap().push(last);
        match &self.how {
            How::Well => Ok(()),
            How::Fails => Err(Error::other("no connection")),
            How::Panics => panic!("a source that panics as it is closed, as the test wants it"),
            How::Hangs => pending().await,
            How::WhenTold(told) => {
                told.notified().await;
                Ok(())
            }
        }
    }
}

fn closed_with<S>(source: &Closable<S>) -> Vec<Option<String>> {
    source.closed_with.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn who_asks_after_the_end_is_told_so_and_nothing_is_fetched() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    issued(&mut fetches, &cache, "last", HOUR).await;
    cache.close().await;
    assert_eq!(cache.status().phase(), Phase::Closed);
    for error in [cache.token().await, cache.refresh_now().await].map(Result::unwrap_err) {
        assert!(error.is_closed(), "{error}");
    }
    advance(HOUR).await;
    assert!(cache.token().await.unwrap_err().is_closed());
    fetches.assert_none().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_after_the_end_is_not_sent() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    let api = Api::accepting(["last"]);
    let client = crate::support::layer_from(cache.clone()).layer(api.clone());
    issued(&mut fetches, &cache, "last", HOUR).await;
    // The second request gives the client a private copy of the header.
    for _ in 0..2 {
        client.clone().oneshot(request("")).await.unwrap();
    }
    cache.close().await;
    let error = client.oneshot(request("")).await.unwrap_err();
    assert!(error.downcast_ref::<Error>().unwrap().is_closed());
    assert_eq!(api.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_source_is_closed_once_with_the_token_that_was_in_hand() {
    let (fetches_of, mut fetches) = controlled_source();
    let source = Arc::new(Closable::new(fetches_of, How::Well));
    let cache = paused(Arc::clone(&source)).build();
    issued(&mut fetches, &cache, "last", HOUR).await;
    for _ in 0..3 {
        cache.close().await;
    }
    assert_eq!(closed_with(&source), [Some(String::from("last"))]);
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_never_had_a_token_is_closed_with_none() {
    let (fetches_of, _fetches) = controlled_source();
    let source = Arc::new(Closable::new(fetches_of, How::Well));
    let cache = paused(Arc::clone(&source)).build();
    cache.close().await;
    assert_eq!(closed_with(&source), [None]);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_in_flight_may_complete_and_its_token_is_the_last() {
    let (fetches_of, mut fetches) = controlled_source();
    let source = Arc::new(Closable::new(fetches_of, How::Well));
    let cache = paused(Arc::clone(&source)).build();
    let waiting = tokio::spawn(cache.token());
    let fetch = fetches.next().await;
    let mut close = task::spawn(cache.close());
    assert_pending!(close.poll());
    // Once the close has begun, no other caller can join the fetch.
    assert!(cache.token().await.unwrap_err().is_closed());
    advance(4 * SECOND).await;
    assert_pending!(close.poll());
    assert_eq!(closed_with(&source), []);

    fetch.issue("completed");
    assert_eq!(waiting.await.unwrap().unwrap().secret(), "completed");
    close.await;
    assert_eq!(closed_with(&source), [Some(String::from("completed"))]);
}

#[tokio::test(start_paused = true)]
async fn of_a_refresh_in_flight_that_fails_the_token_before_is_the_last() {
    let (fetches_of, mut fetches) = controlled_source();
    let source = Arc::new(Closable::new(fetches_of, How::Well));
    let cache = paused(Arc::clone(&source)).build();
    issued(&mut fetches, &cache, "first", HOUR).await;
    let forced = tokio::spawn(cache.refresh_now());
    let fetch = fetches.next().await;
    let close = tokio::spawn({
        let cache = cache.clone();
        async move { cache.close().await }
    });
    run_until_idle().await;
    fetch.fail("down");
    close.await.unwrap();
    assert!(forced.await.unwrap().unwrap_err().is_source());
    assert_eq!(closed_with(&source), [Some(String::from("first"))]);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_does_not_complete_in_time_is_ended_and_those_who_wait_are_told() {
    let before = Handle::current().metrics().num_alive_tasks();
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).close_timeout(2 * SECOND).build();
    let mut waiting = task::spawn(cache.token());
    assert_pending!(waiting.poll());
    let _hanging = fetches.next().await;
    let start = Instant::now();
    cache.close().await;
    assert_eq!(start.elapsed(), 2 * SECOND);
    assert!(assert_ready!(waiting.poll()).unwrap_err().is_closed());
    run_until_idle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_panics_or_hangs_holds_nobody_up_past_the_timeout() {
    for (how, took) in [
        (How::Fails, Duration::ZERO),
        (How::Panics, Duration::ZERO),
        (How::Hangs, 5 * SECOND),
    ] {
        let (fetches_of, _fetches) = controlled_source();
        let cache = paused(Closable::new(fetches_of, how)).build();
        let start = Instant::now();
        cache.close().await;
        assert_eq!(start.elapsed(), took);
        assert!(cache.token().await.unwrap_err().is_closed());
    }
}

/// The fetch and the source's `close` share one deadline. A long fetch leaves little time for
/// `close`.
#[tokio::test(start_paused = true)]
async fn the_fetch_and_the_source_have_one_deadline() {
    let (fetches_of, mut fetches) = controlled_source();
    let cache = paused(Closable::new(fetches_of, How::Hangs)).build();
    let _waiting = tokio::spawn(cache.token());
    let fetch = fetches.next().await;
    let start = Instant::now();
    let mut close = task::spawn(cache.close());
    assert_pending!(close.poll());
    advance(4 * SECOND).await;
    fetch.issue("late");
    close.await;
    assert_eq!(start.elapsed(), 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_second_call_waits_for_the_first() {
    let told = Arc::new(Notify::new());
    let (fetches_of, _fetches) = controlled_source();
    let source = Arc::new(Closable::new(fetches_of, How::WhenTold(Arc::clone(&told))));
    let cache = paused(Arc::clone(&source)).build();
    let mut first = task::spawn(cache.close());
    let mut second = task::spawn(cache.close());
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    run_until_idle().await;
    assert_pending!(second.poll());
    // The source is still closing, so both calls wait.
    assert_eq!(cache.status().phase(), Phase::Closing);
    told.notify_one();
    run_until_idle().await;
    assert_ready!(second.poll());
    assert_ready!(first.poll());
    assert_eq!(cache.status().phase(), Phase::Closed);
    assert_eq!(closed_with(&source).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_while_it_closes_changes_nothing() {
    let told = Arc::new(Notify::new());
    let (fetches_of, _fetches) = controlled_source();
    let source = Arc::new(Closable::new(fetches_of, How::WhenTold(Arc::clone(&told))));
    let cache = paused(Arc::clone(&source)).build();
    let mut close = task::spawn(cache.close());
    assert_pending!(close.poll());
    drop(close);
    run_until_idle().await;
    assert_eq!(closed_with(&source), [None]);
    told.notify_one();
    cache.close().await;
    assert!(cache.token().await.unwrap_err().is_closed());
}

#[tokio::test(start_paused = true)]
async fn the_timer_ends_with_it() {
    let before = Handle::current().metrics().num_alive_tasks();
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).keep_fresh().build();
    issued(&mut fetches, &cache, "last", HOUR).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before + 1);
    cache.close().await;
    run_until_idle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
    tokio::time::sleep(2 * HOUR).await;
    fetches.assert_none().await;
}

#[test]
fn outside_of_a_runtime_it_is_closed_all_the_same() {
    let (fetches_of, _fetches) = controlled_source();
    let source = Arc::new(Closable::new(fetches_of, How::Well));
    let cache = TokenCache::new(Arc::clone(&source));
    assert_ready!(task::spawn(cache.close()).poll());
    assert_eq!(cache.status().phase(), Phase::Closed);
    let mut asking = task::spawn(cache.token());
    assert!(assert_ready!(asking.poll()).unwrap_err().is_closed());
    assert_eq!(closed_with(&source), []);
}

/// After the close, there is no token to reject, and none for a replay.
#[tokio::test(start_paused = true)]
async fn a_refusal_after_the_end_is_the_callers() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).build();
    issued(&mut fetches, &cache, "last", HOUR).await;
    let last = cache.token().await.unwrap();
    cache.close().await;
    cache.reject(&last);
    cache.accept(&last);
    assert!(cache.token().await.unwrap_err().is_closed());
    fetches.assert_none().await;
}

/// Nothing can end a fetch on a runtime that isn't driven, but its waiting callers can get an
/// error.
#[test]
fn a_fetch_on_a_runtime_that_nobody_drives_is_waited_for_no_longer_than_any_other() {
    let (source, _fetches) = controlled_source();
    let cache = TokenCache::builder(source)
        .close_timeout(Duration::ZERO)
        .build();
    let idle = runtime();
    let mut waiting = task::spawn(cache.token());
    {
        let _inside = idle.enter();
        assert_pending!(waiting.poll());
    }
    runtime().block_on(cache.close());
    assert!(waiting.is_woken());
    assert!(assert_ready!(waiting.poll()).unwrap_err().is_closed());
}
