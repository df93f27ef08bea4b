//! The header formats in which servers report quotas, and similar formats that are ignored.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use tower_auth::cache::{Quota, Status};
use tower_auth::login::JsonLogin;
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Error, Reason, Token, TokenCache, TokenSource};
use tower_auth_test::ScriptedSource;

use crate::support::log::listen;
use crate::support::paused;
use crate::support::token_server::{ID, TokenServer, URL};

const HOUR: Duration = Duration::from_secs(3600);

/// The bucket, the limit, the remaining requests, and the seconds until the bucket is full again.
type Said<'a> = (&'a str, Option<u64>, u64, Option<u64>);

/// Returns the quotas in the status after a fetch from this server.
async fn shown(server: TokenServer) -> Vec<(String, Option<u64>, u64, Option<u64>)> {
    let before = SystemTime::now();
    let cache = TokenCache::new(server.client());
    drop(cache.token().await);
    said(&cache.status(), before)
}

fn said(status: &Status, now: SystemTime) -> Vec<(String, Option<u64>, u64, Option<u64>)> {
    let said = status.quotas().iter().map(|quota| {
        let reset = quota.resets_at().map(|time| {
            // The time is rounded down, because some time has passed since `now`.
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
    // Only the first part is the name.
    says(
        &[("ratelimit", r#""default";"later";r=50"#)],
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
        ("ratelimit", ";r=50;t=30"),
        ("ratelimit", "remaining=all"),
        ("ratelimit", ""),
        ("x-ratelimit-remaining", "NaN"),
        ("x-ratelimit-remaining", "+5"),
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
    let cache = TokenCache::new(ScriptedSource::from_fn(move |_| own.clone()));
    cache.token().await.unwrap();
    assert_eq!(cache.status().quotas().len(), 8);
    assert_eq!(Quota::new("é".repeat(40), 1).bucket(), "é".repeat(32));
    assert_eq!(Quota::new("a\nb\u{202e}", 1).bucket(), "a b ");
}

/// Three of the secrets contain characters that separate the parts of the header.
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
        let source = ClientCredentials::new(URL, ID, secret)
            .unwrap()
            .transport(server.transport());
        let cache = TokenCache::new(source);
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
    let login = JsonLogin::new("https://api.example.com/login", "me", "secret")
        .unwrap()
        .transport(server.transport());
    let cache = TokenCache::new(login);
    cache.token().await.unwrap();
    assert_eq!(cache.status().quotas()[0].remaining(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_latest_word_counts_and_silence_changes_nothing() {
    let source = ScriptedSource::from_fn(|attempt| {
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
        let cache = TokenCache::new(ScriptedSource::from_fn(move |_| token.clone()));
        runtime.block_on(cache.token()).unwrap();
        prop_assert!(cache.status().quotas().len() <= 8);
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_no_token_says_what_is_left_all_the_same() {
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
