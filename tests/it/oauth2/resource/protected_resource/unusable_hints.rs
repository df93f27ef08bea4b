//! A refusal that names a location without metadata, several locations, or something unreadable.

use serde_json::json;

use super::{API, METADATA, ROOT, changed, fetch, metadata, refusal, source, web};
use crate::support::web::{Page, Web};

const HINTED: &str = "https://mcp.example.com/meta";

/// Serves an API with this challenge. One well-known location has the metadata.
fn web_of(challenge: &str, well_known: &str) -> Web {
    let web = web();
    web.put(API, refusal(challenge));
    web.put(METADATA, Page::new(404));
    web.put(well_known, Page::json(200, metadata()));
    web
}

/// Returns the locations of the metadata that were asked for.
fn asked_for(web: &Web) -> Vec<String> {
    let lines = web.take_lines();
    let of_api = lines.iter().filter_map(|line| line.strip_prefix("GET "));
    let of_api = of_api.filter(|url| url.starts_with("https://mcp.") && *url != API);
    of_api.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_location_without_usable_metadata_leads_to_the_well_known_places() {
    let long = format!(r#"{{"x":"{}"}}"#, "x".repeat(64 * 1024));
    let challenge = format!(r#"Bearer resource_metadata="{HINTED}""#);
    for page in [
        Page::new(404),
        Page::new(400),
        Page::new(401).header("www-authenticate", &challenge),
        Page::new(403).body("<html>"),
        Page::new(410),
        Page::new(200).body("<html>"),
        Page::new(200),
        Page::new(200).body("[]"),
        Page::new(200).body("{}"),
        Page::new(200).body(r#"{"issuer":"https://id.example.com"}"#),
        Page::new(200).body(long),
        Page::new(204),
        Page::new(302).header("location", ROOT),
    ] {
        let web = web_of(&challenge, METADATA);
        web.put(HINTED, page.clone());
        fetch(&source(&web)).await.unwrap();
        assert_eq!(asked_for(&web), [HINTED, METADATA]);
        let web = web_of(&challenge, ROOT);
        web.put(HINTED, page);
        fetch(&source(&web)).await.unwrap();
        assert_eq!(asked_for(&web), [HINTED, METADATA, ROOT]);
    }
    // A location that is both in the challenge and well-known gets one request.
    let web = web_of(&format!(r#"Bearer resource_metadata="{METADATA}""#), ROOT);
    fetch(&source(&web)).await.unwrap();
    assert_eq!(asked_for(&web), [METADATA, ROOT]);
}

#[tokio::test]
async fn an_unreadable_location_leads_to_the_well_known_places() {
    for param in [
        format!("'{HINTED}'"),
        format!("\"'{HINTED}'\""),
        format!("<{HINTED}>"),
        format!("\"<{HINTED}>\""),
        format!("\"{HINTED}"),
        format!("\"{HINTED}#fragment\""),
        format!("\"{HINTED} {HINTED}\""),
        format!("\"{HINTED}, {HINTED}\""),
        format!("\" {HINTED}\""),
        String::from("\"/.well-known/oauth-protected-resource/mcp\""),
        String::from("/meta"),
        String::from("\"mcp.example.com/meta\""),
        String::from("\"//mcp.example.com/meta\""),
        String::from("\"https:///meta\""),
        String::from("\"https://\""),
        String::from("\"urn:meta\""),
        String::from("\"null\""),
        String::from("\"\""),
        String::new(),
    ] {
        let web = web_of(&format!("Bearer resource_metadata={param}"), METADATA);
        fetch(&source(&web)).await.unwrap();
        assert_eq!(asked_for(&web), [METADATA], "{param}");
    }
}

#[tokio::test]
async fn each_of_several_locations_is_tried_before_the_well_known_places() {
    let other = "https://mcp.example.com/other";
    let evil = "https://evil.example.com/meta";
    for challenge in [
        format!(r#"Bearer resource_metadata="{other}", resource_metadata="{HINTED}""#),
        format!(r#"Bearer resource_metadata="{other}", DPoP Resource_Metadata="{HINTED}""#),
        format!(
            r#"Bearer resource_metadata="{other}", resource_metadata="{other}", resource_metadata='x', resource_metadata="{HINTED}""#
        ),
    ] {
        let web = web_of(&challenge, METADATA);
        web.put(HINTED, Page::json(200, metadata()));
        fetch(&source(&web)).await.unwrap();
        assert_eq!(asked_for(&web), [other, HINTED], "{challenge}");
        let web = web_of(&challenge, METADATA);
        fetch(&source(&web)).await.unwrap();
        assert_eq!(asked_for(&web), [other, HINTED, METADATA], "{challenge}");
    }
    // Another origin never gets a request, and the API's own location counts.
    for challenge in [
        format!(r#"Bearer resource_metadata="{evil}", resource_metadata="{HINTED}""#),
        format!(r#"Bearer resource_metadata="{HINTED}", DPoP resource_metadata="{evil}""#),
    ] {
        let web = web_of(&challenge, METADATA);
        web.put(HINTED, Page::json(200, metadata()));
        web.put(evil, Page::json(200, metadata()));
        fetch(&source(&web)).await.unwrap();
        assert_eq!(web.times(&format!("GET {evil}")), 0, "{challenge}");
        assert_eq!(asked_for(&web), [HINTED], "{challenge}");
    }
}

#[tokio::test]
async fn a_refusal_with_many_locations_causes_few_requests() {
    let all = (0..64).map(|n| format!(r#"resource_metadata="https://mcp.example.com/{n}""#));
    let challenge = format!("Bearer {}", all.collect::<Vec<_>>().join(", "));
    let web = web_of(&challenge, METADATA);
    fetch(&source(&web)).await.unwrap();
    assert_eq!(asked_for(&web).len(), 4 + 1);
}

#[tokio::test]
async fn a_location_in_trouble_is_asked_again_and_no_other_is() {
    let challenge = format!(r#"Bearer resource_metadata="{HINTED}""#);
    for page in [Page::new(503), Page::new(429), Page::reset()] {
        let web = web_of(&challenge, METADATA);
        web.put(HINTED, page);
        let error = fetch(&source(&web)).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert_eq!(asked_for(&web), [HINTED]);
    }
}

#[tokio::test]
async fn metadata_of_another_resource_at_the_location_is_an_error() {
    let challenge = format!(r#"Bearer resource_metadata="{HINTED}""#);
    let web = web_of(&challenge, METADATA);
    let other = changed(|it| it["resource"] = json!("https://evil.example.com"));
    web.put(HINTED, Page::json(200, &other));
    let error = fetch(&source(&web)).await.unwrap_err();
    assert!(error.is_config(), "{error}");
    assert_eq!(asked_for(&web), [HINTED]);
}

#[tokio::test]
async fn without_metadata_anywhere_the_error_says_what_is_wrong_at_the_location() {
    let challenge = format!(r#"Bearer resource_metadata="{HINTED}""#);
    let web = web_of(&challenge, ROOT);
    web.put(ROOT, Page::new(404));
    let error = fetch(&source(&web)).await.unwrap_err();
    assert!(error.is_denied() && error.is_permanent(), "{error}");
    assert!(error.to_string().contains(API), "{error}");
    web.put(HINTED, Page::new(200).body("<html>"));
    let error = fetch(&source(&web)).await.unwrap_err();
    assert!(error.is_reply(), "{error}");
    assert!(error.to_string().contains(HINTED), "{error}");
    web.put(HINTED, Page::new(200).body("{}"));
    let error = fetch(&source(&web)).await.unwrap_err();
    assert!(error.is_config(), "{error}");
    assert!(error.to_string().contains("has no `resource`"), "{error}");
    // If a well-known location has an outage, the error is transient.
    web.put(METADATA, Page::new(503));
    let error = fetch(&source(&web)).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}
