//! An API's own login in JSON.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use secrecy::SecretString;
use serde_json::{Value, json};
use tower_auth::login::JsonLogin;
use tower_auth::oauth2::TokenResponseFormat;
use tower_auth::{Error, Reason, SecretSource, Token, TokenSource};
use tower_auth_test::{ScriptedResponse, ScriptedServer};

use crate::support::token_server::{all_text_of, expiry};

const LOGIN: &str = "https://api.example.com/v1/auth/login";
const REFRESH: &str = "https://api.example.com/v1/auth/refresh";
const PASSWORD: &str = "p4ssword \"of\" the test";

/// An API that responds from a script and records the requests.
struct LoginApi(ScriptedServer);

impl LoginApi {
    fn responding<const N: usize>(responses: [(u16, Value); N]) -> Self {
        let server = ScriptedServer::new(|_| panic!("asked too often"));
        for (status, body) in responses {
            server.respond_next(ScriptedResponse::json(status, body));
        }
        Self(server)
    }

    fn login(&self) -> JsonLogin {
        self.login_with(PASSWORD)
    }

    fn login_with(&self, password: impl Into<SecretSource>) -> JsonLogin {
        JsonLogin::new(LOGIN, "me@example.com", password)
            .unwrap()
            .transport(self.0.clone())
    }

    fn asked(&self) -> Vec<(String, Value)> {
        let asked = self.0.requests().into_iter().map(|request| {
            assert_eq!(request.method(), "POST");
            assert_eq!(request.headers()["content-type"], "application/json");
            let body = serde_json::from_slice(request.body()).unwrap();
            (request.path().to_owned(), body)
        });
        asked.collect()
    }

    fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|(path, _)| path).collect()
    }
}

fn issued(access: &str, refresh: Option<&str>) -> (u16, Value) {
    let mut body = json!({"access_token": access, "token_type": "bearer", "expires_in": 3600});
    if let Some(refresh) = refresh {
        body["refresh_token"] = Value::from(refresh);
    }
    (200, body)
}

async fn fetch(login: &JsonLogin) -> Result<Token, Error> {
    login.fetch(Reason::Expired).await
}

const LOG_IN: &str = "/v1/auth/login";
const REFRESHES: &str = "/v1/auth/refresh";

#[tokio::test]
async fn a_login_brings_a_token_and_the_refresh_token_the_next() {
    let api = LoginApi::responding([
        issued("first", Some("refresh-1")),
        issued("second", None),
        issued("third", Some("refresh-2")),
        issued("fourth", None),
    ]);
    let login = api.login().refresh_at(REFRESH).unwrap();
    for access in ["first", "second", "third", "fourth"] {
        let token = fetch(&login).await.unwrap();
        assert_eq!((token.secret(), &*expiry(&token)), (access, "In(3600s)"));
    }
    let refresh = |token: &str| (String::from(REFRESHES), json!({"refresh_token": token}));
    let credentials = json!({"email": "me@example.com", "password": PASSWORD});
    assert_eq!(
        api.asked(),
        [
            (String::from(LOG_IN), credentials),
            refresh("refresh-1"),
            refresh("refresh-1"),
            refresh("refresh-2"),
        ]
    );
}

#[tokio::test]
async fn without_an_address_to_refresh_at_each_fetch_is_a_login() {
    let api = LoginApi::responding([issued("first", Some("r")), issued("second", Some("r"))]);
    let login = api.login();
    fetch(&login).await.unwrap();
    assert_eq!(fetch(&login).await.unwrap().secret(), "second");
    assert_eq!(api.paths(), [LOG_IN, LOG_IN]);
}

