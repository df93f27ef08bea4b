//! The JWT bearer grant (RFC 7523 §2.1).

use std::fs;

use tower_auth::oauth2::JwtBearer;
use tower_auth::{Reason, SecretSource, TokenCache, TokenSource};

use crate::support::form_server::{FormServer, refusal};
use crate::support::token_server::{ID, SECRET, all_text_of, expiry};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

#[tokio::test]
async fn the_request_is_that_of_the_rfc() {
    let server = FormServer::issuing();
    let source = JwtBearer::new(server.client(), "the-jwt")
        .scope(" read   write ")
        .resource("https://one.example.com")
        .resource("https://two.example.com")
        .param("tenant", "acme")
        .unwrap();
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(
        (token.secret(), token.scope()),
        ("issued-1", Some("read write"))
    );
    let expected = [
        ("grant_type", GRANT_TYPE),
        ("assertion", "the-jwt"),
        ("scope", "read write"),
        ("resource", "https://one.example.com"),
        ("resource", "https://two.example.com"),
        ("tenant", "acme"),
        ("client_id", ID),
        ("client_secret", SECRET),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(server.form().pairs, expected);
}

#[tokio::test]
async fn a_service_account_says_nothing_but_its_assertion() {
    let server = FormServer::issuing();
    let source = JwtBearer::new(server.anonymous(), "the-jwt");
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(server.form().names(), ["grant_type", "assertion"]);
}

#[test]
fn a_parameter_that_somebody_else_sets_is_refused() {
    for name in [
        "grant_type",
        "assertion",
        "scope",
        "resource",
        "client_id",
        "",
    ] {
        let source = JwtBearer::new(FormServer::issuing().client(), "the-jwt");
        assert!(source.param(name, "x").unwrap_err().is_config(), "{name}");
    }
}

#[tokio::test]
async fn the_assertion_is_read_for_each_fetch_and_one_that_cannot_be_sends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("assertion");
    let server = FormServer::issuing();
    let source = JwtBearer::new(server.anonymous(), SecretSource::file(&file));
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_config(), "{error:?}");
    assert!(error.to_string().contains("/assertion can't be read"));
    assert!(server.forms().is_empty());
    for text in ["first", "second"] {
        fs::write(&file, text).unwrap();
        source.fetch(Reason::Stale).await.unwrap();
    }
    let forms = server.forms();
    let sent: Vec<_> = forms.iter().map(|form| form.get("assertion")).collect();
    assert_eq!(sent, ["first", "second"]);

    let source = JwtBearer::new(server.anonymous(), "");
    assert!(source.fetch(Reason::First).await.unwrap_err().is_config());
}

#[tokio::test]
async fn an_assertion_that_is_refused_is_told_and_not_sent_again() {
    let server = FormServer::new(|_, _| refusal("invalid_grant"));
    let cache = TokenCache::new(JwtBearer::new(server.anonymous(), "the-jwt"));
    for _ in 0..100 {
        let error = cache.token().await.unwrap_err();
        assert!(error.is_invalid_grant() && error.is_permanent(), "{error}");
    }
    assert_eq!(server.forms().len(), 1);
}

#[tokio::test]
async fn a_token_of_which_nothing_is_said_lasts_as_long_as_is_assumed() {
    for (lifetime, assumed) in [(None, "In(3600s)"), (Some(60), "In(60s)")] {
        let server = FormServer::new(|_, _| (200, r#"{"access_token":"t"}"#.into()));
        let mut source = JwtBearer::new(server.anonymous(), "the-jwt");
        if let Some(seconds) = lifetime {
            source = source.assume_lifetime(std::time::Duration::from_secs(seconds));
        }
        let token = source.fetch(Reason::First).await.unwrap();
        assert_eq!(expiry(&token), assumed);
    }
}

#[tokio::test]
async fn its_token_is_revoked_as_the_cache_is_closed() {
    let server = FormServer::issuing();
    let client = server.anonymous();
    let client = client.revoke_at("https://id.example.com/revoke").unwrap();
    let cache = TokenCache::new(JwtBearer::new(client, "the-jwt"));
    cache.token().await.unwrap();
    cache.close().await;
    let forms = server.forms();
    assert_eq!(forms[1].path, "/revoke");
    assert_eq!(forms[1].get("token"), "issued-1");
}

#[tokio::test]
async fn nothing_shows_the_assertion() {
    let server = FormServer::new(|_, form| {
        let echo = form.get("assertion");
        let body = format!(r#"{{"error":"invalid_grant","error_description":"bad {echo}"}}"#);
        (400, body)
    });
    let source = JwtBearer::new(server.anonymous(), "planted.jwt.x")
        .param("pin", "planted-too")
        .unwrap();
    let error = source.fetch(Reason::First).await.unwrap_err();
    let shown = format!("{source:?} {source:#?} {}", all_text_of(&error));
    assert!(!shown.contains("planted"), "{shown}");
    assert!(shown.contains("bad [redacted]"), "{shown}");
}

#[cfg(feature = "jwt")]
#[tokio::test(start_paused = true)]
async fn a_signed_one_is_signed_again_for_each_attempt_of_a_fetch() {
    use jsonwebtoken::Algorithm;
    use tower_auth::oauth2::{SignedJwt, SigningKey};

    use crate::support::form_server::issued;
    use crate::support::keys::RSA_JWK;
    use crate::support::keys::verified;
    use crate::support::token_server::URL;

    let server = FormServer::new(|number, _| match number {
        1 => (503, String::new()),
        _ => (200, issued(number)),
    });
    let jwt = SignedJwt::new(SigningKey::jwk(RSA_JWK).unwrap())
        .issuer("robot@project.example.com")
        .audience(URL)
        .claim("scope", "things.readonly")
        .unwrap();
    let cache = TokenCache::new(JwtBearer::new(server.anonymous(), jwt));
    assert_eq!(cache.token().await.unwrap().secret(), "issued-2");
    let claims: Vec<_> = server
        .forms()
        .iter()
        .map(|form| verified(form.get("assertion"), Algorithm::RS256, URL).claims)
        .collect();
    assert_eq!(claims.len(), 2);
    assert_ne!(claims[0]["jti"], claims[1]["jti"]);
    for claims in claims {
        assert_eq!(claims["iss"], "robot@project.example.com");
        assert_eq!(claims["scope"], "things.readonly");
    }
}
