//! Token exchange (RFC 8693): exchanges the token of one source for another.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower_auth::oauth2::{ClientCredentials, TokenExchange};
use tower_auth::{Error, Reason, SecretSource, Token, TokenCache, TokenSource};
use tower_auth_test::ScriptedSource;

use crate::support::form_server::{FormServer, refusal};
use crate::support::token_server::{ID, SECRET, all_text_of, expiry};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

fn exchanged(number: usize) -> String {
    response(number, "Bearer", &format!("\"{ACCESS_TOKEN}\""))
}

fn response(number: usize, token_type: &str, issued: &str) -> String {
    format!(
        r#"{{"access_token":"exchanged-{number}","token_type":"{token_type}",
            "issued_token_type":{issued},"expires_in":3600}}"#
    )
}

fn server() -> FormServer {
    FormServer::new(|number, _| (200, exchanged(number)))
}

/// A server that accepts only this subject token.
fn accepting(subject: &'static str, code: &'static str) -> FormServer {
    FormServer::new(move |number, form| match form.get("subject_token") {
        token if token == subject => (200, exchanged(number)),
        _ => refusal(code),
    })
}

fn subjects(server: &FormServer) -> Vec<String> {
    let forms = server.forms();
    let sent = forms.iter().map(|form| form.get("subject_token").into());
    sent.collect()
}

