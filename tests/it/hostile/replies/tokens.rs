//! Any reply of a token endpoint, and any token of a source. No token is invented.

use http::HeaderName;
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use tower_auth::{Error, Token};

use super::{SECRET, any_header, any_status, outcome};
use crate::support::token_server::{TokenServer, all_text_of};

const TOKEN: &str = "planted-access-token";

const FIELDS: [&str; 6] = [
    "access_token",
    "token_type",
    "expires_in",
    "scope",
    "error",
    "error_description",
];

/// Returns whether the text arrives unchanged in a header (RFC 9110 §5.5).
fn is_legal(token: &str) -> bool {
    let is_field_char = |byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    !token.is_empty() && token.trim() == token && token.bytes().all(is_field_char)
}

/// Fails if the result is a token that `body` doesn't contain. Also fails if a token came with an
/// error status.
fn no_token_is_made_up(
    result: &Result<Token, Error>,
    status: u16,
    body: &[u8],
) -> Result<(), TestCaseError> {
    let Ok(token) = result else { return Ok(()) };
    prop_assert!((200..300).contains(&status), "{}", status);
    // Fields that aren't read may contain invalid UTF-8, which is replaced here.
    let text = String::from_utf8_lossy(body);
    let response: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap();
    prop_assert_eq!(&response["access_token"], token.secret());
    prop_assert!(is_legal(token.secret()), "{:?}", token.secret());
    Ok(())
}

/// Fails if any text of the error contains a secret. Also fails if quoted text is too long or
/// contains control characters.
fn nothing_is_told(result: &Result<Token, Error>, secrets: &[&str]) -> Result<(), TestCaseError> {
    let Err(error) = result else { return Ok(()) };
    let text = all_text_of(error);
    for secret in secrets {
        prop_assert!(!text.contains(secret), "{} in {}", secret, text);
    }
    for quoted in [error.code(), error.description()].into_iter().flatten() {
        prop_assert!(
            quoted.len() <= 256 && !quoted.contains(char::is_control),
            "{:?}",
            quoted
        );
        prop_assert!(text.contains(quoted), "{:?} isn't in {}", quoted, text);
    }
    Ok(())
}

/// Generates any value, often with a planted secret.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
        "[+-]?[0-9]{0,22}([.][0-9]{1,3})?(e[0-9]{1,3})?".prop_map(Value::from),
        Just(json!("Bearer")),
        Just(json!(TOKEN)),
        Just(json!(SECRET)),
        echo().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            hash_map(".{0,8}", inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

/// Generates any text, including control characters and all kinds of white space.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[ -~]{1,8}",
        2 => any::<char>().prop_map(String::from),
        1 => "[ \t\r\n\u{0}\u{b}\u{7f}\u{85}\u{a0}\u{2028}\u{3000}]{1,2}",
        1 => Just(String::from(TOKEN)),
    ];
    vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

/// Generates text that contains both secrets. The secrets are in clear, or appear only when the
/// text is sanitized.
fn echo() -> impl Strategy<Value = String> {
    let spelled = |secret: &'static str| {
        prop_oneof![
            3 => Just(secret.to_owned()),
            1 => select(vec!["\n", "\u{7}", "\u{85}", "\u{202e}", "\u{2028}"])
                .prop_map(|space| secret.replace(' ', space)),
            1 => Just(form_urlencoded::byte_serialize(secret.as_bytes()).collect()),
        ]
    };
    let text = || prop_oneof![3 => ".{0,12}", 1 => ".{0,300}"];
    (text(), spelled(SECRET), text(), spelled(TOKEN), text())
        .prop_map(|(a, secret, b, token, c)| [a, secret, b, token, c].concat())
}

