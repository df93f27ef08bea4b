//! `expires_on` in each format that Azure sends.

use std::time::{Duration, UNIX_EPOCH};

use tower_auth::platform::azure::ManagedIdentity;
use tower_auth::{Error, Reason, Token, TokenSource};
use tower_auth_test::ScriptedResponse;

use crate::support::azure_server as azure;
use crate::support::token_server::expiry;

/// The server's clock: 100 s before the expiry.
fn date() -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(1_561_000_678 - 100))
}

async fn fetch(fields: &str) -> Result<Token, Error> {
    let server = azure::metadata();
    let body = format!(r#"{{"access_token":"planted","token_type":"Bearer"{fields}}}"#);
    server.respond_next(ScriptedResponse::json(200, body).header("date", date()));
    let vars: [(&str, &str); 0] = [];
    let source = ManagedIdentity::from_vars(azure::RESOURCE, vars).unwrap();
    source.transport(server).fetch(Reason::First).await
}

#[tokio::test]
async fn it_counts_by_the_servers_clock() {
    for expires_on in [
        r#""1561000678""#,
        "1561000678",
        r#""06/20/2019 03:17:58 +00:00""#,
        r#""6/20/2019 3:17:58 AM +00:00""#,
        r#""2019-06-20T03:17:58Z""#,
    ] {
        let token = fetch(&format!(r#","expires_on":{expires_on}"#))
            .await
            .unwrap();
        assert_eq!(expiry(&token), "In(100s)", "{expires_on}");
    }
    let afternoon = fetch(r#","expires_on":"6/20/2019 3:17:58 PM +00:00""#).await;
    assert_eq!(expiry(&afternoon.unwrap()), "In(43300s)");
}

#[tokio::test]
async fn the_earlier_end_counts() {
    // Microsoft counts `expires_in` from the time of issuance, which may be hours ago.
    let cached = fetch(r#","expires_in":"86399","expires_on":"1561000678""#).await;
    assert_eq!(expiry(&cached.unwrap()), "In(100s)");
    let sooner = fetch(r#","expires_in":"60","expires_on":"1561000678""#).await;
    assert_eq!(expiry(&sooner.unwrap()), "In(60s)");
}

#[tokio::test]
async fn a_token_that_has_expired_has_no_time_left() {
    let token = fetch(r#","expires_on":"1561000000""#).await.unwrap();
    assert_eq!(expiry(&token), "In(0ns)");
}

#[tokio::test]
async fn a_field_without_a_value_counts_as_missing() {
    for fields in ["", r#","expires_on":null"#] {
        assert_eq!(expiry(&fetch(fields).await.unwrap()), "In(3600s)");
    }
}

#[tokio::test]
async fn anything_else_is_an_error() {
    for odd in [
        r#""soon""#,
        r#""""#,
        "true",
        "{}",
        "1e300",
        r#""13/45/2019 00:00:00 +00:00""#,
    ] {
        let error = fetch(&format!(r#","expires_on":{odd}"#)).await.unwrap_err();
        assert!(error.is_reply(), "{odd}: {error:?}");
        assert!(
            error
                .to_string()
                .contains("has an `expires_on` that is neither"),
            "{error}"
        );
    }
}
