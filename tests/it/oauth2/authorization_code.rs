//! A login with a browser: what it is sent with, what it comes back with, and what comes of that.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use sha2::{Digest, Sha256};
use tower::{Layer, ServiceExt};
use tower_auth::oauth2::{
    AuthorizationCode, AuthorizationRequest, AuthorizationResponse, Client, RefreshToken,
};
use tower_auth::{AuthLayer, Error, Reason, TokenSource};

use crate::oauth2::refresh_token::Store;
use crate::support::login_server::{Answer, BROKEN, ISSUED, LoginServer, REFRESHED, form};
use crate::support::token_server::{ID, SECRET, URL, all_text_of, expiry};
use crate::support::{Api, request};

const AUTHORIZE: &str = "https://id.example.com/authorize";
const CALLBACK: &str = "http://127.0.0.1:4711/callback";
const ISSUER: &str = "https://id.example.com";

fn login(server: &LoginServer) -> AuthorizationCode {
    AuthorizationCode::new(server.client(), AUTHORIZE).unwrap()
}

async fn begin() -> AuthorizationRequest {
    let login = login(&LoginServer::default());
    login.begin(CALLBACK).await.unwrap()
}

fn query(request: &AuthorizationRequest) -> BTreeMap<String, String> {
    let (_, query) = request.url().split_once('?').unwrap();
    let all: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let map: BTreeMap<_, _> = all.iter().cloned().collect();
    assert_eq!(map.len(), all.len(), "a parameter stands twice: {all:?}");
    map
}

/// What the browser comes back with, `state` first.
fn back(request: &AuthorizationRequest, rest: &str) -> String {
    format!("{CALLBACK}?state={}&{rest}", query(request)["state"])
}

fn read(request: &AuthorizationRequest, rest: &str) -> Result<AuthorizationResponse, Error> {
    request.read(&back(request, rest))
}

/// Logs in at a server that answers like this.
async fn logged_in(login: &AuthorizationCode) -> Result<RefreshToken, Error> {
    let request = login.begin(CALLBACK).await?;
    let response = read(&request, "code=the-code")?;
    login.finish(request, response).await
}

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
async fn the_exchange_is_that_of_the_rfcs() {
    let server = LoginServer::answering([ISSUED]);
    let client = Client::with_transport(URL, ID, SECRET, server.transport()).unwrap();
    let login = AuthorizationCode::new(client, AUTHORIZE).unwrap();
    let login = login.resource("https://a.example.com");
    let request = login.begin(CALLBACK).await.unwrap();
    let challenge = query(&request)["code_challenge"].clone();
    let response = read(&request, "code=the%2Fcode").unwrap();
    login.finish(request, response).await.unwrap();
    let (path, mut sent) = server.asked().remove(0);
    assert_eq!(path, "/oauth/token");
    let at = sent.iter().position(|(name, _)| name == "code_verifier");
    let (_, verifier) = sent.remove(at.unwrap());
    assert_eq!(URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier)), challenge);
    let expected = [
        ("grant_type", "authorization_code"),
        ("code", "the/code"),
        ("redirect_uri", CALLBACK),
        ("resource", "https://a.example.com"),
        ("client_id", ID),
        ("client_secret", SECRET),
    ];
    assert_eq!(sent, form(expected));
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
            error.is_config() && error.to_string().contains("take it out"),
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
    let nobody = Client::anonymous_with_transport(URL, server.transport()).unwrap();
    let error = AuthorizationCode::new(nobody, AUTHORIZE).unwrap_err();
    assert!(error.is_config(), "{error}");
    let cleartext = "http://id.example.com/authorize";
    let error = AuthorizationCode::new(server.client(), cleartext).unwrap_err();
    assert!(error.is_config(), "{error}");
}

#[tokio::test]
async fn an_address_its_path_and_query_or_its_query_are_read() {
    let request = begin().await;
    let answer = format!(
        "state={}&other=1&other=2&code=a?b:c/d",
        query(&request)["state"]
    );
    for redirect in [
        format!("{CALLBACK}?{answer}"),
        format!("com.example.app:/callback?{answer}"),
        format!("/callback?{answer}"),
        format!("?{answer}"),
        answer.clone(),
        format!("{CALLBACK}?{answer}#_=_"),
        format!("{answer}#state=x"),
    ] {
        request.read(&redirect).expect(&redirect);
    }
}

