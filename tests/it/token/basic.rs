//! Basic authentication (RFC 7617).

use http::header::AUTHORIZATION;
use tower_auth::{Place, Token};

#[test]
fn the_pairs_of_rfc_7617_are_encoded_as_it_encodes_them() {
    for (user, password, encoded) in [
        ("Aladdin", "open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        // The password is encoded as UTF-8 (§2.1).
        ("test", "123£", "dGVzdDoxMjPCow=="),
        // The colon in the password isn't a separator.
        ("me", "a:b", "bWU6YTpi"),
        ("", "key", "OmtleQ=="),
        ("key", "", "a2V5Og=="),
    ] {
        let token = Token::basic(user, password).unwrap();
        assert_eq!(token.place(), &Place::Header(AUTHORIZATION));
        assert_eq!(
            token.header_value().unwrap(),
            format!("Basic {encoded}").as_str()
        );
        assert!(token.header_value().unwrap().is_sensitive());
        assert_eq!(token.secret(), encoded);
    }
}

#[test]
fn what_basic_authentication_cannot_carry_is_an_error_without_the_secret() {
    for (user, password) in [
        ("us:er", "s3cret"),
        ("us\ner", "s3cret"),
        ("user", "s3cret\0"),
        ("user", "s3\u{7f}cret"),
        ("user", "s3\u{85}cret"),
    ] {
        let error = Token::basic(user, password).unwrap_err();
        assert!(error.is_illegal_token(), "{error}");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("colon") && shown.contains("control character"));
        assert!(!shown.contains("s3"), "{shown}");
        assert!(!shown.contains(user) || user == "user", "{shown}");
    }
}
