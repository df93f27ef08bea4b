//! If a refusal says something new about the metadata, the next fetch uses it.

use std::time::Duration;

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use serde_json::json;
use tokio::time::advance;
use tower_auth::challenge::Challenge;
use tower_auth::oauth2::{ProtectedResource, Protection};
use tower_auth::{Reason, Token, TokenSource};

use super::refusal;
use crate::support::web::{Page, Web};

const API: &str = "https://api.example.com";
const PROBE: &str = "GET https://api.example.com/";
const ONE: &str = "GET https://api.example.com/one";
const TWO: &str = "GET https://api.example.com/two";

fn challenges(text: &str) -> Vec<Challenge> {
    let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, text.parse().unwrap())]);
    Challenge::parse(&headers)
}

/// Builds a source and its API. The refusal names metadata at `/one` and the scope `a`. The
/// metadata at `/two` is the same. Each token contains the scope that was requested for it.
fn source() -> (ProtectedResource, Web) {
    let web = Web::default();
    let challenge = format!(r#"Bearer resource_metadata="{API}/one", scope="a""#);
    web.put(&format!("{API}/"), refusal(&challenge));
    let metadata = json!({"resource": API, "authorization_servers": ["https://id.example.com"]});
    for path in ["one", "two"] {
        web.put(&format!("{API}/{path}"), Page::json(200, &metadata));
    }
    let build = |protection: Protection| {
        Ok(move |_| {
            let token = Token::bearer(protection.scope());
            async { token }
        })
    };
    let source = ProtectedResource::new(API, ["https://id.example.com"], build).unwrap();
    (source.transport(web.transport()), web)
}

async fn scope_of_the_next(source: &ProtectedResource) -> String {
    let token = source.fetch(Reason::Refused).await.unwrap();
    token.secret().to_owned()
}

/// Refuses a token of the source with this challenge. The inner source never requests a replay.
fn refuse(source: &ProtectedResource, challenge: &str) {
    let token = Token::bearer("refused").unwrap();
    assert!(!source.challenged(&token, &challenges(challenge)));
}

#[tokio::test]
async fn a_refusal_that_names_other_metadata_or_scopes_is_gone_by() {
    let (source, web) = source();
    assert_eq!(scope_of_the_next(&source).await, "a");
    assert_eq!(web.take_lines(), [PROBE, ONE]);
    for (challenge, scope) in [
        (
            r#"Bearer resource_metadata="https://api.example.com/two", scope="a""#,
            "a",
        ),
        (
            r#"Bearer resource_metadata="https://api.example.com/two", scope="a b""#,
            "a b",
        ),
    ] {
        refuse(&source, challenge);
        assert_eq!(scope_of_the_next(&source).await, scope);
        assert_eq!(scope_of_the_next(&source).await, scope);
        assert_eq!(web.take_lines(), [TWO]);
        // The same challenge again says nothing new, so nothing is looked up.
        refuse(&source, challenge);
        assert_eq!(scope_of_the_next(&source).await, scope);
        assert!(web.take_lines().is_empty());
    }
}

#[tokio::test]
async fn a_refusal_that_says_nothing_new_is_none() {
    let (source, web) = source();
    scope_of_the_next(&source).await;
    assert_eq!(web.take_lines(), [PROBE, ONE]);
    for challenge in [
        r#"Bearer resource_metadata="https://api.example.com/one", scope="a""#,
        r#"Bearer error="invalid_token", resource_metadata="https://api.example.com/one""#,
        r#"Bearer error="invalid_token", scope="b""#,
        "Bearer",
    ] {
        refuse(&source, challenge);
        assert_eq!(scope_of_the_next(&source).await, "a", "{challenge}");
        assert!(web.take_lines().is_empty(), "{challenge}");
    }
    let token = Token::bearer("refused").unwrap();
    assert!(!source.challenged(&token, &[]));
    assert_eq!(scope_of_the_next(&source).await, "a");
    assert!(web.take_lines().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_names_another_origin_changes_nothing() {
    let (source, web) = source();
    scope_of_the_next(&source).await;
    let elsewhere = r#"Bearer resource_metadata="https://evil.example.com/x""#;
    refuse(&source, elsewhere);
    assert_eq!(scope_of_the_next(&source).await, "a");
    assert_eq!(web.take_lines(), [PROBE, ONE]);
    // A repeated challenge doesn't postpone the next lookup. The lookup comes a minute after the
    // first challenge.
    advance(Duration::from_secs(40)).await;
    refuse(&source, elsewhere);
    assert_eq!(scope_of_the_next(&source).await, "a");
    assert!(web.take_lines().is_empty());
    advance(Duration::from_secs(20)).await;
    assert_eq!(scope_of_the_next(&source).await, "a");
    assert_eq!(web.take_lines(), [PROBE, ONE]);
}
