//! The refresh token grant, with and without rotation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use tokio_test::{assert_pending, task};
use tower::{Layer, ServiceExt};
use tower_auth::cache::Clock;
use tower_auth::oauth2::{Client, RefreshToken};
use tower_auth::{Reason, TokenSource};
use tower_auth_test::{Api, RecordedRequest, ScriptedResponse, ScriptedServer, run_until_idle};

use crate::support::refresh_store::Store;
use crate::support::token_server::{ID, SECRET, TokenServer, URL, all_text_of};
use crate::support::{clocked, paused, request};

/// A server that revokes each refresh token when it issues the next token: `refresh-1`,
/// `refresh-2`, …. The access tokens have the same numbers.
#[derive(Clone, Default)]
struct Rotating {
    inner: Arc<Mutex<Rotation>>,
}

#[derive(Default)]
struct Rotation {
    issued: usize,
    asked: Vec<BTreeMap<String, String>>,
}

impl Rotating {
    fn client(&self) -> Client {
        let server = self.clone();
        let transport = ScriptedServer::new(move |request| server.respond(request));
        Client::new(URL, ID, SECRET).unwrap().transport(transport)
    }

    fn respond(&self, request: &RecordedRequest) -> ScriptedResponse {
        let form = request.params();
        let mut server = self.inner.lock().unwrap();
        let is_good = form["refresh_token"] == format!("refresh-{}", server.issued);
        server.asked.push(form);
        if !is_good {
            return ScriptedResponse::json(400, r#"{"error":"invalid_grant"}"#);
        }
        server.issued += 1;
        let number = server.issued;
        let tokens = format!(
            r#"{{"access_token":"access-{number}","refresh_token":"refresh-{number}","expires_in":3600}}"#
        );
        ScriptedResponse::json(200, tokens)
    }

    fn sent(&self) -> Vec<String> {
        let server = self.inner.lock().unwrap();
        let tokens = server
            .asked
            .iter()
            .map(|form| form["refresh_token"].clone());
        tokens.collect()
    }

    /// Rotates the token, like another process that refreshes or logs in.
    fn rotate(&self) -> String {
        let mut server = self.inner.lock().unwrap();
        server.issued += 1;
        format!("refresh-{}", server.issued)
    }
}

async fn fetch(source: &RefreshToken) -> Result<String, tower_auth::Error> {
    let token = source.fetch(Reason::Stale).await?;
    Ok(token.secret().to_owned())
}

#[tokio::test]
async fn the_request_is_that_of_the_rfc() {
    let server = TokenServer::issuing();
    let client = Client::new(URL, ID, SECRET)
        .unwrap()
        .transport(server.transport());
    let source = RefreshToken::new(client, "the-token")
        .scope(" read   write ")
        .param("tenant", "acme")
        .unwrap();
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(
        (token.secret(), token.scope()),
        ("issued", Some("read write"))
    );
    let form = server.form();
    let expected = [
        ("grant_type", "refresh_token"),
        ("refresh_token", "the-token"),
        ("scope", "read write"),
        ("tenant", "acme"),
        ("client_id", ID),
        ("client_secret", SECRET),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(form, expected);
}

#[test]
fn a_parameter_that_somebody_else_sets_is_refused() {
    for name in [
        "grant_type",
        "refresh_token",
        "client_id",
        "client_secret",
        "scope",
        "",
    ] {
        let source = RefreshToken::new(Rotating::default().client(), "token");
        assert!(source.param(name, "x").unwrap_err().is_config(), "{name}");
    }
}

#[tokio::test]
async fn a_response_without_a_refresh_token_keeps_the_old_one() {
    let server = TokenServer::issuing();
    let store = Store::holding("kept");
    let client = Client::new(URL, ID, SECRET)
        .unwrap()
        .transport(server.transport());
    let source = RefreshToken::stored(client, store.clone());
    for _ in 0..3 {
        fetch(&source).await.unwrap();
        assert!(
            server
                .form()
                .contains(&("refresh_token".into(), "kept".into()))
        );
    }
    assert_eq!(store.saves(), Vec::<String>::new());
}

#[tokio::test]
async fn the_same_one_again_is_not_saved_again() {
    let body = r#"{"access_token":"a","refresh_token":"kept"}"#;
    let store = Store::holding("kept");
    let transport = TokenServer::new(200, body).transport();
    let client = Client::new(URL, ID, SECRET).unwrap().transport(transport);
    let source = RefreshToken::stored(client, store.clone());
    fetch(&source).await.unwrap();
    assert_eq!(store.saves(), Vec::<String>::new());
}

#[tokio::test]
async fn a_response_with_one_replaces_it() {
    let server = Rotating::default();
    let store = Store::holding("refresh-0");
    let source = RefreshToken::stored(server.client(), store.clone());
    for number in 1..4 {
        assert_eq!(fetch(&source).await.unwrap(), format!("access-{number}"));
    }
    assert_eq!(server.sent(), ["refresh-0", "refresh-1", "refresh-2"]);
    assert_eq!(store.saves(), ["refresh-1", "refresh-2", "refresh-3"]);

    // Without a store, each new refresh token is kept in memory.
    let server = Rotating::default();
    let source = RefreshToken::new(server.client(), "refresh-0");
    for number in 1..4 {
        assert_eq!(fetch(&source).await.unwrap(), format!("access-{number}"));
    }
}

#[tokio::test]
async fn a_new_one_is_saved_before_the_access_token_is_used_and_first_thing_if_that_failed() {
    let server = Rotating::default();
    let store = Store::holding("refresh-0");
    *store.fails.lock().unwrap() = true;
    let source = RefreshToken::stored(server.client(), store.clone());
    let error = fetch(&source).await.unwrap_err();
    assert!(error.is_source() && error.to_string().contains("could not save"));
    assert!(all_text_of(&error).contains("the disk is full"));
    // The disk is still full. A new token couldn't be saved, so no request is sent.
    fetch(&source).await.unwrap_err();
    assert_eq!(server.sent(), ["refresh-0"]);

    *store.fails.lock().unwrap() = false;
    assert_eq!(fetch(&source).await.unwrap(), "access-2");
    assert_eq!(server.sent(), ["refresh-0", "refresh-1"]);
    assert_eq!(store.saves(), ["refresh-1", "refresh-2"]);
}

#[tokio::test]
async fn a_fetch_that_is_cut_off_while_it_saves_loses_nothing() {
    let server = Rotating::default();
    let store = Store::holding("refresh-0");
    *store.hangs.lock().unwrap() = true;
    let source = RefreshToken::stored(server.client(), store.clone());
    let mut cut_off = task::spawn(source.fetch(Reason::First));
    assert_pending!(cut_off.poll());
    drop(cut_off);
    *store.hangs.lock().unwrap() = false;
    assert_eq!(fetch(&source).await.unwrap(), "access-2");
    assert_eq!(store.saves(), ["refresh-1", "refresh-2"]);
}

#[tokio::test]
async fn one_that_is_not_accepted_any_more_wants_a_login_and_is_not_sent_again() {
    let server = Rotating::default();
    let store = Store::holding("revoked");
    let source = RefreshToken::stored(server.client(), store.clone());
    for _ in 0..5 {
        let error = fetch(&source).await.unwrap_err();
        assert!(error.is_login_required() && error.is_permanent(), "{error}");
        assert!(error.to_string().contains("log in again"), "{error}");
    }
    assert_eq!(server.sent(), ["revoked"]);

    // Another process has saved a new refresh token.
    store.put("refresh-0");
    assert_eq!(fetch(&source).await.unwrap(), "access-1");
}

#[tokio::test]
async fn the_error_holds_what_the_server_said() {
    let source = RefreshToken::new(Rotating::default().client(), "revoked");
    let error = fetch(&source).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap();
    let cause: &tower_auth::Error = cause.downcast_ref().unwrap();
    assert!(cause.is_invalid_grant());
    assert!(!all_text_of(&error).contains("revoked"), "{error:?}");
}

#[tokio::test]
async fn without_one_somebody_has_to_log_in_and_nothing_is_sent() {
    for store in [Store::default(), Store::holding("")] {
        let server = Rotating::default();
        let source = RefreshToken::stored(server.client(), store);
        assert!(fetch(&source).await.unwrap_err().is_login_required());
        assert!(server.sent().is_empty());
    }
}

/// Between the load and the response, another process has refreshed too, and saved the new refresh
/// token.
#[tokio::test]
async fn one_that_another_process_has_used_up_is_replaced_by_what_that_has_saved() {
    let server = Rotating::default();
    let store = Store::holding("refresh-0");
    let (beside, saved) = (server.clone(), store.clone());
    // The first response is a refusal, because the other process was faster.
    let transport = ScriptedServer::new(move |request| {
        if beside.sent().is_empty() {
            saved.put(&beside.rotate());
        }
        beside.respond(request)
    });
    let client = Client::new(URL, ID, SECRET).unwrap().transport(transport);
    let source = RefreshToken::stored(client, store.clone());
    assert_eq!(fetch(&source).await.unwrap(), "access-2");
    assert_eq!(server.sent(), ["refresh-0", "refresh-1"]);
}

#[tokio::test]
async fn a_hundred_refusals_at_once_never_use_a_rotating_token_twice() {
    let server = Rotating::default();
    let source = RefreshToken::new(server.client(), "refresh-0");
    let api = Api::accepting(["access-1"]);
    let clock = Clock::manual();
    let client = crate::support::layer_from(clocked(source, &clock).build()).layer(api.clone());
    client.clone().oneshot(request("")).await.unwrap();
    for number in 2..10 {
        clock.advance(Duration::from_secs(10));
        api.revoke(&format!("access-{}", number - 1));
        api.accept(format!("access-{number}"));
        let callers: Vec<_> = (0..100)
            .map(|_| tokio::spawn(client.clone().oneshot(request(""))))
            .collect();
        for caller in callers {
            assert_eq!(caller.await.unwrap().unwrap().status(), StatusCode::OK);
        }
    }
    let sent = server.sent();
    let each_once: Vec<_> = (0..9).map(|number| format!("refresh-{number}")).collect();
    assert_eq!(sent, each_once);
}

/// The fetches of two caches over one source don't overlap either.
#[tokio::test]
async fn two_fetches_never_overlap() {
    let server = Rotating::default();
    let source = Arc::new(RefreshToken::new(server.client(), "refresh-0"));
    let fetches: Vec<_> = (0..20)
        .map(|_| {
            let source = Arc::clone(&source);
            tokio::spawn(async move { source.fetch(Reason::First).await })
        })
        .collect();
    for fetch in fetches {
        fetch.await.unwrap().unwrap();
    }
    assert_eq!(server.sent().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn behind_a_cache_a_dead_one_is_no_loop() {
    let server = Rotating::default();
    let cache = paused(RefreshToken::new(server.client(), "revoked")).build();
    for _ in 0..1_000 {
        assert!(cache.token().await.unwrap_err().is_login_required());
        tokio::time::advance(Duration::from_secs(1)).await;
        run_until_idle().await;
    }
    assert_eq!(server.sent(), ["revoked"]);
}

#[tokio::test]
async fn a_refresh_token_that_is_no_text_is_an_error() {
    for token in ["7", "{}", "[\"x\"]", "false"] {
        let body = format!(r#"{{"access_token":"a","refresh_token":{token}}}"#);
        let transport = TokenServer::new(200, body).transport();
        let client = Client::new(URL, ID, SECRET).unwrap().transport(transport);
        let source = RefreshToken::new(client, "the-token");
        assert!(fetch(&source).await.unwrap_err().is_reply(), "{token}");
    }
}

#[tokio::test]
async fn nothing_shows_a_refresh_token() {
    let body = r#"{"error":"invalid_request","error_description":"planted-1 and planted-2","refresh_token":"planted-2"}"#;
    let transport = TokenServer::new(400, body).transport();
    let client = Client::new(URL, ID, SECRET).unwrap().transport(transport);
    let source = RefreshToken::new(client, "planted-1");
    let error = source.fetch(Reason::First).await.unwrap_err();
    let shown = format!("{source:?} {source:#?} {}", all_text_of(&error));
    assert!(
        !shown.contains("planted") && !shown.contains(SECRET),
        "{shown}"
    );
    assert!(shown.contains("[redacted]"), "{shown}");
}

#[test]
fn without_a_runtime_a_fetch_fails_and_sends_nothing() {
    let server = ScriptedServer::new(|_| panic!("the server got the token"));
    let client = Client::new(URL, ID, SECRET).unwrap().transport(server);
    let source = RefreshToken::new(client, "planted");
    let fetched = futures_util::future::FutureExt::now_or_never(source.fetch(Reason::First));
    let error = fetched.unwrap().unwrap_err();
    assert!(error.is_runtime(), "{error}");
}

/// RFC 6749 allows all visible characters.
#[tokio::test]
async fn a_token_that_looks_like_json_is_sent_as_it_is() {
    for token in ["{odd", r#"{"refresh_token":"inner"}"#] {
        let sent = Arc::new(Mutex::new(None));
        let server = ScriptedServer::new({
            let sent = Arc::clone(&sent);
            move |request| {
                *sent.lock().unwrap() = request.param("refresh_token");
                ScriptedResponse::json(200, r#"{"access_token":"usable"}"#)
            }
        });
        let client = Client::new(URL, ID, SECRET).unwrap().transport(server);
        RefreshToken::new(client, token)
            .fetch(Reason::First)
            .await
            .unwrap();
        assert_eq!(sent.lock().unwrap().as_deref(), Some(token));
    }
}
