//! From an API's 401 to a token for it (RFC 9728), from an authorization server that is allowed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, advance};
use tower_auth::oauth2::{Client, ClientCredentials, ProtectedResource, Protection};
use tower_auth::{Error, Reason, Token, TokenSource};

use crate::support::token_server::{ID, SECRET, all_text_of};
use crate::support::web::{Page, Web};
use crate::support::{Answering, paused, settle};

const API: &str = "https://mcp.example.com/mcp";
const METADATA: &str = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";
const ROOT: &str = "https://mcp.example.com/.well-known/oauth-protected-resource";
const ISSUER: &str = "https://id.example.com";
const SERVER: &str = "https://id.example.com/.well-known/oauth-authorization-server";
const TOKEN: &str = "https://id.example.com/oauth/token";
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

fn metadata() -> Value {
    json!({
        "resource": API,
        "authorization_servers": [ISSUER],
        "scopes_supported": ["notes:read", "notes:write"],
    })
}

/// A 401 with this challenge.
fn refusal(challenge: &str) -> Page {
    Page::new(401, "who are you?").with_header("www-authenticate", challenge)
}

/// An API that says where its metadata is, and its authorization server.
fn web() -> Web {
    let web = Web::default();
    let challenge = format!(r#"Bearer realm="mcp", resource_metadata="{METADATA}""#);
    web.put(API, refusal(&challenge));
    web.put(METADATA, Page::json(&metadata()));
    put_server(&web, ISSUER);
    web
}

fn put_server(web: &Web, issuer: &str) {
    let metadata = json!({
        "issuer": issuer,
        "token_endpoint": format!("{issuer}/oauth/token"),
        "revocation_endpoint": format!("{issuer}/oauth/revoke"),
    });
    let well_known = format!("{issuer}/.well-known/oauth-authorization-server");
    web.put(&well_known, Page::json(&metadata));
    let token = json!({"access_token": "issued", "token_type": "Bearer", "expires_in": 3600});
    web.put(&format!("{issuer}/oauth/token"), Page::json(&token));
    web.put(&format!("{issuer}/oauth/revoke"), Page::new(200, ""));
}

fn source_of(web: &Web, resource: &str, allowed: &[&str]) -> Result<ProtectedResource, Error> {
    let transport = web.transport();
    let build = move |protection: Protection| {
        let endpoint = protection.endpoint();
        let client = Client::with_transport(endpoint.clone(), ID, SECRET, transport.clone())?;
        let source = ClientCredentials::with_client(client.revoke_at(endpoint)?);
        Ok(source
            .resource(protection.resource())
            .scope(protection.scope()))
    };
    ProtectedResource::with_transport(resource, allowed, build, web.transport())
}

fn source(web: &Web) -> ProtectedResource {
    source_of(web, API, &[ISSUER]).unwrap()
}

async fn fetch(source: &ProtectedResource) -> Result<Token, Error> {
    source.fetch(Reason::First).await
}

/// What comes of it if the metadata is this.
async fn fetch_with(metadata: &Value) -> (Web, Result<Token, Error>) {
    let web = web();
    web.put(METADATA, Page::json(metadata));
    let fetched = fetch(&source(&web)).await;
    (web, fetched)
}

fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut metadata = metadata();
    change(&mut metadata);
    metadata
}

#[tokio::test]
async fn the_refusal_leads_to_the_metadata_and_that_to_the_authorization_server() {
    let web = web();
    let token = fetch(&source(&web)).await.unwrap();
    assert_eq!(token.secret(), "issued");
    let asked = web.asked();
    let lines: Vec<_> = asked.iter().map(|asked| asked.line.as_str()).collect();
    let expected = [
        format!("GET {API}"),
        format!("GET {METADATA}"),
        format!("GET {SERVER}"),
        format!("POST {TOKEN}"),
    ];
    assert_eq!(lines, expected);
    // A credential goes to the token endpoint, and nowhere else.
    for asked in &asked[..3] {
        assert!(asked.is_bare(), "{asked:?}");
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
        // Another scheme says it too, and one that names no metadata doesn't count.
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
        web.put(METADATA, Page::json(&metadata));
        fetch(&source(&web)).await.unwrap();
        let asked = web.asked().pop().unwrap();
        assert_eq!(asked.param("scope").as_deref(), scope, "{challenge}");
    }
}

