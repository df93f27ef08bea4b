//! `ScriptedSource` and `controlled_source`.

use std::time::Duration;

use tower_auth::cache::Clock;
use tower_auth::{Error, Reason, Token, TokenCache, TokenSource};
use tower_auth_test::{ScriptedSource, Step, controlled_source, run_until_idle};

use crate::support::panic_message;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn the_steps_run_in_order_and_then_tokens_are_numbered() {
    let source = ScriptedSource::new([
        Step::token("scripted"),
        Step::error("down"),
        Step::from(Token::bearer("own")),
        Step::from(Error::transient("busy")),
    ]);
    source.then(Step::token("appended"));

    let fetch = || source.fetch(Reason::First);
    assert_eq!(fetch().await.unwrap().secret(), "scripted");
    assert!(fetch().await.unwrap_err().is_source());
    assert_eq!(fetch().await.unwrap().secret(), "own");
    assert!(fetch().await.unwrap_err().is_transient());
    assert_eq!(fetch().await.unwrap().secret(), "appended");
    assert_eq!(fetch().await.unwrap().secret(), "token-6");
    source.then(Step::token("later"));
    assert_eq!(fetch().await.unwrap().secret(), "later");
    assert_eq!(fetch().await.unwrap().secret(), "token-8");
    assert_eq!((source.fetches(), source.tokens_issued()), (8, 6));
}

#[tokio::test]
async fn clones_share_the_script_and_the_counts() {
    let source = ScriptedSource::new([Step::token("a"), Step::token("b")]);
    let clone = source.clone();
    assert_eq!(source.fetch(Reason::First).await.unwrap().secret(), "a");
    assert_eq!(clone.fetch(Reason::First).await.unwrap().secret(), "b");
    assert_eq!(source.tokens_issued(), 2);
    assert_eq!(
        format!("{clone:?}"),
        "ScriptedSource { steps_left: 0, fetches: 2, tokens_issued: 2 }"
    );
}

#[tokio::test]
async fn a_script_can_be_a_function_that_asks_its_own_source() {
    let slot = std::sync::Arc::new(std::sync::OnceLock::<ScriptedSource>::new());
    let own = slot.clone();
    let source = ScriptedSource::from_fn(move |number| {
        let fetches = own.get().unwrap().fetches();
        Token::bearer(format!("{number} of {fetches}").replace(' ', "-"))
    });
    slot.set(source.clone()).unwrap();
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(token.secret(), "1-of-1");
}

#[tokio::test]
async fn reasons_are_recorded_in_order() {
    let source = ScriptedSource::default();
    let cache = TokenCache::new(source.clone());
    let token = cache.token().await.unwrap();
    cache.reject(&token);
    cache.token().await.unwrap();
    cache.refresh_now().await.unwrap();
    assert_eq!(
        source.reasons(),
        [Reason::First, Reason::Refused, Reason::Forced]
    );
}

