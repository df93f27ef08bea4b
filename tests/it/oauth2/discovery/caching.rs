//! How long metadata is used, and what happens if newer metadata can't be fetched.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, advance};
use tower_auth::{Reason, TokenSource};

use super::{METADATA, TOKEN, fetch, issuer, metadata, source, token, web};
use crate::support::web::Page;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

#[tokio::test(start_paused = true)]
async fn many_fetches_of_many_clients_ask_for_the_metadata_once() {
    let web = web();
    let url = issuer();
    let sources = [source(&web, url.clone()), source(&web, url.clone().mtls())];
    let all = (0..20).map(|number| sources[number % 2].fetch(Reason::First));
    for token in futures_util::future::join_all(all).await {
        token.unwrap();
    }
    assert_eq!(web.times(&format!("GET {METADATA}")), 1);
    assert_eq!(web.times(&format!("POST {TOKEN}")), 20);
}

#[tokio::test(start_paused = true)]
async fn it_is_kept_for_an_hour_or_as_the_server_says_within_bounds() {
    for (said, lifetime) in [
        ("", HOUR),
        ("public", HOUR),
        ("max-age=nonsense", HOUR),
        ("max-age=7200", 2 * HOUR),
        ("public, Max-Age=\"7200\"", 2 * HOUR),
        ("max-age=1", 5 * MINUTE),
        ("no-store", 5 * MINUTE),
        ("max-age=7200, no-cache", 5 * MINUTE),
        ("max-age=99999999999", 24 * HOUR),
    ] {
        let web = web();
        let page = Page::json(200, metadata()).header("cache-control", said);
        web.put(METADATA, page);
        let source = source(&web, issuer());
        source.fetch(Reason::First).await.unwrap();
        advance(lifetime - Duration::from_millis(2)).await;
        source.fetch(Reason::First).await.unwrap();
        assert_eq!(web.times(&format!("GET {METADATA}")), 1, "{said}");
        advance(Duration::from_millis(4)).await;
        let mut moved = metadata();
        moved["token_endpoint"] = "https://id.example.com/moved".into();
        web.put("https://id.example.com/moved", token());
        web.put(METADATA, Page::json(200, &moved));
        source.fetch(Reason::First).await.unwrap();
        assert_eq!(web.times(&format!("GET {METADATA}")), 2, "{said}");
        assert_eq!(web.times("POST https://id.example.com/moved"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_old_one_stays_in_use_when_a_new_one_cannot_be_fetched() {
    for page in [
        Page::new(500),
        Page::new(404),
        Page::reset(),
        Page::new(200).body("<html>"),
        Page::json(
            200,
            json!({"issuer": "https://evil.example.com", "token_endpoint": "https://evil.example.com/t"}),
        ),
    ] {
        let web = web();
        let source = source(&web, issuer());
        source.fetch(Reason::First).await.unwrap();
        web.put(METADATA, page);
        advance(HOUR).await;
        web.take_lines();
        for _ in 0..5 {
            source.fetch(Reason::First).await.unwrap();
        }
        assert_eq!(web.times(&format!("GET {METADATA}")), 1);
        assert_eq!(web.times(&format!("POST {TOKEN}")), 5);
        // After a minute the lookup is tried again.
        advance(MINUTE).await;
        source.fetch(Reason::First).await.unwrap();
        assert_eq!(web.times(&format!("GET {METADATA}")), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_search_for_a_new_one_that_hangs_leaves_time_to_ask_for_the_token() {
    let web = web();
    let source = source(&web, issuer());
    source.fetch(Reason::First).await.unwrap();
    web.put(METADATA, Page::stall());
    advance(HOUR).await;
    let start = Instant::now();
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn the_first_search_is_within_the_timeout_of_the_client() {
    let web = web();
    web.put(METADATA, Page::stall());
    let start = Instant::now();
    let error = fetch(&web, issuer()).await.unwrap_err();
    assert!(error.is_timeout() && error.is_transient());
    assert!(error.to_string().contains("metadata"), "{error}");
    assert_eq!(start.elapsed(), Duration::from_secs(10));
}

#[tokio::test]
async fn an_endpoint_that_has_moved_is_looked_for_by_the_next_fetch() {
    for status in [301, 308, 404, 405, 410] {
        let web = web();
        let source = source(&web, issuer());
        source.fetch(Reason::First).await.unwrap();
        web.put(TOKEN, Page::new(status));
        source.fetch(Reason::First).await.unwrap_err();
        let mut moved = metadata();
        moved["token_endpoint"] = "https://id.example.com/moved".into();
        web.put("https://id.example.com/moved", token());
        web.put(METADATA, Page::json(200, &moved));
        source.fetch(Reason::First).await.unwrap();
        assert_eq!(web.times(&format!("GET {METADATA}")), 2, "{status}");
    }
    // Any other refusal says nothing about the endpoint's location.
    let web = web();
    let source = source(&web, issuer());
    source.fetch(Reason::First).await.unwrap();
    for status in [400, 401, 403, 500] {
        web.put(
            TOKEN,
            Page::new(status).body(r#"{"error":"invalid_client"}"#),
        );
        source.fetch(Reason::First).await.unwrap_err();
    }
    assert_eq!(web.times(&format!("GET {METADATA}")), 1);
}
