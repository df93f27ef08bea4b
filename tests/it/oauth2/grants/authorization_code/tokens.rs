//! The tokens after a login: first the issued token, and then the refreshed tokens.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use sha2::{Digest, Sha256};
use tower::{Layer, ServiceExt};
use tower_auth::oauth2::{AuthorizationCode, Client, RefreshToken};
use tower_auth::{Reason, TokenSource};
use tower_auth_test::Api;

use super::{AUTHORIZE, CALLBACK, logged_in, login, query, read};
use crate::support::login_server::{BROKEN, ISSUED, LoginServer, REFRESHED, form};
use crate::support::refresh_store::Store;
use crate::support::token_server::{ID, SECRET, URL, all_text_of, expiry};
use crate::support::{credentials, request};

#[tokio::test]
async fn the_exchange_is_that_of_the_rfcs() {
    let server = LoginServer::responding([ISSUED]);
    let client = Client::new(URL, ID, SECRET)
        .unwrap()
        .transport(server.transport());
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
async fn the_token_just_issued_comes_first_and_then_it_refreshes() {
    let server = LoginServer::responding([ISSUED, REFRESHED]);
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
        let server = LoginServer::responding([ISSUED, BROKEN, REFRESHED]);
        let source = logged_in(&login(&server)).await.unwrap();
        assert!(source.fetch(reason).await.unwrap_err().is_transport());
        let token = source.fetch(Reason::First).await.unwrap();
        assert_eq!(token.secret(), "second", "{reason}");
        assert!(server.is_done());
    }
}

#[tokio::test]
async fn an_api_that_refuses_the_token_just_issued_gets_the_next() {
    let server = LoginServer::responding([ISSUED, REFRESHED]);
    let source = logged_in(&login(&server)).await.unwrap();
    let api = Api::accepting(["second"]);
    let client = crate::support::layer(source).layer(api.clone());
    let response = client.oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(credentials(&api), ["Bearer first", "Bearer second"]);
}

#[tokio::test(start_paused = true)]
async fn its_lifetime_is_counted_from_when_it_was_asked_for() {
    let server = LoginServer::responding([ISSUED, REFRESHED]).taking(Duration::from_secs(9));
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
    let response = (200, r#"{"access_token":"first","refresh_token":"r"}"#);
    let server = LoginServer::responding([response, response]);
    let login = login(&server).assume_lifetime(Duration::from_secs(100));
    let source = logged_in(&login).await.unwrap();
    tokio::time::advance(Duration::from_secs(40)).await;
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(expiry(&token), "In(60s)");
    let token = source.fetch(Reason::Stale).await.unwrap();
    assert_eq!(expiry(&token), "In(100s)");
}

/// The token is a JWT without `iat` that expired in 2001.
#[tokio::test]
async fn a_token_that_has_expired_by_its_own_account_is_not_handed_out() {
    let over = r#"{"access_token":"e30.eyJleHAiOjEwMDAwMDAwMDB9.","refresh_token":"r"}"#;
    let server = LoginServer::responding([(200, over), REFRESHED]);
    let source = logged_in(&login(&server)).await.unwrap();
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(token.secret(), "second");
}

#[tokio::test]
async fn the_refresh_token_is_saved_before_anything_is_used_and_the_next_run_needs_no_login() {
    let server = LoginServer::responding([ISSUED, REFRESHED]);
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
    let server = LoginServer::responding([ISSUED]);
    let store = Store::default();
    *store.fails.lock().unwrap() = true;
    let error = logged_in(&login(&server).store(store)).await.unwrap_err();
    assert!(
        error.is_source() && error.to_string().contains("could not save"),
        "{error}"
    );
    assert!(all_text_of(&error).contains("the disk is full"));
}

#[tokio::test]
async fn without_a_refresh_token_the_access_token_is_used_and_then_somebody_has_to_log_in() {
    let server = LoginServer::responding([REFRESHED]);
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
    // The store isn't used, because its refresh token may belong to another user.
    assert_eq!(server.times_asked(), 1);
    assert!(store.saves().is_empty());
}

#[tokio::test]
async fn nothing_shows_what_the_login_is_known_by() {
    let body = r#"{"error":"odd","error_description":"planted-code and planted-secret"}"#;
    let server = LoginServer::responding([(400, body)]);
    let secret = "planted-secret";
    let client = Client::new(URL, ID, secret)
        .unwrap()
        .transport(server.transport());
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