#[tokio::test]
async fn a_refresh_that_is_refused_is_followed_by_a_login() {
    for status in [400, 401, 403, 404] {
        let api = LoginApi::responding([
            issued("first", Some("old")),
            (status, json!({"error": "expired"})),
            issued("second", Some("new")),
            issued("third", None),
        ]);
        let login = api.login().refresh_at(REFRESH).unwrap();
        fetch(&login).await.unwrap();
        assert_eq!(fetch(&login).await.unwrap().secret(), "second");
        assert_eq!(fetch(&login).await.unwrap().secret(), "third");
        assert_eq!(api.paths(), [LOG_IN, REFRESHES, LOG_IN, REFRESHES]);
        assert_eq!(api.asked()[3].1, json!({"refresh_token": "new"}));
    }
}

/// After a transient server failure, the password isn't sent again.
#[tokio::test]
async fn a_refresh_that_fails_in_a_way_that_may_pass_is_no_login() {
    let api = LoginApi::responding([
        issued("first", Some("kept")),
        (503, Value::Null),
        issued("second", None),
    ]);
    let login = api.login().refresh_at(REFRESH).unwrap();
    fetch(&login).await.unwrap();
    assert!(fetch(&login).await.unwrap_err().is_transient());
    assert_eq!(fetch(&login).await.unwrap().secret(), "second");
    assert_eq!(api.paths(), [LOG_IN, REFRESHES, REFRESHES]);
}

#[tokio::test]
async fn a_login_that_is_refused_is_the_error_and_shows_no_password() {
    let echo = format!("no account for {PASSWORD}");
    let api = LoginApi::responding([(401, json!({"error": "wrong", "message": echo}))]);
    let login = api.login().error_field("/message").unwrap();
    let error = fetch(&login).await.unwrap_err();
    assert!(error.is_denied() && error.is_permanent(), "{error}");
    assert_eq!(error.description(), Some("no account for [redacted]"));
    let shown = format!("{} {login:?} {login:#?}", all_text_of(&error));
    assert!(
        !shown.contains("p4ssword") && !shown.contains("me@"),
        "{shown}"
    );
}

#[tokio::test]
async fn fields_are_where_they_are_said_to_be() {
    let response = json!({"data": {"jwt": "nested", "ttl": "90", "next": "r"}});
    let api = LoginApi::responding([(201, response.clone()), (201, response)]);
    let login = api
        .login()
        .refresh_at(REFRESH)
        .unwrap()
        .user_field("/credentials/user~1name")
        .unwrap()
        .password_field("/credentials/pass")
        .unwrap()
        .field("/tenant", "acme")
        .unwrap()
        .field("/device/trusted", true)
        .unwrap()
        .access_token_field("/data/jwt")
        .unwrap()
        .refresh_token_field("/data/next")
        .unwrap()
        .expires_in_field("/data/ttl")
        .unwrap();
    let token = fetch(&login).await.unwrap();
    assert_eq!((token.secret(), &*expiry(&token)), ("nested", "In(90s)"));
    fetch(&login).await.unwrap();
    let credentials = json!({"user/name": "me@example.com", "pass": PASSWORD});
    let asked = api.asked();
    assert_eq!(
        asked[0].1,
        json!({"tenant": "acme", "device": {"trusted": true}, "credentials": credentials})
    );
    assert_eq!(asked[1].1, json!({"data": {"next": "r"}}));
}

