//! The ID token and the extra fields that a token keeps from its response.

use serde_json::json;
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Reason, Token, TokenCache, TokenSource};
use tower_auth_test::ScriptedSource;

use crate::support::token_server::{TokenServer, fetch};

#[tokio::test]
async fn a_token_has_the_fields_that_its_response_had() {
    let body = json!({
        "access_token": "planted-1", "refresh_token": "planted-2", "id_token": "planted-3",
        "token_type": "Bearer", "expires_in": 60, "scope": "read", "issued_token_type": null,
        "instance_url": "https://acme.example.com", "number": 1.5, "list": [true, {"a": null}],
        "copies": {"of": ["planted-1", "planted-2"], "other": "x"},
    });
    let token = fetch(200, body.to_string()).await.unwrap();
    assert_eq!(token.id_token(), Some("planted-3"));
    for name in [
        "access_token",
        "refresh_token",
        "id_token",
        "scope",
        "absent",
    ] {
        assert_eq!(token.extra(name), None, "{name}");
    }
    for name in ["instance_url", "number", "list", "token_type", "expires_in"] {
        assert_eq!(token.extra(name), Some(&body[name]), "{name}");
    }
    assert_eq!(
        token.extra("copies"),
        Some(&json!({"of": [], "other": "x"}))
    );

    let shown = format!("{token:?} {token:#?}");
    assert!(shown.contains("instance_url"), "{shown}");
    assert!(
        !shown.contains("acme") && !shown.contains("planted"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_scope_of_another_type_is_an_extra_field() {
    let body = json!({"access_token": "t", "scope": ["read", "write"]});
    let token = fetch(200, body.to_string()).await.unwrap();
    assert_eq!(token.scope(), None);
    assert_eq!(token.extra("scope"), Some(&body["scope"]));
}

#[tokio::test]
async fn a_token_without_other_fields_has_none() {
    for body in [
        json!({"access_token": "t"}),
        json!({"access_token": "t", "id_token": "", "refresh_token": 7.5}),
        json!({"access_token": "t", "id_token": "", "refresh_token": ""}),
    ] {
        let token = fetch(200, body.to_string()).await;
        let token = token.unwrap_or_else(|_| Token::bearer("t").unwrap());
        assert_eq!(
            (token.id_token(), token.extra("refresh_token")),
            (None, None)
        );
    }
    let token = Token::bearer("t").unwrap();
    assert!(token.id_token().is_none() && token.extra("any").is_none());
}

#[tokio::test]
async fn an_id_token_that_occurs_twice_is_refused() {
    let body = r#"{"access_token":"t","id_token":"a","id_token":"b"}"#;
    let error = fetch(200, body).await.unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_cache_hands_out_what_the_source_set() {
    let source = ScriptedSource::from_fn(|_| {
        let token = Token::bearer("t")?.with_id_token("id");
        Ok::<_, tower_auth::Error>(
            token
                .with_extra("a", 1)
                .with_extra("a", 2)
                .with_extra("b", "c"),
        )
    });
    let inner = TokenCache::new(source);
    let outer = TokenCache::new(inner.clone());
    for token in [inner.token().await.unwrap(), outer.token().await.unwrap()] {
        assert_eq!(token.id_token(), Some("id"));
        assert_eq!(token.extra("a"), Some(&json!(2)));
        let changed = token
            .clone()
            .with_extra("a", 3)
            .expires_in(std::time::Duration::ZERO);
        assert_eq!(changed.extra("b"), Some(&json!("c")));
        assert_eq!(token.extra("a"), Some(&json!(2)));
    }
}

/// A token with a long extra field is usable like any other token.
#[tokio::test]
async fn a_response_may_be_as_long_as_its_limit() {
    let note = "x".repeat(60_000);
    let body = json!({"access_token": "t", "note": note});
    let server = TokenServer::new(200, body.to_string());
    let source: ClientCredentials = server.client();
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(token.extra("note"), Some(&body["note"]));
}
