//! What GitHub refuses, and its rate limits.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tower_auth::platform::github::App;
use tower_auth::{Error, Reason, TokenSource};
use tower_auth_test::ScriptedResponse;

use super::github;
use crate::support::github_server::{CLIENT_ID, GitHub, INSTALLATION};
use crate::support::keys;
use crate::support::token_server::all_text_of;

/// Returns the error of a fetch that gets this response.
async fn error_of(response: ScriptedResponse) -> Error {
    let (github, app) = github();
    github.server.respond_next(response);
    let source = app.installation(INSTALLATION);
    source.fetch(Reason::First).await.unwrap_err()
}

fn said(status: u16, message: &str) -> ScriptedResponse {
    ScriptedResponse::json(
        status,
        json!({"message": message, "status": status.to_string()}),
    )
}

#[tokio::test]
async fn a_refusal_says_what_to_check() {
    let (_, app) = github();
    let source = app.installation(7);
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "GitHub doesn't know this installation; check its id, and whether the app is still \
         installed there (status 404; message: Not Found)"
    );
    assert!(error.is_denied() && error.is_permanent());

    let source = app.installation_of_repository("octo-org/none").unwrap();
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("GitHub found no installation of the app; check")
    );

    let source = app
        .installation(INSTALLATION)
        .permission("contents", "admin");
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("GitHub refused the repositories or the permissions;")
    );

    let suspended = error_of(said(403, "This installation has been suspended")).await;
    assert_eq!(
        suspended.to_string(),
        "GitHub refused to issue a token (status 403; message: This installation has been suspended)"
    );
    assert!(suspended.is_permanent());
    let broken = error_of(said(502, "Server Error")).await;
    assert!(broken.is_transient() && broken.to_string().starts_with("GitHub failed"));
}

#[tokio::test]
async fn a_wrong_key_is_named_and_the_jwt_is_not_shown() {
    let github = GitHub::new(keys::RSA_PUBLIC);
    let other = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let app = App::new(CLIENT_ID, other.unwrap().serialize_pem()).unwrap();
    let app = app.transport(github.server.clone());
    let source = app.installation(INSTALLATION);
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "GitHub refused the JWT of the app; check the app's client id, its private key and this \
         machine's clock (status 401; message: A JSON web token could not be decoded)"
    );
    let jwt = github.server.requests()[0].token().unwrap().to_owned();
    github.server.respond_next(said(401, &format!("no: {jwt}")));
    let error = source.fetch(Reason::First).await.unwrap_err();
    let next = github.server.requests()[1].token().unwrap().to_owned();
    assert!(!all_text_of(&error).contains(&next));
}

#[tokio::test]
async fn an_echoed_jwt_is_hidden() {
    let (github, app) = github();
    let source = app.installation(INSTALLATION);
    // The claims have whole seconds, so the next JWT may be the same.
    for _ in 0..20 {
        source.fetch(Reason::First).await.unwrap();
        let jwt = github
            .server
            .requests()
            .pop()
            .unwrap()
            .token()
            .unwrap()
            .to_owned();
        github.server.respond_next(said(422, &jwt));
        let error = source.fetch(Reason::First).await.unwrap_err();
        if github.server.requests().pop().unwrap().token() == Some(jwt.as_str()) {
            assert!(error.to_string().contains("[redacted]"), "{error}");
            return;
        }
    }
    panic!("no JWT was signed twice within a second");
}

#[tokio::test]
async fn a_rate_limit_is_transient_and_has_a_wait() {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let date = |ahead: u64| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now + ahead));
    let used_up = |reset: u64| {
        said(403, "API rate limit exceeded")
            .header("x-ratelimit-remaining", "0")
            .header("x-ratelimit-reset", (now + reset).to_string())
    };
    let cases = [
        (said(403, "wait").header("retry-after", "17"), 17..=17),
        (said(429, "wait").header("retry-after", "17"), 17..=17),
        (used_up(1200), 1190..=1200),
        // The wait is counted by GitHub's clock.
        (used_up(1200).header("date", date(1000)), 200..=200),
        (used_up(7200), 3600..=3600),
        (used_up(100).header("date", date(200)), 0..=0),
        (
            said(403, "You have exceeded a secondary rate limit"),
            60..=60,
        ),
        (said(429, "Too many"), 60..=60),
    ];
    for (number, (response, wait)) in cases.into_iter().enumerate() {
        let error = error_of(response).await;
        assert!(error.is_transient(), "{number}: {error:?}");
        let seconds = error.retry_after().unwrap().as_secs();
        assert!(wait.contains(&seconds), "{number}: {seconds}");
        assert!(
            error.to_string().starts_with("GitHub's rate limit"),
            "{error}"
        );
    }
    // Another 403 isn't a rate limit, although GitHub always sends these headers.
    let refusal = said(403, "Resource not accessible by integration");
    let refusal = refusal.header("x-ratelimit-remaining", "4998");
    assert!(error_of(refusal).await.is_permanent());
}

#[tokio::test]
async fn an_unusable_reply_is_an_error_that_names_github() {
    for (response, says) in [
        (
            ScriptedResponse::json(201, "[]"),
            "GitHub's reply is JSON, but not an object",
        ),
        (
            ScriptedResponse::json(201, "{}"),
            "GitHub's reply has no `/token`",
        ),
        (
            ScriptedResponse::new(201).body("<html>"),
            "GitHub's reply is not valid JSON",
        ),
        (ScriptedResponse::new(301), "GitHub's reply is a redirect"),
    ] {
        let error = error_of(response).await.to_string();
        assert!(error.starts_with(says), "{error}");
    }
    let (github, app) = github();
    github
        .server
        .respond_next(ScriptedResponse::json(200, "{}"));
    let source = app.installation_of_user("octocat").unwrap();
    let error = source.fetch(Reason::First).await.unwrap_err().to_string();
    assert!(error.contains("no `id` of the installation"), "{error}");
}
