//! When a watcher of a cache is woken, and which status it gets.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch::Receiver;
use tokio_test::{assert_pending, task};
use tower::{Layer, ServiceExt};
use tower_auth::cache::{Clock, Phase, Status};
use tower_auth::{Reason, Token};
use tower_auth_test::{Api, ScriptedSource, controlled_source, run_until_idle};

use super::{EMPTY, FRESH, Said, now, said, set_up};
use crate::support::{call, clocked, issued, paused, request};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Makes a change. Returns the watcher's new status, or `None` if the change doesn't wake the
/// watcher.
async fn news(watcher: &mut Receiver<Status>, change: impl Future) -> Option<Said> {
    assert!(!watcher.has_changed().unwrap(), "there is old news");
    let mut waiting = task::spawn(watcher.changed());
    assert_pending!(waiting.poll());
    change.await;
    run_until_idle().await;
    let is_woken = waiting.is_woken();
    drop(waiting);
    is_woken.then(|| said(&watcher.borrow_and_update()))
}

#[tokio::test]
async fn a_watcher_is_woken_as_a_fetch_begins_and_as_it_completes() {
    let (cache, mut fetches, _clock) = set_up();
    let mut watcher = cache.subscribe();
    let mut caller = task::spawn(cache.token());
    let begun = news(&mut watcher, async { assert_pending!(caller.poll()) });
    let fetching = Said {
        phase: Phase::Fetching,
        fetching: Some(Reason::First),
        ..EMPTY
    };
    // This status was published before the caller was counted as waiting.
    assert_eq!(begun.await, Some(fetching));
    let fetch = fetches.next().await;
    let completed = news(&mut watcher, async { fetch.issue_for("token", HOUR) });
    assert_eq!(completed.await, Some(FRESH));
}

#[tokio::test]
async fn a_watcher_is_woken_by_a_failure_and_by_a_refresh_behind() {
    let (cache, mut fetches, clock) = set_up();
    issued(&mut fetches, &cache, "token", HOUR).await;
    clock.advance(3300 * SECOND);
    let mut watcher = cache.subscribe();
    let begun = news(&mut watcher, cache.token()).await.unwrap();
    assert_eq!(
        (begun.phase, begun.fetching),
        (Phase::Stale, Some(Reason::Stale))
    );
    let fetch = fetches.next().await;
    let failed = news(&mut watcher, async { fetch.fail("down") })
        .await
        .unwrap();
    assert_eq!((failed.phase, failed.failures), (Phase::Stale, 1));
    assert!(failed.last_error.is_some());
}

#[tokio::test]
async fn a_watcher_is_woken_by_a_fetch_that_is_abandoned_with_its_runtime() {
    let (source, _fetches) = controlled_source();
    let cache = clocked(source, Clock::manual()).build();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let entered = runtime.enter();
    let mut caller = task::spawn(cache.token());
    assert_pending!(caller.poll());
    drop(entered);
    let mut watcher = cache.subscribe();
    let abandoned = news(&mut watcher, async { runtime.shutdown_background() });
    assert_eq!(abandoned.await, Some(EMPTY));
}

#[tokio::test]
async fn a_watcher_is_woken_by_an_acceptance_a_refusal_the_refusal_budget_and_the_end() {
    let (cache, mut fetches, _clock) = set_up();
    issued(&mut fetches, &cache, "first", HOUR).await;
    let first = cache.token().await.unwrap();
    let mut watcher = cache.subscribe();
    let accepted = news(&mut watcher, async { cache.accept(&first) }).await;
    assert!(accepted.unwrap().is_accepted);
    let refused = news(&mut watcher, async { cache.reject(&first) }).await;
    assert!(!refused.unwrap().is_ready);

    issued(&mut fetches, &cache, "second", HOUR).await;
    watcher.mark_unchanged();
    let second = cache.token().await.unwrap();
    let limited = news(&mut watcher, async { cache.reject(&second) }).await;
    assert!(limited.unwrap().refusals_limited_until.is_some());
    let accepted = news(&mut watcher, async { cache.accept(&second) }).await;
    assert!(accepted.unwrap().is_ready);

    let closed = news(&mut watcher, cache.close()).await;
    assert_eq!(closed.unwrap().phase, Phase::Closed);
}

#[tokio::test]
async fn a_watcher_is_not_woken_by_what_changes_nothing() {
    let (cache, mut fetches, clock) = set_up();
    issued(&mut fetches, &cache, "first", HOUR).await;
    let first = cache.token().await.unwrap();
    cache.reject(&first);
    issued(&mut fetches, &cache, "second", HOUR).await;
    let second = cache.token().await.unwrap();
    let mut client = crate::support::layer_from(cache.clone()).layer(Api::accepting(["second"]));
    call(&mut client, request("")).await.unwrap();
    let mut watcher = cache.subscribe();

    let serving = async {
        for _ in 0..10 {
            cache.token().await.unwrap();
            call(&mut client, request("")).await.unwrap();
            client.clone().oneshot(request("")).await.unwrap();
            cache.accept(&second);
            cache.reject(&first);
            cache.status();
            drop(cache.subscribe());
            clock.advance(SECOND);
        }
    };
    assert_eq!(news(&mut watcher, serving).await, None);
}

