//! Where the metadata is looked up, and what it must contain.

use std::time::Duration;

use serde_json::{Value, json};
use tower_auth::login::JsonLogin;
use tower_auth::oauth2::{Client, ClientCredentials, EndpointUrl, RefreshToken};
use tower_auth::{Error, Reason, TokenSource};

use super::{ISSUER, METADATA, TOKEN, client, fetch, issuer, metadata, source, token, web};
use crate::support::paused;
use crate::support::token_server::{ID, SECRET, all_text_of};
use crate::support::web::{Page, Web, is_bare, line};

const OPENID: &str = "https://id.example.com/.well-known/openid-configuration";

/// Fetches with this page as the metadata. Returns the error.
async fn fetch_with(page: Page) -> (Web, Error) {
    let web = web();
    web.put(METADATA, page);
    let error = fetch(&web, issuer()).await.unwrap_err();
    (web, error)
}

#[tokio::test]
async fn the_token_endpoint_is_the_one_that_the_metadata_names() {
    let web = web();
    let token = fetch(&web, issuer()).await.unwrap();
    assert_eq!(token.secret(), "issued");
    let asked = web.asked();
    assert_eq!(line(&asked[0]), format!("GET {METADATA}"));
    assert_eq!(asked[0].headers()["accept"], "application/json");
    assert!(is_bare(&asked[0]), "{asked:?}");
    assert_eq!(line(&asked[1]), format!("POST {TOKEN}"));
    assert_eq!(asked[1].param("client_secret").unwrap(), SECRET);
    assert_eq!(asked.len(), 2);
}

#[tokio::test]
async fn every_grant_takes_an_issuer_and_nothing_is_asked_before_the_first_token_is() {
    let web = web();
    let source = RefreshToken::new(client(&web, issuer()), "refresh");
    assert!(web.asked().is_empty());
    source.fetch(Reason::First).await.unwrap();
    let public = Client::public(issuer(), ID)
        .unwrap()
        .transport(web.transport());
    let source = RefreshToken::new(public, "refresh");
    source.fetch(Reason::First).await.unwrap();
    let source = ClientCredentials::new(issuer(), ID, SECRET)
        .unwrap()
        .transport(web.transport());
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(web.times(&format!("POST {TOKEN}")), 3);
}

#[tokio::test]
async fn the_locations_are_asked_in_the_order_that_mcp_requires() {
    let tenant = "https://id.example.com/tenant";
    let of_tenant = [
        "https://id.example.com/.well-known/oauth-authorization-server/tenant",
        "https://id.example.com/.well-known/openid-configuration/tenant",
        "https://id.example.com/tenant/.well-known/openid-configuration",
    ];
    // The issuer's trailing slash is removed first (RFC 8414 §3.1).
    for (issuer, locations) in [
        (ISSUER, &[METADATA, OPENID][..]),
        ("https://id.example.com/", &[METADATA, OPENID]),
        (tenant, &of_tenant),
        ("https://id.example.com/tenant/", &of_tenant),
    ] {
        for (at, place) in locations.iter().enumerate() {
            let web = web();
            web.put(METADATA, Page::new(404));
            let mut metadata = metadata();
            metadata["issuer"] = issuer.into();
            web.put(place, Page::json(200, &metadata));
            let url = EndpointUrl::from_issuer(issuer).unwrap();
            fetch(&web, url).await.unwrap();
            let mut expected: Vec<_> = locations[..=at]
                .iter()
                .map(|it| format!("GET {it}"))
                .collect();
            expected.push(format!("POST {TOKEN}"));
            assert_eq!(web.take_lines(), expected, "{issuer}");
        }
        // Here, none of the locations has metadata.
        let web = Web::default();
        let url = EndpointUrl::from_issuer(issuer).unwrap();
        let error = fetch(&web, url).await.unwrap_err();
        assert!(error.is_permanent() && error.is_denied(), "{error}");
        assert_eq!(error.status().unwrap(), 404);
        assert!(error.to_string().contains(issuer), "{error}");
        let expected: Vec<_> = locations.iter().map(|it| format!("GET {it}")).collect();
        assert_eq!(web.take_lines(), expected, "{issuer}");
    }
}

#[tokio::test]
async fn any_4xx_that_stays_leads_to_the_next_place() {
    for status in [400, 401, 403, 404, 405, 410] {
        let web = web();
        web.put(OPENID, Page::json(200, metadata()));
        web.put(METADATA, Page::new(status).body("no"));
        fetch(&web, issuer()).await.unwrap();
        assert_eq!(web.asked().len(), 3, "{status}");
    }
}

