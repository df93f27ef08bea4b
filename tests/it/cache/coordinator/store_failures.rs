//! If the store fails, each process fetches its own token. No request waits or fails.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tower_auth::{Error, Reason, Token, TokenCache, TokenSource};
use tower_auth_test::ScriptedSource;
use tracing::Level;

use crate::support::breakable_store::{BreakableStore, Fault, key, lose_a_lease, wait_in_vain};
use crate::support::log::listen;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const STORE_TIMEOUT: Duration = Duration::from_millis(250);
const OPERATIONS: [&str; 4] = ["load", "lease", "save", "release"];

async fn secret(cache: &TokenCache) -> String {
    cache.token().await.unwrap().secret().to_owned()
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_each_process_has_a_token_from_its_own_fetch() {
    for operation in OPERATIONS {
        let store = BreakableStore::default();
        store.breaks(operation, Fault::Fails);
        let source = ScriptedSource::expiring(HOUR);
        let (log, _listening) = listen();
        let start = Instant::now();
        let process = store.process(source.clone());
        assert_eq!(secret(&process).await, "token-1", "{operation}");
        assert_eq!(start.elapsed(), Duration::ZERO, "{operation}");
        let mut calls = store.calls();
        if operation == "save" {
            // The fetch doesn't wait for this call, which lets another process fetch at once.
            assert_eq!(calls.pop(), Some("release"));
        }
        assert_eq!(calls.last(), Some(&operation), "none after it");
        let [told, completed] = log.events();
        told.is(
            Level::WARN,
            "the shared store failed",
            [
                "tower_auth.cache=orders",
                &format!("tower_auth.store.operation={operation}"),
                "error.message=the store is broken",
            ],
        );
        assert_eq!(completed.message, "a token was fetched");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_hangs_costs_a_process_a_quarter_of_a_second_once() {
    for operation in OPERATIONS {
        let store = BreakableStore::default();
        store.breaks(operation, Fault::Hangs);
        let (log, _listening) = listen();
        let start = Instant::now();
        let process = store.process(ScriptedSource::expiring(HOUR));
        assert_eq!(secret(&process).await, "token-1", "{operation}");
        assert_eq!(start.elapsed(), STORE_TIMEOUT, "{operation}");
        let [told, _] = log.events();
        told.is(
            Level::WARN,
            "the shared store didn't answer in time",
            [
                "tower_auth.cache=orders",
                &format!("tower_auth.store.operation={operation}"),
                "tower_auth.store.timeout=250ms",
            ],
        );
    }
}

#[tokio::test(start_paused = true)]
async fn how_long_a_store_may_take_is_a_setting() {
    let store = BreakableStore::default();
    store.breaks("load", Fault::Hangs);
    let fleet = store.fleet().store_timeout(SECOND);
    let start = Instant::now();
    secret(&store.process_of(fleet, ScriptedSource::default())).await;
    assert_eq!(start.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_holds_up_nobody_who_has_a_token() {
    let store = BreakableStore::default();
    let source = ScriptedSource::expiring(HOUR);
    let process = store.process(source.clone());
    process.token().await.unwrap();
    for operation in OPERATIONS {
        store.breaks(operation, Fault::Hangs);
    }
    sleep(HOUR - 100 * SECOND).await;
    // The token is stale, so it is refreshed in the background.
    let start = Instant::now();
    for _ in 0..1000 {
        assert_eq!(secret(&process).await, "token-1");
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    sleep(SECOND).await;
    assert_eq!(secret(&process).await, "token-2");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_works_again_is_used_again() {
    let store = BreakableStore::default();
    let source = ScriptedSource::expiring(HOUR);
    let processes = [(); 3].map(|()| store.process(source.clone()));
    store.breaks("load", Fault::Fails);
    for (n, process) in processes.iter().enumerate() {
        assert_eq!(secret(process).await, format!("token-{}", n + 1));
    }
    store.works_again();
    sleep(HOUR).await;
    for process in &processes {
        assert_eq!(secret(process).await, "token-4");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_forgets_all_at_any_moment_fails_no_request() {
    let store = BreakableStore::default();
    for at in 0..60 {
        let source = {
            let store = store.clone();
            move |_| {
                let store = store.clone();
                async move {
                    // Here the fetch is running, so the store forgets the lease too.
                    if at % 2 == 0 {
                        store.forgets_all();
                    }
                    sleep(SECOND / 10).await;
                    if at % 3 == 0 {
                        store.forgets_all();
                    }
                    Ok::<_, Error>(Token::bearer("token")?.expires_in(HOUR))
                }
            }
        };
        let processes = [(); 4].map(|()| store.process(source.clone()));
        let asked = processes
            .each_ref()
            .map(|process| tokio::spawn(process.token()));
        sleep(Duration::from_millis(at * 5)).await;
        store.forgets_all();
        for asked in asked {
            asked.await.unwrap().unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_used_is_told_and_overwritten() {
    let store = BreakableStore::default();
    secret(&store.process(ScriptedSource::expiring(HOUR))).await;
    store.put(b"foreign".to_vec());
    let (log, _listening) = listen();
    secret(&store.process(ScriptedSource::from_fn(|_| Token::bearer("newer")))).await;
    let [told, _] = log.events();
    told.is(
        Level::WARN,
        "ignored a value in the shared store that this process can't use as a token",
        [
            "tower_auth.cache=orders",
            &format!("tower_auth.store.key={}", key().to_text()),
            "tower_auth.store.ignored=corrupt",
        ],
    );
    assert_eq!(
        secret(&store.process(ScriptedSource::default())).await,
        "newer"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_told() {
    let (log, _listening) = listen();
    lose_a_lease().await;
    let lost = log
        .all()
        .into_iter()
        .filter(|line| line.message.starts_with("the lease expired"));
    // There are two events: the token wasn't saved, and the lease wasn't released.
    assert_eq!(
        lost.map(|line| line.level).collect::<Vec<_>>(),
        [Level::WARN; 2]
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_vain_is_told() {
    let (log, _listening) = listen();
    wait_in_vain().await;
    let told = log
        .all()
        .into_iter()
        .find(|line| line.message.starts_with("no other process"));
    told.unwrap().is(
        Level::WARN,
        "no other process saved a token in time",
        ["tower_auth.cache=orders", "tower_auth.store.waited=15s"],
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_that_another_process_has_fetched_is_told_as_such() {
    let store = BreakableStore::default();
    secret(&store.process(ScriptedSource::expiring(HOUR))).await;
    let (log, _listening) = listen();
    secret(&store.process(ScriptedSource::default())).await;
    let [taken] = log.events();
    taken.is(
        Level::DEBUG,
        "a token was taken from the shared store",
        [
            "tower_auth.cache=orders",
            "tower_auth.fetch.reason=first",
            "tower_auth.fetch.duration=0ns",
            "tower_auth.fetch.attempts=1",
            "tower_auth.fetch.waiters=1",
            "tower_auth.token.lifetime=3600s",
        ],
    );
}

/// Only the process that logged in can use a session's cookies.
#[cfg(feature = "cookies")]
#[tokio::test(start_paused = true)]
async fn a_token_that_is_of_use_to_one_process_alone_is_not_shared() {
    use crate::support::session_site::Site;
    let site = Site::numbering();
    let store = BreakableStore::default();
    let (log, _listening) = listen();
    let process = store.process(site.session());
    process.token().await.unwrap();
    assert!(store.stored().is_empty());
    let [told, _] = log.events();
    told.is(
        Level::WARN,
        "a token of this kind can't be shared, so only this process uses it",
        ["tower_auth.cache=orders"],
    );
}

#[cfg(feature = "metrics")]
#[test]
fn what_the_store_does_is_counted() {
    crate::support::recorder::recorded(|metrics| async move {
        let store = BreakableStore::default();
        let processes = [(); 2].map(|()| store.process(ScriptedSource::expiring(HOUR)));
        for process in &processes {
            secret(process).await;
        }
        store.breaks("load", Fault::Hangs);
        secret(&store.process(ScriptedSource::default())).await;
        let recorded = metrics.take();
        let counted = |name: &str, labels: &str| {
            let key = format!("{name}{{cache=orders,{labels}}}");
            recorded.get(&key).map(|values| values[0])
        };
        for (operation, outcome, count) in [
            ("load", "miss", 2.0),
            ("load", "hit", 1.0),
            ("load", "timed_out", 1.0),
            ("lease", "granted", 1.0),
            ("save", "saved", 1.0),
            ("release", "released", 1.0),
        ] {
            let labels = format!("operation={operation},outcome={outcome}");
            let counted = counted("tower_auth.store.operations", &labels);
            assert_eq!(counted, Some(count), "{labels}: {recorded:?}");
        }
        for (outcome, count) in [("ok", 2.0), ("shared", 1.0)] {
            let labels = format!("outcome={outcome},reason=first");
            assert_eq!(
                counted("tower_auth.fetches", &labels),
                Some(count),
                "{recorded:?}"
            );
        }
    });
}

/// A source with a one-time grant.
#[derive(Clone)]
pub(super) struct OneTime<S>(pub(super) S);

impl<S> TokenSource for OneTime<S>
where
    S: TokenSource,
{
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        self.0.fetch(reason).await
    }

    fn has_one_time_grant(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_one_time_grant_is_not_used_without_the_lease() {
    for operation in ["load", "lease"] {
        for fault in [Fault::Fails, Fault::Hangs] {
            let store = BreakableStore::default();
            store.breaks(operation, fault);
            let source = ScriptedSource::expiring(HOUR);
            let process = store.process(OneTime(source.clone()));
            let error = process.token().await.unwrap_err();
            assert_eq!(source.tokens_issued(), 0, "{operation}");
            assert!(error.is_transient(), "{error:?}");
            assert!(error.to_string().contains("one-time grant"), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_one_time_grant_can_not_be_used_the_current_token_stays_in_use() {
    let store = BreakableStore::default();
    let source = ScriptedSource::expiring(HOUR);
    let process = store.process(OneTime(source.clone()));
    assert_eq!(secret(&process).await, "token-1");
    store.breaks("lease", Fault::Fails);
    tokio::time::advance(HOUR - 120 * SECOND).await;
    assert_eq!(secret(&process).await, "token-1");
    sleep(60 * SECOND).await;
    assert_eq!(secret(&process).await, "token-1");
    assert_eq!(source.tokens_issued(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_one_time_grant_waits_for_the_process_that_has_the_lease_and_does_not_go_on_alone() {
    let store = BreakableStore::default();
    let fleet = store.fleet().lease_time(20 * SECOND);
    let hangs = store.settings(|_| std::future::pending());
    let holder = hangs.fleet(fleet).unwrap().fetch_timeout(60 * SECOND);
    let holding = tokio::spawn(holder.build().token());
    tower_auth_test::run_until_idle().await;
    let source = ScriptedSource::expiring(HOUR);
    let waiting = store.settings(OneTime(source.clone())).fetch_attempts(1);
    let waiting = waiting.fleet(store.fleet()).unwrap().build();
    let error = waiting.token().await.unwrap_err();
    assert!(error.to_string().contains("one-time grant"), "{error}");
    assert_eq!(source.tokens_issued(), 0);
    holding.abort();
}