#[tokio::test]
async fn a_watcher_is_not_woken_by_refusals_over_the_budget_nor_by_cached_errors() {
    let (cache, mut fetches, _clock) = set_up();
    for secret in ["first", "second"] {
        issued(&mut fetches, &cache, secret, HOUR).await;
        cache.reject(&cache.token().await.unwrap());
    }
    let second = cache.token().await.unwrap();
    let mut watcher = cache.subscribe();
    let refused = news(&mut watcher, async { cache.reject(&second) });
    assert_eq!(refused.await, None);

    let (cache, mut fetches, _clock) = set_up();
    let caller = tokio::spawn(cache.token());
    fetches.next().await.fail("down");
    caller.await.unwrap().unwrap_err();
    let mut watcher = cache.subscribe();
    assert_eq!(news(&mut watcher, cache.token()).await, None);
}

#[tokio::test]
async fn a_subscription_holds_the_state_of_the_moment_though_only_time_has_passed() {
    let (cache, mut fetches, clock) = set_up();
    let mut before = cache.subscribe();
    assert_eq!(said(&before.borrow_and_update()), EMPTY);
    issued(&mut fetches, &cache, "token", HOUR).await;
    assert_eq!(said(&before.borrow_and_update()), FRESH);
    clock.advance(3300 * SECOND);
    let subscribed = news(&mut before, async { drop(cache.subscribe()) });
    assert_eq!(subscribed.await, None);
    assert_eq!(cache.subscribe().borrow().phase(), Phase::Stale);
    clock.advance(300 * SECOND);
    assert_eq!(cache.subscribe().borrow().phase(), Phase::Expired);
}

#[tokio::test]
async fn with_nobody_watching_all_goes_on_and_who_comes_late_sees_the_newest() {
    let (cache, mut fetches, clock) = set_up();
    drop(cache.subscribe());
    issued(&mut fetches, &cache, "first", HOUR).await;
    assert_eq!(said(&cache.subscribe().borrow()), FRESH);
    cache.reject(&cache.token().await.unwrap());
    let caller = tokio::spawn(cache.token());
    fetches.next().await.fail("down");
    // Without a successor, the rejected token is still the current one.
    assert_eq!(caller.await.unwrap().unwrap().secret(), "first");
    assert_eq!(said(&cache.subscribe().borrow()), now(&cache));
    assert_eq!(cache.subscribe().borrow().failures(), 1);
    clock.advance(5 * SECOND);
    cache.reject(&cache.token().await.unwrap());
    issued(&mut fetches, &cache, "second", HOUR).await;
    assert_eq!(cache.subscribe().borrow().failures(), 0);
    cache.close().await;
    assert_eq!(cache.subscribe().borrow().phase(), Phase::Closed);
}

#[tokio::test]
async fn one_who_waits_until_it_is_ready_is_told_when_the_token_is_accepted() {
    let (cache, mut fetches, _clock) = set_up();
    let mut watcher = cache.subscribe();
    let mut ready = task::spawn(watcher.wait_for(Status::is_ready));
    assert_pending!(ready.poll());
    let caller = tokio::spawn(cache.token());
    let fetch = fetches.next().await;
    assert_pending!(ready.poll());
    fetch.issue_for("first", HOUR);
    caller.await.unwrap().unwrap();
    assert!(ready.is_woken());
    assert_eq!(said(&ready.await.unwrap()), FRESH);

    cache.reject(&cache.token().await.unwrap());
    issued(&mut fetches, &cache, "second", HOUR).await;
    let second = cache.token().await.unwrap();
    cache.reject(&second);
    let mut ready = task::spawn(watcher.wait_for(Status::is_ready));
    assert_pending!(ready.poll());
    cache.accept(&second);
    assert!(ready.is_woken());
    assert!(ready.await.unwrap().is_accepted());
}

#[tokio::test(start_paused = true)]
async fn a_watcher_keeps_nothing_alive_and_is_told_of_the_end() {
    for keeps_fresh in [false, true] {
        let captured = Arc::new(());
        let weak = Arc::downgrade(&captured);
        let source = move |_| {
            let captured = Arc::clone(&captured);
            async move {
                drop(captured);
                Token::bearer("secret").map(|token| token.expires_in(HOUR))
            }
        };
        let cache = paused(source);
        let cache = if keeps_fresh {
            cache.keep_fresh()
        } else {
            cache
        }
        .build();
        cache.token().await.unwrap();
        run_until_idle().await;
        let mut watcher = cache.subscribe();
        let clone = cache.clone();
        drop(cache);
        assert_eq!(weak.strong_count(), 1);
        assert!(!watcher.has_changed().unwrap());

        let mut waiting = task::spawn(watcher.changed());
        assert_pending!(waiting.poll());
        drop(clone);
        assert_eq!(weak.strong_count(), 0);
        assert!(waiting.is_woken());
        waiting.await.unwrap_err();
        // The watcher still has the last status.
        assert_eq!(watcher.borrow().phase(), Phase::Fresh);
    }
}

#[tokio::test]
async fn a_request_that_is_served_is_what_accepts_its_token() {
    let cache = clocked(ScriptedSource::default(), Clock::manual()).build();
    let client = crate::support::layer_from(cache.clone()).layer(Api::accepting(["token-1"]));
    cache.token().await.unwrap();
    let mut watcher = cache.subscribe();
    let served = news(&mut watcher, client.clone().oneshot(request("")));
    assert!(served.await.unwrap().is_accepted);
    let again = news(&mut watcher, client.oneshot(request("")));
    assert_eq!(again.await, None);
}
