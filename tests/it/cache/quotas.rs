//! What a server says of its quotas is read, shown, and heeded: as one runs dry, refreshes wait.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use tower_auth::login::JsonLogin;
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Error, Quota, Reason, Status, Token, TokenCache, TokenSource};
use tracing::Level;

use crate::support::log::listen;
use crate::support::token_server::{ID, TokenServer, URL};
use crate::support::{Answering, Fetches, Hands, paused, settle, source};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Bucket, limit, what is left, and in how many seconds it is full again.
type Said<'a> = (&'a str, Option<u64>, u64, Option<u64>);

/// What a status shows, from the server with these headers.
async fn shown(server: TokenServer) -> Vec<(String, Option<u64>, u64, Option<u64>)> {
    let before = SystemTime::now();
    let cache = TokenCache::new(server.client());
    drop(cache.token().await);
    said(&cache.status(), before)
}

fn said(status: &Status, now: SystemTime) -> Vec<(String, Option<u64>, u64, Option<u64>)> {
    let said = status.quotas().iter().map(|quota| {
        let reset = quota.resets_at().map(|time| {
            // By a second, which may have begun in between.
            let left = time.duration_since(now).unwrap_or_default();
            (left.as_millis() as u64) / 1000
        });
        (
            quota.bucket().to_owned(),
            quota.limit(),
            quota.remaining(),
            reset,
        )
    });
    said.collect()
}

