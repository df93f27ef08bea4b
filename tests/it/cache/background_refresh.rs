//! The background refresh keeps the token fresh without traffic. The refresh leaves no task or
//! timer behind.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::sleep;
use tower_auth::cache::{Clock, Phase};
use tower_auth::{Error, Reason, Token, TokenCache};
use tower_auth_test::{ScriptedSource, controlled_source, run_until_idle};

use crate::support::{clocked, issued, paused};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn the_token_is_refreshed_with_no_traffic() {
    let source = ScriptedSource::expiring(HOUR);
    let cache = paused(source.clone()).keep_fresh().build();
    cache.token().await.unwrap();
    // The token is refreshed every 55 minutes.
    for refreshes in 0..24 {
        sleep(HOUR - 302 * SECOND).await;
        assert_eq!(source.fetches(), 1 + refreshes);
        sleep(2 * SECOND).await;
        run_until_idle().await;
        assert_eq!(source.fetches(), 2 + refreshes);
        assert_eq!(cache.status().phase(), Phase::Fresh);
    }
}

#[tokio::test(start_paused = true)]
async fn on_demand_nothing_is_refreshed_until_somebody_asks() {
    let source = ScriptedSource::expiring(HOUR);
    let cache = paused(source.clone()).build();
    cache.token().await.unwrap();
    sleep(24 * HOUR).await;
    assert_eq!(source.fetches(), 1);
    assert_eq!(cache.status().phase(), Phase::Expired);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_fetched_before_anybody_asked_for_a_token() {
    let source = ScriptedSource::expiring(HOUR);
    let cache = paused(source.clone()).keep_fresh().build();
    sleep(24 * HOUR).await;
    assert_eq!(source.fetches(), 0);
    drop(cache);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_is_tried_again_with_no_traffic() {
    let source = ScriptedSource::from_fn(|attempt| match attempt {
        1 | 5.. => Token::bearer(format!("token-{attempt}")).map(|token| token.expires_in(HOUR)),
        _ => Err(Error::other("down")),
    });
    let cache = paused(source.clone()).keep_fresh().build();
    cache.token().await.unwrap();
    sleep(HOUR - 300 * SECOND).await;
    // The refresh fails three times. The waits before the next attempts are 1, 2 and 4 s.
    sleep(8 * SECOND).await;
    assert_eq!(source.fetches(), 5);
    assert_eq!(cache.token().await.unwrap().secret(), "token-5");
}

#[tokio::test(start_paused = true)]
async fn with_no_token_left_it_goes_on_trying() {
    let source = ScriptedSource::from_fn(|attempt| match attempt {
        1 | 20.. => Token::bearer(format!("token-{attempt}")).map(|token| token.expires_in(HOUR)),
        _ => Err(Error::other("down")),
    });
    let cache = paused(source.clone()).keep_fresh().build();
    cache.token().await.unwrap();
    sleep(HOUR).await;
    assert_eq!(cache.status().phase(), Phase::Failed);
    sleep(HOUR).await;
    assert_eq!(cache.token().await.unwrap().secret(), "token-20");
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_before_anybody_asks() {
    let (source, mut fetches) = controlled_source();
    let cache = paused(source).keep_fresh().build();
    issued(&mut fetches, &cache, "first", HOUR).await;
    cache.reject(&cache.token().await.unwrap());
    let fetch = fetches.next().await;
    assert_eq!(fetch.reason(), Reason::Refused);
    fetch.issue_for("second", HOUR);
    run_until_idle().await;
    sleep(HOUR - 299 * SECOND).await;
    assert_eq!(fetches.next().await.reason(), Reason::Stale);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_never_expires_keeps_the_timer_waiting() {
    let source = ScriptedSource::default();
    let cache = paused(source.clone()).keep_fresh().build();
    cache.token().await.unwrap();
    sleep(100 * HOUR).await;
    assert_eq!(source.fetches(), 1);
}

/// The cache's clock jumps forward, as after a suspension. Tokio's timers don't jump.
#[tokio::test(start_paused = true)]
async fn after_a_suspension_it_is_at_most_a_minute_late() {
    let (source, mut fetches) = controlled_source();
    let clock = Clock::manual();
    let cache = clocked(source, &clock).keep_fresh().build();
    issued(&mut fetches, &cache, "first", 10 * HOUR).await;
    clock.suspend(20 * HOUR);
    sleep(60 * SECOND).await;
    assert_eq!(fetches.next().await.reason(), Reason::Expired);
}

/// The runtime's task count and the source's reference count prove that nothing is left.
#[tokio::test(start_paused = true)]
async fn with_the_last_handle_the_timer_ends_and_nothing_is_left() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let captured = Arc::new(());
    let weak = Arc::downgrade(&captured);
    let source = move |_| {
        let captured = Arc::clone(&captured);
        async move {
            drop(captured);
            Token::bearer("secret").map(|token| token.expires_in(HOUR))
        }
    };
    let cache = paused(source).keep_fresh().build();
    let clone = cache.clone();
    cache.token().await.unwrap();
    run_until_idle().await;
    assert_eq!(tasks(), before + 1);
    drop(cache);
    run_until_idle().await;
    assert_eq!((tasks(), weak.strong_count()), (before + 1, 1));
    drop(clone);
    run_until_idle().await;
    assert_eq!((tasks(), weak.strong_count()), (before, 0));
}

#[tokio::test(start_paused = true)]
async fn many_fetches_start_one_timer() {
    let before = Handle::current().metrics().num_alive_tasks();
    let cache = paused(ScriptedSource::expiring(HOUR)).keep_fresh().build();
    for _ in 0..10 {
        cache.refresh_now().await.unwrap();
    }
    run_until_idle().await;
    let after = Handle::current().metrics().num_alive_tasks();
    assert_eq!(after, before + 1);
}

/// The timer stops when the runtime of the first fetch is dropped. The next fetch starts a new
/// timer.
#[test]
fn a_timer_that_died_with_its_runtime_is_started_again() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let (source, clock) = (ScriptedSource::expiring(HOUR), Clock::manual());
    let cache: TokenCache = clocked(source.clone(), &clock).keep_fresh().build();
    runtime().block_on(cache.token()).unwrap();
    let second = runtime();
    clock.advance(HOUR);
    second.block_on(cache.token()).unwrap();
    second.block_on(async {
        run_until_idle().await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
        clock.advance(HOUR - 299 * SECOND);
        sleep(61 * SECOND).await;
        run_until_idle().await;
    });
    assert_eq!(source.fetches(), 3);
}

/// The server's `Retry-After` forbids another attempt, and the token is still served. If the
/// background refresh didn't sleep here, Tokio's paused time would never advance.
#[tokio::test(start_paused = true)]
async fn while_exactly_the_margin_is_left_the_background_refresh_sleeps() {
    let source = ScriptedSource::from_fn(|attempt| match attempt {
        1 => Token::bearer("first").map(|token| token.expires_in(HOUR)),
        2 => Err(Error::other("busy").with_retry_after(300 * SECOND)),
        _ => Token::bearer("next").map(|token| token.expires_in(HOUR)),
    });
    let cache = paused(source.clone()).keep_fresh().build();
    cache.token().await.unwrap();
    sleep(HOUR - 30 * SECOND).await;
    run_until_idle().await;
    assert_eq!(cache.status().phase(), Phase::Stale);
    assert_eq!(source.fetches(), 2);
    sleep(SECOND).await;
    assert_eq!(cache.status().phase(), Phase::Failed);
    sleep(30 * SECOND).await;
    run_until_idle().await;
    assert_eq!(cache.token().await.unwrap().secret(), "next");
}
