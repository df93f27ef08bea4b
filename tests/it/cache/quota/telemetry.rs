//! What the log and the metrics say of a quota.

use std::time::Duration;

use tower_auth::{Quota, Token};
use tracing::Level;

use super::{HOUR, Held, dry};
use crate::support::log::listen;
use crate::support::{Answering, paused};

#[tokio::test]
async fn a_dry_spell_is_told_once_with_what_it_was_spent_on() {
    let (log, _listening) = listen();
    let told = |log: &crate::support::log::Log| {
        let all = log.all().into_iter();
        all.filter(|line| line.message.contains("quota is low"))
            .collect::<Vec<_>>()
    };
    let full = || Quota::new("client/per_day", 9).of(10);
    let mut held = Held::with([full()]).await;
    assert!(told(&log).is_empty());
    for _ in 0..3 {
        let token = held.cache.token().await.unwrap();
        held.cache.accept(&token);
        held.cache.reject(&token);
        held.is_issued("first", [dry()]).await;
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
    // It recovers, and that is another spell.
    for quota in [full(), dry()] {
        let token = held.cache.token().await.unwrap();
        held.cache.accept(&token);
        held.cache.reject(&token);
        held.is_issued("first", [quota]).await;
    }
    let [second] = &told(&log)[..] else {
        panic!("it isn't told, or twice");
    };
    let spent = "first 1, refused 5";
    assert_eq!(second.value("tower_auth.quota.fetches"), spent);
}

#[tokio::test]
async fn a_limit_of_the_rate_is_no_quota_that_runs_dry() {
    let (log, _listening) = listen();
    let held = Held::with([]).await;
    for (seconds, told) in [(60, 0), (61, 1)] {
        let quota = dry().until(held.in_(Duration::from_secs(seconds)));
        Held::with([quota]).await;
        let all = log.all().into_iter();
        let all = all.filter(|line| line.message.contains("quota is low"));
        assert_eq!(all.count(), told, "{seconds} s");
    }
}

#[tokio::test]
async fn a_bucket_that_was_refilled_and_is_dry_again_is_another_spell() {
    let (log, _listening) = listen();
    let mut held = Held::with([]).await;
    for hour in 1..=3 {
        held.hands.set(hour * HOUR);
        let quota = dry().until(held.in_((hour + 1) * HOUR));
        held.is_issued("first", [quota.clone()]).await;
        let token = held.cache.token().await.unwrap();
        held.cache.accept(&token);
        held.cache.reject(&token);
        held.is_issued("first", [quota]).await;
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

    use crate::support::shelf::Shelf;

    let (log, _listening) = listen();
    let shelf = Shelf::default();
    let full_again = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000);
    let quota = dry().until(full_again);
    let source = {
        let quota = quota.clone();
        move |_| {
            let token = Token::bearer("token").map(|token| token.expires_in(HOUR));
            let quota = quota.clone();
            async move { Ok(token?.with_quotas([quota])) }
        }
    };
    let first = shelf.process(source.clone());
    first.token().await.unwrap();
    let second = shelf.process(source);
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
    let [dry] = &told(&log)[..] else {
        panic!("it isn't told, or twice");
    };
    assert_eq!(dry.value("tower_auth.quota.fetches"), "forced 1");
}

#[tokio::test(start_paused = true)]
async fn a_cache_over_a_cache_tells_no_spell_a_second_time() {
    let (log, _listening) = listen();
    let source = Answering::new(|_| Ok(Token::bearer("token")?.with_quotas([dry()])));
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
        let source = Answering::new(|_| {
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
async fn of_a_bucket_that_stands_twice_the_first_counts() {
    let (log, _listening) = listen();
    let mut held = Held::with([dry(), Quota::new("client/per_day", 10).of(10)]).await;
    assert_eq!(held.cache.status().quotas(), [dry()]);
    let token = held.cache.token().await.unwrap();
    held.cache.reject(&token);
    held.is_issued("first", [dry(), Quota::new("client/per_day", 10).of(10)])
        .await;
    let all = log.all().into_iter();
    assert_eq!(
        all.filter(|line| line.message.contains("quota is low"))
            .count(),
        1
    );
}
