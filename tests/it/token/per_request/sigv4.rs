//! The AWS Signature Version 4 example, with vectors of AWS's test suite.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request};
use tower_auth::{Place, Token};

use super::signed;

#[allow(dead_code, reason = "it has a `main`")]
#[path = "../../../../examples/extra/aws_sigv4.rs"]
mod example;

/// Returns 2015-08-30T12:36:00Z.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_440_938_160)
}

async fn sent(session: Option<&str>, request: http::request::Builder) -> HeaderMap {
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let session = session.map(str::to_owned);
    let keys = Credentials::new("AKIDEXAMPLE", secret, session, None, "test");
    let signer = Arc::new(example::Signer(keys, now));
    let token = Token::per_request(Place::Header(AUTHORIZATION), "AKIDEXAMPLE", signer);
    signed(token, request.body("").unwrap()).await
}

fn is(headers: &HeaderMap, fields: &str, signature: &str) {
    let scope = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";
    assert_eq!(
        headers[AUTHORIZATION],
        format!(
            "AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={fields}, Signature={signature}"
        )
    );
    assert_eq!(headers["x-amz-date"], "20150830T123600Z");
}

#[tokio::test]
async fn the_signatures_are_those_of_the_test_suite() {
    let host = "https://example.amazonaws.com";
    for (request, signature) in [
        // This is the suite's case `get-vanilla`.
        (
            Request::get(host),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        // This is the suite's case `get-vanilla-query-order-key-case`.
        (
            Request::get(format!("{host}/?Param2=value2&Param1=value1")),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        // This is the suite's case `post-vanilla`.
        (
            Request::post(host),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
    ] {
        is(&sent(None, request).await, "host;x-amz-date", signature);
    }
}

#[tokio::test]
async fn the_session_of_temporary_credentials_is_sent_and_signed() {
    // This is the suite's case `get-vanilla-with-session-token`.
    let session = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
    let request = Request::get("https://example.amazonaws.com/");
    let headers = sent(Some(session), request).await;
    is(
        &headers,
        "host;x-amz-date;x-amz-security-token",
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
    );
    assert_eq!(headers["x-amz-security-token"], session);
}

#[tokio::test]
async fn the_callers_hash_of_the_body_is_signed_and_other_fields_are_not() {
    let request = || Request::post("https://example.amazonaws.com/").header("accept", "*/*");
    let field = "x-amz-content-sha256";
    let mut signatures = Vec::new();
    for hash in ["UNSIGNED-PAYLOAD", &"0".repeat(64), &"1".repeat(64)] {
        let headers = sent(None, request().header(field, hash)).await;
        assert_eq!(headers[field], *hash);
        let credential = headers[AUTHORIZATION].to_str().unwrap();
        assert!(credential.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date,"));
        signatures.push(credential.to_owned());
    }
    signatures.dedup();
    assert_eq!(signatures.len(), 3);
}

#[tokio::test]
async fn the_host_that_the_caller_sets_is_the_one_that_is_signed() {
    let own = Request::get("https://127.0.0.1:8443/").header("host", "example.amazonaws.com");
    let signature = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    is(&sent(None, own).await, "host;x-amz-date", signature);
}
