//! How a session is opened, and what its token contains.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_auth::login::Session;
use tower_auth::{NotReplayed, Place, TokenSource};

use super::{LOGOUT, fetch};
use crate::support::call;
use crate::support::session_site::{LOGIN, PASSWORD, Site, THINGS, cookies, get, setting};
use crate::support::token_server::all_text_of;

#[tokio::test]
async fn a_login_opens_a_session_and_requests_carry_its_cookies() {
    let site = Site::setting([
        "sid=one; Path=/; Secure; HttpOnly; SameSite=Lax",
        "b=two; Path=/v1",
    ]);
    let client = crate::support::layer(site.session()).layer(site.clone());
    for _ in 0..3 {
        let response = client.clone().oneshot(get(THINGS)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    assert_eq!(site.cookies(), ["b=two; sid=one"; 3]);
    let logins = site.asked(true);
    assert_eq!(logins.len(), 1);
    assert_eq!(cookies(&logins[0]), "-");
    assert_eq!(logins[0].headers()["content-type"], "application/json");
    let body: Value = serde_json::from_slice(logins[0].body()).unwrap();
    assert_eq!(
        body,
        json!({"email": "me@example.com", "password": PASSWORD})
    );
}

#[tokio::test]
async fn the_token_is_the_sessions_cookies_and_shows_none() {
    let site = Site::setting(["sid=planted; Path=/", "other=planted-too; Path=/"]);
    let session = site.session();
    let token = fetch(&session).await.unwrap();
    assert_eq!(
        (session.place(), token.place()),
        (Place::Cookie, &Place::Cookie)
    );
    assert_eq!(token.secret(), "other=planted-too; sid=planted");
    assert_eq!(token.header_value(), None);
    let shown = format!("{token:?} {token:#?} {session:?} {session:#?}");
    for secret in ["planted", "p4ssword", "me@"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let named = site.session().session_cookie("sid").unwrap();
    assert_eq!(fetch(&named).await.unwrap().secret(), "sid=planted");
}

#[tokio::test]
async fn fields_are_where_they_are_said_to_be() {
    let site = Site::setting(["sid=1"]);
    let session = site.session();
    let session = session.user_field("/session/user").unwrap();
    let session = session.password_field("/session/pass").unwrap();
    let session = session.field("/tenant", "acme").unwrap();
    fetch(&session).await.unwrap();
    let body: Value = serde_json::from_slice(site.asked(true)[0].body()).unwrap();
    let login = json!({"user": "me@example.com", "pass": PASSWORD});
    assert_eq!(body, json!({"tenant": "acme", "session": login}));
}

#[tokio::test]
async fn twenty_requests_that_are_refused_at_once_are_one_login_and_twenty_replays() {
    let site = Site::numbering();
    let layer = crate::support::layer(site.session());
    let client = layer.layer(site.clone());
    let twenty = || join_all((0..20).map(|_| client.clone().oneshot(get(THINGS))));
    for response in twenty().await {
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(site.logins(), 1);
    // Somebody else logs in, and the site allows only one session per user.
    call(&mut site.clone(), get(LOGIN)).await.unwrap();
    for response in twenty().await {
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(site.logins(), 3);
    let cookies = site.cookies();
    assert_eq!(cookies[20..40], ["sid=1"; 20]);
    assert_eq!(cookies[40..], ["sid=3"; 20]);
}

#[tokio::test]
async fn a_session_that_is_refused_again_is_the_callers_to_see() {
    let site = Site::new(|asked| match asked.is_login() {
        true => setting(200, &[&format!("sid={}; Path=/", asked.logins)]),
        false => setting(401, &[]),
    });
    let client = crate::support::layer(site.session()).layer(site.clone());
    let response = client.oneshot(get(THINGS)).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let why = response.extensions().get();
    assert!(matches!(why, Some(NotReplayed::Again)), "{why:?}");
    assert_eq!(site.cookies(), ["sid=1", "sid=2"]);
}

#[tokio::test]
async fn a_login_without_a_usable_cookie_says_what_is_wrong_and_quotes_nothing() {
    let large = format!("sid={}", "planted".repeat(600)).leak();
    for (set, what) in [
        (None, "sets no cookie (`Set-Cookie`)"),
        (Some("planted"), "malformed"),
        (Some("=planted"), "malformed"),
        (Some("sid=planted; Domain=example.org"), "isn't the login's"),
        (
            Some("sid=planted; Domain=b.api.example.com"),
            "isn't the login's",
        ),
        (Some("sid=planted; Max-Age=0"), "expired"),
        (Some("sid=planted; Max-Age=-1"), "expired"),
        (
            Some("sid=planted; Expires=Thu, 01 Jan 1970 00:00:00 GMT"),
            "expired",
        ),
        (Some(large), "larger than 4 KiB"),
    ] {
        let site = Site::new(move |_| setting(200, set.as_slice()));
        let error = fetch(&site.session()).await.unwrap_err();
        let text = all_text_of(&error);
        assert!(error.is_reply() && text.contains(what), "{set:?}: {text}");
        assert!(!text.contains("planted"), "{text}");
    }
    let site = Site::setting(["other=planted"]);
    let named = site.session().session_cookie("sid").unwrap();
    let error = fetch(&named).await.unwrap_err();
    let text = all_text_of(&error);
    assert!(
        error.is_reply() && text.contains("sets no cookie `sid`"),
        "{text}"
    );
    assert!(!text.contains("planted"), "{text}");
}

#[tokio::test]
async fn a_login_that_is_refused_is_the_error_and_shows_no_password() {
    for (status, passes) in [
        (400, false),
        (401, false),
        (403, false),
        (404, false),
        (503, true),
    ] {
        let echo = json!({"error": "wrong", "error_description": format!("not {PASSWORD}")});
        let site = Site::new(move |_| setting(status, &["sid=planted"]).body(echo.to_string()));
        let error = fetch(&site.session()).await.unwrap_err();
        assert!(error.is_denied(), "{error}");
        assert_eq!(
            (error.is_transient(), error.is_permanent()),
            (passes, !passes)
        );
        assert_eq!(error.description(), Some("not [redacted]"));
        let text = all_text_of(&error);
        assert!(
            !text.contains("p4ssword") && !text.contains("planted"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_login_that_is_answered_with_a_redirect_has_failed() {
    let site = Site::new(|_| setting(303, &["sid=planted"]));
    let error = fetch(&site.session()).await.unwrap_err();
    assert!(
        error.is_reply() && error.to_string().contains("redirect"),
        "{error}"
    );
    assert_eq!(site.logins(), 1);
}

#[tokio::test]
async fn settings_are_checked_at_once() {
    let site = Site::setting([]);
    for (url, user, password) in [
        ("http://api.example.com/login", "me", "secret"),
        (LOGIN, "", "secret"),
        (LOGIN, "me", ""),
    ] {
        let session = Session::new(url, user, password);
        assert!(session.unwrap_err().is_config());
    }
    let session = || site.session();
    for wrong in [
        session().log_out_at("http://api.example.com/logout"),
        session().origin("api.example.com"),
        session().origin("https://api.example.com/path"),
        session().session_cookie(""),
        session().user_field("email"),
        session().password_field("/"),
        session().field("", 1),
    ] {
        assert!(wrong.unwrap_err().is_config());
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_or_logout_that_hangs_is_given_up_after_the_timeout() {
    let hanging = tower::service_fn(|_: Request<Full<Bytes>>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    });
    let session = Session::new(LOGIN, "me", "secret")
        .unwrap()
        .transport(hanging);
    let session = session.log_out_at(LOGOUT).unwrap();
    let session = session.timeout(Duration::from_secs(3));
    let start = tokio::time::Instant::now();
    assert!(fetch(&session).await.unwrap_err().is_timeout());
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    let other = Site::setting(["sid=1; Path=/"]).session();
    let token = fetch(&other).await.unwrap();
    assert!(session.close(Some(token)).await.unwrap_err().is_timeout());
    assert_eq!(start.elapsed(), Duration::from_secs(6));
}
