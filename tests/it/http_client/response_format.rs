//! Servers whose token responses differ from RFC 6749 §5. Each difference has a setting.

use std::error::Error as _;

use serde_json::{Value, json};
use tower_auth::login::JsonLogin;
use tower_auth::oauth2::{
    Client, ClientCredentials, DeviceAuthorization, RefreshToken, TokenResponseFormat,
};
use tower_auth::{Error, Reason, Token, TokenSource};
use tower_auth_test::{ScriptedResponse, ScriptedServer};

use crate::support::refresh_store::Store;
use crate::support::token_server::{ID, SECRET, URL, all_text_of, expiry};

const FORM: &str = "application/x-www-form-urlencoded";

fn format() -> TokenResponseFormat {
    TokenResponseFormat::new()
}

fn client(server: &ScriptedServer, format: TokenResponseFormat) -> Client {
    let client = Client::new(URL, ID, SECRET).unwrap();
    client.transport(server.clone()).response_format(format)
}

fn server(response: ScriptedResponse) -> ScriptedServer {
    ScriptedServer::new(move |_| response.clone())
}

async fn read(format: TokenResponseFormat, response: ScriptedResponse) -> Result<Token, Error> {
    let client = client(&server(response), format);
    let source = ClientCredentials::with_client(client).scope("repo gist");
    source.fetch(Reason::First).await
}

async fn read_json(format: TokenResponseFormat, body: Value) -> Result<Token, Error> {
    read(format, ScriptedResponse::json(200, body)).await
}

fn form(body: &'static str) -> ScriptedResponse {
    let response = ScriptedResponse::new(200).header("content-type", FORM);
    response.body(body)
}

#[tokio::test]
async fn a_form_is_read_where_it_is_expected() {
    let body = "access_token=a%2Fb+c&expires_in=28800&refresh_token=ghr&scope=repo%2Cgist\
                &token_type=bearer&refresh_token_expires_in=15811200";
    let token = read(format().form_encoded().comma_separated_scope(), form(body));
    let token = token.await.unwrap();
    assert_eq!((token.secret(), &*expiry(&token)), ("a/b c", "In(28800s)"));
    assert_eq!(token.scope(), Some("repo gist"));
    assert_eq!(
        token.extra("refresh_token_expires_in"),
        Some(&json!("15811200"))
    );
    assert_eq!(token.extra("refresh_token"), None);

    let error = read(format(), form(body)).await.unwrap_err();
    assert!(error.is_reply(), "{error}");
    assert!(error.to_string().contains("form_encoded"), "{error}");
}

#[tokio::test]
async fn a_client_that_expects_a_form_asks_for_one_and_reads_json_too() {
    let body = json!({"access_token": "t", "expires_in": 60});
    for content_type in ["application/json; charset=utf-8", "application/vnd.x+JSON"] {
        let response = ScriptedResponse::new(200)
            .header("content-type", content_type)
            .body(body.to_string());
        let server = server(response);
        let source = ClientCredentials::with_client(client(&server, format().form_encoded()));
        let token = source.fetch(Reason::First).await.unwrap();
        assert_eq!(expiry(&token), "In(60s)");
        let requests = server.requests();
        let accept = requests[0].headers()["accept"].to_str().unwrap();
        assert!(accept.starts_with(FORM), "{accept}");
    }
}

