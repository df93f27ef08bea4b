//! Which scopes the API may choose.

use super::{API, ISSUER, METADATA, TOKEN, changed, fetch, refusal, source, source_of, web};
use crate::support::web::{Page, Web};

/// Serves an API whose challenge and metadata name these scopes.
fn web_of(challenge: &str, supported: &[&str]) -> Web {
    let web = web();
    let scope = match challenge {
        "" => String::new(),
        scope => format!(r#", scope="{scope}""#),
    };
    let challenge = format!(r#"Bearer resource_metadata="{METADATA}"{scope}"#);
    web.put(API, refusal(&challenge));
    let metadata = changed(|it| it["scopes_supported"] = supported.into());
    web.put(METADATA, Page::json(200, &metadata));
    web
}

#[tokio::test]
async fn only_allowed_scopes_are_asked_for() {
    for (challenge, supported, expected) in [
        ("", &["notes:read", "admin"][..], Some("notes:read")),
        ("", &["files", "notes:read"], Some("files notes:read")),
        (
            "",
            &["notes", "notes:read:all", "FILES", "files"],
            Some("files"),
        ),
        ("admin  notes:read", &["files"], Some("notes:read")),
        ("", &["admin notes:read"], Some("notes:read")),
        // The API names no scope.
        ("", &[], None),
        (" ", &["files"], None),
    ] {
        let web = web_of(challenge, supported);
        let source = source(&web)
            .allow_scopes("notes:read  notes:write")
            .allow_scopes("files");
        fetch(&source).await.unwrap();
        let asked = web.asked().pop().unwrap();
        assert_eq!(asked.param("scope").as_deref(), expected, "{challenge}");
    }
}

#[tokio::test]
async fn without_an_allowed_scope_among_them_nothing_is_asked_for() {
    for (challenge, supported) in [
        ("", &["admin", "notes"][..]),
        ("admin", &["notes:read"]),
        ("Notes:Read", &[]),
    ] {
        for allowed in ["notes:read", ""] {
            let web = web_of(challenge, supported);
            let error = fetch(&source(&web).allow_scopes(allowed))
                .await
                .unwrap_err();
            assert!(error.is_config() && error.is_permanent(), "{error}");
            let text = error.to_string();
            assert!(text.contains("`allow_scopes`"), "{text}");
            let named = supported.first().filter(|_| challenge.is_empty());
            assert!(text.contains(named.unwrap_or(&challenge)), "{text}");
            assert_eq!(web.times(&format!("POST {TOKEN}")), 0);
        }
    }
}

#[tokio::test]
async fn the_error_cleans_and_cuts_what_the_api_names() {
    let long = format!("a\u{202e}{}", "x".repeat(10_000));
    let web = web_of("", &[long.as_str()]);
    let source = source_of(&web, API, &[ISSUER]).unwrap().allow_scopes("a");
    let text = fetch(&source).await.unwrap_err().to_string();
    assert!(!text.contains('\u{202e}') && text.len() < 600, "{text}");
}
