//! How many store calls a fleet makes per token. The formulas are those of `docs::fleet`.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;
use tower_auth::TokenCache;
use tower_auth_test::{ScriptedSource, run_until_idle};

use crate::support::breakable_store::BreakableStore;

const HOUR: Duration = Duration::from_secs(3600);

/// Returns the number of store calls if every process asks only after the token was saved.
fn steady(processes: usize) -> usize {
    processes + 4
}

/// Returns the number of store calls if all processes ask at once. Each waiting process polls the
/// store `looks` times.
fn burst(processes: usize, looks: usize) -> usize {
    5 + (processes - 1) * (1 + 2 * looks)
}

#[tokio::test(start_paused = true)]
async fn processes_that_come_one_after_the_other_ask_once_each_and_four_times_more_in_all() {
    for processes in [1, 2, 8, 100] {
        let store = BreakableStore::default();
        let source = ScriptedSource::expiring(HOUR);
        let fleet: Vec<TokenCache> = (0..processes)
            .map(|_| store.process(source.clone()))
            .collect();
        for process in &fleet {
            process.token().await.unwrap();
        }
        assert_eq!(store.calls().len(), steady(processes));
        // Each later token costs the same number of calls.
        for lifetime in 1..=3 {
            sleep(HOUR - 299 * Duration::from_secs(1)).await;
            for process in &fleet {
                process.token().await.unwrap();
                run_until_idle().await;
            }
            assert_eq!(
                store.calls().len(),
                steady(processes),
                "{processes} in lifetime {lifetime}"
            );
        }
        assert_eq!(source.tokens_issued(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn processes_that_come_at_once_ask_twice_for_each_look_while_they_wait() {
    for processes in [2, 8, 100] {
        // A waiting process polls 20, 60, 140, 300 and 620 ms after its first call. After that, it
        // polls every 320 ms.
        for (fetch, looks) in [(10, 1), (50, 2), (250, 4), (1000, 7)] {
            let store = BreakableStore::default();
            let source = ScriptedSource::expiring(HOUR);
            let slow = move |reason| {
                let source = source.clone();
                async move {
                    sleep(Duration::from_millis(fetch)).await;
                    tower_auth::TokenSource::fetch(&source, reason).await
                }
            };
            let fleet: Vec<TokenCache> = (0..processes)
                .map(|_| store.process(slow.clone()))
                .collect();
            for token in join_all(fleet.iter().map(TokenCache::token)).await {
                token.unwrap();
            }
            let calls = store.calls().len();
            assert_eq!(calls, burst(processes, looks), "{processes} for {fetch} ms");
        }
    }
}
