//! Processes that fail, end or are slow while they hold the lease.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_auth::fleet::Fleet;
use tower_auth::{Error, Reason, Token, TokenSource};
use tower_auth_test::{ScriptedSource, controlled_source, run_until_idle};

use super::store_failures::OneTime;
use super::{HOUR, SECOND, secret, two};
use crate::support::breakable_store::{BreakableStore, key, keyring};
use crate::support::runtime;
use crate::support::slow_store::SlowStore;

#[tokio::test(start_paused = true)]
async fn one_whose_fetch_fails_lets_the_next_one_try() {
    let store = BreakableStore::default();
    let [(first, mut first_fetches), (second, mut second_fetches)] = two(&store);
    let failing = tokio::spawn(first.token());
    let fetch = first_fetches.next().await;
    let waiting = tokio::spawn(second.token());
    second_fetches.assert_none().await;
    fetch.fail("down");
    failing.await.unwrap().unwrap_err();
    second_fetches.next().await.issue_for("token", HOUR);
    assert_eq!(waiting.await.unwrap().unwrap().secret(), "token");
}

#[tokio::test(start_paused = true)]
async fn when_a_process_dies_in_mid_fetch_one_of_the_others_goes_on_within_the_lease_time() {
    let store = BreakableStore::default();
    let mortal = store.of_another_process();
    let dead = mortal.process(|_| std::future::pending());
    let (source, mut second_fetches) = controlled_source();
    let second = store.process(source);
    let third = store.process(|_| async { panic!("a third fetch") });
    let start = Instant::now();
    tokio::spawn(dead.token());
    run_until_idle().await;
    let waiting = [second.token(), third.token()].map(tokio::spawn);
    // Nobody renews or releases the lease of a process that was killed.
    mortal.kill();
    second_fetches.next().await.issue_for("token", HOUR);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().unwrap().secret(), "token");
    }
    let late = start.elapsed() - 3 * SECOND;
    assert!(late < SECOND, "{late:?} after the lease");
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_fetches_for_itself_after_half_as_long_again() {
    let store = BreakableStore::default();
    let [(held_up, mut fetches), (second, mut second_fetches)] = two(&store);
    let start = Instant::now();
    tokio::spawn(held_up.token());
    let held_up = fetches.next().await;
    // Another process takes the lease as soon as the lease ends.
    let greedy = store.process(|_| std::future::pending());
    tokio::spawn(async move {
        sleep(10 * SECOND - Duration::from_millis(1)).await;
        loop {
            drop(tokio::time::timeout(Duration::from_millis(2), greedy.refresh_now()).await);
        }
    });
    let waiting = tokio::spawn(second.token());
    second_fetches.next().await.issue_for("token", HOUR);
    let waited = start.elapsed();
    assert!((14 * SECOND..=15 * SECOND).contains(&waited), "{waited:?}");
    assert_eq!(waiting.await.unwrap().unwrap().secret(), "token");
    drop(held_up);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_never_longer_than_a_third_of_what_a_fetch_may_take() {
    let store = BreakableStore::default();
    let hanging = |_| std::future::pending();
    let first = store.settings(hanging).fleet(store.fleet()).unwrap();
    let first = first.fetch_timeout(3 * SECOND).build();
    let asked = tokio::spawn(first.token());
    run_until_idle().await;
    let second = store.process(ScriptedSource::default());
    let start = Instant::now();
    second.token().await.unwrap();
    let waited = start.elapsed();
    assert!((SECOND..2 * SECOND).contains(&waited), "{waited:?}");
    asked.await.unwrap().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_lost_puts_no_old_token_in_the_place_of_a_newer() {
    let store = BreakableStore::default();
    let [(held_up, mut fetches), (second, mut second_fetches)] = two(&store);
    let late = tokio::spawn(held_up.token());
    let fetch = fetches.next().await;
    let waiting = tokio::spawn(second.token());
    second_fetches.next().await.issue_for("newer", HOUR);
    waiting.await.unwrap().unwrap();
    fetch.issue_for("older", HOUR);
    // The process that fetched the older token still uses it.
    assert_eq!(late.await.unwrap().unwrap().secret(), "older");
    assert_eq!(
        secret(&store.process(ScriptedSource::default())).await,
        "newer"
    );
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_shuts_down_in_mid_fetch_holds_the_others_up_for_no_longer_than_the_lease() {
    let store = BreakableStore::default();
    let (source, mut fetches) = controlled_source();
    let cache = store.process(source);
    let gone = runtime();
    let asked = gone.spawn(cache.token());
    std::thread::spawn(move || gone.block_on(async { drop(fetches.next().await) }))
        .join()
        .unwrap();
    drop(asked);
    let start = Instant::now();
    assert_eq!(
        secret(&store.process(ScriptedSource::default())).await,
        "token-1"
    );
    assert!(start.elapsed() < 4 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_cancelled_releases_its_lease_at_once() {
    let store = BreakableStore::default();
    let hanging = |_| std::future::pending::<Result<Token, Error>>();
    let closed = store.process(hanging);
    let late = store.settings(OneTime(hanging)).fetch_attempts(1);
    let late = late.fleet(store.fleet()).unwrap().build();
    let is_free = async || {
        let start = Instant::now();
        let next = store.process(ScriptedSource::default());
        next.token().await.unwrap();
        start.elapsed() == Duration::ZERO
    };
    tokio::spawn(closed.token());
    run_until_idle().await;
    // The limit of closing, and the fetch timeout.
    closed.close().await;
    assert!(is_free().await);
    store.forgets_all();
    late.token().await.unwrap_err();
    assert!(is_free().await);
}

/// Gives a process a store whose calls take 0.2 s, and kills it after this time.
async fn dies_after(store: &BreakableStore, time: Duration) {
    let mortal = store.of_another_process();
    let slow = SlowStore::new(mortal.clone(), SECOND / 10, SECOND / 10);
    let fleet = Fleet::new(slow, keyring()).key(key());
    let dying = store.process_of(fleet, OneTime(|_| std::future::pending()));
    tokio::spawn(dying.token());
    sleep(time).await;
    mortal.kill();
}

/// The load, the lease, the second load and the renewal take 0.8 s.
#[tokio::test(start_paused = true)]
async fn who_dies_with_a_one_time_grant_delays_the_others_by_3_s_unless_it_was_sent() {
    let delays = [
        (SECOND / 2, 2 * SECOND..4 * SECOND),
        (SECOND, 12 * SECOND..14 * SECOND),
    ];
    for (time, expected) in delays {
        let store = BreakableStore::default();
        dies_after(&store, time).await;
        let start = Instant::now();
        let other = store.process(OneTime(ScriptedSource::expiring(HOUR)));
        assert_eq!(secret(&other).await, "token-1");
        let waited = start.elapsed();
        assert!(expected.contains(&waited), "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_stalls_after_a_one_time_grant_was_sent_is_not_overtaken() {
    let store = BreakableStore::default();
    let stalled = store.of_another_process();
    let slow = stalled.process(OneTime(|_| async {
        sleep(10 * SECOND).await;
        Token::bearer("slow")
    }));
    tokio::spawn(slow.token());
    run_until_idle().await;
    stalled.kill();
    let other = store.process(OneTime(|_| async { panic!("a second fetch") }));
    let waiting = tokio::spawn(other.token());
    sleep(10 * SECOND - Duration::from_millis(1)).await;
    stalled.wakes_up();
    assert_eq!(waiting.await.unwrap().unwrap().secret(), "slow");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_revokes_no_token_that_others_use() {
    struct Revoking;
    impl TokenSource for Revoking {
        async fn fetch(&self, _: Reason) -> Result<Token, Error> {
            Token::bearer("shared")
        }
        async fn close(&self, last: Option<Token>) -> Result<(), Error> {
            assert!(last.is_none(), "it would be revoked");
            Ok(())
        }
    }
    let store = BreakableStore::default();
    let cache = store.process(Revoking);
    cache.token().await.unwrap();
    let (log, _listening) = crate::support::log::listen();
    cache.close().await;
    let [] = log.events();
}
