//! An issued credential: which values it accepts, and which of them it shows.

use tower_auth::{Token, TokenCache};
use tower_auth_test::controlled_source;

mod basic;
mod extra;
mod per_request;
mod request_head;
mod unverified_claim;

#[tokio::test]
async fn a_token_with_bytes_that_are_illegal_in_a_header_is_an_error() {
    for illegal in ["", "two\nlines", "nul\0", " leading", "trailing ", "\u{7f}"] {
        let (source, mut fetches) = controlled_source();
        let cache = TokenCache::new(source);
        let caller = tokio::spawn(cache.token());
        fetches.next().await.issue(illegal);
        let error = caller.await.unwrap().unwrap_err();
        assert!(error.is_illegal_token(), "{illegal:?}: {error}");
    }
}

#[test]
fn header_values_are_sensitive_and_redacted() {
    let token = Token::bearer("s3cret-of-the-test")
        .unwrap()
        .with_scope("read");
    assert!(token.header_value().unwrap().is_sensitive());
    let shown = format!("{token:?} {:?}", token.header_value());
    assert!(!shown.contains("s3cret"), "{shown}");
    assert_eq!(token.secret(), "s3cret-of-the-test");
    assert_eq!(token.scope(), Some("read"));
    let key = Token::header("x-api-key".parse().unwrap(), "k3y").unwrap();
    assert_eq!(
        (key.header_value().unwrap().to_str().unwrap(), key.secret()),
        ("k3y", "k3y")
    );
    assert!(key.header_value().unwrap().is_sensitive());
}
