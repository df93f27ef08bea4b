//! How long a token lasts if its response and its own claims differ, and whose clock counts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Reason, TokenSource};
use tower_auth_test::{ScriptedResponse, ScriptedServer};
use tracing::Level;

use crate::support::log::listen;
use crate::support::paused;
use crate::support::token_server::{ID, SECRET, TokenServer, URL, expiry};

const DAY: i64 = 24 * 3600;

/// A moment by the server's clock: 2026-11-28, 00:00.
const DATE: u64 = 1_795_824_000;

fn jwt(claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(claims))
}

fn http_date(seconds: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Returns the local time plus this number of seconds.
fn now_plus(seconds: i64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs().checked_add_signed(seconds).unwrap()
}

fn sent_at(date: u64, response: &Value) -> TokenServer {
    TokenServer::new(200, response.to_string()).with_header("date", http_date(date))
}

async fn lifetime(server: TokenServer) -> String {
    let token = server.client().fetch(Reason::First).await.unwrap();
    expiry(&token)
}

#[tokio::test]
async fn a_jwt_that_ends_before_its_expires_in_counts_by_the_responses_date() {
    // The server's clock may differ from the local clock by any amount.
    for skew in [-DAY, 0, DAY, 400 * DAY] {
        let date = now_plus(skew);
        let old = jwt(&json!({"iat": date - 3597, "exp": date + 3}));
        let without_iat = jwt(&json!({"exp": date + 3}));
        for token in [old, without_iat] {
            for expires_in in [json!(3600), json!("3600"), json!(null), json!(u64::MAX)] {
                let response = json!({"access_token": token, "expires_in": expires_in});
                let server = sent_at(date, &response);
                assert_eq!(lifetime(server).await, "In(3s)", "{skew} {expires_in}");
                // The response was in a cache for 2 s.
                let server = sent_at(date, &response).with_header("age", "2");
                assert_eq!(lifetime(server).await, "In(1s)", "{skew} {expires_in}");
            }
            // The shorter lifetime counts.
            let response = json!({"access_token": token, "expires_in": 2});
            assert_eq!(lifetime(sent_at(date, &response)).await, "In(2s)");
        }
        let over = jwt(&json!({"iat": date - 3600, "exp": date - 1}));
        let response = json!({"access_token": over, "expires_in": 3600});
        assert_eq!(lifetime(sent_at(date, &response)).await, "In(0ns)");
    }
}

#[tokio::test]
async fn a_short_jwt_is_not_cut_by_a_wrong_local_clock() {
    for skew in [-DAY, DAY] {
        let date = now_plus(skew);
        let short = jwt(&json!({"iat": date, "exp": date + 60}));
        for response in [
            json!({"access_token": short, "expires_in": 60}),
            json!({"access_token": short}),
        ] {
            assert_eq!(lifetime(sent_at(date, &response)).await, "In(60s)");
        }
        let response = json!({"access_token": short, "expires_in": 60}).to_string();
        assert_eq!(lifetime(TokenServer::new(200, response)).await, "In(60s)");
    }
}

#[tokio::test]
async fn without_a_date_the_whole_lifetime_of_the_jwt_is_the_bound() {
    let date = now_plus(0);
    for (claims, expected) in [
        (json!({"iat": 1000, "exp": 1900}), "In(900s)"),
        (json!({"iat": date - 3597, "exp": date + 3}), "In(3600s)"),
        // The local clock alone doesn't end a token.
        (json!({"exp": date + 3}), "In(7200s)"),
        (json!({"iat": 1900, "exp": 1000}), "In(7200s)"),
        (json!({"iat": 1000}), "In(7200s)"),
    ] {
        let response = json!({"access_token": jwt(&claims), "expires_in": 7200}).to_string();
        let server = TokenServer::new(200, response);
        assert_eq!(lifetime(server.clone()).await, expected, "{claims}");
        let server = server.with_header("date", "yesterday");
        assert_eq!(lifetime(server).await, expected, "{claims}");
    }
}

#[tokio::test]
async fn an_expires_in_of_more_than_ten_years_is_a_date_if_it_reads_as_one() {
    for (expires_in, expected) in [
        (json!(DATE + 600), "In(600s)"),
        (json!((DATE + 600).to_string()), "In(600s)"),
        (json!(DATE as f64 + 600.5), "In(600s)"),
        (json!(DATE + 3650 * 24 * 3600), "In(315360000s)"),
        // These tokens had expired when the response was sent.
        (json!(DATE), "In(0ns)"),
        (json!(DATE - 3600), "In(0ns)"),
        // These are lifetimes: ten years, 31 and 50 years, a date in milliseconds.
        (json!(315_360_000), "In(315360000s)"),
        (json!(999_999_999), "In(315360000s)"),
        (json!(1_576_800_000), "In(315360000s)"),
        (json!((DATE + 600) * 1000), "In(315360000s)"),
        (json!(u64::MAX), "In(315360000s)"),
    ] {
        let response = json!({"access_token": "t", "expires_in": expires_in});
        let server = sent_at(DATE, &response);
        assert_eq!(lifetime(server).await, expected, "{expires_in}");
    }
    // The shorter lifetime counts, which is the JWT's.
    let token = jwt(&json!({"exp": DATE + 60}));
    let response = json!({"access_token": token, "expires_in": DATE + 600});
    assert_eq!(lifetime(sent_at(DATE, &response)).await, "In(60s)");
    // If the response has no `Date`, the local clock counts.
    let response = json!({"access_token": "t", "expires_in": now_plus(600)}).to_string();
    let lifetime = lifetime(TokenServer::new(200, response)).await;
    assert!(
        lifetime.starts_with("In(59") || lifetime == "In(600s)",
        "{lifetime}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_expires_in_that_is_a_date_is_read_as_one_and_warned_of_once() {
    let response = json!({"access_token": "t", "expires_in": DATE + 600});
    let cache = paused(sent_at(DATE, &response).client()).build();
    let (log, _listening) = listen();
    for _ in 0..2 {
        cache.token().await.unwrap();
        tokio::time::advance(Duration::from_secs(600)).await;
    }
    let lines = log.all();
    let warnings: Vec<_> = lines.iter().filter(|it| it.level == Level::WARN).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].message.contains("sent as a date"));
}