#[tokio::test]
async fn a_server_in_trouble_is_not_asked_elsewhere_and_may_be_well_again_soon() {
    for status in [408, 425, 429, 500, 502, 503] {
        let (web, error) = fetch_with(Page::new(status).header("retry-after", "7")).await;
        assert!(error.is_transient() && error.is_denied(), "{error}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(web.take_lines(), [format!("GET {METADATA}")], "{status}");
    }
    let (web, error) = fetch_with(Page::reset()).await;
    assert!(error.is_transient() && error.is_transport(), "{error}");
    assert!(error.to_string().contains("the metadata at"), "{error}");
    assert_eq!(web.take_lines(), [format!("GET {METADATA}")]);
}

#[tokio::test(start_paused = true)]
async fn a_hiccup_of_the_metadata_passes_within_the_fetch() {
    let web = web();
    web.put(METADATA, Page::new(503));
    let cache = paused(source(&web, issuer())).build();
    let caller = tokio::spawn(cache.token());
    tower_auth_test::run_until_idle().await;
    web.put(METADATA, Page::json(200, metadata()));
    assert_eq!(caller.await.unwrap().unwrap().secret(), "issued");
    assert_eq!(web.times(&format!("GET {METADATA}")), 2);
}

#[tokio::test]
async fn metadata_of_another_issuer_is_not_used_and_the_error_names_both() {
    for other in [
        "https://evil.example.com",
        "https://id.example.com/",
        "https://ID.example.com",
        "https://id.example.com:443",
        "",
    ] {
        let mut metadata = metadata();
        metadata["issuer"] = other.into();
        let (web, error) = fetch_with(Page::json(200, &metadata)).await;
        assert!(error.is_config() && error.is_permanent(), "{error}");
        let text = error.to_string();
        assert!(text.contains("`https://id.example.com`"), "{text}");
        assert!(text.contains(&format!("`{other}`")), "{text}");
        assert_eq!(web.take_lines(), [format!("GET {METADATA}")]);
    }
    for other in [Value::Null, 7.into(), json!([ISSUER])] {
        let mut metadata = metadata();
        metadata["issuer"] = other;
        let (_, error) = fetch_with(Page::json(200, &metadata)).await;
        assert!(error.to_string().contains("has no `issuer`"), "{error}");
    }
}

#[tokio::test]
async fn an_issuer_that_ends_in_a_slash_is_one() {
    let web = web();
    let mut metadata = metadata();
    metadata["issuer"] = "https://id.example.com/".into();
    web.put(METADATA, Page::json(200, &metadata));
    let url = EndpointUrl::from_issuer("https://id.example.com/").unwrap();
    fetch(&web, url).await.unwrap();
    let error = fetch(&web, issuer()).await.unwrap_err();
    assert!(
        error.to_string().contains("including a trailing slash"),
        "{error}"
    );
}

#[tokio::test]
async fn what_the_server_calls_itself_is_cleaned_and_cut() {
    let mut metadata = metadata();
    metadata["issuer"] = format!("https://a\n\u{202e}{}", "x".repeat(5_000)).into();
    let (_, error) = fetch_with(Page::json(200, &metadata)).await;
    let text = error.to_string();
    assert!(!text.contains(['\n', '\u{202e}']), "{text}");
    assert!(text.len() < 600, "{}", text.len());
}

#[tokio::test]
async fn a_redirect_of_the_metadata_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let page = Page::new(status).header("location", OPENID);
        let (web, error) = fetch_with(page).await;
        assert!(error.is_reply(), "{error}");
        assert!(error.to_string().contains("redirect"), "{error}");
        assert_eq!(
            web.take_lines(),
            [format!("GET {METADATA}"), format!("GET {OPENID}")]
        );
    }
}

