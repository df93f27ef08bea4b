//! Which token the processes share, and which process fetches and refreshes it.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{advance, sleep};
use tower_auth::{Error, Token, TokenCache, TokenSource};
use tower_auth_test::{ScriptedSource, run_until_idle};

use super::{HOUR, SECOND, secret, two};
use crate::support::breakable_store::{BreakableStore, key, keyring};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn what_one_process_has_fetched_the_next_one_takes() {
    let store = BreakableStore::default();
    let source = ScriptedSource::expiring(HOUR);
    let first = store.process(source.clone());
    assert_eq!(secret(&first).await, "token-1");
    assert_eq!(store.calls(), ["load", "lease", "load", "save", "release"]);
    assert_eq!(store.ttl(), HOUR);

    let second = store.process(source.clone());
    assert_eq!(secret(&second).await, "token-1");
    assert_eq!(store.calls(), ["load"]);
    assert_eq!(source.tokens_issued(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_saved_between_the_look_and_the_lease_is_taken_and_the_lease_given_back() {
    let store = BreakableStore::default();
    let source = ScriptedSource::expiring(HOUR);
    store.process(source.clone()).token().await.unwrap();
    store.is_saved_before_the_lease();
    store.calls();
    assert_eq!(secret(&store.process(source.clone())).await, "token-1");
    assert_eq!(store.calls(), ["load", "lease", "load", "release"]);
    assert_eq!(source.tokens_issued(), 1);
}

/// A source that is as slow as a token endpoint.
fn slow(source: ScriptedSource) -> impl TokenSource + Clone {
    move |reason| {
        let source = source.clone();
        async move {
            sleep(SECOND / 4).await;
            source.fetch(reason).await
        }
    }
}

async fn all_ask(processes: &[TokenCache], callers: usize) {
    let ask = processes
        .iter()
        .flat_map(|cache| (0..callers).map(|_| cache.token()));
    for token in join_all(ask).await {
        token.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn eight_processes_with_a_thousand_callers_each_fetch_once_when_cold_and_once_at_expiry() {
    let store = BreakableStore::default();
    let source = ScriptedSource::expiring(HOUR);
    let processes = [(); 8].map(|()| store.process(slow(source.clone())));
    all_ask(&processes, 1000).await;
    assert_eq!(source.tokens_issued(), 1);

    advance(HOUR).await;
    all_ask(&processes, 1000).await;
    assert_eq!(source.tokens_issued(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stale_token_is_refreshed_by_one_process_and_the_others_take_the_newer() {
    let store = BreakableStore::default();
    let source = ScriptedSource::expiring(HOUR);
    let processes = [(); 8].map(|()| store.process(slow(source.clone())));
    all_ask(&processes, 1).await;
    advance(HOUR - 4 * MINUTE).await;
    all_ask(&processes, 1).await;
    sleep(2 * SECOND).await;
    for process in &processes {
        assert_eq!(secret(process).await, "token-2");
    }
    assert_eq!(source.tokens_issued(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_process_that_is_stale_itself_is_no_refresh() {
    let store = BreakableStore::default();
    let source = ScriptedSource::from_fn(|attempt| {
        let lifetime = if attempt == 2 { 27 * MINUTE } else { HOUR };
        Ok(Token::bearer(format!("token-{attempt}"))?.expires_in(lifetime))
    });
    let processes = [(); 2].map(|()| store.process(source.clone()));
    all_ask(&processes, 1).await;
    sleep(30 * MINUTE).await;
    processes[1].refresh_now().await.unwrap();
    sleep(26 * MINUTE).await;
    processes[0].token().await.unwrap();
    run_until_idle().await;
    assert_eq!(secret(&processes[0]).await, "token-3");
}

/// Jitter decides when a token becomes stale. With another random value, the same token might be
/// fresh.
#[tokio::test(start_paused = true)]
async fn a_stale_token_is_not_taken_for_its_own_refresh() {
    for _ in 0..20 {
        let store = BreakableStore::default();
        let settings = store.settings(ScriptedSource::expiring(HOUR)).jitter(1.0);
        let process = settings.fleet(store.fleet()).unwrap().build();
        process.token().await.unwrap();
        let stale = process.status().refresh_at().unwrap();
        let issued = process.status().requested_at().unwrap();
        sleep(stale.duration_since(issued).unwrap()).await;
        process.token().await.unwrap();
        run_until_idle().await;
        assert_eq!(secret(&process).await, "token-2");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_another_process_has_is_refreshed_as_long_before_its_end_as_ones_own() {
    let store = BreakableStore::default();
    let source = ScriptedSource::expiring(HOUR);
    let first = store.process(source.clone());
    first.token().await.unwrap();
    advance(50 * MINUTE).await;
    let second = store.process(source.clone());
    second.token().await.unwrap();
    for at in [
        Token::requested_at_of,
        Token::refresh_at_of,
        Token::expires_at_of,
    ] {
        assert_eq!(at(&first), at(&second));
    }
    assert_eq!(source.tokens_issued(), 1);
}

/// Returns times from a cache's status.
trait Times {
    fn requested_at_of(cache: &TokenCache) -> Option<std::time::SystemTime> {
        cache.status().requested_at()
    }
    fn refresh_at_of(cache: &TokenCache) -> Option<std::time::SystemTime> {
        cache.status().refresh_at()
    }
    fn expires_at_of(cache: &TokenCache) -> Option<std::time::SystemTime> {
        cache.status().expires_at()
    }
}

impl Times for Token {}

#[tokio::test(start_paused = true)]
async fn a_token_past_its_margin_is_not_taken() {
    let store = BreakableStore::default();
    let source = ScriptedSource::expiring(HOUR);
    store.process(source.clone()).token().await.unwrap();
    advance(HOUR - 30 * SECOND).await;
    assert_eq!(secret(&store.process(source.clone())).await, "token-1");
    advance(SECOND).await;
    assert_eq!(secret(&store.process(source.clone())).await, "token-2");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_never_ends_is_kept_for_a_day() {
    let store = BreakableStore::default();
    let source = ScriptedSource::default();
    store.process(source.clone()).token().await.unwrap();
    assert_eq!(store.ttl(), 24 * HOUR);
    assert_eq!(secret(&store.process(source.clone())).await, "token-1");
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_fetched_again_by_the_first_and_the_others_take_the_newer() {
    let store = BreakableStore::default();
    let source = ScriptedSource::expiring(HOUR);
    let processes = [(); 8].map(|()| store.process(slow(source.clone())));
    all_ask(&processes, 1).await;
    for process in &processes {
        let token = process.token().await.unwrap();
        process.accept(&token);
        process.reject(&token);
    }
    for process in &processes {
        assert_eq!(secret(process).await, "token-2");
    }
    assert_eq!(source.tokens_issued(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_process_takes_a_token_again_that_it_was_refused_with() {
    let store = BreakableStore::default();
    let source = ScriptedSource::expiring(HOUR);
    let process = store.process(source.clone());
    let first = process.token().await.unwrap();
    // The process gets no lease, so the second token isn't saved. The store still contains the
    // first.
    store.breaks("lease", crate::support::breakable_store::Fault::Fails);
    process.accept(&first);
    process.reject(&first);
    let second = process.token().await.unwrap();
    store.works_again();
    tokio::time::advance(Duration::from_secs(5)).await;
    process.accept(&second);
    process.reject(&second);
    assert_eq!(secret(&process).await, "token-3");
    assert_eq!(secret(&store.process(source.clone())).await, "token-3");
}

#[tokio::test(start_paused = true)]
async fn a_new_token_that_somebody_asks_for_is_none_that_was_there_before() {
    let store = BreakableStore::default();
    let source = ScriptedSource::expiring(HOUR);
    let processes = [(); 2].map(|()| store.process(source.clone()));
    all_ask(&processes[..1], 1).await;
    let newer = processes[1].refresh_now().await.unwrap();
    assert_eq!(newer.secret(), "token-2");
}

#[tokio::test(start_paused = true)]
async fn a_new_token_that_somebody_asks_for_may_be_one_that_another_process_is_fetching() {
    let store = BreakableStore::default();
    let [(first, mut first_fetches), (second, mut second_fetches)] = two(&store);
    let asked = tokio::spawn(first.refresh_now());
    let fetch = first_fetches.next().await;
    let waiting = tokio::spawn(second.refresh_now());
    second_fetches.assert_none().await;
    fetch.issue_for("token", HOUR);
    asked.await.unwrap().unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().secret(), "token");
    second_fetches.assert_none().await;
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_source_is_told_as_it_is() {
    let store = BreakableStore::default();
    let source = ScriptedSource::from_fn(|_| Error::other("down"));
    let error = store.process(source.clone()).token().await.unwrap_err();
    assert!(error.is_source(), "{error}");
    assert_eq!(source.fetches(), 1);
    assert_eq!(store.calls(), ["load", "lease", "load", "save", "release"]);
}

#[test]
fn a_source_of_which_it_is_not_known_what_its_tokens_depend_on_can_not_be_shared() {
    let fleet = tower_auth::fleet::Fleet::new(BreakableStore::default(), keyring());
    let error = TokenCache::builder(ScriptedSource::default())
        .fleet(fleet)
        .err()
        .unwrap();
    assert!(error.is_config());
    assert!(error.to_string().contains("`Fleet::key`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn tenants_of_one_store_have_tokens_of_their_own() {
    let store = BreakableStore::default();
    let source = ScriptedSource::expiring(HOUR);
    let of = |tenant: &str| store.process_of(store.fleet().tenant(tenant), source.clone());
    assert_eq!(secret(&of("acme")).await, "token-1");
    assert_eq!(secret(&of("initech")).await, "token-2");
    assert_eq!(secret(&of("acme")).await, "token-1");
    let other = store.fleet().key(key().with("audience", "reports"));
    assert_eq!(
        secret(&store.process_of(other, source.clone())).await,
        "token-3"
    );
}
