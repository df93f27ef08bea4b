//! A source's hints about when the cache refreshes its token.

use std::time::Duration;

use tower_auth::cache::{ManualClock, TokenCacheBuilder};
use tower_auth::{Reason, Token, TokenCache, TokenSource};
use tower_auth_test::{Fetches, controlled_source};

use crate::support::{clock_start, clocked, manual_clock};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const NANO: Duration = Duration::from_nanos(1);

/// Builds a cache that fetched `token` when the clock started.
async fn holding(
    settings: impl FnOnce(TokenCacheBuilder) -> TokenCacheBuilder,
    token: Token,
) -> (TokenCache, Fetches, ManualClock) {
    let (source, mut fetches) = controlled_source();
    let clock = manual_clock();
    let cache = settings(clocked(source, &clock)).build();
    let caller = tokio::spawn(cache.token());
    fetches.next().await.complete(Ok(token));
    caller.await.unwrap().unwrap();
    (cache, fetches, clock)
}

/// Asserts that the refresh starts at `at` and no earlier. The token stays in use meanwhile.
async fn refreshes_at(
    settings: impl Fn(TokenCacheBuilder) -> TokenCacheBuilder,
    token: Token,
    at: Duration,
) {
    let (cache, mut fetches, clock) = holding(settings, token).await;
    clock.advance(at - NANO);
    assert_eq!(cache.token().await.unwrap().secret(), "first");
    fetches.assert_none().await;
    clock.advance(NANO);
    assert_eq!(cache.token().await.unwrap().secret(), "first");
    assert_eq!(fetches.next().await.reason(), Reason::Stale, "{at:?}");
}

fn first(lifetime: Duration) -> Token {
    Token::bearer("first").unwrap().expires_in(lifetime)
}

#[tokio::test]
async fn a_token_is_refreshed_when_its_source_says_and_not_earlier() {
    let as_default = |builder| builder;
    for after in [SECOND, 600 * SECOND, 3000 * SECOND, 3540 * SECOND] {
        refreshes_at(as_default, first(HOUR).refresh_in(after), after).await;
    }
    // The hint also applies to a token with a fixed expiry time.
    let token = first(HOUR).expires_at(clock_start() + HOUR);
    refreshes_at(as_default, token.refresh_in(600 * SECOND), 600 * SECOND).await;
}

#[tokio::test]
async fn a_refresh_that_would_come_too_late_is_early_enough_that_nobody_waits() {
    for after in [3541 * SECOND, HOUR, 10 * HOUR, Duration::MAX] {
        let token = first(HOUR).refresh_in(after);
        refreshes_at(|builder| builder, token, HOUR - 60 * SECOND).await;
    }
}

#[tokio::test]
async fn what_the_user_sets_counts_instead_of_the_time_that_the_source_names() {
    let by_user = |builder: TokenCacheBuilder| builder.refresh_before(100 * SECOND);
    let token = first(HOUR).refresh_in(600 * SECOND);
    refreshes_at(by_user, token, 3500 * SECOND).await;
}

#[tokio::test]
async fn jitter_makes_a_refresh_later_and_never_earlier_than_the_source_says() {
    let mut is_later = false;
    for _ in 0..20 {
        let token = first(HOUR).refresh_in(600 * SECOND);
        let (cache, mut fetches, clock) = holding(|builder| builder.jitter(1.0), token).await;
        clock.advance(600 * SECOND - NANO);
        cache.token().await.unwrap();
        fetches.assert_none().await;
        clock.advance(900 * SECOND);
        cache.token().await.unwrap();
        tokio::task::yield_now().await;
        is_later |= fetches.try_next().is_none();
    }
    assert!(is_later);
}

#[tokio::test]
async fn a_token_that_stays_the_same_until_its_last_minutes_is_not_refreshed_before_them() {
    let left = 240 * SECOND;
    let token = first(HOUR).refresh_within_last(left);
    refreshes_at(|builder| builder, token.clone(), HOUR - left).await;
    let earlier = |builder: TokenCacheBuilder| builder.refresh_before(600 * SECOND);
    refreshes_at(earlier, token.clone(), HOUR - left).await;
    let later = |builder: TokenCacheBuilder| builder.refresh_before(100 * SECOND);
    refreshes_at(later, token, HOUR - 100 * SECOND).await;
}

#[tokio::test]
async fn a_token_that_stays_the_same_until_its_last_seconds_is_served_in_half_of_them() {
    let token = first(HOUR).refresh_within_last(10 * SECOND);
    refreshes_at(|builder| builder, token.clone(), HOUR - 10 * SECOND).await;
    let (cache, mut fetches, clock) = holding(|builder| builder, token).await;
    clock.advance(HOUR - 5 * SECOND - NANO);
    assert_eq!(cache.token().await.unwrap().secret(), "first");
    assert_eq!(fetches.next().await.reason(), Reason::Stale);
}

#[tokio::test]
async fn a_token_without_an_expiry_is_never_refreshed() {
    let token = Token::bearer("first").unwrap();
    for token in [
        token.clone().refresh_in(SECOND),
        token.refresh_within_last(SECOND),
    ] {
        let (cache, mut fetches, clock) = holding(|builder| builder, token).await;
        clock.advance(1000 * HOUR);
        cache.token().await.unwrap();
        fetches.assert_none().await;
    }
}