#[tokio::test]
async fn what_is_not_the_answer_to_the_request_is_refused() {
    let request = begin().await;
    let state = query(&request)["state"].clone();
    let other = query(&begin().await)["state"].clone();
    let (start, rest) = state.split_at(42);
    let last = if rest == "A" { "B" } else { "A" };
    for redirect in [
        String::from("code=c"),
        String::from("code=c&state="),
        format!("code=c&state={other}"),
        format!("code=c&state={start}"),
        format!("code=c&state={start}{last}"),
        format!("code=c&state={state}x"),
        format!("code=c&state={}", state.to_lowercase()),
        format!("code=c&state={state}&state={state}"),
        format!("code=c&state={other}&state={state}"),
        format!("code=c&State={state}"),
        format!("code=c#state={state}"),
        format!("error=access_denied&state={other}"),
        format!("http://127.0.0.1/code=c&state={state}"),
        String::new(),
    ] {
        let error = request.read(&redirect).unwrap_err();
        assert!(
            error.is_reply() && error.to_string().contains("`state`"),
            "{redirect}: {error}"
        );
        assert!(!all_text_of(&error).contains(start), "{error:?}");
    }
}

#[tokio::test]
async fn a_parameter_that_stands_twice_is_refused() {
    let request = begin().await;
    for rest in [
        "code=a&code=a",
        "code=a&code=b",
        "code=a&iss=x&iss=x",
        "error=a&error=b",
        "code=a&error_description=a&error_description=b",
    ] {
        let error = read(&request, rest).unwrap_err();
        assert!(
            error.is_reply() && error.to_string().contains("twice"),
            "{rest}: {error}"
        );
    }
}

#[tokio::test]
async fn an_answer_without_a_code_is_refused() {
    let request = begin().await;
    for rest in ["", "code=", "token=x", "error="] {
        let error = read(&request, rest).unwrap_err();
        assert!(
            error.is_reply() && error.to_string().contains("no `code`"),
            "{rest}: {error}"
        );
    }
}

#[tokio::test]
async fn the_answer_of_another_server_is_refused() {
    let login = || login(&LoginServer::default());
    let own = "code=c&iss=https%3A%2F%2Fid.example.com";
    let (none, evil) = ("code=c", "code=c&iss=https://evil.example.com");
    // Plain comparison: this is another.
    let alike = "code=c&iss=https://id.example.com/";
    let denied = "error=access_denied&iss=https://evil.example.com";
    let unknown = login().begin(CALLBACK).await.unwrap();
    let known = login().issuer(ISSUER).begin(CALLBACK).await.unwrap();
    let required = login()
        .require_issuer(ISSUER)
        .begin(CALLBACK)
        .await
        .unwrap();
    for (request, good) in [
        (&unknown, &[own, none, evil, alike][..]),
        (&known, &[own, none]),
        (&required, &[own]),
    ] {
        for rest in [own, none, evil, alike] {
            let answer = read(request, rest);
            assert_eq!(answer.is_ok(), good.contains(&rest), "{rest}");
            if let Err(error) = answer {
                assert!(
                    error.is_reply() && error.to_string().contains("`iss`"),
                    "{error}"
                );
            }
        }
    }
    for request in [known, required] {
        assert!(!read(&request, denied).unwrap_err().is_access_denied());
    }
}

#[tokio::test]
async fn what_the_server_says_no_with_is_told() {
    let request = begin().await;
    let denied = "error=access_denied&error_description=The+person%0Asaid+no&code=x";
    let error = read(&request, denied).unwrap_err();
    assert!(error.is_access_denied() && error.is_denied() && error.is_permanent());
    assert_eq!(error.description(), Some("The person said no"));
    assert_eq!(error.status(), None);
    let told = error.to_string();
    assert!(
        told.ends_with("(error `access_denied`: The person said no)"),
        "{told}"
    );

    let error = read(&request, "error=temporarily_unavailable").unwrap_err();
    assert!(error.is_transient() && !error.is_access_denied(), "{error}");
    let error = read(&request, "error=login_required").unwrap_err();
    assert_eq!(error.code(), Some("login_required"));

    // And nothing of what it echoes.
    let state = query(&request)["state"].clone();
    let echo = format!("error={state}&error_description=no+{state}+planted&code=planted");
    let text = all_text_of(&read(&request, &echo).unwrap_err());
    assert!(
        !text.contains(&state) && !text.contains("planted"),
        "{text}"
    );
}

