//! Which authorization servers get a request, and which never get one.

use serde_json::{Value, json};

use super::{
    API, ISSUER, METADATA, ROOT, changed, fetch, fetch_with, metadata, put_server, source,
    source_of, web,
};
use crate::support::token_server::all_text_of;
use crate::support::web::{Page, is_bare, line};

#[tokio::test]
async fn the_first_authorization_server_that_is_allowed_is_asked_and_no_other() {
    let other = "https://other.example.com";
    let offered = json!([
        "https://evil.example.com",
        7,
        "https://id.example.com/",
        other,
        ISSUER
    ]);
    let web = web();
    for server in ["https://evil.example.com", other] {
        put_server(&web, server);
    }
    let metadata = changed(|it| it["authorization_servers"] = offered);
    web.put(METADATA, Page::json(200, &metadata));
    let source = source_of(&web, API, &[ISSUER, other]).unwrap();
    fetch(&source).await.unwrap();
    let lines = web.take_lines();
    let asked = lines.iter().filter(|line| !line.contains("mcp.example"));
    assert_eq!(asked.clone().count(), 2);
    assert!(asked.into_iter().all(|line| line.contains(other)));
}

#[tokio::test]
async fn an_authorization_server_that_is_not_allowed_is_never_asked_anything() {
    for offered in [
        "https://evil.example.com",
        "https://id.example.com/",
        "https://id.example.com:443",
        "https://ID.example.com",
        "https://id.example.com/tenant",
        "https://id.example.com?x",
    ] {
        let web = web();
        put_server(&web, offered);
        let metadata = changed(|it| it["authorization_servers"] = json!([offered]));
        web.put(METADATA, Page::json(200, &metadata));
        let source = source(&web);
        for _ in 0..3 {
            let error = fetch(&source).await.unwrap_err();
            assert!(error.is_config() && error.is_permanent(), "{error}");
            // The error hides the query, because it may contain a key.
            let told = offered.replace("?x", "?…");
            assert!(error.to_string().contains(&format!("`{told}`")), "{error}");
        }
        for asked in &web.asked() {
            assert!(line(asked).starts_with("GET https://mcp.example.com/"));
            assert!(is_bare(asked));
        }
    }
}

#[tokio::test]
async fn what_is_told_of_the_servers_offered_is_cleaned_and_cut() {
    let long = format!("https://a\n\u{202e}{}", "x".repeat(1_000));
    let offered = Value::from(vec![long; 50]);
    let (_, fetched) = fetch_with(&changed(|it| it["authorization_servers"] = offered)).await;
    let text = fetched.unwrap_err().to_string();
    assert!(!text.contains(['\n', '\u{202e}']), "{text}");
    assert!(text.contains("47 more") && text.len() < 1_200, "{text}");
}

#[tokio::test]
async fn metadata_without_authorization_servers_is_an_error() {
    for servers in [Value::Null, json!([]), ISSUER.into(), json!([7])] {
        let (web, fetched) = fetch_with(&changed(|it| it["authorization_servers"] = servers)).await;
        let error = fetched.unwrap_err();
        assert!(error.is_config(), "{error}");
        assert!(
            error.to_string().contains("no `authorization_servers`"),
            "{error}"
        );
        assert_eq!(web.take_lines().len(), 2);
    }
}

#[tokio::test]
async fn what_is_no_metadata_is_an_error_that_says_what_it_is() {
    let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(64 * 1024));
    for (page, what) in [
        (Page::new(200).body("<html>"), "is not valid JSON"),
        (Page::new(200).body("7"), "is JSON, but not an object"),
        (Page::new(200).body(long), "is longer than 64 KiB"),
        (Page::new(302).header("location", ROOT), "is a redirect"),
    ] {
        let web = web();
        web.put(METADATA, page.clone());
        let error = fetch(&source(&web)).await.unwrap_err();
        assert!(error.is_reply(), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(web.take_lines().len(), 3);
        // If the 401 names no location, the search starts at the first well-known location.
        web.put(API, Page::new(401));
        let error = fetch(&source(&web)).await.unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(web.take_lines().len(), 3);
        web.put(ROOT, Page::json(200, metadata()));
        fetch(&source(&web)).await.unwrap();
    }
}

#[test]
fn what_cannot_be_used_is_refused_at_once() {
    let web = web();
    for (resource, allowed) in [
        (API, &[][..]),
        (API, &["http://id.example.com"]),
        (API, &[ISSUER, ""]),
        ("http://mcp.example.com", &[ISSUER]),
        ("https://planted@mcp.example.com", &[ISSUER]),
        ("https://mcp.example.com/#planted", &[ISSUER]),
        ("mcp.example.com", &[ISSUER]),
    ] {
        let error = source_of(&web, resource, allowed).unwrap_err();
        assert!(error.is_config(), "{error}");
        assert!(!all_text_of(&error).contains("planted"), "{error}");
    }
    source_of(&web, "http://localhost:8080/mcp", &["http://[::1]:1"]).unwrap();
}

#[tokio::test]
async fn nothing_shows_the_query_of_the_resource() {
    let web = web();
    let url = "https://mcp.example.com/mcp?key=planted";
    let source = source_of(&web, url, &[ISSUER]).unwrap();
    for page in [Page::new(404), Page::new(500), Page::new(200).body("{}")] {
        web.put(&format!("{METADATA}?key=planted"), page);
        let error = fetch(&source).await.unwrap_err();
        let text = format!("{source:?} {}", all_text_of(&error));
        assert!(text.contains(API), "{text}");
        assert!(!text.contains("planted"), "{text}");
    }
}