#[tokio::test]
async fn what_is_no_metadata_is_an_error_that_says_what_it_is() {
    let long = format!(r#"{{"issuer":"{ISSUER}","x":"{}"}}"#, "x".repeat(64 * 1024));
    for (page, what) in [
        (Page::new(200).body("<html>"), "is not valid JSON"),
        (Page::new(200), "is not valid JSON"),
        (Page::new(200).body("[]"), "is JSON, but not an object"),
        (Page::new(200).body(long), "is longer than 64 KiB"),
        (
            Page::new(204),
            "has a status that is neither 200 nor an error",
        ),
        (
            Page::new(201).body(metadata().to_string()),
            "has a status that is neither 200 nor an error",
        ),
    ] {
        let (web, error) = fetch_with(page).await;
        assert!(error.is_reply(), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert!(error.to_string().contains(METADATA), "{error}");
        assert_eq!(web.take_lines().len(), 2);
    }
}

/// Some servers send their home page, or a redirect to a login, for each unknown path.
#[tokio::test]
async fn what_is_no_metadata_leads_to_the_next_place() {
    for page in [
        Page::new(200).body("<html>"),
        Page::new(200),
        Page::new(204),
        Page::new(302).header("location", "https://id.example.com/login"),
    ] {
        let web = web();
        web.put(METADATA, page);
        web.put(OPENID, Page::json(200, metadata()));
        fetch(&web, issuer()).await.unwrap();
        assert_eq!(web.asked().len(), 3);
    }
}

#[tokio::test]
async fn if_no_place_has_metadata_the_error_says_what_is_at_the_first() {
    let web = web();
    web.put(METADATA, Page::new(200).body("[]"));
    web.put(OPENID, Page::new(200).body("<html>"));
    let error = fetch(&web, issuer()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("is JSON, but not an object"), "{text}");
    assert!(text.contains(METADATA), "{text}");
}

#[tokio::test]
async fn a_number_that_is_too_large_makes_no_metadata_unreadable() {
    let text = metadata().to_string();
    let text = text.replacen('{', r#"{"x_limits":[-1e999,{"y":1e400}],"#, 1);
    let web = web();
    web.put(METADATA, Page::new(200).body(text));
    fetch(&web, issuer()).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_a_secret_could_be_read_on_the_way_to_is_an_error() {
    for endpoint in [
        "http://id.example.com/token",
        // `localhost` would be this machine, which a remote server can't name.
        "http://localhost/token",
        "https://user@id.example.com/token",
        "https://id.example.com/token#x",
        "ftp://id.example.com/token",
        "/token",
        "",
    ] {
        let mut metadata = metadata();
        metadata["token_endpoint"] = endpoint.into();
        let (web, error) = fetch_with(Page::json(200, &metadata)).await;
        assert!(error.is_config(), "{error}");
        assert!(error.to_string().contains("`token_endpoint`"), "{error}");
        assert!(error.to_string().contains(ISSUER), "{error}");
        assert_eq!(web.take_lines(), [format!("GET {METADATA}")]);
    }
}

#[tokio::test]
async fn an_issuer_on_loopback_may_have_its_endpoints_there() {
    let web = Web::default();
    let metadata =
        json!({"issuer": "http://localhost:1", "token_endpoint": "http://127.0.0.1:1/t"});
    web.put(
        "http://localhost:1/.well-known/oauth-authorization-server",
        Page::json(200, &metadata),
    );
    web.put("http://127.0.0.1:1/t", token());
    let url = EndpointUrl::from_issuer("http://localhost:1").unwrap();
    fetch(&web, url).await.unwrap();
}

#[tokio::test]
async fn a_missing_endpoint_is_an_error_that_names_its_field() {
    for endpoint in [
        None,
        Some(Value::Null),
        Some(7.into()),
        Some(json!([TOKEN])),
    ] {
        let mut metadata = metadata();
        match endpoint {
            Some(endpoint) => metadata["token_endpoint"] = endpoint,
            None => drop(metadata.as_object_mut().unwrap().remove("token_endpoint")),
        }
        let (_, error) = fetch_with(Page::json(200, &metadata)).await;
        assert!(error.is_config() && error.is_permanent(), "{error}");
        assert!(error.to_string().contains("no `token_endpoint`"), "{error}");
    }
}

#[tokio::test]
async fn a_mistake_in_the_metadata_that_is_mended_is_seen_by_the_next_fetch() {
    let web = web();
    web.put(METADATA, Page::json(200, json!({"issuer": ISSUER})));
    let source = source(&web, issuer());
    source.fetch(Reason::First).await.unwrap_err();
    web.put(METADATA, Page::json(200, metadata()));
    source.fetch(Reason::First).await.unwrap();
}

#[test]
fn what_is_no_issuer_is_refused_at_once() {
    for (url, what) in [
        ("http://id.example.com", "http to `id.example.com`"),
        ("https://id.example.com?x=planted", "query"),
        ("https://id.example.com/?", "query"),
        ("https://id.example.com#planted", "fragment"),
        ("https://planted@id.example.com", "user name"),
        ("id.example.com", "absolute"),
        ("planted secret", "valid URL"),
        ("", ""),
    ] {
        let error = EndpointUrl::from_issuer(url).unwrap_err();
        assert!(error.is_config(), "{url}");
        assert!(error.to_string().contains("the issuer"), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert!(!all_text_of(&error).contains("planted"), "{error}");
    }
    for url in ["http://localhost:8080/realm", "http://[::1]", ISSUER] {
        EndpointUrl::from_issuer(url).unwrap();
    }
}

#[test]
fn a_login_in_json_takes_no_issuer() {
    let web = web();
    let login = JsonLogin::new(issuer(), "me", "password");
    assert!(login.unwrap_err().is_config());
    let login = JsonLogin::new(TOKEN, "me", "password")
        .unwrap()
        .transport(web.transport());
    let error = login.refresh_at(issuer()).unwrap_err();
    assert!(error.is_config() && error.to_string().contains("issuer"));
}

#[test]
fn debug_tells_the_issuer_and_no_secret() {
    let text = format!("{:?} {:?}", issuer(), source(&web(), issuer()));
    assert!(text.contains(ISSUER) && !text.contains(SECRET), "{text}");
    assert_eq!(issuer(), issuer());
    assert_ne!(issuer(), issuer().mtls());
    assert_ne!(issuer(), EndpointUrl::try_from(ISSUER).unwrap());
}