#[tokio::test]
async fn the_answer_to_another_request_is_refused_and_not_sent() {
    let server = LoginServer::default();
    let login = login(&server);
    let (one, other) = (
        login.begin(CALLBACK).await.unwrap(),
        login.begin(CALLBACK).await.unwrap(),
    );
    let response = read(&one, "code=c").unwrap();
    assert!(login.finish(other, response).await.unwrap_err().is_reply());
    assert_eq!(server.times_asked(), 0);
}

/// The code may be used up by the first try.
#[tokio::test]
async fn a_code_is_sent_once() {
    let refused: Answer = (400, r#"{"error":"invalid_grant"}"#);
    for answer in [BROKEN, (503, ""), (429, ""), refused, (200, "no json")] {
        let server = LoginServer::answering([answer]);
        let store = Store::default();
        let error = logged_in(&login(&server).store(store.clone()))
            .await
            .unwrap_err();
        assert_eq!(error.is_invalid_grant(), answer == refused);
        assert_eq!(server.times_asked(), 1);
        assert!(store.saves().is_empty());
    }
}

#[tokio::test]
async fn the_token_just_issued_comes_first_and_then_it_refreshes() {
    let server = LoginServer::answering([ISSUED, REFRESHED]);
    let source = logged_in(&login(&server).scope("read")).await.unwrap();
    for _ in 0..3 {
        let token = source.fetch(Reason::First).await.unwrap();
        assert_eq!((token.secret(), token.scope()), ("first", Some("read")));
    }
    assert_eq!(server.times_asked(), 1);
    let token = source.fetch(Reason::Stale).await.unwrap();
    assert_eq!(token.secret(), "second");
    let expected = [
        ("grant_type", "refresh_token"),
        ("refresh_token", "refresh"),
        ("client_id", ID),
    ];
    assert_eq!(server.asked()[1].1, form(expected));
}

#[tokio::test]
async fn for_any_reason_but_the_first_the_token_just_issued_is_never_handed_out_again() {
    for reason in [
        Reason::Stale,
        Reason::Expired,
        Reason::Refused,
        Reason::Forced,
    ] {
        let server = LoginServer::answering([ISSUED, BROKEN, REFRESHED]);
        let source = logged_in(&login(&server)).await.unwrap();
        assert!(source.fetch(reason).await.unwrap_err().is_transport());
        let token = source.fetch(Reason::First).await.unwrap();
        assert_eq!(token.secret(), "second", "{reason}");
        assert!(server.is_done());
    }
}

#[tokio::test]
async fn an_api_that_refuses_the_token_just_issued_gets_the_next() {
    let server = LoginServer::answering([ISSUED, REFRESHED]);
    let source = logged_in(&login(&server)).await.unwrap();
    let api = Api::accepting(["second"]);
    let client = AuthLayer::new(source).layer(api.clone());
    let response = client.oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(api.credentials(), ["Bearer first", "Bearer second"]);
}

#[tokio::test(start_paused = true)]
async fn its_lifetime_is_counted_from_when_it_was_asked_for() {
    let server = LoginServer::answering([ISSUED, REFRESHED]).taking(Duration::from_secs(9));
    let source = logged_in(&login(&server)).await.unwrap();
    tokio::time::advance(Duration::from_secs(591)).await;
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(expiry(&token), "In(3000s)");
    tokio::time::advance(Duration::from_secs(2_999)).await;
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!((token.secret(), &*expiry(&token)), ("first", "In(1s)"));
    tokio::time::advance(Duration::from_secs(1)).await;
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!((token.secret(), &*expiry(&token)), ("second", "In(3600s)"));
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_that_nobody_says_is_assumed_and_counted_too() {
    let answer = (200, r#"{"access_token":"first","refresh_token":"r"}"#);
    let server = LoginServer::answering([answer, answer]);
    let login = login(&server).assume_lifetime(Duration::from_secs(100));
    let source = logged_in(&login).await.unwrap();
    tokio::time::advance(Duration::from_secs(40)).await;
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(expiry(&token), "In(60s)");
    let token = source.fetch(Reason::Stale).await.unwrap();
    assert_eq!(expiry(&token), "In(100s)");
}

/// A JWT without `iat`, over since 2001.
#[tokio::test]
async fn a_token_that_is_over_by_its_own_account_is_not_handed_out() {
    let over = r#"{"access_token":"e30.eyJleHAiOjEwMDAwMDAwMDB9.","refresh_token":"r"}"#;
    let server = LoginServer::answering([(200, over), REFRESHED]);
    let source = logged_in(&login(&server)).await.unwrap();
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(token.secret(), "second");
}

#[tokio::test]
async fn the_refresh_token_is_saved_before_anything_is_used_and_the_next_run_needs_no_login() {
    let server = LoginServer::answering([ISSUED, REFRESHED]);
    let store = Store::holding("of an earlier login");
    let source = logged_in(&login(&server).store(store.clone()))
        .await
        .unwrap();
    assert_eq!(store.saves(), ["refresh"]);
    drop(source);
    let next = RefreshToken::stored(server.client(), store);
    assert_eq!(next.fetch(Reason::First).await.unwrap().secret(), "second");
    assert!(
        server.asked()[1]
            .1
            .contains(&("refresh_token".into(), "refresh".into()))
    );
}

#[tokio::test]
async fn a_refresh_token_that_can_not_be_saved_is_an_error() {
    let server = LoginServer::answering([ISSUED]);
    let store = Store::default();
    *store.fails.lock().unwrap() = true;
    let error = logged_in(&login(&server).store(store)).await.unwrap_err();
    assert!(
        error.is_source() && error.to_string().contains("can't be saved"),
        "{error}"
    );
    assert!(all_text_of(&error).contains("the disk is full"));
}

#[tokio::test]
async fn without_a_refresh_token_the_access_token_is_used_and_then_somebody_has_to_log_in() {
    let server = LoginServer::answering([REFRESHED]);
    let store = Store::holding("of an earlier login");
    let source = logged_in(&login(&server).store(store.clone()))
        .await
        .unwrap();
    assert_eq!(
        source.fetch(Reason::First).await.unwrap().secret(),
        "second"
    );
    let error = source.fetch(Reason::Expired).await.unwrap_err();
    assert!(error.is_login_required(), "{error}");
    // The one in the store may be another person's.
    assert_eq!(server.times_asked(), 1);
    assert!(store.saves().is_empty());
}

#[tokio::test]
async fn nothing_shows_what_the_login_is_known_by() {
    let body = r#"{"error":"odd","error_description":"planted-code and planted-secret"}"#;
    let server = LoginServer::answering([(400, body)]);
    let secret = "planted-secret";
    let client = Client::with_transport(URL, ID, secret, server.transport()).unwrap();
    let login = AuthorizationCode::new(client, AUTHORIZE).unwrap();
    let login = login
        .login_hint("planted@example.com")
        .param("x", "planted-param")
        .unwrap();
    let request = login.begin(CALLBACK).await.unwrap();
    let (state, challenge) = {
        let query = query(&request);
        (query["state"].clone(), query["code_challenge"].clone())
    };
    let response = read(&request, "code=planted-code").unwrap();
    let mut shown = format!("{login:?} {login:#?} {request:?} {request:#?} {response:?}");
    let error = login.finish(request, response).await.unwrap_err();
    let (_, sent) = server.asked().remove(0);
    let verifier = sent.into_iter().find(|(name, _)| name == "code_verifier");
    shown += &all_text_of(&error);
    for secret in ["planted", &state, &challenge, &verifier.unwrap().1] {
        assert!(!shown.contains(secret), "{secret} shows: {shown}");
    }
    assert!(shown.contains("[redacted]"), "{shown}");
}
