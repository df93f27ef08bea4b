//! Where the metadata is looked up, and which resource it must name.

use std::time::Duration;

use super::{
    API, ISSUER, METADATA, ROOT, TOKEN, changed, fetch, fetch_with, metadata, refusal, source,
    source_of, web,
};
use crate::support::token_server::SECRET;
use crate::support::web::{Page, is_bare, line};

const SERVER: &str = "https://id.example.com/.well-known/oauth-authorization-server";

#[tokio::test]
async fn the_refusal_leads_to_the_metadata_and_that_to_the_authorization_server() {
    let web = web();
    let token = fetch(&source(&web)).await.unwrap();
    assert_eq!(token.secret(), "issued");
    let asked = web.asked();
    let lines: Vec<_> = asked.iter().map(line).collect();
    let expected = [
        format!("GET {API}"),
        format!("GET {METADATA}"),
        format!("GET {SERVER}"),
        format!("POST {TOKEN}"),
    ];
    assert_eq!(lines, expected);
    // The credential goes to the token endpoint and nowhere else.
    for asked in &asked[..3] {
        assert!(is_bare(asked), "{asked:?}");
    }
    assert_eq!(asked[3].param("client_secret").unwrap(), SECRET);
    assert_eq!(asked[3].param("resource").unwrap(), API);
}

