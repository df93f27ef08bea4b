//! All callers wait for the same fetch. A caller that leaves or arrives late doesn't affect the
//! others.

use std::sync::{Arc, Barrier};
use std::task::Poll;

use futures_util::future::join_all;
use tokio_test::{assert_pending, assert_ready, task};
use tower_auth::{Reason, TokenCache};
use tower_auth_test::{ScriptedSource, controlled_source, run_until_idle};

#[tokio::test]
async fn ten_thousand_callers_on_an_empty_cache_are_one_fetch() {
    let (source, mut fetches) = controlled_source();
    let cache = TokenCache::new(source);
    let callers: Vec<_> = (0..10_000)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.token().await })
        })
        .collect();

    let fetch = fetches.next().await;
    assert_eq!(fetch.reason(), Reason::First);
    fetches.assert_none().await;
    fetch.issue("only-one");

    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap().secret(), "only-one");
    }
    fetches.assert_none().await;
}

#[tokio::test]
async fn nothing_is_fetched_until_the_future_is_polled() {
    let (source, mut fetches) = controlled_source();
    let cache = TokenCache::new(source);
    let unpolled = cache.token();
    fetches.assert_none().await;
    drop(unpolled);
    fetches.assert_none().await;
}

#[tokio::test]
async fn every_waiter_sees_the_same_error_of_the_one_failing_fetch() {
    let (source, mut fetches) = controlled_source();
    let cache = TokenCache::new(source);
    let callers: Vec<_> = (0..1_000).map(|_| tokio::spawn(cache.token())).collect();

    fetches.next().await.fail("the vault is sealed");

    for caller in callers {
        let error = caller.await.unwrap().unwrap_err();
        assert!(error.is_source());
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "the vault is sealed");
    }
    // No waiting caller started another fetch.
    fetches.assert_none().await;
}

#[tokio::test]
async fn dropping_the_first_the_middle_or_the_last_waiter_harms_no_other() {
    for dropped in 0..3 {
        let (source, mut fetches) = controlled_source();
        let cache = TokenCache::new(source);
        let mut waiters: Vec<_> = (0..3).map(|_| task::spawn(cache.token())).collect();
        for waiter in &mut waiters {
            assert_pending!(waiter.poll());
        }
        let fetch = fetches.next().await;

        drop(waiters.remove(dropped));
        fetch.issue("survives");
        run_until_idle().await;

        for mut waiter in waiters {
            assert!(waiter.is_woken());
            assert_eq!(assert_ready!(waiter.poll()).unwrap().secret(), "survives");
        }
        fetches.assert_none().await;
    }
}

#[tokio::test]
async fn a_fetch_outlives_all_who_waited_for_it() {
    let (source, mut fetches) = controlled_source();
    let cache = TokenCache::new(source);
    let mut waiter = task::spawn(cache.token());
    assert_pending!(waiter.poll());
    let fetch = fetches.next().await;

    drop(waiter);
    fetch.issue("not-in-vain");
    run_until_idle().await;

    let mut next = task::spawn(cache.token());
    assert_eq!(assert_ready!(next.poll()).unwrap().secret(), "not-in-vain");
    fetches.assert_none().await;
}

#[tokio::test]
async fn a_waiter_that_moved_to_another_task_is_woken_there() {
    let (source, mut fetches) = controlled_source();
    let cache = TokenCache::new(source);
    let mut acquire = cache.token();
    let mut first = task::spawn(());
    first.enter(|cx, _| assert!(std::pin::Pin::new(&mut acquire).poll(cx).is_pending()));
    let mut second = task::spawn(acquire);
    assert_pending!(second.poll());

    fetches.next().await.issue("moved");
    run_until_idle().await;

    assert!(!first.is_woken());
    assert!(second.is_woken());
    assert_ready!(second.poll()).unwrap();
}

#[tokio::test]
async fn clones_share_one_token() {
    let source = ScriptedSource::default();
    let cache = TokenCache::new(source.clone());
    let clone = cache.clone();
    let (one, other) = (cache.token().await.unwrap(), clone.token().await.unwrap());
    assert_eq!(one.secret(), other.secret());
    clone.reject(&one);
    assert_eq!(cache.token().await.unwrap().secret(), "token-2");
    assert_eq!(source.tokens_issued(), 2);
}

/// Many threads start at once, on an empty cache and after a rejected token.
#[test]
fn callers_on_many_threads_are_one_fetch_too() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    for _ in 0..200 {
        let source = ScriptedSource::default();
        let cache = TokenCache::builder(source.clone()).build();
        let barrier = Arc::new(Barrier::new(4));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (cache, barrier) = (cache.clone(), Arc::clone(&barrier));
                runtime.spawn_blocking(move || {
                    barrier.wait();
                    tokio::runtime::Handle::current()
                        .block_on(cache.token())
                        .unwrap()
                })
            })
            .collect();
        let tokens = runtime.block_on(join_all(threads));
        for token in tokens {
            assert_eq!(token.unwrap().secret(), "token-1");
        }
        assert_eq!(source.tokens_issued(), 1);
    }
}

#[tokio::test]
async fn a_poll_after_completion_needs_no_waker_of_before() {
    let source = ScriptedSource::default();
    let cache = TokenCache::new(source);
    let mut waiter = task::spawn(cache.token());
    assert!(matches!(waiter.poll(), Poll::Pending));
    run_until_idle().await;
    assert!(waiter.is_woken());
    assert_ready!(waiter.poll()).unwrap();
}