#[tokio::test(start_paused = true)]
async fn a_date_and_missing_scopes_are_warned_of_independently() {
    let server = ScriptedServer::new(|_| ScriptedResponse::reset());
    let source = ClientCredentials::new(URL, ID, SECRET).unwrap();
    let cache = paused(source.transport(server.clone()).scope("a b")).build();
    let (log, _listening) = listen();
    let (date, scope) = (
        "a token's lifetime was sent as a date",
        "granted less scope",
    );
    for (expires_in, granted, expected) in [
        (DATE + 600, "a", &[date, scope][..]),
        (DATE + 600, "a", &[]),
        (DATE + 600, "b", &[scope]),
        (3600, "b", &[]),
        (DATE + 600, "b", &[date]),
        (DATE + 600, "a b", &[]),
        (DATE + 600, "b", &[scope]),
    ] {
        let response = json!({"access_token": "t", "expires_in": expires_in, "scope": granted});
        let response = ScriptedResponse::json(200, response);
        server.respond_next(response.header("date", http_date(DATE)));
        cache.refresh_now().await.unwrap();
        let lines = log.all();
        let warnings = lines.iter().filter(|line| line.level == Level::WARN);
        let warnings: Vec<_> = warnings.map(|line| &*line.message).collect();
        assert_eq!(warnings.len(), expected.len(), "{granted}: {warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.contains(expected), "{warning}");
        }
    }
}

/// Some servers write a string. Some write 0 into a token that doesn't expire.
#[tokio::test]
async fn a_time_in_a_jwt_may_be_a_string_and_zero_is_none() {
    let date = now_plus(0);
    let end = date + 3;
    for (claims, expected) in [
        (json!({"exp": end.to_string()}), "In(3s)"),
        (
            json!({"exp": format!(" {end}.0 "), "iat": date.to_string()}),
            "In(3s)",
        ),
        (json!({"exp": end, "iat": "yesterday"}), "In(3s)"),
        (json!({"exp": end, "iat": {}}), "In(3s)"),
        (json!({"exp": end, "iat": 0}), "In(3s)"),
        (json!({"exp": 0, "iat": date}), "In(3600s)"),
        (json!({"exp": "0"}), "In(3600s)"),
        (json!({"exp": "never"}), "In(3600s)"),
        (json!({"exp": "inf"}), "In(3600s)"),
        (json!({"exp": "nan"}), "In(3600s)"),
        (json!({"exp": null}), "In(3600s)"),
    ] {
        let response = json!({"access_token": jwt(&claims), "expires_in": 3600});
        assert_eq!(
            lifetime(sent_at(date, &response)).await,
            expected,
            "{claims}"
        );
    }
}
