//! The log events and metrics about quotas.

use std::time::Duration;

use tower_auth::Token;
use tower_auth::cache::Quota;
use tower_auth_test::ScriptedSource;
use tracing::Level;

use super::{Fixture, HOUR, low_quota};
use crate::support::log::listen;
use crate::support::paused;

#[tokio::test]
async fn a_low_quota_is_logged_once_with_what_it_was_used_for() {
    let (log, _listening) = listen();
    let told = |log: &crate::support::log::Log| {
        let all = log.all().into_iter();
        all.filter(|line| line.message.contains("quota is low"))
            .collect::<Vec<_>>()
    };
    let full = || Quota::new("client/per_day", 9).of(10);
    let mut fixture = Fixture::with([full()]).await;
    assert!(told(&log).is_empty());
    for _ in 0..3 {
        // After 10 s, the refusal budget allows another fetch.
        fixture.clock.advance(Duration::from_secs(10));
        let token = fixture.cache.token().await.unwrap();
        fixture.cache.accept(&token);
        fixture.cache.reject(&token);
        fixture.is_issued("first", [low_quota()]).await;
    }
    let [first] = &told(&log)[..] else {
        panic!("{:?}", told(&log));
    };
    assert_eq!(first.level, Level::WARN);
    assert_eq!(
        first.fields,
        [
            "tower_auth.cache=orders",
            "tower_auth.quota.bucket=client/per_day",
            "tower_auth.quota.limit=10",
            "tower_auth.quota.remaining=1",
            "tower_auth.quota.fetches=first 1, refused 1",
        ]
    );
    // The quota recovers, and the next low quota is logged again.
    for quota in [full(), low_quota()] {
        fixture.clock.advance(Duration::from_secs(10));
        let token = fixture.cache.token().await.unwrap();
        fixture.cache.accept(&token);
        fixture.cache.reject(&token);
        fixture.is_issued("first", [quota]).await;
    }
    let [second] = &told(&log)[..] else {
        panic!("it isn't told, or twice");
    };
    let used = "first 1, refused 5";
    assert_eq!(second.value("tower_auth.quota.fetches"), used);
}

#[tokio::test]
async fn a_limit_of_the_rate_is_no_low_quota() {
    let (log, _listening) = listen();
    let fixture = Fixture::with([]).await;
    for (seconds, told) in [(60, 0), (61, 1)] {
        let quota = low_quota().until(fixture.in_(Duration::from_secs(seconds)));
        Fixture::with([quota]).await;
        let all = log.all().into_iter();
        let all = all.filter(|line| line.message.contains("quota is low"));
        assert_eq!(all.count(), told, "{seconds} s");
    }
}

#[tokio::test]
async fn a_quota_that_was_refilled_and_is_low_again_is_logged_again() {
    let (log, _listening) = listen();
    let mut fixture = Fixture::with([]).await;
    for hour in 1..=3 {
        fixture.advance_to(hour * HOUR);
        let quota = low_quota().until(fixture.in_((hour + 1) * HOUR));
        fixture.is_issued("first", [quota.clone()]).await;
        let token = fixture.cache.token().await.unwrap();
        fixture.cache.accept(&token);
        fixture.cache.reject(&token);
        fixture.is_issued("first", [quota]).await;
    }
    let all = log.all().into_iter();
    let told: Vec<_> = all
        .filter(|line| line.message.contains("quota is low"))
        .collect();
    assert_eq!(told.len(), 3);
    assert_eq!(told[0].value("tower_auth.quota.resets_in"), "3600s");
}

#[cfg(feature = "fleet")]
#[tokio::test(start_paused = true)]
async fn what_another_process_has_fetched_is_heeded_and_not_counted_among_ones_own() {
    use std::time::SystemTime;

    use crate::support::breakable_store::BreakableStore;

    let (log, _listening) = listen();
    let store = BreakableStore::default();
    let full_again = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let quota = low_quota().until(full_again);
    let source = {
        let quota = quota.clone();
        move |_| {
            let token = Token::bearer("token").map(|token| token.expires_in(HOUR));
            let quota = quota.clone();
            async move { Ok(token?.with_quotas([quota])) }
        }
    };
    let first = store.process(source.clone());
    first.token().await.unwrap();
    let second = store.process(source);
    second.token().await.unwrap();
    assert_eq!(second.status().quotas(), [quota]);
    assert_eq!(second.status().refresh_at(), first.status().refresh_at());
    let told = |log: &crate::support::log::Log| {
        let all = log.all().into_iter();
        all.filter(|line| line.message.contains("quota is low"))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&log).len(), 1);
    drop(second.refresh_now().await);
    let [low_quota] = &told(&log)[..] else {
        panic!("it isn't told, or twice");
    };
    assert_eq!(low_quota.value("tower_auth.quota.fetches"), "forced 1");
}

#[tokio::test(start_paused = true)]
async fn a_cache_over_a_cache_logs_no_low_quota_a_second_time() {
    let (log, _listening) = listen();
    let source =
        ScriptedSource::from_fn(|_| Ok(Token::bearer("token")?.with_quotas([low_quota()])));
    let below = paused(source).build();
    paused(below).build().token().await.unwrap();
    let all = log.all().into_iter();
    assert_eq!(
        all.filter(|line| line.message.contains("quota is low"))
            .count(),
        1
    );
}

#[cfg(feature = "metrics")]
#[test]
fn what_is_left_is_a_gauge_for_each_bucket() {
    crate::support::recorder::recorded(|metrics| async move {
        let source = ScriptedSource::from_fn(|_| {
            let quotas = [
                Quota::new("client/per_day", 7).of(10),
                Quota::new("other", 3),
            ];
            Ok(Token::bearer("token")?.with_quotas(quotas))
        });
        let cache = paused(source).name("orders").build();
        cache.token().await.unwrap();
        let recorded = metrics.take();
        let gauge = |name: &str, bucket: &str| {
            let key = format!("tower_auth.quota.{name}{{bucket={bucket},cache=orders}}");
            recorded.get(&key).map(|values| values[0])
        };
        assert_eq!(
            gauge("remaining", "client/per_day"),
            Some(7.0),
            "{recorded:?}"
        );
        assert_eq!(gauge("limit", "client/per_day"), Some(10.0));
        assert_eq!(gauge("remaining", "other"), Some(3.0));
        assert_eq!(gauge("limit", "other"), None);
    });
}

#[tokio::test]
async fn of_a_bucket_that_occurs_twice_the_first_counts() {
    let (log, _listening) = listen();
    let mut fixture = Fixture::with([low_quota(), Quota::new("client/per_day", 10).of(10)]).await;
    assert_eq!(fixture.cache.status().quotas(), [low_quota()]);
    let token = fixture.cache.token().await.unwrap();
    fixture.cache.reject(&token);
    fixture
        .is_issued(
            "first",
            [low_quota(), Quota::new("client/per_day", 10).of(10)],
        )
        .await;
    let all = log.all().into_iter();
    assert_eq!(
        all.filter(|line| line.message.contains("quota is low"))
            .count(),
        1
    );
}
