//! The example that signs by RFC 9421, with the vector of the RFC's appendix B.2.6.

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::{BoxError, Error, Place, Token};

use super::signed;
use crate::support::layer;

#[allow(dead_code, reason = "it has a `main`")]
#[path = "../../../../examples/extra/http_signature.rs"]
mod example;

/// The key of appendix B.1.4: the last 32 bytes of its PKCS #8 document.
const SEED: &str = "n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU=";

const NAME: &str = "test-key-ed25519";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_618_884_473)
}

fn token(covered: &'static [&'static str]) -> Token {
    let seed = STANDARD.decode(SEED).unwrap();
    let key = (NAME, Ed25519KeyPair::from_seed_unchecked(&seed).unwrap());
    let signer = Arc::new(example::Signer { key, covered, now });
    let field = Place::Header(HeaderName::from_static("signature"));
    Token::per_request(field, NAME, signer)
}

fn request() -> http::request::Builder {
    Request::post("https://example.com/foo?param=Value&Pet=dog")
        .header("host", "example.com")
        .header("date", "Tue, 20 Apr 2021 02:07:55 GMT")
        .header("content-type", "application/json")
        .header("content-length", "18")
}

#[tokio::test]
async fn the_signature_is_that_of_the_rfc() {
    let covered = &[
        "date",
        "@method",
        "@path",
        "@authority",
        "content-type",
        "content-length",
    ];
    let request = request().body("{\"hello\": \"world\"}").unwrap();
    let headers = signed(token(covered), request).await;
    assert_eq!(
        headers["signature-input"],
        "sig=(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\")\
         ;created=1618884473;keyid=\"test-key-ed25519\""
    );
    assert_eq!(
        headers["signature"],
        "sig=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:"
    );
}

#[tokio::test]
async fn the_query_is_covered_with_its_question_mark_and_when_there_is_none() {
    let mut signatures = Vec::new();
    for target in ["/foo", "/foo?", "/foo?a=1"] {
        let url = format!("https://example.com{target}");
        let request = Request::get(url).body("").unwrap();
        let headers = signed(token(&["@query"]), request).await;
        signatures.push(headers["signature"].clone());
    }
    // An absent query is the same as an empty one (RFC 9421 §2.2.7).
    assert_eq!(signatures[0], signatures[1]);
    assert_ne!(signatures[1], signatures[2]);
}

#[tokio::test]
async fn a_request_without_a_field_that_is_to_be_covered_is_not_sent() {
    let api = service_fn(async |_: Request<&'static str>| {
        Err::<Response<()>, BoxError>("it was sent".into())
    });
    let source = |_| ready(Ok(token(&["content-digest"])));
    let client = layer(source).layer(api);
    let error = client.oneshot(request().body("").unwrap()).await;
    let error = error.unwrap_err();
    let source = std::error::Error::source(error.downcast_ref::<Error>().unwrap());
    assert_eq!(source.unwrap().to_string(), "content-digest");
}