#[tokio::test(start_paused = true)]
async fn a_delayed_step_ends_by_tokios_clock() {
    let source = ScriptedSource::new([Step::token("late").after(Duration::from_secs(3))]);
    let started = tokio::time::Instant::now();
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(token.secret(), "late");
    assert!(started.elapsed() >= Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_step_runs_into_the_fetch_timeout() {
    let source = ScriptedSource::new([Step::hang()]);
    let cache = TokenCache::builder(source.clone())
        .fetch_timeout(Duration::from_secs(7))
        .build();
    let started = tokio::time::Instant::now();
    assert!(cache.token().await.unwrap_err().is_timeout());
    assert!(started.elapsed() >= Duration::from_secs(7));
    assert_eq!((source.fetches(), source.tokens_issued()), (1, 0));
}

#[tokio::test]
async fn a_panicking_step_fails_the_fetch_as_a_panic() {
    let cache = TokenCache::new(ScriptedSource::new([Step::panic()]));
    assert!(cache.token().await.unwrap_err().is_panic());
}

#[tokio::test]
async fn a_secret_that_no_header_can_contain_fails_the_fetch() {
    let source = ScriptedSource::new([Step::token("two\nlines")]);
    assert!(
        source
            .fetch(Reason::First)
            .await
            .unwrap_err()
            .is_illegal_token()
    );
}

#[tokio::test(start_paused = true)]
async fn the_lifetime_of_a_source_leaves_the_lifetime_of_a_step_alone() {
    let minute = Duration::from_secs(60);
    let source = ScriptedSource::new([
        Step::expiring("a-minute", minute),
        Step::token("an-hour"),
        Step::from(Token::bearer("ten").map(|token| token.expires_in(10 * minute))),
    ])
    .lifetime(HOUR);
    let cache = TokenCache::builder(source).clock(Clock::tokio()).build();
    let lives = async || {
        let asked = cache.refresh_now().await;
        asked.unwrap();
        let status = cache.status();
        let left = status
            .expires_at()
            .unwrap()
            .duration_since(status.requested_at().unwrap());
        left.unwrap().as_secs() / 60
    };
    assert_eq!(lives().await, 1);
    assert_eq!(lives().await, 60);
    assert_eq!(lives().await, 10);
    assert_eq!(lives().await, 60);
}

#[tokio::test(start_paused = true)]
async fn an_expiring_source_is_fetched_from_again_when_its_token_expires() {
    let source = ScriptedSource::expiring(HOUR);
    let cache = TokenCache::builder(source.clone())
        .clock(Clock::tokio())
        .build();
    assert_eq!(cache.token().await.unwrap().secret(), "token-1");
    tokio::time::advance(HOUR).await;
    assert_eq!(cache.token().await.unwrap().secret(), "token-2");
    assert_eq!(source.reasons(), [Reason::First, Reason::Expired]);
}

#[tokio::test]
async fn the_test_ends_each_fetch_of_a_controlled_source() {
    let (source, mut fetches) = controlled_source();
    let cache = TokenCache::new(source);
    fetches.assert_none().await;

    let caller = tokio::spawn(cache.token());
    let fetch = fetches.next().await;
    assert_eq!(fetch.reason(), Reason::First);
    assert!(!caller.is_finished());
    fetch.issue("first");
    assert_eq!(caller.await.unwrap().unwrap().secret(), "first");

    let caller = tokio::spawn(cache.refresh_now());
    let fetch = fetches.next().await;
    assert_eq!(fetch.reason(), Reason::Forced);
    fetch.fail("the vault is sealed");
    assert!(caller.await.unwrap().unwrap_err().is_source());

    let caller = tokio::spawn(cache.refresh_now());
    fetches.next().await.panic();
    assert!(caller.await.unwrap().unwrap_err().is_panic());

    let caller = tokio::spawn(cache.refresh_now());
    run_until_idle().await;
    let fetch = fetches.try_next().unwrap();
    fetch.issue_for("short", Duration::from_secs(60));
    assert_eq!(caller.await.unwrap().unwrap().secret(), "short");
    assert!(cache.status().expires_at().is_some());
    assert!(fetches.try_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_the_cache_dropped_says_so() {
    let (source, mut fetches) = controlled_source();
    let cache = TokenCache::new(source);
    let caller = tokio::spawn(cache.token());
    let fetch = fetches.next().await;
    assert!(!fetch.is_dropped());
    assert!(caller.await.unwrap().unwrap_err().is_timeout());

    assert!(fetch.is_dropped());
    assert_eq!(
        format!("{fetch:?}"),
        "Fetch { reason: First, is_dropped: true, .. }"
    );
    assert_eq!(
        panic_message(|| fetch.issue("too late")),
        "the fetch can't be completed: the cache has dropped it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_the_test_drops_never_ends() {
    let (source, mut fetches) = controlled_source();
    let cache = TokenCache::new(source);
    let caller = tokio::spawn(cache.token());
    drop(fetches.next().await);
    run_until_idle().await;
    assert!(!caller.is_finished());
    assert!(caller.await.unwrap().unwrap_err().is_timeout());
}

#[tokio::test]
async fn without_its_receiver_a_controlled_source_fails() {
    let (source, fetches) = controlled_source();
    drop(fetches);
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "the test has dropped its `Fetches`"
    );
}

#[tokio::test]
async fn a_fetch_that_nobody_expected_is_named_with_its_reason() {
    let (source, mut fetches) = controlled_source();
    let cache = TokenCache::new(source);
    let _caller = tokio::spawn(cache.token());
    let asserted = tokio::spawn(async move { fetches.assert_none().await });
    let payload = asserted.await.unwrap_err().into_panic();
    assert_eq!(
        *payload.downcast::<String>().unwrap(),
        "no fetch was expected, but one started: first"
    );
}

#[tokio::test]
async fn waiting_for_a_fetch_of_a_dropped_source_panics() {
    let (source, mut fetches) = controlled_source();
    drop(source);
    let waiting = tokio::spawn(async move { fetches.next().await });
    let payload = waiting.await.unwrap_err().into_panic();
    assert_eq!(
        *payload.downcast::<&str>().unwrap(),
        "no fetch can start: the source was dropped"
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_leaves_the_current_token_in_use_with_any_jitter() {
    for _ in 0..100 {
        let source = ScriptedSource::new([Step::expiring("first", HOUR), Step::error("down")]);
        let cache = TokenCache::builder(source.clone())
            .clock(Clock::tokio())
            .build();
        assert_eq!(cache.token().await.unwrap().secret(), "first");
        tokio::time::advance(HOUR * 97 / 100).await;
        assert_eq!(cache.token().await.unwrap().secret(), "first");
        run_until_idle().await;
        assert_eq!(source.reasons(), [Reason::First, Reason::Stale]);
    }
}