async fn fetch(source: &TokenExchange) -> Result<String, Error> {
    let token = source.fetch(Reason::First).await?;
    Ok(token.secret().to_owned())
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

#[tokio::test]
async fn the_request_is_that_of_the_rfc() {
    let server = server();
    let source = TokenExchange::new(server.client(), SecretSource::from("the-subject"))
        .subject_token_type(JWT)
        .actor(SecretSource::from("the-actor"))
        .actor_token_type("urn:example:actor")
        .requested_token_type(ACCESS_TOKEN)
        .audience("stock")
        .audience("billing")
        .resource("https://one.example.com")
        .resource("https://two.example.com")
        .scope(" read   write ")
        .param("tenant", "acme")
        .unwrap();
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(
        (token.secret(), token.scope()),
        ("exchanged-1", Some("read write"))
    );
    let expected = pairs([
        ("grant_type", GRANT_TYPE),
        ("subject_token", "the-subject"),
        ("subject_token_type", JWT),
        ("actor_token", "the-actor"),
        ("actor_token_type", "urn:example:actor"),
        ("requested_token_type", ACCESS_TOKEN),
        ("audience", "stock"),
        ("audience", "billing"),
        ("resource", "https://one.example.com"),
        ("resource", "https://two.example.com"),
        ("scope", "read write"),
        ("tenant", "acme"),
        ("client_id", ID),
        ("client_secret", SECRET),
    ]);
    assert_eq!(server.form().pairs, expected);
}

#[tokio::test]
async fn by_default_it_says_no_more_than_it_must() {
    let server = server();
    let source = TokenExchange::new(server.anonymous(), SecretSource::from("the-subject"))
        // Without an actor token, its type isn't sent (RFC 8693 §2.1).
        .actor_token_type(JWT);
    fetch(&source).await.unwrap();
    let expected = pairs([
        ("grant_type", GRANT_TYPE),
        ("subject_token", "the-subject"),
        ("subject_token_type", ACCESS_TOKEN),
    ]);
    assert_eq!(server.form().pairs, expected);
}

#[test]
fn a_parameter_that_somebody_else_sets_is_refused() {
    for name in [
        "grant_type",
        "subject_token",
        "subject_token_type",
        "actor_token",
        "actor_token_type",
        "requested_token_type",
        "audience",
        "resource",
        "scope",
        "client_assertion",
        "",
    ] {
        let source = TokenExchange::new(server().client(), ScriptedSource::default());
        assert!(source.param(name, "x").unwrap_err().is_config(), "{name}");
    }
}

#[tokio::test]
async fn each_fetch_asks_the_subject_and_a_cache_fetches_it_once() {
    let server = server();
    let subject = ScriptedSource::default();
    let source = TokenExchange::new(server.client(), subject.clone());
    for _ in 0..3 {
        fetch(&source).await.unwrap();
    }
    assert_eq!(subjects(&server), ["token-1", "token-2", "token-3"]);

    // Two exchanges share the subject token of one cache.
    let server = self::server();
    let subject = ScriptedSource::default();
    let cache = TokenCache::new(subject.clone());
    for audience in ["stock", "billing"] {
        let source = TokenExchange::new(server.client(), cache.clone()).audience(audience);
        fetch(&source).await.unwrap();
    }
    assert_eq!(subjects(&server), ["token-1", "token-1"]);
    assert_eq!(subject.tokens_issued(), 1);
}

#[tokio::test]
async fn a_subject_that_is_not_accepted_any_more_is_replaced_and_exchanged_once_more() {
    for code in ["invalid_request", "invalid_grant"] {
        let server = accepting("token-2", code);
        let cache = TokenCache::new(ScriptedSource::default());
        let source = TokenExchange::new(server.client(), cache.clone());
        assert_eq!(fetch(&source).await.unwrap(), "exchanged-2");
        assert_eq!(subjects(&server), ["token-1", "token-2"]);
        // The cache keeps the new subject token for its other users.
        assert_eq!(cache.token().await.unwrap().secret(), "token-2");
    }
}

#[tokio::test]
async fn one_that_is_refused_as_well_is_the_end_of_it() {
    let server = accepting("none", "invalid_grant");
    let subject = ScriptedSource::default();
    let source = TokenExchange::new(server.client(), TokenCache::new(subject.clone()));
    let error = fetch(&source).await.unwrap_err();
    assert!(
        error.is_invalid_grant() && error.is_permanent(),
        "{error:?}"
    );
    assert_eq!(subjects(&server), ["token-1", "token-2"]);
    assert_eq!(subject.tokens_issued(), 2);
}

/// While the next exchange waits for its backoff, callers don't cause fetches of the subject
/// either.
#[tokio::test(start_paused = true)]
async fn behind_a_cache_a_subject_that_is_always_refused_is_no_loop() {
    let server = accepting("none", "invalid_request");
    let subject = ScriptedSource::default();
    let source = TokenExchange::new(server.client(), TokenCache::new(subject.clone()));
    let cache = crate::support::paused(source).build();
    for _ in 0..59 {
        cache.token().await.unwrap_err();
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!((server.forms().len(), subject.tokens_issued()), (2, 2));
}

#[tokio::test]
async fn a_subject_that_stays_the_same_is_not_sent_again() {
    let server = accepting("none", "invalid_request");
    let asked = ScriptedSource::from_fn(|_| Token::bearer("the-same"));
    let source = TokenExchange::new(server.client(), asked.clone());
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.code(), Some("invalid_request"));
    assert_eq!(subjects(&server), ["the-same"]);
    assert_eq!(asked.fetches(), 2);
}

#[tokio::test]
async fn an_actor_that_is_not_accepted_any_more_is_replaced_too() {
    let server = FormServer::new(|number, form| match form.get("actor_token") {
        "token-2" => (200, exchanged(number)),
        _ => refusal("invalid_request"),
    });
    let source = TokenExchange::new(server.client(), SecretSource::from("the-subject"))
        .actor(TokenCache::new(ScriptedSource::default()));
    assert_eq!(fetch(&source).await.unwrap(), "exchanged-2");
    assert_eq!(subjects(&server), ["the-subject", "the-subject"]);
}

#[tokio::test]
async fn any_other_refusal_is_none_of_the_subjects_fault() {
    for (status, code) in [
        (400, "invalid_target"),
        (400, "invalid_scope"),
        (401, "invalid_client"),
        (503, "invalid"),
    ] {
        let server = FormServer::new(move |_, _| (status, format!(r#"{{"error":"{code}"}}"#)));
        let subject = ScriptedSource::default();
        let source = TokenExchange::new(server.client(), subject.clone());
        let error = fetch(&source).await.unwrap_err();
        assert_eq!(error.code(), Some(code));
        assert_eq!(
            (server.forms().len(), subject.tokens_issued()),
            (1, 1),
            "{code}"
        );
    }
}

#[tokio::test]
async fn a_subject_that_cannot_be_fetched_is_the_error_and_nothing_is_sent() {
    let server = server();
    let error = || Err(Error::transient("the vault is busy"));
    let subject = TokenExchange::new(server.client(), ScriptedSource::from_fn(move |_| error()));
    let actor = TokenExchange::new(server.client(), ScriptedSource::default())
        .actor(ScriptedSource::from_fn(move |_| error()));
    for source in [subject, actor] {
        let error = fetch(&source).await.unwrap_err();
        assert!(error.is_source() && error.is_transient(), "{error:?}");
    }
    assert!(server.forms().is_empty());
}

/// The exchanged token was refused, but the subject token wasn't.
#[tokio::test]
async fn the_subject_is_told_the_reason_only_where_it_is_its_own() {
    let reasons: Arc<Mutex<Vec<Reason>>> = Arc::default();
    let subject = {
        let reasons = Arc::clone(&reasons);
        move |reason| {
            reasons.lock().unwrap().push(reason);
            async { Token::bearer("the-same") }
        }
    };
    let source = TokenExchange::new(server().client(), subject.clone());
    for reason in [Reason::Refused, Reason::Forced, Reason::Stale] {
        source.fetch(reason).await.unwrap();
    }
    let server = accepting("none", "invalid_grant");
    let source = TokenExchange::new(server.client(), subject);
    source.fetch(Reason::Expired).await.unwrap_err();
    let expected = [
        Reason::First,
        Reason::Forced,
        Reason::Stale,
        Reason::Expired,
        Reason::Refused,
    ];
    assert_eq!(*reasons.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_response_that_is_no_access_token_is_an_error() {
    let refresh = r#""urn:ietf:params:oauth:token-type:refresh_token""#;
    let saml = r#""urn:ietf:params:oauth:token-type:saml2""#;
    let access = &format!("\"{ACCESS_TOKEN}\"");
    for (token_type, issued, why) in [
        ("Bearer", "null", "no `issued_token_type`"),
        ("Bearer", "\"\"", "`issued_token_type` that is neither"),
        ("Bearer", "7", "`issued_token_type` that is neither"),
        ("Bearer", "{}", "`issued_token_type` that is neither"),
        ("Bearer", refresh, "`issued_token_type` that is neither"),
        ("Bearer", saml, "`issued_token_type` that is neither"),
        ("N_A", refresh, "`N_A`"),
        ("n_a", access, "`N_A`"),
        ("mac", access, "other than `Bearer`"),
    ] {
        let body = response(1, token_type, issued);
        let server = FormServer::new(move |_, _| (200, body.clone()));
        let source = TokenExchange::new(server.client(), SecretSource::from("the-subject"));
        let error = fetch(&source).await.unwrap_err();
        assert!(error.is_reply(), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(!all_text_of(&error).contains("exchanged"), "{error:?}");
        assert_eq!(server.forms().len(), 1);
    }
    // A server that knows only RFC 6749 sends no `issued_token_type`.
    let source = TokenExchange::new(
        FormServer::issuing().client(),
        SecretSource::from("the-subject"),
    );
    let error = fetch(&source).await.unwrap_err();
    assert!(
        error.to_string().contains("no `issued_token_type`"),
        "{error}"
    );

    let twice = format!(
        r#"{{"access_token":"t","issued_token_type":"{JWT}","issued_token_type":"{JWT}"}}"#
    );
    let server = FormServer::new(move |_, _| (200, twice.clone()));
    let source = TokenExchange::new(server.client(), SecretSource::from("the-subject"));
    let error = fetch(&source).await.unwrap_err();
    assert!(error.to_string().contains("a field twice"), "{error}");
}

#[tokio::test]
async fn a_jwt_and_what_was_requested_will_do() {
    for issued in [ACCESS_TOKEN, JWT, "urn:example:ticket"] {
        let body = response(1, "bearer", &format!("\"{issued}\""));
        let server = FormServer::new(move |_, _| (200, body.clone()));
        let source = TokenExchange::new(server.client(), SecretSource::from("the-subject"))
            .requested_token_type("urn:example:ticket");
        assert_eq!(fetch(&source).await.unwrap(), "exchanged-1");
    }
}

#[tokio::test]
async fn a_token_of_which_nothing_is_said_lasts_as_long_as_is_assumed() {
    let body = format!(r#"{{"access_token":"t","issued_token_type":"{ACCESS_TOKEN}"}}"#);
    let server = FormServer::new(move |_, _| (200, body.clone()));
    let source = || TokenExchange::new(server.client(), SecretSource::from("the-subject"));
    let token = source().fetch(Reason::First).await.unwrap();
    assert_eq!(expiry(&token), "In(3600s)");
    let source = source().assume_lifetime(Duration::from_secs(60));
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(expiry(&token), "In(60s)");
}

struct RecordsClose(Arc<Mutex<Vec<Option<String>>>>);

impl TokenSource for RecordsClose {
    async fn fetch(&self, _: Reason) -> Result<Token, Error> {
        Token::bearer("the-subject")
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        let last = last.map(|token| token.secret().to_owned());
        self.0.lock().unwrap().push(last);
        Err(Error::other("no good-bye"))
    }
}

#[tokio::test]
async fn closing_revokes_the_exchanged_token_and_closes_subject_and_actor() {
    let server = FormServer::new(|number, form| match form.path.as_str() {
        "/revoke" => (503, String::new()),
        _ => (200, exchanged(number)),
    });
    let client = server.client();
    let client = client.revoke_at("https://id.example.com/revoke").unwrap();
    let closed: Arc<Mutex<Vec<_>>> = Arc::default();
    let source = TokenExchange::new(client, RecordsClose(Arc::clone(&closed)))
        .actor(RecordsClose(Arc::clone(&closed)));
    let cache = TokenCache::new(source);
    cache.token().await.unwrap();
    // The subject and the actor are closed, even if another step of the close fails.
    cache.close().await;
    let forms = server.forms();
    assert_eq!(forms[1].get("token"), "exchanged-1");
    assert_eq!(*closed.lock().unwrap(), [None, None]);
}

#[tokio::test]
async fn closing_leaves_a_cache_below_open_for_the_others() {
    let server = server();
    let subject = TokenCache::new(ScriptedSource::default());
    let cache = TokenCache::new(TokenExchange::new(server.client(), subject.clone()));
    cache.token().await.unwrap();
    cache.close().await;
    assert!(cache.token().await.unwrap_err().is_closed());
    assert_eq!(subject.token().await.unwrap().secret(), "token-1");
}

#[tokio::test]
async fn the_client_of_the_subject_may_be_that_of_the_exchange() {
    let server = FormServer::new(|number, form| match form.get("grant_type") {
        "client_credentials" => (200, crate::support::form_server::issued(number)),
        _ => (200, exchanged(number)),
    });
    let client = server.client();
    let subject = TokenCache::new(ClientCredentials::with_client(client.clone()));
    let source = TokenExchange::new(client, subject).audience("stock");
    assert_eq!(fetch(&source).await.unwrap(), "exchanged-2");
    assert_eq!(server.forms()[1].get("subject_token"), "issued-1");
}

#[tokio::test]
async fn nothing_shows_the_token_of_the_subject_or_the_actor() {
    let server = FormServer::new(|_, form| {
        let [subject, actor] = ["subject_token", "actor_token"].map(|name| form.get(name));
        let body =
            format!(r#"{{"error":"invalid_target","error_description":"{subject} and {actor}"}}"#);
        (400, body)
    });
    let source = TokenExchange::new(server.client(), SecretSource::from("planted-subject"))
        .actor(SecretSource::from("planted-actor"))
        .param("pin", "planted-too")
        .unwrap();
    let error = source.fetch(Reason::First).await.unwrap_err();
    let shown = format!("{source:?} {source:#?} {}", all_text_of(&error));
    assert!(!shown.contains("planted"), "{shown}");
    assert!(shown.contains("[redacted] and [redacted]"), "{shown}");
}