#[tokio::test]
async fn a_body_that_is_no_form_is_an_error_that_says_so() {
    for (body, what) in [
        ("", "no body"),
        ("OK", "not a form"),
        ("<html>a=b", "not a form"),
        (r#"{"access_token":"t"}"#, "not a form"),
        ("access_token=", "empty `access_token`"),
        ("scope=read", "no `access_token`"),
        ("access_token=a&access_token=b", "twice"),
        ("access_token=a&expires_in=soon", "`expires_in`"),
        ("access_token=a&token_type=mac", "`token_type`"),
    ] {
        let error = read(format().form_encoded(), form(body)).await.unwrap_err();
        assert!(error.is_reply(), "{body}: {error}");
        assert!(error.to_string().contains(what), "{body}: {error}");
    }
}

#[tokio::test]
async fn fields_are_where_the_pointers_say() {
    let format = format()
        .access_token_field("/data/tokens/0/a~1b")
        .and_then(|it| it.expires_in_field("/data/ttl"))
        .and_then(|it| it.scope_field("/data/rights"))
        .and_then(|it| it.token_type_field("/data/kind"))
        .and_then(|it| it.id_token_field("/data/id"))
        .unwrap();
    let body = json!({
        "access_token": "of-another",
        "data": {
            "tokens": [{"a/b": "nested"}], "ttl": "90", "rights": "repo", "kind": "bearer",
            "id": "the-id-token", "region": "eu",
        },
    });
    let token = read_json(format.clone(), body).await.unwrap();
    assert_eq!((token.secret(), &*expiry(&token)), ("nested", "In(90s)"));
    assert_eq!(token.scope(), Some("repo"));
    assert_eq!(token.id_token(), Some("the-id-token"));
    let rest = json!({"tokens": [{}], "ttl": "90", "kind": "bearer", "region": "eu"});
    assert_eq!(token.extra("data"), Some(&rest));

    for (data, what) in [
        (json!({}), "has no `/data/tokens/0/a~1b`"),
        (
            json!({"tokens": [{"a/b": ""}]}),
            "empty `/data/tokens/0/a~1b`",
        ),
        (json!({"tokens": [{"a/b": 7}]}), "not a string"),
        (
            json!({"tokens": [{"a/b": "t"}], "kind": "mac"}),
            "token_type",
        ),
        (
            json!({"tokens": [{"a/b": "t"}], "ttl": "soon"}),
            "expires_in",
        ),
    ] {
        let body = json!({"access_token": "of-another", "data": data});
        let error = read_json(format.clone(), body).await.unwrap_err();
        assert!(
            error.is_reply() && error.to_string().contains(what),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_nested_field_that_occurs_twice_is_refused() {
    let format = format().access_token_field("/data/token").unwrap();
    for body in [
        r#"{"data":{"token":"a","token":"b"}}"#,
        r#"{"data":{"token":"a"},"data":{"token":"b"}}"#,
    ] {
        let response = ScriptedResponse::json(200, body);
        let error = read(format.clone(), response).await.unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
    }
}

#[tokio::test]
async fn an_id_token_may_be_the_access_token() {
    let format = format().access_token_field("/id_token").unwrap();
    let token = read_json(format, json!({"id_token": "a.b.c"}))
        .await
        .unwrap();
    assert_eq!(token.header_value().unwrap(), "Bearer a.b.c");
    assert_eq!(token.id_token(), Some("a.b.c"));
    assert_eq!(token.extra("id_token"), None);
}

#[test]
fn a_setting_that_makes_no_sense_is_an_error_at_once() {
    for error in [
        format().access_token_field("access_token").unwrap_err(),
        format().error_code_field("/a//b").unwrap_err(),
        format().success_value("ok", true).unwrap_err(),
        format().success_value("/ok", json!(null)).unwrap_err(),
        format().success_value("/ok", json!([true])).unwrap_err(),
        format().accept_token_type("").unwrap_err(),
        format().accept_token_type("dpop").unwrap_err(),
        format().accept_token_type("N_A").unwrap_err(),
    ] {
        assert!(error.is_config(), "{error}");
    }
}

#[tokio::test]
async fn another_token_type_is_accepted_only_where_it_was_named() {
    let body = |kind: &str| json!({"access_token": "t", "token_type": kind});
    let format = format().accept_token_type("bot").unwrap();
    for kind in ["bot", "Bot", "bearer"] {
        let token = read_json(format.clone(), body(kind)).await.unwrap();
        assert_eq!(token.header_value().unwrap(), "Bearer t");
    }
    for kind in ["user", "DPoP", "N_A", ""] {
        let error = read_json(format.clone(), body(kind)).await.unwrap_err();
        assert!(
            error.is_reply() && error.to_string().contains("token_type"),
            "{error}"
        );
    }
    let error = read_json(TokenResponseFormat::new(), body("bot"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("accept_token_type"), "{error}");
}

#[cfg(feature = "dpop")]
#[tokio::test]
async fn another_token_type_is_never_accepted_in_place_of_a_bound_token() {
    let server = server(ScriptedResponse::json(
        200,
        r#"{"access_token":"t","token_type":"bot"}"#,
    ));
    let key = tower_auth::oauth2::DpopKey::generate().unwrap();
    let client = client(&server, format().accept_token_type("bot").unwrap()).dpop(key);
    let error = ClientCredentials::with_client(client)
        .fetch(Reason::First)
        .await;
    let error = error.unwrap_err();
    assert!(
        error.is_reply() && error.to_string().contains("DPoP"),
        "{error}"
    );
}

#[tokio::test]
async fn a_response_that_says_it_failed_is_a_refusal_whatever_its_status() {
    let slack = format().success_value("/ok", true).unwrap();
    for ok in [
        json!(false),
        json!("false"),
        json!(0),
        json!([]),
        json!("no"),
    ] {
        let body = json!({"ok": ok, "error": "invalid_auth", "access_token": "t"});
        let error = read_json(slack.clone(), body).await.unwrap_err();
        assert!(error.is_denied() && error.is_permanent(), "{ok}: {error}");
        assert_eq!(error.code(), Some("invalid_auth"));
        let error = read_json(slack.clone(), json!({"ok": ok, "access_token": "t"})).await;
        assert!(error.unwrap_err().is_denied(), "{ok}");
    }
    for ok in [json!(true), json!("true"), json!("True"), json!(null)] {
        let body = json!({"ok": ok, "access_token": "t"});
        assert!(read_json(slack.clone(), body).await.is_ok(), "{ok}");
    }
    assert!(
        read_json(slack.clone(), json!({"access_token": "t"}))
            .await
            .is_ok()
    );
    // A response with `error` is a refusal, even if `ok` is true.
    let body = json!({"ok": true, "error": "odd", "access_token": "t"});
    assert!(read_json(slack, body).await.unwrap_err().is_denied());
}

#[tokio::test]
async fn a_code_may_be_a_number_and_say_success() {
    let format = format()
        .error_code_field("/errcode")
        .and_then(|it| it.error_description_field("/errmsg"))
        .unwrap();
    let body = json!({"errcode": 40013, "errmsg": "invalid appid"});
    let error = read_json(format.clone(), body).await.unwrap_err();
    assert!(error.is_denied(), "{error}");
    assert_eq!(
        (error.code(), error.description()),
        (Some("40013"), Some("invalid appid"))
    );
    let body = json!({"errcode": 0, "errmsg": "ok", "access_token": "t"});
    assert!(read_json(format.clone(), body).await.is_ok());

    let format = format.success_value("/errcode", "OK").unwrap();
    let body = json!({"errcode": "OK", "access_token": "t"});
    assert!(read_json(format.clone(), body).await.is_ok());
    let body = json!({"errcode": "E1", "access_token": "t"});
    let error = read_json(format, body).await.unwrap_err();
    assert_eq!(error.code(), Some("E1"));
}

/// The format of each server, and its response to a refresh token that is no longer valid.
fn ended_logins() -> Vec<(TokenResponseFormat, ScriptedResponse, &'static str)> {
    let github = "error=bad_refresh_token&error_description=The+refresh+token+passed+is+incorrect\
                  +or+expired.&error_uri=https%3A%2F%2Fdocs.github.com";
    let code = "bad_refresh_token";
    let slack = json!({"ok": false, "error": "invalid_refresh_token"});
    let supabase = json!({
        "code": 400,
        "error_code": "refresh_token_not_found",
        "msg": "Invalid Refresh Token: Refresh Token Not Found",
    });
    let supabase_format = format()
        .error_code_field("/error_code")
        .and_then(|it| it.error_description_field("/msg"))
        .unwrap()
        .login_required_code("refresh_token_not_found");
    vec![
        (
            format().form_encoded().login_required_code(code),
            form(github),
            code,
        ),
        (
            format().login_required_code(code),
            ScriptedResponse::json(200, json!({"error": code})),
            code,
        ),
        (
            format()
                .success_value("/ok", true)
                .unwrap()
                .login_required_code("other")
                .login_required_code("invalid_refresh_token"),
            ScriptedResponse::json(200, slack),
            "invalid_refresh_token",
        ),
        (
            supabase_format.clone(),
            ScriptedResponse::json(400, &supabase),
            "refresh_token_not_found",
        ),
        // The code requires a login, even with the status 500.
        (
            supabase_format,
            ScriptedResponse::json(500, &supabase),
            "refresh_token_not_found",
        ),
    ]
}

#[tokio::test]
async fn a_code_that_ends_the_login_requires_a_login_and_is_not_sent_again() {
    for (format, response, code) in ended_logins() {
        let server = server(response);
        let source = RefreshToken::new(client(&server, format), "used-up");
        let error = source.fetch(Reason::Expired).await.unwrap_err();
        assert!(error.is_login_required() && error.is_permanent(), "{error}");
        let cause = error.source().unwrap().downcast_ref::<Error>().unwrap();
        assert!(cause.is_invalid_grant(), "{cause}");
        assert_eq!(cause.code(), Some(code));
        let again = source.fetch(Reason::Expired).await.unwrap_err();
        assert!(again.is_login_required(), "{again}");
        assert_eq!(server.requests().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn after_a_code_that_ends_the_login_the_store_is_read_once_more() {
    for (format, response, code) in ended_logins() {
        let store = Store::holding("used-up");
        let other = store.clone();
        let server = ScriptedServer::new(move |request| {
            // Another process saves its token while this request is sent.
            other.put("new");
            match request.param("refresh_token").as_deref() {
                Some("new") => ScriptedResponse::new(200)
                    .header("content-type", "application/json")
                    .body(r#"{"access_token":"t"}"#),
                _ => response.clone(),
            }
        });
        let source = RefreshToken::stored(client(&server, format), store);
        let token = source.fetch(Reason::Expired).await;
        assert_eq!(token.unwrap().secret(), "t", "{code}");
    }
}

#[tokio::test]
async fn after_a_code_that_ends_the_login_a_json_login_logs_in_again() {
    for (format, response, code) in ended_logins() {
        let server = ScriptedServer::new(move |request| match request.path() {
            "/refresh" => response.clone(),
            _ => ScriptedResponse::new(200)
                .header("content-type", "application/json")
                .body(r#"{"access_token":"t","refresh_token":"r"}"#),
        });
        let login = JsonLogin::new("https://api.example.com/login", "me", "password")
            .and_then(|it| it.refresh_at("https://api.example.com/refresh"))
            .unwrap()
            .response_format(format)
            .transport(server.clone());
        login.fetch(Reason::First).await.unwrap();
        login.fetch(Reason::Expired).await.unwrap();
        let paths: Vec<_> = server
            .requests()
            .iter()
            .map(|it| it.path().to_owned())
            .collect();
        assert_eq!(paths, ["/login", "/refresh", "/login"], "{code}");
    }
}

/// Without the setting `login_required_code`, the server's code is an ordinary error.
#[tokio::test]
async fn an_unknown_code_requires_no_login() {
    let server = server(ScriptedResponse::json(
        200,
        r#"{"error":"bad_refresh_token"}"#,
    ));
    let source = RefreshToken::new(client(&server, format()), "r");
    for _ in 0..2 {
        let error = source.fetch(Reason::Expired).await.unwrap_err();
        assert!(error.is_denied() && !error.is_invalid_grant(), "{error}");
    }
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn slacks_tokens_are_both_read() {
    let body = json!({
        "ok": true, "access_token": "xoxb", "token_type": "bot", "scope": "chat:write,files:read",
        "expires_in": 43200, "refresh_token": "xoxe-bot", "team": {"id": "T1"},
        "authed_user": {
            "id": "U1", "access_token": "xoxp", "token_type": "user", "scope": "search:read",
            "expires_in": 600, "refresh_token": "xoxe-user",
        },
    });
    let slack = format()
        .success_value("/ok", true)
        .unwrap()
        .comma_separated_scope();
    let bot = slack.clone().accept_token_type("bot").unwrap();
    let token = read_json(bot, body.clone()).await.unwrap();
    assert_eq!(
        (token.secret(), token.scope()),
        ("xoxb", Some("chat:write files:read"))
    );
    assert_eq!(token.extra("team"), Some(&json!({"id": "T1"})));
    assert_eq!(token.extra("access_token"), None);
    assert_eq!(token.extra("authed_user").unwrap()["access_token"], "xoxp");

    let user = slack
        .accept_token_type("user")
        .and_then(|it| it.access_token_field("/authed_user/access_token"))
        .and_then(|it| it.refresh_token_field("/authed_user/refresh_token"))
        .and_then(|it| it.expires_in_field("/authed_user/expires_in"))
        .and_then(|it| it.token_type_field("/authed_user/token_type"))
        .and_then(|it| it.scope_field("/authed_user/scope"))
        .unwrap();
    let token = read_json(user, body).await.unwrap();
    assert_eq!((token.secret(), &*expiry(&token)), ("xoxp", "In(600s)"));
    let rest = json!({"id": "U1", "token_type": "user", "expires_in": 600});
    assert_eq!(token.extra("authed_user"), Some(&rest));
}

/// Slack's bot token and user token are in different fields of a response.
#[cfg(feature = "fleet")]
#[test]
fn sources_that_read_other_tokens_do_not_share_one() {
    let server = server(ScriptedResponse::stall());
    let key = |format| {
        let source = ClientCredentials::with_client(client(&server, format));
        source.store_key().unwrap().to_text()
    };
    let user = format().access_token_field("/authed_user/access_token");
    assert_ne!(key(user.unwrap()), key(format()));
    assert_eq!(key(format().comma_separated_scope()), key(format()));
}

/// Slack returns a refreshed user token at the top level.
#[tokio::test]
async fn a_refresh_may_have_another_format_than_the_login() {
    let body = json!({"access_token": "xoxp", "refresh_token": "xoxe", "token_type": "user"});
    let server = server(ScriptedResponse::json(200, body));
    let login = format().access_token_field("/authed_user/access_token");
    let refresh = format().accept_token_type("user").unwrap();
    let source = RefreshToken::new(client(&server, login.unwrap()), "r").response_format(refresh);
    assert_eq!(source.fetch(Reason::First).await.unwrap().secret(), "xoxp");
}

async fn refused(status: u16, body: Value) -> Error {
    let response = ScriptedResponse::json(status, body);
    read(format(), response).await.unwrap_err()
}

#[tokio::test]
async fn an_unknown_refusal_says_what_the_server_said() {
    for (body, said) in [
        (
            json!({"error_code": "refresh_token_not_found", "msg": "Not Found", "code": 400}),
            &["error_code: refresh_token_not_found", "msg: Not Found"][..],
        ),
        (
            json!({"message": "Bad credentials", "status": "401"}),
            &["message: Bad credentials"],
        ),
        (
            json!({"type": "about:blank", "title": "Forbidden", "status": 400, "detail": "no seat"}),
            &["title: Forbidden", "detail: no seat"],
        ),
        (
            json!({"error": {"message": "Invalid token", "type": "OAuthException", "code": 190}}),
            &[
                "message: Invalid token",
                "type: OAuthException",
                "code: 190",
            ],
        ),
        (
            json!({"errors": [{"code": "E1", "message": "no tenant"}, "second"]}),
            &["code: E1", "message: no tenant", "errors: second"],
        ),
        (
            json!({"errors": {"Password": ["too short"]}}),
            &["Password: too short"],
        ),
        (
            json!({"detail": [{"msg": "field required"}]}),
            &["msg: field required"],
        ),
        (
            json!({"errorCode": "E0000011", "errorSummary": "Invalid token provided"}),
            &[
                "errorCode: E0000011",
                "errorSummary: Invalid token provided",
            ],
        ),
        (
            json!({"__type": "NotAuthorizedException", "message": "Refresh Token has expired"}),
            &[
                "__type: NotAuthorizedException",
                "message: Refresh Token has expired",
            ],
        ),
        (
            json!({"fault": {"faultstring": "quota"}}),
            &["faultstring: quota"],
        ),
        (
            json!({"non_field_errors": ["wrong"]}),
            &["non_field_errors: wrong"],
        ),
        // The fields of RFC 6749 come first.
        (
            json!({"error": "odd", "error_description": "why", "hint": "try again"}),
            &["error `odd`: why; hint: try again)"],
        ),
        (
            json!({"error": "invalid_grant", "suberror": "bad_token"}),
            &["suberror: bad_token"],
        ),
    ] {
        let error = refused(400, body.clone()).await;
        assert!(error.is_denied(), "{error}");
        for said in said {
            assert!(error.to_string().contains(said), "{body}: {error}");
        }
        let code = body["error"].as_str();
        assert_eq!(error.code(), code, "{error}");
    }
}

/// Some servers refuse with a 200 and with fields that no RFC defines.
#[tokio::test]
async fn a_response_without_a_token_says_what_the_server_said() {
    let error = refused(200, json!({"errcode": 40013, "errmsg": "invalid appid"})).await;
    assert!(error.is_reply(), "{error}");
    assert!(error.to_string().contains("no `access_token`"), "{error}");
    assert!(
        error.to_string().contains("errmsg: invalid appid"),
        "{error}"
    );
    // A response with an access token isn't a refusal, so the error doesn't quote `message`.
    let body = json!({"access_token": "t", "expires_in": "soon", "message": "hello"});
    assert!(!refused(200, body).await.to_string().contains("hello"));
}

#[tokio::test]
async fn what_a_refusal_says_is_bounded_clean_and_shows_no_secret() {
    let long = "x".repeat(10_000);
    let many: Vec<Value> = (0..1000)
        .map(|n| json!({"message": format!("m{n}")}))
        .collect();
    let deep = (0..100).fold(
        json!({"message": "deep"}),
        |inner, _| json!({"error": inner}),
    );
    for body in [
        json!({"message": long}),
        json!({"errors": many}),
        json!({"message": {"message": long}, "errors": {"a": [long]}}),
        deep,
    ] {
        let error = refused(400, body).await;
        assert!(error.to_string().len() < 400, "{error}");
    }
    let body = json!({
        "message": format!("a\nb {SECRET}"),
        "errors": {SECRET: [SECRET]},
        "access_token": "issued-in-a-refusal",
        "hint": "got issued-in-a-refusal",
        "user": {"message": "of-a-user"},
        "token": "unknown-1",
        "password": "unknown-2",
        "input": ["unknown-3"],
    });
    let text = all_text_of(&refused(400, body).await);
    for hidden in [SECRET, "issued-in", "of-a-user", "unknown", "a\nb"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
    assert!(text.contains("a b [redacted]"), "{text}");
}

/// A field such as `access_token` contains a token even if the format names another field.
#[tokio::test]
async fn a_refusal_shows_no_token_from_another_place() {
    let format = format().access_token_field("/data/token").unwrap();
    let body = json!({
        "access_token": "planted-1", "refresh_token": "planted-2", "id_token": "planted-3",
        "message": "planted-1 planted-2 planted-3",
    });
    let response = ScriptedResponse::json(400, body);
    let text = all_text_of(&read(format, response).await.unwrap_err());
    assert!(
        text.contains("[redacted]") && !text.contains("planted"),
        "{text}"
    );
}

#[tokio::test]
async fn a_text_that_is_said_twice_is_shown_once() {
    let body = json!({"error": "odd", "error_description": "why", "message": "why", "hint": "why"});
    let error = refused(400, body).await.to_string();
    assert_eq!(error.matches("why").count(), 1, "{error}");
}

/// The format also applies to the refusals of the revocation endpoint.
#[tokio::test]
async fn a_revocation_that_says_it_failed_is_an_error() {
    let server = server(ScriptedResponse::json(
        200,
        json!({"ok": false, "error": "odd"}),
    ));
    let format = format().success_value("/ok", true).unwrap();
    let client = client(&server, format).revoke_at(URL).unwrap();
    let source = ClientCredentials::with_client(client);
    let error = source
        .close(Some(Token::bearer("t").unwrap()))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("odd"));
}

/// The device flow of a server that sends forms.
#[tokio::test(start_paused = true)]
async fn a_login_on_another_device_reads_forms_too() {
    let server = ScriptedServer::new(|_| {
        form("access_token=t&refresh_token=r&token_type=bearer&id_token=id")
    });
    server.respond_next(form(
        "device_code=d&user_code=WDJB-MJHT&expires_in=900&interval=5\
         &verification_uri=https%3A%2F%2Fid.example.com%2Fdevice",
    ));
    server.respond_next(form("error=authorization_pending"));
    let client = client(&server, format().form_encoded());
    let login = DeviceAuthorization::new(client, "https://id.example.com/code").unwrap();
    let prompt = login.begin().await.unwrap();
    assert_eq!(prompt.user_code(), "WDJB-MJHT");
    let source = login.finish(prompt).await.unwrap();
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!((token.secret(), token.id_token()), ("t", Some("id")));

    server.respond_next(form("device_code=d&device_code=e&user_code=u"));
    let error = login.begin().await.unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
}

/// The field is nested deeper than `serde_json` allows.
#[tokio::test]
async fn a_deep_field_does_no_harm() {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let body = format!(r#"{{"deep":{deep},"access_token":"t","shallow":1}}"#);
    let token = read(format(), ScriptedResponse::json(200, body))
        .await
        .unwrap();
    assert_eq!(token.extra("shallow"), Some(&json!(1)));
}

/// Some servers send Latin-1, or cut a name in the middle of a surrogate pair.
#[tokio::test]
async fn a_text_that_is_not_unicode_does_not_hide_the_other_fields() {
    let odd_texts = [
        b"J\xf6rg".as_slice(),
        br"Ann \ud83d",
        br"\ude00\ud83d\ud83d\ude00\\ud83d",
    ];
    for odd in odd_texts {
        let with = |before: &str| [before.as_bytes(), b"\"", odd, b"\"}"].concat();
        let body = with(r#"{"access_token":"t\ud83d\ude00","access_token":"t","name":"#);
        let error = read(format(), ScriptedResponse::new(200).body(body)).await;
        assert!(error.unwrap_err().to_string().contains("twice"));

        let body = with(r#"{"access_token":"t","expires_in":60,"name":"#);
        let token = read(format(), ScriptedResponse::new(200).body(body));
        let token = token.await.unwrap();
        assert_eq!((token.secret(), &*expiry(&token)), ("t", "In(60s)"));
        let name = token.extra("name").and_then(Value::as_str).unwrap();
        assert!(name.contains('\u{fffd}'), "{name}");

        let body = with(r#"{"error":"invalid_grant","error_description":"#);
        let error = read(format(), ScriptedResponse::new(400).body(body)).await;
        let error = error.unwrap_err();
        assert!(error.is_invalid_grant(), "{error}");
        assert!(error.description().is_some(), "{error:?}");

        // A changed token is useless.
        for before in [
            r#"{"access_token":"#,
            r#"{"access_token":"t","refresh_token":"#,
        ] {
            let response = ScriptedResponse::new(200).body(with(before));
            let error = read(format(), response).await.unwrap_err();
            assert!(error.to_string().contains("not valid JSON"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_form_may_have_byte_order_marks_and_parameters_without_a_value() {
    for body in [
        "\u{feff}access_token=t&expires_in=60",
        "\u{feff}\r\n\u{feff}access_token=t&expires_in=60&token_type=",
        "access_token=t&expires_in=60&scope=&token_type=&refresh_token=&id_token=&error=",
        "access_token=t&expires_in=60&name=J\u{f6}rg+J",
    ] {
        let token = read(format().form_encoded(), form(body)).await.unwrap();
        assert_eq!((token.secret(), &*expiry(&token)), ("t", "In(60s)"));
        assert_eq!(token.id_token(), None);
    }
    let body = "access_token=t&expires_in=";
    let token = read(format().form_encoded(), form(body)).await.unwrap();
    assert_eq!(expiry(&token), "In(3600s)");
    let json = "\u{feff}\u{feff}{\"access_token\":\"t\"}";
    assert!(
        read(format(), ScriptedResponse::json(200, json))
            .await
            .is_ok()
    );
}

/// A server with forms may refuse in JSON with another content type.
#[tokio::test]
async fn a_client_that_expects_a_form_reads_json_that_is_not_called_a_form() {
    let refusal = json!({"error": "invalid_grant", "error_description": "gone"}).to_string();
    for content_type in ["text/javascript; charset=UTF-8", "text/plain", "text/html"] {
        let response = ScriptedResponse::new(400).header("content-type", content_type);
        let error = read(format().form_encoded(), response.body(refusal.clone())).await;
        let error = error.unwrap_err();
        assert!(error.is_invalid_grant(), "{content_type}: {error}");
        assert_eq!(error.description(), Some("gone"));
    }
    let response = ScriptedResponse::new(400).body(refusal);
    let error = read(format().form_encoded(), response).await.unwrap_err();
    assert!(error.is_invalid_grant(), "{error}");
}

#[tokio::test]
async fn a_failure_counts_even_if_a_success_is_said_too() {
    let slack = format().success_value("/ok", true).unwrap();
    for body in [
        r#"{"ok":false,"ok":true,"access_token":"t"}"#,
        r#"{"ok":true,"ok":false,"access_token":"t"}"#,
    ] {
        let error = read(slack.clone(), ScriptedResponse::json(200, body)).await;
        assert!(error.unwrap_err().is_denied(), "{body}");
    }
    let named = format().success_value("/error", "").unwrap();
    let failed = json!({"error": {"code": 7}, "access_token": "t"});
    let error = read_json(named.clone(), failed).await.unwrap_err();
    assert!(error.is_denied(), "{error}");
    assert!(
        read_json(named, json!({"error": "", "access_token": "t"}))
            .await
            .is_ok()
    );
}

/// Supabase has sent both kinds of refusals.
#[tokio::test]
async fn a_registered_code_counts_beside_another_field_for_codes() {
    let format = format().error_code_field("/error_code").unwrap();
    for status in [200, 400] {
        let body = json!({"error": "invalid_grant", "access_token": "t"});
        let error = read(format.clone(), ScriptedResponse::json(status, body)).await;
        let error = error.unwrap_err();
        assert!(error.is_invalid_grant(), "{status}: {error}");
        assert_eq!(error.code(), Some("invalid_grant"));
    }
    let body = json!({"error_code": "own", "error": "invalid_grant"});
    let error = read(format.clone(), ScriptedResponse::json(400, body)).await;
    assert_eq!(error.unwrap_err().code(), Some("own"));
    // Another text may say anything.
    let body = json!({"error": "none", "access_token": "t"});
    assert!(read_json(format, body).await.is_ok());
}

#[tokio::test]
async fn a_number_may_require_a_login() {
    let format = format().login_required_code("40029");
    for status in [200, 400] {
        let response = ScriptedResponse::json(status, json!({"error": 40029}));
        let error = read(format.clone(), response).await.unwrap_err();
        assert!(error.is_invalid_grant(), "{status}: {error}");
        assert_eq!(error.code(), Some("40029"));
    }
}