#[tokio::test]
async fn the_scopes_are_those_of_the_challenge_or_else_of_the_metadata() {
    let challenge = format!(r#"Bearer resource_metadata="{METADATA}""#);
    for (challenge, metadata, scope) in [
        (
            format!(r#"{challenge}, scope="notes:read  files""#),
            metadata(),
            Some("notes:read files"),
        ),
        (
            challenge.clone(),
            metadata(),
            Some("notes:read notes:write"),
        ),
        // A challenge of any scheme can name the metadata. The `Bearer` challenge here doesn't, so
        // it isn't used.
        (
            format!(
                r#"Basic realm="x", Bearer scope="no", DPoP resource_metadata="{METADATA}", scope="yes""#
            ),
            metadata(),
            Some("yes"),
        ),
        (
            challenge.clone(),
            changed(|it| it["scopes_supported"] = "notes".into()),
            None,
        ),
        (
            challenge.clone(),
            changed(|it| drop(it.as_object_mut().unwrap().remove("scopes_supported"))),
            None,
        ),
    ] {
        let web = web();
        web.put(API, refusal(&challenge));
        web.put(METADATA, Page::json(200, &metadata));
        fetch(&source(&web)).await.unwrap();
        let asked = web.asked().pop().unwrap();
        assert_eq!(asked.param("scope").as_deref(), scope, "{challenge}");
    }
}

#[tokio::test]
async fn without_a_hint_the_metadata_is_at_the_well_known_places() {
    for page in [
        refusal("Bearer"),
        Page::new(401),
        Page::new(200),
        Page::new(302).header("location", "https://elsewhere.example.com"),
        Page::new(404),
        Page::new(405),
    ] {
        let web = web();
        web.put(API, page);
        fetch(&source(&web)).await.unwrap();
        let lines = web.take_lines();
        assert_eq!(lines[1], format!("GET {METADATA}"));
        assert_eq!(lines.len(), 4);
        // If the first location has no metadata, the root is tried.
        web.put(METADATA, Page::new(404));
        web.put(ROOT, Page::json(200, metadata()));
        fetch(&source(&web)).await.unwrap();
        let lines = web.take_lines();
        assert_eq!(
            lines[1..3],
            [format!("GET {METADATA}"), format!("GET {ROOT}")]
        );
        // Here, the root has no metadata either.
        web.put(ROOT, Page::new(410));
        let error = fetch(&source(&web)).await.unwrap_err();
        assert!(error.is_permanent() && error.is_denied(), "{error}");
        assert_eq!(error.status().unwrap(), 410);
        assert!(error.to_string().contains(API), "{error}");
    }
}

#[tokio::test]
async fn the_well_known_place_is_between_the_host_and_the_path() {
    let base = "https://mcp.example.com";
    for (resource, suffixes) in [
        ("", &[""][..]),
        ("/", &[""]),
        ("/a/b", &["/a/b", ""]),
        ("/a/", &["/a/", ""]),
        ("/a?b=c", &["/a?b=c", ""]),
        ("/?b=c", &["?b=c", ""]),
    ] {
        let web = web();
        let source = source_of(&web, &format!("{base}{resource}"), &[ISSUER]).unwrap();
        fetch(&source).await.unwrap_err();
        let expected = suffixes.iter().map(|suffix| format!("GET {ROOT}{suffix}"));
        let expected: Vec<_> = expected.collect();
        assert_eq!(web.take_lines()[1..], expected, "{resource}");
    }
}

#[tokio::test]
async fn a_resource_in_trouble_may_be_well_again_soon() {
    for status in [408, 425, 429, 500, 503] {
        let web = web();
        web.put(API, Page::new(status).header("retry-after", "3"));
        let error = fetch(&source(&web)).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
        assert_eq!(web.take_lines(), [format!("GET {API}")]);
    }
    let web = web();
    web.put(API, Page::reset());
    let error = fetch(&source(&web)).await.unwrap_err();
    assert!(error.is_transport(), "{error}");
    // If the metadata request fails transiently, no other location is tried.
    for page in [Page::new(503), Page::reset()] {
        let web = self::web();
        web.put(API, Page::new(401));
        web.put(METADATA, page);
        web.put(ROOT, Page::json(200, metadata()));
        let error = fetch(&source(&web)).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert_eq!(web.take_lines().len(), 2);
    }
}

#[tokio::test]
async fn metadata_on_another_origin_is_not_asked_for() {
    for place in [
        "https://elsewhere.example.com/.well-known/oauth-protected-resource/mcp",
        "https://mcp.example.com:8443/.well-known/oauth-protected-resource/mcp",
        "https://mcp.example.com.evil.example/.well-known/oauth-protected-resource",
        "https://mcp.example.com@evil.example/x",
        "http://mcp.example.com/.well-known/oauth-protected-resource/mcp",
        "http://localhost/.well-known/oauth-protected-resource/mcp",
        "http://169.254.169.254/latest",
    ] {
        let web = web();
        web.put(
            API,
            refusal(&format!(r#"Bearer resource_metadata="{place}""#)),
        );
        web.put(place, Page::json(200, metadata()));
        let error = fetch(&source(&web)).await.unwrap_err();
        assert!(error.is_config() && error.is_permanent(), "{error}");
        assert_eq!(web.take_lines(), [format!("GET {API}")], "{place}");
    }
    // Another spelling of the resource's own origin is accepted.
    let web = web();
    let place = "https://MCP.example.com:443/meta";
    web.put(
        API,
        refusal(&format!(r#"Bearer resource_metadata="{place}""#)),
    );
    web.put(place, Page::json(200, metadata()));
    fetch(&source(&web)).await.unwrap();
}

#[tokio::test]
async fn metadata_of_another_resource_is_not_used_and_the_error_names_both() {
    for other in [
        "https://evil.example.com/mcp",
        "https://mcp.example.com/mc",
        "https://mcp.example.com/mcp/",
        "https://mcp.example.com/other",
        "https://mcp.example.com",
        "",
    ] {
        let (web, fetched) = fetch_with(&changed(|it| it["resource"] = other.into())).await;
        let error = fetched.unwrap_err();
        assert!(error.is_config(), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(API) && text.contains(&format!("`{other}`")),
            "{text}"
        );
        assert_eq!(web.take_lines().len(), 2);
    }
    let (_, fetched) = fetch_with(&changed(|it| it["resource"] = 7.into())).await;
    let error = fetched.unwrap_err();
    assert!(error.to_string().contains("has no `resource`"), "{error}");
}

/// The metadata may name the resource that its location stands for. The location comes from the
/// challenge or from the well-known path.
#[tokio::test]
async fn metadata_of_what_the_resource_is_a_part_of_counts_for_it() {
    let host = "https://mcp.example.com";
    for (place, name, is_good) in [
        ("", host, true),
        ("", "https://mcp.example.com/", true),
        ("", "https://mcp.example.com/a", false),
        ("/a", "https://mcp.example.com/a", true),
        ("/a", "https://mcp.example.com/a/", false),
        ("/a/", "https://mcp.example.com/a/", true),
        ("/a/bcd", "https://mcp.example.com/a/bcd", true),
        ("/a/bcd", "https://mcp.example.com/a", false),
        // None of these names the resource or a parent path of it.
        ("/a/b", "https://mcp.example.com/a/b", false),
        ("/a/bcde", "https://mcp.example.com/a/bcde", false),
        ("/a/c", "https://mcp.example.com/a/c", false),
        ("/a/bcd/e", "https://mcp.example.com/a/bcd/e", false),
        ("/a?b", "https://mcp.example.com/a?b", false),
        ("/a?b", "https://mcp.example.com/a", false),
    ] {
        let web = web();
        let place = format!("{ROOT}{place}");
        let resource = "https://mcp.example.com/a/bcd";
        let challenge = format!(r#"Bearer resource_metadata="{place}""#);
        web.put(resource, refusal(&challenge));
        web.put(
            &place,
            Page::json(200, changed(|it| it["resource"] = name.into())),
        );
        let fetched = fetch(&source_of(&web, resource, &[ISSUER]).unwrap()).await;
        assert_eq!(fetched.is_ok(), is_good, "{place} {name}");
        if is_good {
            // The token request names the resource as the metadata does.
            let asked = web.asked().pop().unwrap();
            assert_eq!(asked.param("resource").unwrap(), name);
        }
    }
    // A location without the well-known path doesn't belong to any resource.
    let web = web();
    let challenge = r#"Bearer resource_metadata="https://mcp.example.com/meta""#;
    web.put(API, refusal(challenge));
    let metadata = changed(|it| it["resource"] = host.into());
    web.put("https://mcp.example.com/meta", Page::json(200, &metadata));
    fetch(&source(&web)).await.unwrap_err();
}