async fn says(headers: &[(&'static str, &str)], expected: &[Said<'_>]) {
    let with = |server: TokenServer| {
        let add = |server: TokenServer, (name, value): &(&'static str, &str)| {
            server.with_header(name, value)
        };
        headers.iter().fold(server, add)
    };
    let expected: Vec<_> = expected
        .iter()
        .map(|(bucket, limit, left, reset)| ((*bucket).to_owned(), *limit, *left, *reset))
        .collect();
    assert_eq!(
        shown(with(TokenServer::issuing())).await,
        expected,
        "{headers:?}"
    );
    let refusing = TokenServer::new(429, r#"{"error":"too_many_requests"}"#);
    assert_eq!(
        shown(with(refusing)).await,
        expected,
        "refused: {headers:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn each_way_to_say_it_is_understood_with_a_token_and_with_a_refusal() {
    says(
        &[("auth0-client-quota-limit", "b=per_hour;q=10;r=7;t=3540")],
        &[("client/per_hour", Some(10), 7, Some(3540))],
    )
    .await;
    says(
        &[
            (
                "auth0-client-quota-limit",
                "b=per_hour;q=100;r=99;t=1,b=per_day;q=300;r=299;t=86000",
            ),
            (
                "auth0-organization-quota-limit",
                "b=per_day; q=50; r=0; t=60",
            ),
        ],
        &[
            ("client/per_hour", Some(100), 99, Some(1)),
            ("client/per_day", Some(300), 299, Some(86000)),
            ("organization/per_day", Some(50), 0, Some(60)),
        ],
    )
    .await;
    says(
        &[
            ("ratelimit", r#""default";r=50;t=30, "daily";r=5;t=4000"#),
            (
                "ratelimit-policy",
                r#""daily";q=1000;w=86400, "default";q=100;w=60"#,
            ),
        ],
        &[
            ("default", Some(100), 50, Some(30)),
            ("daily", Some(1000), 5, Some(4000)),
        ],
    )
    .await;
    says(
        &[("ratelimit", r#""default";r=50"#)],
        &[("default", None, 50, None)],
    )
    .await;
    says(
        &[("ratelimit", "limit=100, remaining=50, reset=5")],
        &[("ratelimit", Some(100), 50, Some(5))],
    )
    .await;
    says(
        &[
            ("ratelimit-limit", "100, 100;w=60"),
            ("ratelimit-remaining", "50"),
            ("ratelimit-reset", "5"),
        ],
        &[("ratelimit", Some(100), 50, Some(5))],
    )
    .await;
    says(
        &[
            ("x-ratelimit-limit", "10"),
            ("x-ratelimit-remaining", "3"),
            ("x-ratelimit-reset", "12.7"),
        ],
        &[("x-ratelimit", Some(10), 3, Some(12))],
    )
    .await;
    says(
        &[("x-ratelimit-remaining", "3")],
        &[("x-ratelimit", None, 3, None)],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_that_is_a_time_is_understood_in_seconds_and_in_milliseconds() {
    let in_an_hour = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + HOUR;
    for reset in [
        in_an_hour.as_secs().to_string(),
        in_an_hour.as_millis().to_string(),
    ] {
        let server = TokenServer::issuing()
            .with_header("x-ratelimit-remaining", "3")
            .with_header("x-ratelimit-reset", &reset);
        let [(_, _, 3, Some(left))] = shown(server).await[..] else {
            panic!("{reset}");
        };
        assert!((3590..=3600).contains(&left), "{left}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_understood_is_as_if_it_was_not_said() {
    for (name, value) in [
        ("auth0-client-quota-limit", "b=per_hour;q=10"),
        ("auth0-client-quota-limit", "q=10;r=7;t=3540"),
        ("auth0-client-quota-limit", "b=per_hour;q=10;r=-7;t=3540"),
        ("auth0-client-quota-limit", "b=per_hour;r=1;r=2"),
        (
            "auth0-client-quota-limit",
            "b=per_hour;r=99999999999999999999999",
        ),
        ("ratelimit", "r=50;t=30"),
        ("ratelimit", "remaining=all"),
        ("ratelimit", ""),
        ("x-ratelimit-remaining", "NaN"),
        ("x-ratelimit-remaining", ""),
        ("x-ratelimit-limit", "10"),
    ] {
        says(&[(name, value)], &[]).await;
    }
    let long = format!("b=per_hour;q=10;r=7;x={}", "y".repeat(4096));
    says(&[("auth0-client-quota-limit", &long)], &[]).await;
}

#[tokio::test(start_paused = true)]
async fn no_more_than_eight_buckets_are_kept_and_their_names_are_cut() {
    let all: Vec<String> = (0..50)
        .map(|n| format!("b={n}{};r=1", "n".repeat(60)))
        .collect();
    let server = TokenServer::issuing().with_header("auth0-client-quota-limit", all.join(","));
    let shown = shown(server).await;
    assert_eq!(shown.len(), 8);
    assert!(
        shown.iter().all(|(bucket, ..)| bucket.len() <= 64),
        "{shown:?}"
    );
    let own = Token::bearer("token").unwrap();
    let own = own.with_quotas((0..50).map(|n| Quota::new(n.to_string(), n)));
    let cache = TokenCache::new(Answering::new(move |_| Ok(own.clone())));
    cache.token().await.unwrap();
    assert_eq!(cache.status().quotas().len(), 8);
    assert_eq!(Quota::new("é".repeat(40), 1).bucket(), "é".repeat(32));
    assert_eq!(Quota::new("a\nb\u{202e}", 1).bucket(), "a b ");
}

/// Also one that has in it what parts a header.
#[tokio::test(start_paused = true)]
async fn a_secret_that_a_server_gives_a_bucket_for_a_name_is_not_shown() {
    for secret in [
        "s3cr3t/of+the client",
        "planted;remainder",
        "planted,remainder",
        "planted=remainder",
    ] {
        let server = TokenServer::issuing()
            .with_header(
                "auth0-client-quota-limit",
                format!("b={secret};q=10;r=0;t=3540"),
            )
            .with_header(
                "ratelimit",
                format!("\"{secret}\";r=0;t=3540, \"issued\";r=0"),
            );
        let (log, _listening) = listen();
        let source = ClientCredentials::with_transport(URL, ID, secret, server.transport());
        let cache = TokenCache::new(source.unwrap());
        cache.token().await.unwrap();
        let text = format!("{:?} {:?}", cache.status(), log.all());
        for part in ["s3cr3t", "planted", "remainder", "issued"] {
            assert!(!text.contains(part), "{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_login_of_an_api_of_its_own_says_it_too() {
    let server = TokenServer::issuing().with_header("x-ratelimit-remaining", "3");
    let login = JsonLogin::with_transport(
        "https://api.example.com/login",
        "me",
        "secret",
        server.transport(),
    );
    let cache = TokenCache::new(login.unwrap());
    cache.token().await.unwrap();
    assert_eq!(cache.status().quotas()[0].remaining(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_latest_word_counts_and_silence_changes_nothing() {
    let source = Answering::new(|attempt| {
        let token = Token::bearer("token")?;
        Ok(match attempt {
            1 => token.with_quotas([Quota::new("a", 7)]),
            2 => token,
            3 => return Err(Error::other("busy").with_quotas([Quota::new("a", 5)])),
            _ => token.with_quotas([Quota::new("b", 1)]),
        })
    });
    let cache = paused(source).build();
    assert!(cache.status().quotas().is_empty());
    for expected in [("a", 7), ("a", 7), ("a", 5), ("b", 1)] {
        drop(cache.refresh_now().await);
        let status = cache.status();
        let [quota] = status.quotas() else {
            panic!("{status:?}");
        };
        assert_eq!((quota.bucket(), quota.remaining()), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_server_says_nothing_panics_and_little_is_kept(
        values in proptest::collection::vec(
            (0_usize..9, r#"("|[a-z]{1,3}|[brqtlmeis]=|;|,| |=|-|\.|[0-9]{1,24}|[\x20-\x7e])*"#),
            0..12,
        )
    ) {
        let names = [
            "auth0-client-quota-limit", "auth0-organization-quota-limit", "ratelimit", "ratelimit-policy",
            "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "x-ratelimit-remaining", "x-ratelimit-reset",
        ];
        let mut server = TokenServer::issuing();
        for (name, value) in &values {
            server = server.with_header(names[*name], value);
        }
        let runtime = crate::support::runtime();
        let token = runtime.block_on(server.client().fetch(Reason::First)).unwrap();
        let cache = TokenCache::new(Answering::new(move |_| Ok(token.clone())));
        runtime.block_on(cache.token()).unwrap();
        prop_assert!(cache.status().quotas().len() <= 8);
    }
}

/// A cache on a clock of the test's, with a token of an hour in hand, and what was said with it.
struct Held {
    hands: Hands,
    cache: TokenCache,
    fetches: Fetches,
}

impl Held {
    async fn with(quotas: impl IntoIterator<Item = Quota>) -> Self {
        let hands = Hands::default();
        let (source, fetches) = source();
        let cache = hands.cache(source).name("orders").build();
        let mut held = Self {
            hands,
            cache,
            fetches,
        };
        held.is_issued("first", quotas).await;
        held
    }

    async fn is_issued(&mut self, secret: &str, quotas: impl IntoIterator<Item = Quota>) {
        let token = Token::bearer(secret)
            .unwrap()
            .expires_in(HOUR)
            .with_quotas(quotas);
        let caller = tokio::spawn(self.cache.token());
        self.fetches.next().await.answer(Ok(token));
        caller.await.unwrap().unwrap();
        settle().await;
    }

    /// A hundred ask at this age of the token, and it is served to all.
    async fn asked_at(&self, age: Duration) {
        self.hands.set(age);
        for _ in 0..100 {
            assert_eq!(self.cache.token().await.unwrap().secret(), "first");
        }
    }

    fn in_(&self, span: Duration) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000_000) + span
    }
}

/// One request of ten is left.
fn dry() -> Quota {
    Quota::new("client/per_day", 1).of(10)
}

/// A token of an hour is refreshed from here on, and not served any more from there.
const STALE: Duration = Duration::from_secs(55 * 60);
const LATE: Duration = Duration::from_secs(59 * 60);
const EXPIRED: Duration = Duration::from_secs(59 * 60 + 30);

#[tokio::test]
async fn a_refresh_waits_for_the_last_safe_moment_as_a_bucket_runs_dry() {
    let mut held = Held::with([dry()]).await;
    held.asked_at(STALE).await;
    held.asked_at(LATE - SECOND).await;
    held.fetches.none().await;
    held.asked_at(LATE).await;
    assert_eq!(held.fetches.next().await.reason, Reason::Stale);
    held.fetches.none().await;
}

#[tokio::test]
async fn with_enough_left_or_nothing_said_no_refresh_waits() {
    for quotas in [
        vec![],
        vec![Quota::new("client/per_day", 2).of(10)],
        vec![Quota::new("x", 1)],
    ] {
        let mut held = Held::with(quotas).await;
        held.asked_at(STALE).await;
        assert_eq!(held.fetches.next().await.reason, Reason::Stale);
    }
}

#[tokio::test]
async fn one_dry_bucket_of_several_is_enough() {
    let mut held = Held::with([Quota::new("client/per_hour", 10).of(10), dry()]).await;
    held.asked_at(LATE - SECOND).await;
    held.fetches.none().await;
}

#[tokio::test]
async fn the_tokens_own_end_still_rules() {
    let mut held = Held::with([dry()]).await;
    held.hands.set(EXPIRED);
    let caller = tokio::spawn(held.cache.token());
    let fetch = held.fetches.next().await;
    assert_eq!(fetch.reason, Reason::Expired);
    fetch.issue("second");
    assert_eq!(caller.await.unwrap().unwrap().secret(), "second");
}

#[tokio::test]
async fn a_refresh_waits_no_longer_than_until_the_bucket_is_full_again() {
    let reset = STALE + 2 * MINUTE;
    let mut held = Held::with([]).await;
    let quota = dry().until(held.in_(HOUR + reset));
    held.hands.set(HOUR);
    held.is_issued("first", [quota]).await;
    held.asked_at(HOUR + STALE).await;
    held.asked_at(HOUR + reset - SECOND).await;
    held.fetches.none().await;
    held.asked_at(HOUR + reset).await;
    assert_eq!(held.fetches.next().await.reason, Reason::Stale);
}

#[tokio::test]
async fn a_bucket_that_is_full_again_before_the_refresh_puts_nothing_off() {
    let held = Held::with([]).await;
    let soon = [
        dry().until(held.in_(STALE - MINUTE)),
        dry().until(held.in_(30 * SECOND)),
    ];
    for quota in soon {
        let mut held = Held::with([quota]).await;
        held.asked_at(STALE - SECOND).await;
        held.fetches.none().await;
        held.asked_at(STALE).await;
        assert_eq!(held.fetches.next().await.reason, Reason::Stale);
    }
}

#[tokio::test]
async fn refusals_and_those_who_ask_for_a_new_one_do_not_wait() {
    let mut held = Held::with([dry()]).await;
    let token = held.cache.token().await.unwrap();
    held.cache.reject(&token);
    held.is_issued("first", [dry()]).await;
    let forced = tokio::spawn(held.cache.refresh_now());
    assert_eq!(held.fetches.next().await.reason, Reason::Forced);
    forced.abort();
}

#[tokio::test]
async fn a_short_lived_token_is_refreshed_before_it_expires_all_the_same() {
    let hands = Hands::default();
    let (source, mut fetches) = source();
    let cache = hands.cache(source).build();
    let token = Token::bearer("token")
        .unwrap()
        .expires_in(20 * SECOND)
        .with_quotas([dry()]);
    let caller = tokio::spawn(cache.token());
    fetches.next().await.answer(Ok(token));
    caller.await.unwrap().unwrap();
    let status = cache.status();
    let (refresh, end) = (status.refresh_at().unwrap(), status.expires_at().unwrap());
    // A margin of 5 s, and half of the 5 s before it.
    assert_eq!(
        end.duration_since(refresh).unwrap(),
        Duration::from_millis(7500)
    );
}

#[tokio::test]
async fn a_fleet_comes_back_spread_over_what_is_left_when_the_bucket_is_full_again() {
    let mut refreshes = Vec::new();
    for _ in 0..50 {
        let hands = Hands::default();
        let reset = UNIX_EPOCH + Duration::from_secs(1_000_000_000) + STALE + 2 * MINUTE;
        let token = Token::bearer("token")
            .unwrap()
            .expires_in(HOUR)
            .with_quotas([dry().until(reset)]);
        let source = Answering::new(move |_| Ok(token.clone()));
        let cache = TokenCache::builder(source).clock(hands.clock()).build();
        cache.token().await.unwrap();
        let at = cache.status().refresh_at().unwrap();
        let after = at.duration_since(reset).unwrap();
        assert!(after <= MINUTE, "{after:?}");
        refreshes.push(after);
    }
    refreshes.sort_unstable();
    assert!(refreshes[45] - refreshes[5] > 10 * SECOND, "{refreshes:?}");
}

#[tokio::test]
async fn a_dry_spell_is_told_once_with_what_it_was_spent_on() {
    let (log, _listening) = listen();
    let told = |log: &crate::support::log::Log| {
        let all = log.all().into_iter();
        all.filter(|line| line.message.contains("running dry"))
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
            "tower_auth.quota.spent=first 1, refused 1",
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
    assert_eq!(second.value("tower_auth.quota.spent"), spent);
}

#[tokio::test]
async fn a_limit_of_the_rate_is_no_quota_that_runs_dry() {
    let (log, _listening) = listen();
    let held = Held::with([]).await;
    for (seconds, told) in [(60, 0), (61, 1)] {
        let quota = dry().until(held.in_(Duration::from_secs(seconds)));
        Held::with([quota]).await;
        let all = log.all().into_iter();
        let all = all.filter(|line| line.message.contains("running dry"));
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
        .filter(|line| line.message.contains("running dry"))
        .collect();
    assert_eq!(told.len(), 3);
    assert_eq!(told[0].value("tower_auth.quota.resets_in"), "3600s");
}

#[cfg(feature = "fleet")]
#[tokio::test(start_paused = true)]
async fn what_another_process_has_fetched_is_heeded_and_not_counted_among_ones_own() {
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
        all.filter(|line| line.message.contains("running dry"))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&log).len(), 1);
    drop(second.refresh_now().await);
    let [dry] = &told(&log)[..] else {
        panic!("it isn't told, or twice");
    };
    assert_eq!(dry.value("tower_auth.quota.spent"), "forced 1");
}

/// A server that counts refusals too.
#[tokio::test]
async fn a_dry_bucket_that_is_told_with_an_error_puts_the_next_attempt_off_as_well() {
    let mut held = Held::with([]).await;
    held.hands.set(STALE);
    held.cache.token().await.unwrap();
    let refused = Error::other("too many").with_quotas([dry()]);
    held.fetches.next().await.answer(Err(refused));
    settle().await;
    held.asked_at(LATE - SECOND).await;
    held.fetches.none().await;
    held.asked_at(LATE).await;
    assert_eq!(held.fetches.next().await.reason, Reason::Stale);
}

#[tokio::test]
async fn a_fleet_whose_bucket_stays_dry_does_not_come_all_at_the_last_moment() {
    let mut refreshes = Vec::new();
    for _ in 0..50 {
        let hands = Hands::default();
        let token = Token::bearer("token").unwrap();
        let token = token.expires_in(HOUR).with_quotas([dry()]);
        let source = Answering::new(move |_| Ok(token.clone()));
        let cache = TokenCache::builder(source).clock(hands.clock()).build();
        cache.token().await.unwrap();
        let start = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        refreshes.push(
            cache
                .status()
                .refresh_at()
                .unwrap()
                .duration_since(start)
                .unwrap(),
        );
    }
    refreshes.sort_unstable();
    // With half of the last 30 s left at least, for one fetch.
    assert!(
        refreshes[0] >= LATE && refreshes[49] <= EXPIRED - 15 * SECOND,
        "{refreshes:?}"
    );
    assert!(refreshes[45] - refreshes[5] > 2 * SECOND, "{refreshes:?}");
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
        all.filter(|line| line.message.contains("running dry"))
            .count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_cache_over_a_cache_tells_no_spell_a_second_time() {
    let (log, _listening) = listen();
    let source = Answering::new(|_| Ok(Token::bearer("token")?.with_quotas([dry()])));
    let below = paused(source).build();
    paused(below).build().token().await.unwrap();
    let all = log.all().into_iter();
    assert_eq!(
        all.filter(|line| line.message.contains("running dry"))
            .count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_token_says_what_is_left_all_the_same() {
    for body in [
        "<html>",
        "{}",
        r#"{"access_token":"token","token_type":"mac"}"#,
    ] {
        let server = TokenServer::new(200, body).with_header("x-ratelimit-remaining", "3");
        assert_eq!(
            shown(server).await,
            [(String::from("x-ratelimit"), None, 3, None)],
            "{body}"
        );
    }
}

#[cfg(feature = "metrics")]
#[test]
fn what_is_left_is_a_gauge_for_each_bucket() {
    crate::watching::metrics::recorded(|metrics| async move {
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
