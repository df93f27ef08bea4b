//! How a token response is read. No error shows a secret from it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Error, Reason, TokenSource};

use crate::support::token_server::{ID, SECRET, TokenServer, URL, all_text_of, expiry, fetch};

async fn issued(response: Value) -> Result<tower_auth::Token, Error> {
    fetch(200, response.to_string()).await
}

#[tokio::test]
async fn bearer_is_read_in_any_case_and_may_be_left_out() {
    for kind in [
        json!("Bearer"),
        json!("bearer"),
        json!("BEARER"),
        json!(null),
    ] {
        let token = issued(json!({"access_token": "t", "token_type": kind}))
            .await
            .unwrap();
        assert_eq!(token.header_value().unwrap(), "Bearer t");
    }
    assert!(issued(json!({"access_token": "t"})).await.is_ok());
    for kind in [json!("DPoP"), json!("mac"), json!(""), json!(1), json!({})] {
        let error = issued(json!({"access_token": "t", "token_type": kind}))
            .await
            .unwrap_err();
        assert!(
            error.is_reply() && error.to_string().contains("`token_type`"),
            "{error}"
        );
    }
}

/// serde_json rejects a number that is too large for an `f64`, wherever it is.
#[tokio::test]
async fn a_number_that_is_too_large_makes_no_response_unreadable() {
    let digits = "9".repeat(400);
    for number in [
        "1e999",
        "-1e999",
        "1E+400",
        "2e308",
        "1.5e99999999999999999999",
        &digits,
    ] {
        for field in [
            format!(r#""limit":{number}"#),
            format!(r#""limit": {number} "#),
            format!(r#""limits":[1,{number},{{"a":{number}}}]"#),
            format!(r#""text":"a\"{number}","limit":{number}"#),
            format!(r#""text":"\\","limit":{number}"#),
            format!(r#""text":"{}","limit":{number}"#, '\u{e9}'),
        ] {
            for body in [
                format!(r#"{{"access_token":"a1e999","expires_in":60,{field}}}"#),
                format!(r#"{{{field},"access_token":"a1e999","expires_in":60}}"#),
            ] {
                let token = fetch(200, body).await.expect(&field);
                assert_eq!((token.secret(), &*expiry(&token)), ("a1e999", "In(60s)"));
                if let Some(text) = token.extra("text") {
                    assert!(!text.as_str().unwrap().contains("1e308"), "{text}");
                }
            }
        }
        let body = format!(r#"{{"error":"invalid_grant","limit":{number}}}"#);
        let error = fetch(400, body).await.unwrap_err();
        assert_eq!(error.code(), Some("invalid_grant"));
        let body = format!(r#"{{"access_token":"t","expires_in":{number}}}"#);
        let expected = match number.starts_with('-') {
            true => "In(0ns)",
            false => "In(315360000s)",
        };
        assert_eq!(expiry(&fetch(200, body).await.unwrap()), expected);
    }
    for number in ["1e999x", "1e", "1e9.9", "--1e999", "+1e999", "e999"] {
        let body = format!(r#"{{"access_token":"t","limit":{number}}}"#);
        let error = fetch(200, body).await.unwrap_err();
        assert!(error.to_string().contains("is not valid JSON"), "{error}");
    }
}

#[tokio::test]
async fn expires_in_is_a_number_or_a_text_that_is_one() {
    for (expires_in, expected) in [
        (json!(3600), "In(3600s)"),
        (json!(3600.9), "In(3600s)"),
        (json!("3600"), "In(3600s)"),
        (json!(" 3600 "), "In(3600s)"),
        (json!("59.9"), "In(59s)"),
        (json!(0), "In(0ns)"),
        (json!(-5), "In(0ns)"),
        (json!("-5"), "In(0ns)"),
        (json!(u64::MAX), "In(315360000s)"),
        (json!(1e300), "In(315360000s)"),
        (json!("1e999"), "In(315360000s)"),
        (json!(null), "In(3600s)"),
    ] {
        let response = json!({"access_token": "t", "expires_in": expires_in});
        assert_eq!(
            expiry(&issued(response).await.unwrap()),
            expected,
            "{expires_in}"
        );
    }
    for expires_in in [
        json!(false),
        json!({}),
        json!([60]),
        json!("soon"),
        json!(""),
        json!("inf"),
    ] {
        let error = issued(json!({"access_token": "t", "expires_in": expires_in})).await;
        let error = error.map(|_| expires_in).unwrap_err();
        assert!(error.is_reply(), "{error}");
        assert!(error.to_string().contains("`expires_in`"), "{error}");
    }
}

#[tokio::test]
async fn the_access_token_is_a_text_and_not_empty() {
    for response in [
        json!({}),
        json!({"access_token": null}),
        json!({"access_token": ""}),
        json!({"access_token": 5}),
        json!({"access_token": {"value": "t"}}),
    ] {
        let error = issued(response.clone())
            .await
            .map(|_| response)
            .unwrap_err();
        assert!(
            error.is_reply() && error.to_string().contains("`access_token`"),
            "{error}"
        );
        assert_eq!(error.status().unwrap(), 200);
    }
    let error = issued(json!({"access_token": "two\nlines"}))
        .await
        .unwrap_err();
    assert!(error.is_illegal_token(), "{error}");
}

#[tokio::test]
async fn unknown_fields_a_byte_order_mark_and_white_space_do_no_harm() {
    let body = "\u{feff} \r\n{\"x\":{\"access_token\":1},\"access_token\":\"a\\/b\",\"y\":[[]]}\n";
    assert_eq!(fetch(200, body).await.unwrap().secret(), "a/b");
    assert!(fetch(201, body).await.is_ok());
}

#[tokio::test]
async fn a_field_that_occurs_twice_is_refused() {
    let body = r#"{"access_token":"one-token","access_token":"two-token"}"#;
    let error = fetch(200, body).await.unwrap_err();
    assert!(
        error.is_reply() && error.to_string().contains("twice"),
        "{error}"
    );
    // Fields may be duplicated if they aren't read.
    assert!(
        fetch(200, r#"{"access_token":"t","x":1,"x":2}"#)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn the_scope_is_the_granted_one_or_else_the_requested() {
    for (scope, expected) in [
        (json!("read"), Some("read")),
        (json!(""), Some("read write")),
        (json!(null), Some("read write")),
        (json!(["read"]), None),
    ] {
        let response = json!({"access_token": "t", "scope": scope}).to_string();
        let source = TokenServer::new(200, response)
            .client()
            .scope(" read  write ");
        let token = source.fetch(Reason::First).await.unwrap();
        assert_eq!(token.scope(), expected, "{scope}");
    }
    assert_eq!(
        issued(json!({"access_token": "t"})).await.unwrap().scope(),
        None
    );
}

fn jwt(claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(claims))
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

async fn expiry_of_jwt(claims: Value) -> String {
    expiry(&issued(json!({"access_token": jwt(&claims)})).await.unwrap())
}

#[tokio::test]
async fn a_jwt_tells_its_lifetime_when_the_server_does_not() {
    // Both times are by the server's clock. So the server's difference from the local clock doesn't
    // matter.
    for iat in [1_000_000, now() + 1_000_000] {
        assert_eq!(
            expiry_of_jwt(json!({"iat": iat, "exp": iat + 900})).await,
            "In(900s)"
        );
    }
    let at = UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    assert_eq!(
        expiry_of_jwt(json!({"exp": 4_000_000_000_u64})).await,
        format!("At({at:?})")
    );
}

#[tokio::test]
async fn a_jwt_that_was_issued_a_while_ago_has_less_left() {
    let claims = json!({"iat": now() - 3000, "exp": now() + 600});
    let text = expiry_of_jwt(claims).await;
    let seconds = text
        .trim_start_matches("In(")
        .trim_end_matches("s)")
        .parse::<f64>();
    assert!(
        seconds
            .as_ref()
            .is_ok_and(|left| (500.0..=600.0).contains(left)),
        "{text}"
    );
}

#[tokio::test]
async fn expires_in_within_the_jwts_lifetime_counts_and_the_jwt_beats_the_assumption() {
    let token = jwt(&json!({"iat": 1000, "exp": 1900}));
    let response = json!({"access_token": token, "expires_in": 60});
    assert_eq!(expiry(&issued(response).await.unwrap()), "In(60s)");

    let assuming = |token: &str| {
        let response = json!({"access_token": token}).to_string();
        TokenServer::new(200, response)
            .client()
            .assume_lifetime(Duration::from_secs(7))
    };
    let token = assuming(&token).fetch(Reason::First).await.unwrap();
    assert_eq!(expiry(&token), "In(900s)");
    let nonsense = [
        "opaque".to_owned(),
        "a.b.c".to_owned(),
        jwt(&json!({"sub": "me"})),
        jwt(&json!({"exp": "soon"})),
        jwt(&json!({"exp": -1})),
        jwt(&json!({"exp": 1e300})),
        jwt(&json!({"iat": 2000, "exp": 1000})),
        format!("{}.four", jwt(&json!({"exp": 4_000_000_000_u64}))),
    ];
    for token in nonsense {
        let token = assuming(&token).fetch(Reason::First).await.unwrap();
        assert_eq!(expiry(&token), "In(7s)", "{}", token.secret());
    }
}

#[tokio::test]
async fn a_refusal_is_told_as_the_server_told_it() {
    let body = r#"{"error":"invalid_client","error_description":"unknown client","error_uri":"x"}"#;
    for status in [400, 401, 500, 200] {
        let error = fetch(status, body).await.unwrap_err();
        assert!(error.is_denied() && error.is_invalid_client(), "{error}");
        assert_eq!(error.status().unwrap(), status);
        assert_eq!(error.description(), Some("unknown client"));
        assert!(
            error.to_string().contains("check the id and the secret"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_refusal_may_have_any_body_or_none() {
    for body in [
        "",
        "<html>Bad gateway</html>",
        "[1]",
        "{\"error\":{\"code\":7}}",
        "\"x\"",
        "\u{1}",
    ] {
        for status in [400, 403, 429, 502] {
            let error = fetch(status, body).await.unwrap_err();
            assert!(error.is_denied(), "{error}");
            assert_eq!(error.status().unwrap(), status);
            assert_eq!(error.code(), None);
            assert!(!error.to_string().contains("html"));
        }
    }
}

#[tokio::test]
async fn a_token_next_to_an_error_is_a_refusal() {
    for (error, code) in [
        (json!("invalid_client"), Some("invalid_client")),
        (json!("odd"), Some("odd")),
        (json!({"code": 7}), None),
        (json!(["odd"]), None),
        (json!(true), None),
        (json!(7), None),
    ] {
        let body = json!({"access_token": "planted", "error": error, "error_description": "no"});
        let error = issued(body.clone()).await.map(|_| body).unwrap_err();
        assert!(error.is_denied() && error.is_permanent(), "{error}");
        assert_eq!(error.status().unwrap(), 200);
        assert_eq!((error.code(), error.description()), (code, Some("no")));
    }
    let body = json!({"access_token": "t", "error": "temporarily_unavailable"});
    assert!(issued(body).await.unwrap_err().is_transient());
}

#[tokio::test]
async fn a_token_next_to_an_empty_error_is_a_token() {
    for error in [
        json!(null),
        json!(""),
        json!(" "),
        json!(false),
        json!(0),
        json!([]),
        json!({}),
    ] {
        assert!(
            issued(json!({"access_token": "t", "error": error}))
                .await
                .is_ok()
        );
    }
}

#[tokio::test]
async fn a_response_that_is_no_json_object_says_what_it_was() {
    for (body, what) in [
        ("<html>Log in</html>", "not valid JSON"),
        ("", "no body"),
        (" \n", "no body"),
        ("{\"access_token\":\"t\"", "not valid JSON"),
        ("{\"access_token\":\"t\"} x", "not valid JSON"),
        ("[]", "not an object"),
        ("\"hunter22\"", "not an object"),
        ("null", "not an object"),
    ] {
        let server =
            TokenServer::new(200, body).with_header("content-type", "text/html; charset=x");
        let error = server.client().fetch(Reason::First).await.unwrap_err();
        assert!(error.is_reply(), "{error}");
        assert!(error.to_string().contains(what), "{body}: {error}");
        assert!(error.to_string().contains("`text/html`"), "{error}");
        assert!(error.to_string().contains("200"), "{error}");
        assert!(!all_text_of(&error).contains("hunter22"));
    }
}

#[tokio::test]
async fn a_content_type_that_is_none_is_not_repeated() {
    for (content_type, what) in [("text/evil{}", "malformed"), ("hunter22", "[redacted]")] {
        let server = TokenServer::new(200, "<html>").with_header("content-type", content_type);
        let transport = server.transport();
        let source = ClientCredentials::new(URL, ID, "hunter22")
            .unwrap()
            .transport(transport);
        let error = source.fetch(Reason::First).await.unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert!(!all_text_of(&error).contains(content_type), "{error}");
    }
}

async fn retry_after(value: &str) -> Option<Duration> {
    let server = TokenServer::new(429, "").with_header("retry-after", value);
    server
        .client()
        .fetch(Reason::First)
        .await
        .unwrap_err()
        .retry_after()
}

#[tokio::test]
async fn retry_after_is_seconds_or_a_date() {
    let hour = Duration::from_secs(3600);
    assert_eq!(retry_after("120").await, Some(Duration::from_secs(120)));
    assert_eq!(retry_after("0").await, Some(Duration::ZERO));
    assert_eq!(retry_after("86400").await, Some(hour));
    assert_eq!(retry_after("99999999999999999999999999").await, Some(hour));
    assert_eq!(
        retry_after("Sun, 06 Nov 1994 08:49:37 GMT").await,
        Some(Duration::ZERO)
    );
    assert_eq!(
        retry_after("Tue, 31 Dec 2199 23:59:59 GMT").await,
        Some(hour)
    );
    let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(300));
    let wait = retry_after(&soon).await.unwrap().as_secs();
    assert!((200..=300).contains(&wait), "{wait}");
    for nothing in ["", "-1", "1.5", "soon", "+5"] {
        assert_eq!(retry_after(nothing).await, None, "{nothing}");
    }
}

#[tokio::test]
async fn a_secret_that_the_server_echoes_is_redacted() {
    let form = "s3cr3t%2Fof%2Bthe+client";
    let basic = STANDARD.encode(format!("{ID}:{form}"));
    let described =
        format!("bad secret {SECRET} ({form}, Basic {basic}), pin 98765, token leaked-token!");
    let body = json!({
        "error": format!("no:{SECRET}"),
        "error_description": described,
        "access_token": "leaked-token",
    });
    let server = TokenServer::new(401, body.to_string());
    for source in [server.client(), server.client().basic_auth()] {
        let source = source.param("pin", "98765").unwrap();
        let error = source.fetch(Reason::First).await.unwrap_err();
        assert_eq!(error.code(), Some("no:[redacted]"));
        assert_eq!(
            error.description().unwrap(),
            "bad secret [redacted] ([redacted], Basic [redacted]), pin [redacted], token [redacted]!"
        );
        let text = all_text_of(&error);
        for secret in [SECRET, form, &basic, "98765", "leaked-token"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

/// Some servers write the digits of an escape in lower case.
#[tokio::test]
async fn a_secret_is_redacted_whatever_the_case_of_its_escapes() {
    for echo in ["Up%2FDown%3AEnd", "Up%2fDown%3aEnd"] {
        let body = json!({"error": format!("no:{echo}")});
        let source = ClientCredentials::new(URL, ID, "Up/Down:End")
            .unwrap()
            .transport(TokenServer::new(400, body.to_string()).transport());
        let error = source.fetch(Reason::First).await.unwrap_err();
        assert_eq!(error.code(), Some("no:[redacted]"), "{echo}");
    }
}

#[tokio::test]
async fn a_secret_that_is_one_only_when_it_is_cleaned_is_redacted() {
    for space in ["\n", "\u{7}", "\u{85}", "\u{202e}"] {
        let echo = SECRET.replace(' ', space);
        let body = json!({"error": echo, "error_description": format!("no {echo}\n")});
        let error = fetch(400, body.to_string()).await.unwrap_err();
        assert_eq!(error.code(), Some("[redacted]"));
        assert_eq!(error.description(), Some("no [redacted] "));
    }
    // Here the server's text equals the secret only before it is sanitized.
    let transport = TokenServer::new(400, r#"{"error":"no:two\nlines"}"#).transport();
    let source = ClientCredentials::new(URL, ID, "two\nlines")
        .unwrap()
        .transport(transport);
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert_eq!(error.code(), Some("no:[redacted]"));
}

#[tokio::test]
async fn a_registered_code_is_kept_even_if_it_holds_a_parameter() {
    let body = r#"{"error":"invalid_client","error_description":"a client of no kind"}"#;
    let source = TokenServer::new(401, body)
        .client()
        .param("type", "client")
        .unwrap();
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_invalid_client(), "{error}");
    assert_eq!(error.description(), Some("a [redacted] of no kind"));
}

#[tokio::test]
async fn a_long_code_and_description_are_cut_after_the_secret_is_gone() {
    // The cut at 256 bytes falls inside the secret.
    let echo = format!("{}{SECRET}{}", "x".repeat(250), "y".repeat(1000));
    let body = json!({"error": echo.clone(), "error_description": echo}).to_string();
    let error = fetch(400, body).await.unwrap_err();
    for text in [error.code().unwrap(), error.description().unwrap()] {
        assert!(text.len() <= 256, "{text}");
        assert!(!text.contains("s3c"), "{text}");
    }
}

#[tokio::test]
async fn refresh_in_says_when_the_token_is_refreshed_and_is_only_a_hint() {
    for (refresh_in, expected) in [
        (r#"1800"#, "Some(After(1800s))"),
        (r#""1800""#, "Some(After(1800s))"),
        (r#"0"#, "None"),
        (r#"-1"#, "None"),
        (r#""soon""#, "None"),
        (r#"{}"#, "None"),
        (r#"null"#, "None"),
        (r#"1800, "refresh_in": 900"#, "Some(After(900s))"),
    ] {
        let response =
            format!(r#"{{"access_token": "t", "expires_in": 3600, "refresh_in": {refresh_in}}}"#);
        let token = format!("{:?}", fetch(200, response).await.unwrap());
        let hint = format!("refresh_hint: {expected},");
        assert!(token.contains(&hint), "{refresh_in}: {token}");
    }
}
