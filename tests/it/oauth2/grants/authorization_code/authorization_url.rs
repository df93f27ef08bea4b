//! The URL that the browser is sent to, and what this URL may contain.

use std::collections::{BTreeMap, HashSet};

use tower_auth::oauth2::{AuthorizationCode, Client};

use super::{AUTHORIZE, CALLBACK, begin, login, query};
use crate::support::login_server::{LoginServer, form};
use crate::support::token_server::{ID, URL};

#[tokio::test]
async fn the_address_is_that_of_the_rfcs() {
    let server = LoginServer::default();
    let login = login(&server)
        .scope(" offline_access  read ")
        .audience("https://api.example.com")
        .resource("https://a.example.com")
        .login_hint("me@example.com")
        .prompt("login")
        .param("organization", "a&b")
        .unwrap();
    let request = login.begin(CALLBACK).await.unwrap();
    assert_eq!(request.redirect_uri(), CALLBACK);
    assert!(
        request
            .url()
            .starts_with("https://id.example.com/authorize?")
    );
    let mut query = query(&request);
    for random in ["state", "code_challenge"] {
        assert_eq!(query.remove(random).unwrap().len(), 43);
    }
    let expected = [
        ("response_type", "code"),
        ("client_id", ID),
        ("redirect_uri", CALLBACK),
        ("code_challenge_method", "S256"),
        ("scope", "offline_access read"),
        ("audience", "https://api.example.com"),
        ("resource", "https://a.example.com"),
        ("login_hint", "me@example.com"),
        ("prompt", "login"),
        ("organization", "a&b"),
    ];
    assert_eq!(query, BTreeMap::from_iter(form(expected)));
    assert_eq!(server.times_asked(), 0);
}

#[tokio::test]
async fn each_request_has_a_state_and_a_verifier_of_its_own() {
    let mut seen = HashSet::new();
    for _ in 0..100 {
        let query = query(&begin().await);
        assert!(seen.insert(query["state"].clone()));
        assert!(seen.insert(query["code_challenge"].clone()));
    }
}

#[tokio::test]
async fn the_query_that_the_address_has_is_kept() {
    let server = LoginServer::default();
    for (address, start) in [
        (
            "https://a.example/?p=a%26b",
            "https://a.example/?p=a%26b&response_type=",
        ),
        (
            "https://a.example/?p=1&",
            "https://a.example/?p=1&response_type=",
        ),
        ("https://a.example/?", "https://a.example/?response_type="),
        ("https://a.example", "https://a.example/?response_type="),
    ] {
        let login = AuthorizationCode::new(server.client(), address).unwrap();
        let request = login.begin(CALLBACK).await.unwrap();
        assert!(request.url().starts_with(start), "{}", request.url());
    }
    for name in [
        "state",
        "scope",
        "client_id",
        "code%5Fchallenge",
        "redirect_uri",
    ] {
        let address = format!("{AUTHORIZE}?a=b&{name}=x");
        let login = AuthorizationCode::new(server.client(), address)
            .unwrap()
            .scope("read");
        let error = login.begin(CALLBACK).await.unwrap_err();
        assert!(
            error.is_config() && error.to_string().contains("remove it"),
            "{error}"
        );
    }
}

#[test]
fn a_parameter_that_somebody_else_sets_is_refused() {
    for name in [
        "",
        "response_type",
        "response_mode",
        "client_id",
        "client_secret",
        "client_assertion",
        "redirect_uri",
        "state",
        "code_challenge",
        "code_challenge_method",
        "code_verifier",
        "scope",
        "audience",
        "resource",
        "login_hint",
        "prompt",
    ] {
        let error = login(&LoginServer::default()).param(name, "x").unwrap_err();
        assert!(error.is_config(), "{name}");
    }
    let twice = login(&LoginServer::default()).param("a", "x").unwrap();
    assert!(twice.param("a", "y").unwrap_err().is_config());
}

#[tokio::test]
async fn the_browser_comes_back_to_nobody_else() {
    let login = login(&LoginServer::default());
    for good in [
        "https://app.example.com/callback",
        "https://app.example.com/callback?tenant=a",
        "http://127.0.0.1/callback",
        "http://127.0.0.1:80",
        "http://[::1]:4711/callback",
        "http://localhost:4711/callback",
        "com.example.app:/callback",
        "com.example.app://callback",
    ] {
        let request = login.begin(good).await.unwrap();
        assert_eq!(query(&request)["redirect_uri"], good);
    }
    for bad in [
        "",
        "/callback",
        "127.0.0.1:4711",
        "http://app.example.com/callback",
        "http://localhost.example.com/callback",
        "http://127.0.0.1@example.com/callback",
        "https://me@app.example.com/callback",
        "https://app.example.com/callback#part",
        "https://app.example.com/call back",
        "https://app.example.com/call\nback",
        "https:///callback",
        "https:callback",
        "myapp://callback",
        "com.example.app:callback",
        ".:/callback",
        "javascript:alert(1)",
        "urn:ietf:wg:oauth:2.0:oob",
        "data:text/html,x",
    ] {
        let error = login.begin(bad).await.unwrap_err();
        assert!(
            error.is_config() && error.to_string().contains("RFC"),
            "{bad}: {error}"
        );
    }
}

#[test]
fn a_client_that_does_not_say_who_it_is_and_a_cleartext_address_are_refused() {
    let server = LoginServer::default();
    let nobody = Client::anonymous(URL)
        .unwrap()
        .transport(server.transport());
    let error = AuthorizationCode::new(nobody, AUTHORIZE).unwrap_err();
    assert!(error.is_config(), "{error}");
    let cleartext = "http://id.example.com/authorize";
    let error = AuthorizationCode::new(server.client(), cleartext).unwrap_err();
    assert!(error.is_config(), "{error}");
}

#[tokio::test]
async fn an_invalid_port_of_the_redirect_address_is_named() {
    let login = login(&LoginServer::default());
    for (port, what) in [
        ("99999", "the port 99999"),
        ("0", "the port 0"),
        ("", "an empty port"),
        ("callback", "a port that isn't a number"),
    ] {
        for base in [
            "https://app.example.com",
            "http://127.0.0.1",
            "http://[::1]",
        ] {
            let uri = format!("{base}:{port}/callback");
            let error = login.begin(&uri).await.unwrap_err();
            assert!(
                error.is_config() && error.to_string().contains(what),
                "{uri}: {error}"
            );
        }
    }
    for uri in ["http://127.0.0.1:65535/", "com.example.app:/a:99999"] {
        login.begin(uri).await.unwrap();
    }
}
