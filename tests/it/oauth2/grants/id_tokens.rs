//! The ID token of a login is kept and can be exchanged. An exchange may issue another token than
//! an access token.

use std::time::Duration;

use tower_auth::oauth2::{DeviceAuthorization, RefreshToken, TokenExchange};
use tower_auth::{Reason, SecretSource, Token, TokenCache, TokenSource};
use tower_auth_test::ScriptedSource;

#[cfg(feature = "fleet")]
use crate::support::breakable_store::BreakableStore;
use crate::support::form_server::{Form, FormServer, refusal};
use crate::support::refresh_store::Store;

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const SAML: &str = "urn:ietf:params:oauth:token-type:saml2";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

fn n_a(issued: &str) -> (u16, String) {
    let body = format!(
        r#"{{"access_token":"exchanged","token_type":"N_A","issued_token_type":"{issued}"}}"#
    );
    (200, body)
}

fn exchange(issued: &'static str) -> TokenExchange {
    let server = FormServer::new(move |_, _| n_a(issued));
    TokenExchange::new(server.client(), SecretSource::from("subject"))
}

#[tokio::test]
async fn a_token_that_is_no_access_token_is_issued_if_it_was_requested() {
    for requested in [ID_TOKEN, SAML, JWT] {
        let source = exchange(requested).requested_token_type(requested);
        let token = source.fetch(Reason::First).await.unwrap();
        assert_eq!(token.header_value().unwrap(), "Bearer exchanged");
    }
}

#[tokio::test]
async fn a_token_that_is_no_access_token_is_refused_if_it_was_not_requested() {
    for (issued, requested, why) in [
        // The client requested no type, or an access token.
        (ID_TOKEN, "", "requested_token_type"),
        (ACCESS_TOKEN, "", "requested_token_type"),
        (ACCESS_TOKEN, ACCESS_TOKEN, "requested_token_type"),
        // The server issued another type than the client requested.
        (ID_TOKEN, SAML, "isn't the requested type"),
        (JWT, ID_TOKEN, "isn't the requested type"),
        (ACCESS_TOKEN, ID_TOKEN, "isn't the requested type"),
        ("", ID_TOKEN, "isn't the requested type"),
    ] {
        let source = exchange(issued).requested_token_type(requested);
        let error = source.fetch(Reason::First).await.unwrap_err();
        assert!(error.is_reply(), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("`N_A`") && text.contains(why),
            "{requested}: {text}"
        );
    }
    // Other grants never accept such a token.
    let server = FormServer::new(|_, _| n_a(ID_TOKEN));
    let source = RefreshToken::new(server.client(), "r");
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.to_string().contains("TokenExchange"), "{error}");
}

#[cfg(feature = "dpop")]
#[tokio::test]
async fn with_a_key_a_token_that_is_no_access_token_is_refused() {
    let server = FormServer::new(|_, _| n_a(ID_TOKEN));
    let key = tower_auth::oauth2::DpopKey::generate().unwrap();
    let source = TokenExchange::new(server.client().dpop(key), SecretSource::from("subject"))
        .requested_token_type(ID_TOKEN);
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.to_string().contains("isn't bound"), "{error}");
}