#[tokio::test]
async fn a_cache_over_a_cache_refreshes_when_the_source_says() {
    let token = first(HOUR).refresh_in(600 * SECOND);
    let (inner, mut fetches, clock) = holding(|builder| builder, token).await;
    clock.advance(400 * SECOND);
    let outer = clocked(inner, &clock).build();
    outer.token().await.unwrap();
    clock.advance(200 * SECOND - NANO);
    outer.token().await.unwrap();
    fetches.assert_none().await;
    clock.advance(NANO);
    outer.token().await.unwrap();
    assert_eq!(fetches.next().await.reason(), Reason::Stale);
}

/// A source whose fetch takes one minute. Its fetch timeout is two minutes.
struct Slow;

impl TokenSource for Slow {
    async fn fetch(&self, _: Reason) -> Result<Token, tower_auth::Error> {
        tokio::time::sleep(60 * SECOND).await;
        Token::bearer("slow")
    }

    fn fetch_timeout(&self) -> Option<Duration> {
        Some(120 * SECOND)
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_needs_longer_gets_it_unless_the_user_says_otherwise() {
    assert_eq!(
        TokenCache::new(Slow).token().await.unwrap().secret(),
        "slow"
    );
    let through = TokenCache::new(TokenCache::new(std::sync::Arc::new(Slow)));
    assert_eq!(through.token().await.unwrap().secret(), "slow");

    let set = |timeout| TokenCache::builder(Slow).fetch_timeout(timeout).build();
    assert!(set(30 * SECOND).token().await.unwrap_err().is_timeout());
    assert!(set(61 * SECOND).token().await.is_ok());
}

#[cfg(feature = "fleet")]
#[tokio::test(start_paused = true)]
async fn another_process_refreshes_when_the_source_says() {
    use crate::support::breakable_store::BreakableStore;
    use tower_auth_test::ScriptedSource;

    for (hinted, at) in [
        (first(HOUR).refresh_in(600 * SECOND), 600 * SECOND),
        (
            first(HOUR).refresh_within_last(240 * SECOND),
            HOUR - 240 * SECOND,
        ),
    ] {
        let store = BreakableStore::default();
        let issuer = ScriptedSource::from_fn(move |_| hinted.clone());
        store.process(issuer).token().await.unwrap();
        let other = ScriptedSource::from_fn(|_| Token::bearer("second"));
        let process = store.process(other.clone());
        assert_eq!(process.token().await.unwrap().secret(), "first");
        tokio::time::advance(at - SECOND).await;
        process.token().await.unwrap();
        tower_auth_test::run_until_idle().await;
        assert_eq!(other.fetches(), 0, "{at:?}");
        tokio::time::advance(SECOND).await;
        process.token().await.unwrap();
        // The cache calls the store several times before it calls the source.
        for _ in 0..10 {
            tower_auth_test::run_until_idle().await;
        }
        assert_eq!(other.fetches(), 1, "{at:?}");
    }
}

#[cfg(feature = "reqwest")]
#[tokio::test(start_paused = true)]
async fn a_source_over_another_says_what_the_other_needs() {
    use tower_auth::oauth2::{Client, ProtectedResource, StepUp, TokenExchange};

    let needed = Some(120 * SECOND);
    assert_eq!(StepUp::new(|_| Ok(Slow)).fetch_timeout(), needed);
    let client = Client::new("https://id.example.com/token", "id", "secret").unwrap();
    assert_eq!(
        TokenExchange::new(client.clone(), Slow).fetch_timeout(),
        needed
    );
    let set =
        |timeout| TokenCache::builder(|_| async { Token::bearer("t") }).fetch_timeout(timeout);
    assert_eq!(
        set(300 * SECOND).build().fetch_timeout(),
        Some(300 * SECOND)
    );
    assert_eq!(set(5 * SECOND).build().fetch_timeout(), None);

    // Until the resource's metadata is fetched, the grant is unknown and counts as a one-time
    // grant.
    let unknown = ProtectedResource::new(
        "https://api.example.com",
        ["https://id.example.com"],
        |_| Ok(Slow),
    );
    assert!(unknown.unwrap().has_one_time_grant());
    assert!(!StepUp::new(|_| Ok(Slow)).has_one_time_grant());
    let login = tower_auth::oauth2::RefreshToken::new(client.clone(), "refresh".to_owned());
    assert!(TokenExchange::new(client, TokenCache::new(login)).has_one_time_grant());
}

#[tokio::test]
async fn a_cache_over_a_cache_that_refreshes_later_fetches_no_more_often() {
    let token = first(HOUR).refresh_in(600 * SECOND);
    let later = |builder: TokenCacheBuilder| builder.refresh_before(60 * SECOND);
    let (inner, _fetches, clock) = holding(later, token).await;
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = asked.clone();
    let outer = clocked(
        move |reason| {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let inner = inner.clone();
            async move { inner.fetch(reason).await }
        },
        &clock,
    );
    let outer = outer.build();
    for _ in 0..3000 {
        outer.token().await.unwrap();
        clock.advance(SECOND);
        tower_auth_test::run_until_idle().await;
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
}