#[tokio::test]
async fn without_a_hint_the_metadata_is_at_the_well_known_places() {
    for page in [
        refusal("Bearer"),
        Page::new(401, ""),
        Page::new(200, ""),
        Page::new(302, "").with_header("location", "https://elsewhere.example.com"),
        Page::new(404, ""),
        Page::new(405, ""),
    ] {
        let web = web();
        web.put(API, page);
        fetch(&source(&web)).await.unwrap();
        let lines = web.take_lines();
        assert_eq!(lines[1], format!("GET {METADATA}"));
        assert_eq!(lines.len(), 4);
        // Not there: at the root.
        web.put(METADATA, Page::new(404, ""));
        web.put(ROOT, Page::json(&metadata()));
        fetch(&source(&web)).await.unwrap();
        let lines = web.take_lines();
        assert_eq!(
            lines[1..3],
            [format!("GET {METADATA}"), format!("GET {ROOT}")]
        );
        // Nor there.
        web.put(ROOT, Page::new(410, ""));
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
        web.put(API, Page::new(status, "").with_header("retry-after", "3"));
        let error = fetch(&source(&web)).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
        assert_eq!(web.take_lines(), [format!("GET {API}")]);
    }
    let web = web();
    web.put(API, Page::breaking());
    let error = fetch(&source(&web)).await.unwrap_err();
    assert!(error.is_transport(), "{error}");
    // The same of its metadata, which isn't looked for elsewhere then.
    for page in [Page::new(503, ""), Page::breaking()] {
        let web = self::web();
        web.put(API, Page::new(401, ""));
        web.put(METADATA, page);
        web.put(ROOT, Page::json(&metadata()));
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
        "/.well-known/oauth-protected-resource/mcp",
        "",
    ] {
        let web = web();
        web.put(
            API,
            refusal(&format!(r#"Bearer resource_metadata="{place}""#)),
        );
        web.put(place, Page::json(&metadata()));
        let error = fetch(&source(&web)).await.unwrap_err();
        assert!(error.is_config() && error.is_permanent(), "{error}");
        assert_eq!(web.take_lines(), [format!("GET {API}")], "{place}");
    }
    // The same origin, spelled otherwise.
    let web = web();
    let place = "https://MCP.example.com:443/meta";
    web.put(
        API,
        refusal(&format!(r#"Bearer resource_metadata="{place}""#)),
    );
    web.put(place, Page::json(&metadata()));
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

/// What the place of the metadata stands for, in the challenge or well known, may be the name.
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
        // Neighbours.
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
            Page::json(&changed(|it| it["resource"] = name.into())),
        );
        let fetched = fetch(&source_of(&web, resource, &[ISSUER]).unwrap()).await;
        assert_eq!(fetched.is_ok(), is_good, "{place} {name}");
        if is_good {
            // And the token is asked for under it.
            let asked = web.asked().pop().unwrap();
            assert_eq!(asked.param("resource").unwrap(), name);
        }
    }
    // A place that isn't well known stands for nothing.
    let web = web();
    let challenge = r#"Bearer resource_metadata="https://mcp.example.com/meta""#;
    web.put(API, refusal(challenge));
    let metadata = changed(|it| it["resource"] = host.into());
    web.put("https://mcp.example.com/meta", Page::json(&metadata));
    fetch(&source(&web)).await.unwrap_err();
}

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
    web.put(METADATA, Page::json(&metadata));
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
        web.put(METADATA, Page::json(&metadata));
        let source = source(&web);
        for _ in 0..3 {
            let error = fetch(&source).await.unwrap_err();
            assert!(error.is_config() && error.is_permanent(), "{error}");
            // A query may hold a key.
            let told = offered.replace("?x", "?…");
            assert!(error.to_string().contains(&format!("`{told}`")), "{error}");
        }
        for asked in web.asked() {
            assert!(asked.line.starts_with("GET https://mcp.example.com/"));
            assert!(asked.is_bare());
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
        (Page::new(200, "<html>"), "is not valid JSON"),
        (Page::new(200, "7"), "is JSON, but not an object"),
        (Page::new(200, long), "is longer than 64 KiB"),
        (
            Page::new(302, "").with_header("location", ROOT),
            "is a redirect",
        ),
    ] {
        let web = web();
        web.put(METADATA, page);
        web.put(ROOT, Page::json(&metadata()));
        let error = fetch(&source(&web)).await.unwrap_err();
        assert!(error.is_reply(), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(web.take_lines().len(), 2);
    }
    // A place that the challenge names is the place, and no other.
    let web = web();
    web.put(METADATA, Page::new(404, ""));
    web.put(ROOT, Page::json(&metadata()));
    let error = fetch(&source(&web)).await.unwrap_err();
    assert!(error.is_permanent(), "{error}");
    assert_eq!(web.take_lines().len(), 2);
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
    for page in [Page::new(404, ""), Page::new(500, ""), Page::new(200, "{}")] {
        web.put(&format!("{METADATA}?key=planted"), page);
        let error = fetch(&source).await.unwrap_err();
        let text = format!("{source:?} {}", all_text_of(&error));
        assert!(text.contains(API), "{text}");
        assert!(!text.contains("planted"), "{text}");
    }
}

/// Counts how often a source was made, and makes one of this kind.
fn counting<T: TokenSource + Clone>(
    web: &Web,
    made: &Arc<AtomicUsize>,
    inner: T,
) -> ProtectedResource {
    let made = Arc::clone(made);
    let build = move |_: Protection| {
        made.fetch_add(1, Ordering::SeqCst);
        Ok(inner.clone())
    };
    ProtectedResource::with_transport(
        API,
        [ISSUER, "https://new.example.com"],
        build,
        web.transport(),
    )
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_source_is_made_once_until_the_metadata_changes() {
    let web = web();
    let made = Arc::new(AtomicUsize::new(0));
    let inner = Answering::new(|_| Token::bearer("token"));
    let source = counting(&web, &made, inner.clone());
    for _ in 0..5 {
        fetch(&source).await.unwrap();
    }
    assert_eq!(web.take_lines().len(), 2);
    // Looked at anew, and the same.
    advance(HOUR).await;
    fetch(&source).await.unwrap();
    assert_eq!(web.take_lines().len(), 2);
    assert_eq!(made.load(Ordering::SeqCst), 1);
    // And then another.
    let servers = json!(["https://new.example.com"]);
    let metadata = changed(|it| it["authorization_servers"] = servers);
    web.put(
        METADATA,
        Page::json(&metadata).with_header("cache-control", "max-age=600"),
    );
    fetch(&source).await.unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 1);
    advance(HOUR).await;
    fetch(&source).await.unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 2);
    assert_eq!(web.take_lines().len(), 2);
    // As long as it says.
    advance(10 * MINUTE).await;
    fetch(&source).await.unwrap();
    assert_eq!(web.take_lines().len(), 2);
    assert_eq!(inner.asked(), 9);
}

#[tokio::test(start_paused = true)]
async fn the_old_metadata_is_used_on_when_new_cannot_be_had() {
    let web = web();
    let source = source(&web);
    fetch(&source).await.unwrap();
    for page in [
        Page::new(503, ""),
        Page::new(404, ""),
        Page::new(200, "<html>"),
        Page::hanging(),
        Page::json(&changed(|it| {
            it["authorization_servers"] = json!(["https://evil.example.com"]);
        })),
    ] {
        web.put(METADATA, page);
        advance(HOUR).await;
        web.take_lines();
        let start = Instant::now();
        for _ in 0..3 {
            fetch(&source).await.unwrap();
        }
        assert!(start.elapsed() <= Duration::from_secs(5));
        assert_eq!(web.times(&format!("GET {METADATA}")), 1);
        assert_eq!(web.times(&format!("POST {TOKEN}")), 3);
        advance(MINUTE).await;
        fetch(&source).await.unwrap();
        assert_eq!(web.times(&format!("GET {METADATA}")), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_search_is_within_the_timeout() {
    let web = web();
    web.put(API, Page::hanging());
    let source = source(&web).timeout(Duration::from_secs(3));
    let start = Instant::now();
    let error = fetch(&source).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test]
async fn a_failure_of_the_source_that_stays_has_the_metadata_looked_at_anew() {
    let web = web();
    let made = Arc::new(AtomicUsize::new(0));
    let inner = Answering::new(|attempt| match attempt {
        1 => Token::bearer("token"),
        2 => Err(Error::transient("reset")),
        // An error that stays: a header's name that is none.
        3 => Err("no origin".parse::<tower_auth::Origin>().unwrap_err()),
        _ => Token::bearer("token"),
    });
    let source = counting(&web, &made, inner);
    fetch(&source).await.unwrap();
    assert!(fetch(&source).await.unwrap_err().is_transient());
    assert_eq!(web.take_lines().len(), 2);
    assert!(fetch(&source).await.unwrap_err().is_permanent());
    assert_eq!(web.take_lines().len(), 0);
    fetch(&source).await.unwrap();
    assert_eq!(web.take_lines().len(), 2);
}

#[tokio::test]
async fn an_error_of_the_closure_is_that_of_the_fetch() {
    let web = web();
    let build = |_: Protection| -> Result<ClientCredentials, Error> {
        Err(Error::other("no account with this one"))
    };
    let source = ProtectedResource::with_transport(API, [ISSUER], build, web.transport()).unwrap();
    let error = fetch(&source).await.unwrap_err();
    assert!(error.is_source(), "{error}");
}

#[tokio::test]
async fn the_protection_says_what_was_found() {
    let web = web();
    let seen = Arc::new(std::sync::Mutex::new(None));
    let see = Arc::clone(&seen);
    let build = move |protection: Protection| {
        *see.lock().unwrap() = Some(protection);
        Ok(Answering::new(|_| Token::bearer("token")))
    };
    let source = ProtectedResource::with_transport(API, [ISSUER], build, web.transport()).unwrap();
    fetch(&source).await.unwrap();
    let protection = seen.lock().unwrap().take().unwrap();
    assert_eq!(protection.issuer(), ISSUER);
    assert_eq!(protection.resource(), API);
    assert_eq!(protection.scope(), "notes:read notes:write");
}

#[tokio::test]
async fn closing_goes_to_the_source_that_was_made() {
    let web = web();
    let source = source(&web);
    // There is none yet, and none is made to be closed.
    source.close(None).await.unwrap();
    assert!(web.take_lines().is_empty());
    let token = fetch(&source).await.unwrap();
    source.close(Some(token)).await.unwrap();
    let asked = web.asked().pop().unwrap();
    assert_eq!(asked.line, "POST https://id.example.com/oauth/revoke");
    assert_eq!(asked.param("token").unwrap(), "issued");
}

#[tokio::test(start_paused = true)]
async fn a_hiccup_on_the_way_is_over_within_the_flight() {
    let web = web();
    web.put(METADATA, Page::new(502, ""));
    let cache = paused(source(&web)).build();
    let caller = tokio::spawn(cache.token());
    settle().await;
    assert_eq!(web.times(&format!("GET {METADATA}")), 1);
    web.put(METADATA, Page::json(&metadata()));
    assert_eq!(caller.await.unwrap().unwrap().secret(), "issued");
}