/// Issues tokens with these ID tokens, one after the other. Rotates the refresh token each time.
fn issuing(id_tokens: &'static [Option<&'static str>]) -> FormServer {
    FormServer::new(move |number, _| {
        let id_token = id_tokens[number - 1].map(|id| format!(r#","id_token":"{id}""#));
        let body = format!(
            r#"{{"access_token":"a-{number}","refresh_token":"r-{number}","expires_in":60{}}}"#,
            id_token.unwrap_or_default()
        );
        (200, body)
    })
}

async fn id_tokens<const N: usize>(source: &RefreshToken) -> [Option<String>; N] {
    let mut tokens = [const { None }; N];
    for token in &mut tokens {
        let fetched = source.fetch(Reason::Expired).await.unwrap();
        *token = fetched.id_token().map(str::to_owned);
    }
    tokens
}

fn owned<const N: usize>(tokens: [Option<&str>; N]) -> [Option<String>; N] {
    tokens.map(|token| token.map(str::to_owned))
}

#[tokio::test]
async fn a_refresh_without_an_id_token_keeps_the_last_one() {
    let server = issuing(&[None, Some("id-1"), None, None, Some("id-2"), None]);
    let source = RefreshToken::new(server.client(), "r-0");
    let one = Some("id-1");
    let two = Some("id-2");
    let expected = owned([None, one, one, one, two, two]);
    assert_eq!(id_tokens(&source).await, expected);
}

/// The server doesn't rotate its refresh tokens.
#[tokio::test]
async fn the_last_id_token_is_kept_with_the_same_refresh_token_too() {
    let server = FormServer::new(|number, _| {
        let id_token = if number == 1 {
            r#","id_token":"id-1""#
        } else {
            ""
        };
        (200, format!(r#"{{"access_token":"a"{id_token}}}"#))
    });
    let source = RefreshToken::new(server.client(), "r");
    assert_eq!(id_tokens(&source).await, owned([Some("id-1"); 3]));
}

/// Another user may have logged in.
#[tokio::test]
async fn the_id_token_of_a_login_is_not_that_of_the_next_login() {
    let server = issuing(&[Some("id-of-one-user"), None, None, None]);
    let store = Store::holding("r-0");
    let source = RefreshToken::stored(server.client(), store.clone());
    let one = Some("id-of-one-user");
    assert_eq!(id_tokens(&source).await, owned([one, one]));
    store.put("of-another-user");
    assert_eq!(id_tokens(&source).await, owned([None, None]));
}

#[tokio::test]
async fn an_unusable_response_does_not_lose_the_id_token() {
    let server = FormServer::new(|number, _| {
        let body = match number {
            1 => r#"{"access_token":"a","refresh_token":"r-1","id_token":"id-1"}"#,
            2 => r#"{"access_token":7,"refresh_token":"r-2","id_token":"unusable"}"#,
            _ => r#"{"access_token":"a"}"#,
        };
        (200, body.to_owned())
    });
    let source = RefreshToken::new(server.client(), "r-0");
    source.fetch(Reason::Expired).await.unwrap();
    source.fetch(Reason::Expired).await.unwrap_err();
    assert_eq!(id_tokens(&source).await, owned([Some("id-1")]));
}

/// A server for a login on another device, for its refreshes and for exchanges.
fn login_server() -> FormServer {
    FormServer::new(|number, form: &Form| {
        let body = match form.all("grant_type")[..] {
            [] => r#"{"device_code":"d","user_code":"u","expires_in":100,
                "verification_uri":"https://id.example.com/activate"}"#
                .to_owned(),
            ["urn:ietf:params:oauth:grant-type:device_code"] => {
                r#"{"access_token":"a-0","refresh_token":"r-0","id_token":"id-0","expires_in":60}"#
                    .to_owned()
            }
            ["refresh_token"] => format!(r#"{{"access_token":"a-{number}","expires_in":60}}"#),
            _ => format!(r#"{{"access_token":"exchanged","issued_token_type":"{ACCESS_TOKEN}"}}"#),
        };
        (200, body)
    })
}

async fn logged_in(server: &FormServer) -> RefreshToken {
    let login = DeviceAuthorization::new(server.client(), "https://id.example.com/device");
    let login = login.unwrap().scope("openid");
    let prompt = login.begin().await.unwrap();
    login.finish(prompt).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_id_token_of_a_login_is_kept_when_its_access_token_is_refreshed() {
    let source = logged_in(&login_server()).await;
    let first = source.fetch(Reason::First).await.unwrap();
    assert_eq!((first.secret(), first.id_token()), ("a-0", Some("id-0")));
    assert_eq!(
        id_tokens(&source).await,
        owned([Some("id-0"), Some("id-0")])
    );
}

/// Returns the subject of the last request, and its type.
fn sent(server: &FormServer) -> (String, String) {
    let form = server.forms().pop().unwrap();
    let value = |name: &str| form.get(name).to_owned();
    (value("subject_token"), value("subject_token_type"))
}

#[tokio::test(start_paused = true)]
async fn the_id_token_of_a_login_is_exchanged() {
    let server = login_server();
    let id_token = || (String::from("id-0"), String::from(ID_TOKEN));
    let source = TokenExchange::new(server.client(), logged_in(&server).await);
    let source = source.subject_id_token();
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(sent(&server), id_token());

    let cache: TokenCache = crate::support::paused(logged_in(&server).await).build();
    let source = TokenExchange::new(server.client(), cache.clone()).subject_id_token();
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(sent(&server), id_token());
    // The cache now refreshes the access token, and the response has no ID token.
    tokio::time::advance(Duration::from_secs(61)).await;
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(sent(&server), id_token());
    assert_ne!(cache.token().await.unwrap().secret(), "a-0");

    let source = TokenExchange::new(server.client(), cache)
        .subject_id_token()
        .subject_token_type(JWT);
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(sent(&server), (String::from("id-0"), String::from(JWT)));
}

#[cfg(feature = "fleet")]
#[tokio::test(start_paused = true)]
async fn an_id_token_from_another_process_is_exchanged() {
    let store = BreakableStore::default();
    let source = ScriptedSource::from_fn(|_| {
        Token::bearer("access").map(|token| token.with_id_token("id-0"))
    });
    store.process(source).token().await.unwrap();
    let other = store.process(ScriptedSource::from_fn(|_| {
        tower_auth_test::Step::error("it is there")
    }));

    let server = login_server();
    let source = TokenExchange::new(server.client(), other).subject_id_token();
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(
        sent(&server),
        (String::from("id-0"), String::from(ID_TOKEN))
    );
}

#[tokio::test]
async fn a_subject_without_an_id_token_is_an_error_that_says_what_to_request() {
    let server = login_server();
    let subject = ScriptedSource::from_fn(|_| Token::bearer("access"));
    let source = TokenExchange::new(server.client(), subject).subject_id_token();
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(
        error.is_config() && error.to_string().contains("`openid`"),
        "{error}"
    );
    assert!(server.forms().is_empty());
}

/// If the subject returns a new access token with the same ID token, the exchange isn't repeated.
#[tokio::test]
async fn after_a_refusal_only_another_id_token_is_sent() {
    for (id_tokens, sent) in [
        (["id-0", "id-0"], &["id-0"][..]),
        (["id-0", "id-1"], &["id-0", "id-1"]),
    ] {
        let server = FormServer::new(|_, _| refusal("invalid_grant"));
        let subject = ScriptedSource::from_fn(move |number| {
            let token = Token::bearer(format!("access-{number}"))?;
            Ok::<_, tower_auth::Error>(token.with_id_token(id_tokens[number - 1]))
        });
        let source = TokenExchange::new(server.client(), subject).subject_id_token();
        source.fetch(Reason::First).await.unwrap_err();
        let forms = server.forms();
        let subjects: Vec<_> = forms.iter().map(|it| it.get("subject_token")).collect();
        assert_eq!(subjects, sent);
    }
}

#[cfg(feature = "fleet")]
#[test]
fn an_exchange_of_the_id_token_has_another_store_key() {
    let server = FormServer::issuing();
    let subject = || tower_auth::oauth2::ClientCredentials::with_client(server.client());
    let exchange = || TokenExchange::new(server.client(), subject());
    let key = |source: TokenExchange| source.store_key().unwrap().to_text();
    let keys = [
        key(exchange()),
        key(exchange().subject_token_type(ID_TOKEN)),
        key(exchange().subject_id_token()),
    ];
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
}
