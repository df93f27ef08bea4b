//! The claims of a token that is a JWT, read without verifying it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::collection::btree_map;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use tower_auth::Token;

use crate::support::token_server::all_text_of;

const ACCOUNT: &str = "https://api.example.com/account_id";

/// Builds a token with these claims, exactly as they are written.
fn token(claims: &str) -> Token {
    let claims = URL_SAFE_NO_PAD.encode(claims);
    Token::bearer(format!("eyJhbGciOiJub25lIn0.{claims}.c2lnbmF0dXJl")).unwrap()
}

fn account(claims: &str) -> Option<String> {
    token(claims).unverified_claim(ACCOUNT).unwrap()
}

#[test]
fn a_claim_is_found_by_its_name_whose_slashes_and_dots_are_part_of_it() {
    let claims = json!({
        "iss": "https://id.example.com",
        ACCOUNT: "acme",
        "https:": {"": {"api.example.com": {"account_id": "a pointer's"}}},
        "account_id": "another",
    });
    assert_eq!(account(&claims.to_string()).as_deref(), Some("acme"));
    assert_eq!(account(r#"{"account_id":"another"}"#), None);
    let escaped = r#"{"https:\/\/api.example.com\/account\u005fid":"a\u0063me"}"#;
    assert_eq!(account(escaped).as_deref(), Some("acme"));
}

#[test]
fn a_claim_is_of_any_type_that_can_be_deserialized() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Role {
        name: String,
        level: u8,
    }
    let token =
        token(r#"{"n":7,"s":"text","list":["a","b"],"role":{"name":"admin","level":3},"exp":1.5}"#);
    assert_eq!(token.unverified_claim("n").unwrap(), Some(7_u64));
    assert_eq!(token.unverified_claim("exp").unwrap(), Some(1.5));
    let list: Option<Vec<String>> = token.unverified_claim("list").unwrap();
    assert_eq!(list.unwrap(), ["a", "b"]);
    let role = Role {
        name: String::from("admin"),
        level: 3,
    };
    assert_eq!(token.unverified_claim("role").unwrap(), Some(role));
    let any: Option<Value> = token.unverified_claim("s").unwrap();
    assert_eq!(any, Some(json!("text")));
}

#[test]
fn a_claim_that_is_absent_or_null_is_none() {
    assert_eq!(account("{}"), None);
    assert_eq!(account(r#"{"sub":"me"}"#), None);
    assert_eq!(account(&json!({ ACCOUNT: null }).to_string()), None);
    let nested = token(&json!({ ACCOUNT: null }).to_string());
    assert_eq!(
        nested.unverified_claim::<Option<u8>>(ACCOUNT).unwrap(),
        None
    );
}

#[test]
fn a_claim_of_another_type_is_an_error_that_names_the_claim_and_not_its_value() {
    for value in [
        json!("s3cret"),
        json!(["s3cret"]),
        json!({"s3cret": 1}),
        json!(-8_675_309),
    ] {
        let token = token(&json!({ ACCOUNT: value, "sub": "me" }).to_string());
        let error = token.unverified_claim::<u64>(ACCOUNT).unwrap_err();
        assert!(error.is_reply(), "{error}");
        let text = all_text_of(&error);
        assert!(text.contains(ACCOUNT) && text.contains("`u64`"), "{text}");
        for value in ["s3cret", "8675309", "eyJ"] {
            assert!(!text.contains(value), "{text}");
        }
    }
    let error = token(r#"{"a\nb":"text"}"#);
    let error = error.unverified_claim::<u64>("a\nb").unwrap_err();
    assert!(!error.to_string().contains('\n'), "{error}");
}

#[test]
fn a_claim_that_occurs_twice_is_an_error() {
    for claims in [
        r#"{"role":"user","role":"admin"}"#,
        r#"{"role":"user","sub":"me","role":"user"}"#,
        r#"{"role":null,"rol\u0065":"admin"}"#,
    ] {
        let error = token(claims).unverified_claim::<String>("role");
        let error = error.unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("`role` of the token occurs twice"),
            "{error}"
        );
    }
    // A duplicate of another claim is no error.
    let token = token(r#"{"sub":1,"sub":2,"role":"user"}"#);
    assert_eq!(
        token.unverified_claim("role").unwrap(),
        Some(String::from("user"))
    );
}

#[test]
fn a_token_that_is_no_jwt_has_no_claims() {
    let claims = json!({ ACCOUNT: "acme" }).to_string();
    let encoded = URL_SAFE_NO_PAD.encode(&claims);
    for opaque in [
        String::from("opaque"),
        String::from("."),
        String::from(".."),
        String::from("a.b.c"),
        encoded.clone(),
        format!("h.{encoded}"),
        // A JWE has five parts, and its claims are encrypted.
        format!("h.{encoded}.c.d.e"),
        format!("h.{}.s", URL_SAFE_NO_PAD.encode([0xff, 0xfe])),
        format!("h.{}.s", URL_SAFE_NO_PAD.encode("[1]")),
        format!("h.{}.s", URL_SAFE_NO_PAD.encode("\"text\"")),
        format!("h.{}.s", URL_SAFE_NO_PAD.encode(format!("{claims} x"))),
        format!(
            "h.{}.s",
            URL_SAFE_NO_PAD.encode(&claims[..claims.len() - 1])
        ),
        format!(
            "h.{}.s",
            URL_SAFE_NO_PAD.encode(format!(r#"{{"{ACCOUNT}":"ac"#))
        ),
        format!(
            "h.{}.s",
            URL_SAFE_NO_PAD.encode(format!(r#"{{"{ACCOUNT}":}}"#))
        ),
    ] {
        let token = Token::bearer(opaque.clone()).unwrap();
        let found: Option<String> = token.unverified_claim(ACCOUNT).unwrap();
        assert_eq!(found, None, "{opaque}");
    }
    let basic = Token::basic("user", "password").unwrap();
    assert_eq!(basic.unverified_claim::<String>("user").unwrap(), None);
}

#[test]
fn padding_and_the_place_of_the_token_do_not_count() {
    let claims = json!({ ACCOUNT: "acme!" }).to_string();
    for payload in [URL_SAFE.encode(&claims), URL_SAFE_NO_PAD.encode(&claims)] {
        let jwt = format!("h.{payload}.s");
        for token in [
            Token::bearer(jwt.as_str()).unwrap(),
            Token::header("x-token".parse().unwrap(), jwt.as_str()).unwrap(),
            Token::query("token", jwt.as_str()).unwrap(),
        ] {
            let found: Option<String> = token.unverified_claim(ACCOUNT).unwrap();
            assert_eq!(found.as_deref(), Some("acme!"));
        }
    }
    let other_alphabet = json!({ ACCOUNT: "???>>>" }).to_string();
    let jwt = format!("h.{}.s", STANDARD.encode(&other_alphabet));
    assert!(jwt.contains(['+', '/']));
    let token = Token::bearer(jwt).unwrap();
    assert_eq!(token.unverified_claim::<String>(ACCOUNT).unwrap(), None);
}

#[test]
fn claims_are_bounded_in_size_and_in_depth() {
    let padded = |length: usize| {
        let claims = json!({ "padding": "p".repeat(length), "sub": "me" }).to_string();
        token(&claims).unverified_claim::<String>("sub").unwrap()
    };
    assert_eq!(padded(48_000).as_deref(), Some("me"));
    assert_eq!(padded(64 * 1024), None);
    let deep = format!(
        r#"{{"deep":{}1{},"sub":"me"}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    assert_eq!(
        token(&deep).unverified_claim::<Value>("deep").unwrap(),
        None
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_token_and_no_name_does_harm(claims in ".{0,200}", name in ".{0,20}") {
        let found = token(&claims).unverified_claim::<Value>(&name);
        prop_assert!(!matches!(found, Ok(Some(_))));
    }

    #[test]
    fn each_claim_that_was_written_is_read(claims in btree_map(".{0,20}", ".{0,20}", 0..8)) {
        let token = token(&serde_json::to_string(&claims).unwrap());
        for (name, value) in &claims {
            let found: Option<String> = token.unverified_claim(name).unwrap();
            prop_assert_eq!(found.as_ref(), Some(value));
        }
    }
}