/// Generates the fields of a response, mostly fields that the crate reads. `access_token` is the
/// planted token or any value.
fn any_fields() -> impl Strategy<Value = serde_json::Map<String, Value>> {
    let name = prop_oneof![
        5 => select(FIELDS.to_vec()).prop_map(String::from),
        1 => ".{0,8}",
    ];
    let access_token = prop_oneof![
        2 => Just(json!(TOKEN)),
        1 => any_text().prop_map(Value::from),
        1 => any_value(),
    ];
    let echoes = hash_map(select(vec!["error", "error_description"]), echo(), 0..3);
    let others = hash_map(name, any_value(), 0..6);
    (others, echoes, access_token).prop_map(|(mut fields, echoes, access_token)| {
        for (name, text) in echoes {
            fields.insert(name.to_owned(), text.into());
        }
        fields.insert("access_token".to_owned(), access_token);
        fields.into_iter().collect()
    })
}

/// How a response is damaged on its way.
#[derive(Clone, Debug)]
enum Damage {
    Truncated(Index),
    Flipped {
        at: Index,
        bit: u8,
    },
    /// A field occurs twice. The copy is at the front or the end, and its name may contain an
    /// escape.
    Twice {
        field: &'static str,
        value: Value,
        is_first: bool,
        is_escaped: bool,
    },
}

fn any_damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<Index>().prop_map(Damage::Truncated),
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Flipped { at, bit }),
        (
            select(FIELDS.to_vec()),
            any_value(),
            any::<bool>(),
            any::<bool>()
        )
            .prop_map(|(field, value, is_first, is_escaped)| Damage::Twice {
                field,
                value,
                is_first,
                is_escaped,
            }),
    ]
}

impl Damage {
    /// Applies the damage. `body` is a non-empty object without white space around it.
    fn done_to(&self, body: &str) -> Vec<u8> {
        let mut bytes = body.as_bytes().to_vec();
        match self {
            Self::Truncated(at) => bytes.truncate(at.index(bytes.len())),
            Self::Flipped { at, bit } => bytes[at.index(body.len())] ^= 1 << bit,
            Self::Twice {
                field,
                value,
                is_first,
                is_escaped,
            } => {
                let name = if *is_escaped {
                    field.replacen('e', "\\u0065", 1)
                } else {
                    (*field).to_owned()
                };
                let inside = &body[1..body.len() - 1];
                bytes = if *is_first {
                    format!("{{\"{name}\":{value},{inside}}}")
                } else {
                    format!("{{{inside},\"{name}\":{value}}}")
                }
                .into();
            }
        }
        bytes
    }

    /// Returns whether the result can't be a token response. A flipped byte may leave a valid
    /// response.
    fn is_fatal(&self) -> bool {
        !matches!(self, Self::Flipped { .. })
    }
}

/// Generates a response with a token and all fields that the crate reads.
fn valid_response() -> impl Strategy<Value = Value> {
    (
        select(vec![json!(60), json!("3600"), json!(null)]),
        ".{0,8}",
    )
        .prop_map(|(expires_in, text)| {
            json!({
                "access_token": TOKEN,
                "token_type": "Bearer",
                "expires_in": expires_in,
                "scope": "read write",
                "error": null,
                "error_description": format!("{text}{SECRET}{text}"),
                "refresh_token": "planted-refresh-token",
                text: "planted in a member that is not read",
            })
        })
}