#[test]
fn what_is_no_pointer_to_a_field_is_refused_at_once() {
    for pointer in ["", "/", "email", "a/b", "/a//b", "/a~", "/a~2", "/a/"] {
        let error = LoginApi::responding([])
            .login()
            .user_field(pointer)
            .unwrap_err();
        assert!(
            error.is_config() && error.to_string().contains("RFC 6901"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn fields_within_one_another_are_an_error_and_nothing_is_sent() {
    for pointer in ["/password/hash", "/email", "/password"] {
        let api = LoginApi::responding([]);
        let login = api.login().field(pointer, "x").unwrap();
        let error = fetch(&login).await.unwrap_err();
        assert!(
            error.is_config() && !all_text_of(&error).contains("p4ss"),
            "{error}"
        );
        assert!(api.asked().is_empty());
    }
}

#[tokio::test]
async fn the_password_is_read_again_for_each_login() {
    let api = LoginApi::responding([issued("first", None), issued("second", None)]);
    let asked = Arc::new(Mutex::new(0));
    let password = SecretSource::from_fn(move || {
        let asked = Arc::clone(&asked);
        async move {
            let mut asked = asked.lock().unwrap();
            *asked += 1;
            Ok(SecretString::from(format!("password-{asked}")))
        }
    });
    let login = api.login_with(password);
    fetch(&login).await.unwrap();
    fetch(&login).await.unwrap();
    let sent: Vec<_> = api
        .asked()
        .into_iter()
        .map(|(_, body)| body["password"].clone())
        .collect();
    assert_eq!(sent, ["password-1", "password-2"]);
}

#[tokio::test]
async fn responses_that_hold_no_token_are_errors() {
    for body in [
        json!({}),
        json!([]),
        json!({"access_token": 7}),
        json!({"access_token": ""}),
    ] {
        let api = LoginApi::responding([(200, body.clone())]);
        let error = fetch(&api.login()).await.unwrap_err();
        assert!(error.is_reply(), "{body}: {error}");
    }
}

#[test]
fn addresses_and_credentials_are_checked_at_once() {
    let transport = || {
        tower::service_fn(|_: Request<Full<Bytes>>| async {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        })
    };
    for (url, user, password) in [
        ("http://api.example.com/login", "me", "secret"),
        (LOGIN, "", "secret"),
        (LOGIN, "me", ""),
    ] {
        let login = JsonLogin::new(url, user, password);
        assert!(login.unwrap_err().is_config());
    }
    let login = JsonLogin::new(LOGIN, "me", "secret")
        .unwrap()
        .transport(transport());
    let cleartext = login.refresh_at("http://api.example.com/refresh");
    assert!(cleartext.unwrap_err().is_config());
}

#[tokio::test(start_paused = true)]
async fn a_login_that_hangs_is_given_up_after_the_timeout() {
    let transport = tower::service_fn(|_: Request<Full<Bytes>>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    });
    let login = JsonLogin::new(LOGIN, "me", "secret")
        .unwrap()
        .transport(transport)
        .timeout(Duration::from_secs(3));
    let start = tokio::time::Instant::now();
    assert!(fetch(&login).await.unwrap_err().is_timeout());
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test]
async fn a_new_refresh_token_is_kept_whatever_else_the_response_contains() {
    for unusable in [
        json!({"access_token": "t", "token_type": "bot", "refresh_token": "new"}),
        json!({"access_token": "t", "expires_in": "soon", "refresh_token": "new"}),
        json!({"access_token": "two\nlines", "refresh_token": "new"}),
        json!({"access_token": 7, "refresh_token": "new"}),
        json!({"refresh_token": "new"}),
    ] {
        let api = LoginApi::responding([
            issued("first", Some("old")),
            (200, unusable.clone()),
            issued("second", None),
        ]);
        let login = api.login().refresh_at(REFRESH).unwrap();
        fetch(&login).await.unwrap();
        fetch(&login).await.unwrap_err();
        assert_eq!(fetch(&login).await.unwrap().secret(), "second");
        let refresh = |token: &str| (String::from(REFRESHES), json!({"refresh_token": token}));
        assert_eq!(api.asked()[1..], [refresh("old"), refresh("new")]);

        // Now the response to the login is unusable.
        let api = LoginApi::responding([(200, unusable), issued("second", None)]);
        let login = api.login().refresh_at(REFRESH).unwrap();
        fetch(&login).await.unwrap_err();
        assert_eq!(fetch(&login).await.unwrap().secret(), "second");
        assert_eq!(api.asked()[1..], [refresh("new")]);
    }
}

/// The refresh is followed by a login, as after each permanent error.
#[tokio::test]
async fn a_new_refresh_token_beside_an_error_is_kept_for_the_next_refresh() {
    let refused = json!({"error": "odd", "access_token": "t", "refresh_token": "new"});
    let api = LoginApi::responding([
        issued("first", Some("old")),
        (200, refused),
        issued("second", None),
        issued("third", None),
    ]);
    let login = api.login().refresh_at(REFRESH).unwrap();
    for access in ["first", "second", "third"] {
        assert_eq!(fetch(&login).await.unwrap().secret(), access);
    }
    assert_eq!(api.paths(), [LOG_IN, REFRESHES, LOG_IN, REFRESHES]);
    assert_eq!(api.asked()[3].1, json!({"refresh_token": "new"}));
}

#[tokio::test]
async fn a_token_beside_an_error_is_a_refusal() {
    let body = json!({"error": {"code": 7}, "access_token": "t"});
    let error = fetch(&LoginApi::responding([(200, body)]).login()).await;
    assert!(error.unwrap_err().is_denied());
    for error in [json!(false), json!(null), json!(""), json!(0), json!([])] {
        let api = LoginApi::responding([(200, json!({"error": error, "access_token": "t"}))]);
        assert_eq!(fetch(&api.login()).await.unwrap().secret(), "t");
    }
}

/// The JSON may be invalid, or the body may break off or stall.
#[tokio::test(start_paused = true)]
async fn a_new_refresh_token_in_an_unreadable_body_is_kept() {
    let whole = r#"{"data":{"jwt":"t","next":"new"},"refresh_token":"other","ttl":6"#;
    let response = |body: &'static str| {
        ScriptedResponse::new(200)
            .header("content-type", "application/json")
            .body(body)
    };
    for unreadable in [
        response(whole),
        response(r#"{"data":{"jwt":"t","next":"new"},}"#),
        response(r#"{"ttl":NaN,"data":{"jwt":"t","next":"new"}}"#),
        response(r#"{"data":{"jwt":"t","jwt":"u","next":"new"}}"#),
        response(whole).reset_after(whole.len() - 2),
        response(whole).stall_after(whole.len() - 2),
    ] {
        let api = LoginApi::responding([(200, json!({"data": {"jwt": "first", "next": "old"}}))]);
        api.0.respond_next(unreadable);
        let last = json!({"data": {"jwt": "second"}});
        api.0.respond_next(ScriptedResponse::json(200, last));
        let login = api
            .login()
            .refresh_at(REFRESH)
            .and_then(|it| it.access_token_field("/data/jwt"))
            .and_then(|it| it.refresh_token_field("/data/next"))
            .unwrap();
        fetch(&login).await.unwrap();
        fetch(&login).await.unwrap_err();
        assert_eq!(fetch(&login).await.unwrap().secret(), "second");
        let refresh = |token: &str| (String::from(REFRESHES), json!({"data": {"next": token}}));
        assert_eq!(api.asked()[1..], [refresh("old"), refresh("new")]);
    }
}

#[tokio::test]
async fn a_format_applies_to_the_responses_and_not_to_the_requests() {
    let body = json!({"success": true, "token": "t", "next": "r", "region": "eu"});
    let api = LoginApi::responding([
        (200, body.clone()),
        (200, body),
        (
            200,
            json!({"success": false, "message": "locked", "token": "t"}),
        ),
    ]);
    let format = TokenResponseFormat::new()
        .access_token_field("/token")
        .and_then(|it| it.refresh_token_field("/next"))
        .and_then(|it| it.success_value("/success", true))
        .unwrap();
    let login = api
        .login()
        .refresh_at(REFRESH)
        .unwrap()
        .response_format(format);
    let token = fetch(&login).await.unwrap();
    assert_eq!(token.extra("region"), Some(&json!("eu")));
    fetch(&login).await.unwrap();
    assert_eq!(api.asked()[1].1, json!({"refresh_token": "r"}));

    let login = api.login().response_format(TokenResponseFormat::new());
    let login = login.access_token_field("/token").unwrap();
    // The new format doesn't check `success`, so it accepts the last response.
    assert_eq!(fetch(&login).await.unwrap().secret(), "t");
}
