//! A process that reads a token from a store gets the same token.

use std::sync::Arc;

use http::HeaderName;
use serde_json::json;
use tower_auth::{Place, Token, TokenCache};
use tower_auth_test::{ScriptedSource, Step};

use crate::support::breakable_store::BreakableStore;
use crate::support::log::listen;

/// Returns a token as another process reads it.
async fn passed_on(token: Token) -> Token {
    let store = BreakableStore::default();
    let source = ScriptedSource::from_fn(move |_| token.clone());
    store.process(source).token().await.unwrap();
    let other = ScriptedSource::from_fn(|_| Step::error("it is there"));
    store.process(other).token().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_token_is_the_same_in_another_process_wherever_it_goes() {
    let secret = "it \" has \\ all \u{7f}that \u{e9} can be";
    let token = passed_on(Token::query("api key", secret).unwrap()).await;
    assert_eq!(token.secret(), secret);
    assert_eq!(token.place(), &Place::Query(Arc::from("api key")));

    let header = HeaderName::from_static("x-api-key");
    let token = passed_on(Token::header(header.clone(), "key").unwrap()).await;
    assert_eq!(token.place(), &Place::Header(header));
    assert_eq!(token.header_value().unwrap(), "key");
    assert!(token.header_value().unwrap().is_sensitive());

    let token = Token::bearer("token").unwrap().with_scope("read write");
    let token = passed_on(token).await;
    assert_eq!(token.header_value().unwrap(), "Bearer token");
    assert_eq!(token.secret(), "token");
    assert_eq!(token.scope(), Some("read write"));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_too_long_for_any_header_is_not_shared() {
    let (log, _listening) = listen();
    let store = BreakableStore::default();
    let source = ScriptedSource::from_fn(|_| Token::bearer("x".repeat(64 * 1024)));
    let process: TokenCache = store.process(source);
    process.token().await.unwrap();
    assert!(store.stored().is_empty());
    let told = log
        .all()
        .into_iter()
        .any(|line| line.message.contains("can't be shared"));
    assert!(told);
    assert_eq!(store.calls(), ["load", "lease", "load", "release"]);
}

#[tokio::test(start_paused = true)]
async fn the_id_token_and_the_other_fields_are_shared() {
    let token = Token::bearer("token")
        .unwrap()
        .with_id_token("id \" token")
        .with_extra("instance_url", "https://acme.example.com")
        .with_extra("user", json!({"id": 7, "groups": ["a"]}));
    let token = passed_on(token).await;
    assert_eq!(token.id_token(), Some("id \" token"));
    assert_eq!(
        token.extra("instance_url"),
        Some(&json!("https://acme.example.com"))
    );
    assert_eq!(
        token.extra("user"),
        Some(&json!({"id": 7, "groups": ["a"]}))
    );
}

/// The extra fields of any response fit in the store.
#[tokio::test(start_paused = true)]
async fn a_token_with_64_kib_of_fields_is_shared_and_a_longer_token_is_not() {
    let token = |length: usize| {
        let token = Token::bearer("token").unwrap();
        token.with_extra("note", "x".repeat(length))
    };
    let shared = passed_on(token(64 * 1024)).await;
    let note = shared.extra("note").and_then(|note| note.as_str());
    assert_eq!(note.map(str::len), Some(64 * 1024));

    let store = BreakableStore::default();
    let source = ScriptedSource::from_fn(move |_| token(128 * 1024));
    store.process(source).token().await.unwrap();
    assert!(store.stored().is_empty());
}