/// Returns whether this value of `error` makes a response a refusal.
fn is_error(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_error_or_the_token_that_they_hold(
        status in any_status(),
        around in [vec(any::<u8>(), 0..200), vec(any::<u8>(), 0..200)],
        is_planted: bool,
        retry_after in any_header(),
        content_type in any_header(),
    ) {
        let planted = format!("{SECRET}{TOKEN}");
        let [before, after] = around;
        let body = if is_planted { [&before, planted.as_bytes(), &after].concat() } else { before };
        let server = TokenServer::new(status, body.clone())
            .with_header("retry-after", retry_after)
            .with_header("content-type", content_type);
        let result = outcome(&server);
        no_token_is_made_up(&result, status, &body)?;
        nothing_is_told(&result, &[SECRET, TOKEN])?;
    }

    #[test]
    fn any_fields_are_an_error_or_the_token_that_they_hold(
        status in any_status(),
        fields in any_fields(),
        content_type in any_header(),
    ) {
        let body = Value::from(fields.clone()).to_string();
        let server = TokenServer::new(status, body.clone())
            .with_header("content-type", content_type)
            .with_header("location", format!("https://evil.example.com/?{SECRET}"));
        let result = outcome(&server);
        no_token_is_made_up(&result, status, body.as_bytes())?;
        // `TOKEN` is a secret only if the server issued it. Otherwise `error_description` may
        // repeat it.
        let access_token = fields["access_token"].as_str();
        let secrets = [SECRET, TOKEN];
        let is_known = access_token == Some(TOKEN);
        nothing_is_told(&result, if is_known { &secrets } else { &secrets[..1] })?;

        // A response with a valid token always yields a token.
        let is_nothing = |name| fields.get(name).is_none_or(Value::is_null);
        let kind = fields.get("token_type").and_then(Value::as_str);
        let is_bearer = kind.is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        let is_plain = (is_nothing("token_type") || is_bearer)
            && (is_nothing("expires_in") || fields["expires_in"].is_number())
            && !fields.get("error").is_some_and(is_error);
        if (200..300).contains(&status) && access_token.is_some_and(is_legal) && is_plain {
            prop_assert!(result.is_ok(), "{:?}", result);
        }
        if result.is_ok() {
            prop_assert!(is_nothing("token_type") || is_bearer);
        }
    }

    #[test]
    fn a_response_that_was_damaged_is_an_error_or_the_token_that_it_holds(
        status in any_status(),
        response in valid_response(),
        damage in any_damage(),
    ) {
        let response = response.to_string();
        let body = damage.done_to(&response);
        let result = outcome(&TokenServer::new(status, body.clone()));
        no_token_is_made_up(&result, status, &body)?;
        nothing_is_told(&result, &[SECRET, "planted-refresh-token", "planted in a member"])?;
        if damage.is_fatal() {
            prop_assert!(result.is_err(), "{}", String::from_utf8_lossy(&body));
        }
        let whole = outcome(&TokenServer::new(200, response)).unwrap();
        prop_assert_eq!(whole.secret(), TOKEN);
    }

    #[test]
    fn a_token_is_what_it_was_made_of_or_is_refused(text in any_text()) {
        let name = HeaderName::from_static("x-api-key");
        for (made, scheme) in [
            (Token::bearer(text.clone()), "Bearer "),
            (Token::header(name, text.clone()), ""),
        ] {
            prop_assert_eq!(made.is_ok(), is_legal(&text), "{:?}: {:?}", text, made);
            match made {
                Ok(token) => {
                    prop_assert_eq!(token.secret(), &text);
                    let sent = token.header_value().unwrap();
                    let expected = format!("{scheme}{text}");
                    prop_assert_eq!(sent.as_bytes(), expected.as_bytes());
                    prop_assert!(sent.is_sensitive());
                    let shown = format!("{token:?}");
                    prop_assert!(!shown.contains(TOKEN), "{}", shown);
                }
                Err(error) => {
                    prop_assert!(error.is_illegal_token(), "{}", error);
                    nothing_is_told(&Err(error), &[TOKEN])?;
                }
            }
        }
    }
}

/// A parser that recurses for each level would overflow the stack.
#[test]
fn a_field_that_is_not_read_may_be_nested_as_deep_as_a_response_is_long() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let depth = 63 * 1024 / (open.len() + close.len());
        let value = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        for name in ["scope", "error_description", "another"] {
            let body = format!("{{\"access_token\":\"{TOKEN}\",\"{name}\":{value}}}");
            let token = outcome(&TokenServer::new(200, body)).unwrap();
            assert_eq!((token.secret(), token.scope()), (TOKEN, None));
        }
        let body = format!("{{\"access_token\":\"{TOKEN}\",\"error\":{value}}}");
        assert!(
            outcome(&TokenServer::new(200, body))
                .unwrap_err()
                .is_denied()
        );
        let body = format!("{{\"access_token\":{value}}}");
        assert!(
            outcome(&TokenServer::new(200, body))
                .unwrap_err()
                .is_reply()
        );
    }
}
