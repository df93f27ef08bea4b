//! A session: a login that is answered with cookies, its end, and the next.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::COOKIE;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_auth::login::Session;
use tower_auth::{AuthLayer, Error, NotReplayed, Place, Reason, Token, TokenSource};

use crate::support::session_site::{Answer, LOGIN, PASSWORD, Site, THINGS, get};
use crate::support::token_server::{all_text_of, expiry};
use crate::support::{Hands, call};

const LOGOUT: &str = "https://api.example.com/v1/session/logout";

async fn fetch(session: &Session) -> Result<Token, Error> {
    session.fetch(Reason::Expired).await
}

#[tokio::test]
async fn a_login_opens_a_session_and_requests_carry_its_cookies() {
    let site = Site::setting([
        "sid=one; Path=/; Secure; HttpOnly; SameSite=Lax",
        "b=two; Path=/v1",
    ]);
    let client = AuthLayer::new(site.session()).layer(site.clone());
    for _ in 0..3 {
        let response = client.clone().oneshot(get(THINGS)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    assert_eq!(site.cookies(), ["b=two; sid=one"; 3]);
    let logins = site.asked(true);
    assert_eq!(logins.len(), 1);
    assert_eq!(logins[0].cookies(), "-");
    assert_eq!(logins[0].headers["content-type"], "application/json");
    let body: Value = serde_json::from_str(&logins[0].body).unwrap();
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
    let body: Value = serde_json::from_str(&site.asked(true)[0].body).unwrap();
    let login = json!({"user": "me@example.com", "pass": PASSWORD});
    assert_eq!(body, json!({"tenant": "acme", "session": login}));
}

#[tokio::test]
async fn twenty_requests_that_are_refused_at_once_are_one_login_and_twenty_replays() {
    let site = Site::numbering();
    let layer = AuthLayer::new(site.session());
    let client = layer.layer(site.clone());
    let twenty = || join_all((0..20).map(|_| client.clone().oneshot(get(THINGS))));
    for response in twenty().await {
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(site.logins(), 1);
    // Somebody logs in elsewhere, and the site has one session a user.
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
async fn a_session_that_is_refused_anew_is_the_callers_to_see() {
    let site = Site::new(|asked| match asked.is_login() {
        true => Answer::new(200, &[&format!("sid={}; Path=/", asked.logins)]),
        false => Answer::new(401, &[]),
    });
    let client = AuthLayer::new(site.session()).layer(site.clone());
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
        let site = Site::new(move |_| Answer::new(200, set.as_slice()));
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
        let site = Site::new(move |_| Answer::new(status, &["sid=planted"]).saying(&echo));
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
    let site = Site::new(|_| Answer::new(303, &["sid=planted"]));
    let error = fetch(&site.session()).await.unwrap_err();
    assert!(
        error.is_reply() && error.to_string().contains("redirect"),
        "{error}"
    );
    assert_eq!(site.logins(), 1);
}

#[tokio::test]
async fn a_session_ends_with_the_first_of_its_cookies() {
    let past = "other=2; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
    for (set, named, end) in [
        (["sid=1", "other=2"], None, "Never"),
        (["sid=1; Max-Age=600", "other=2"], None, "In(600s)"),
        (
            ["sid=1; Max-Age=600", "other=2; Max-Age=60"],
            None,
            "In(60s)",
        ),
        (
            ["sid=1; Max-Age=600", "other=2; Max-Age=60"],
            Some("sid"),
            "In(600s)",
        ),
        (["sid=1", "other=2; Max-Age=60"], Some("sid"), "Never"),
        // `Max-Age` beats `Expires`.
        (["sid=1; Max-Age=600", past], None, "In(60s)"),
        (
            ["sid=1; Max-Age=99999999999999999999", "other=2"],
            None,
            "In(315360000s)",
        ),
    ] {
        let session = Site::setting(set).session();
        let session = match named {
            Some(name) => session.session_cookie(name).unwrap(),
            None => session,
        };
        assert_eq!(expiry(&fetch(&session).await.unwrap()), end, "{set:?}");
    }
}

#[tokio::test]
async fn a_session_ends_when_its_cookies_expires_says() {
    let site = Site::new(|_| {
        let end = SystemTime::now() + Duration::from_secs(3600);
        let end = httpdate::fmt_http_date(end);
        Answer::new(200, &[&format!("sid=1; Expires={end}")])
    });
    let end = expiry(&fetch(&site.session()).await.unwrap());
    // A date has no fractions of a second.
    assert!(end == "In(3600s)" || end.starts_with("In(3599."), "{end}");
}

#[tokio::test]
async fn a_session_that_has_ended_is_followed_by_a_login_before_the_next_request() {
    let site = Site::new(|asked| match asked.is_login() {
        true => Answer::new(
            200,
            &[&format!("sid={}; Max-Age=600; Path=/", asked.logins)],
        ),
        // That it is issued anew puts no login off.
        false => Answer::new(
            200,
            &["other=1; Max-Age=3600", "sid=again; Max-Age=3600; Path=/"],
        ),
    });
    let hands = Hands::default();
    let cache = hands.cache(site.session()).build();
    let mut client = AuthLayer::from(cache).layer(site.clone());
    call(&mut client, get(THINGS)).await.unwrap();
    hands.pass(Duration::from_secs(601));
    call(&mut client, get(THINGS)).await.unwrap();
    assert_eq!(site.cookies(), ["sid=1", "sid=2"]);
}

#[tokio::test]
async fn a_session_that_an_answer_ends_is_one_login_for_all_who_come_after() {
    for end in [
        "sid=; Path=/; Max-Age=0",
        "sid=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
    ] {
        let site = Site::new(move |asked| match asked.is_login() {
            true => Answer::new(200, &[&format!("sid={}; Path=/", asked.logins)]),
            false if asked.logins == 1 => Answer::new(204, &[end]),
            false => Answer::new(200, &[]),
        });
        let client = AuthLayer::new(site.session()).layer(site.clone());
        let five = || join_all((0..5).map(|_| client.clone().oneshot(get(THINGS))));
        // All are in the air as the first is answered.
        for response in five().await {
            assert_eq!(response.unwrap().status(), StatusCode::NO_CONTENT);
        }
        for response in five().await {
            assert_eq!(response.unwrap().status(), StatusCode::OK);
        }
        assert_eq!(site.cookies(), [["sid=1"; 5], ["sid=2"; 5]].concat());
        assert_eq!(site.logins(), 2);
    }
}

/// A 403 is no refusal, nor is a 401 without a challenge if the layer was told so. What is deleted is
/// gone nevertheless.
#[tokio::test]
async fn a_session_that_any_answer_deletes_is_over() {
    for status in [200, 302, 401, 403, 500] {
        let site = Site::new(move |asked| match asked.is_login() {
            true => Answer::new(200, &[&format!("sid={}; Path=/", asked.logins)]),
            false if asked.logins == 1 => Answer::new(status, &["sid=; Path=/; Max-Age=0"]),
            false => Answer::new(200, &[]),
        });
        let layer = AuthLayer::new(site.session()).retry_without_challenge(false);
        let mut client = layer.layer(site.clone());
        for expected in [status, 200] {
            let response = call(&mut client, get(THINGS)).await.unwrap();
            assert_eq!(response.status(), expected);
            let why = response.extensions().get();
            let stands = matches!(why, Some(NotReplayed::NoChallenge));
            assert_eq!(stands, expected == 401);
        }
        assert_eq!(site.cookies(), ["sid=1", "sid=2"], "{status}");
    }
}

/// What is sent until there is another can be refused. Nothing goes bare, and none is an error.
#[tokio::test]
async fn a_site_that_ends_each_session_at_once_is_asked_with_what_it_has_set() {
    let site = Site::new(|asked| match asked.is_login() {
        true => Answer::new(200, &[&format!("sid={}; Path=/", asked.logins)]),
        false => Answer::new(401, &["sid=; Path=/; Max-Age=0"]),
    });
    let mut client = AuthLayer::new(site.session()).layer(site.clone());
    for _ in 0..3 {
        let response = call(&mut client, get(THINGS)).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    // Two logins that were of no use are enough for now.
    assert_eq!(site.cookies(), ["sid=1", "sid=2", "sid=2", "sid=2"]);
}

#[tokio::test]
async fn a_cookie_that_is_not_the_session_may_be_deleted() {
    let site = Site::new(|asked| match asked.is_login() {
        true => Answer::new(200, &["sid=1; Path=/", "other=2; Path=/"]),
        false => Answer::new(200, &["other=; Path=/; Max-Age=0"]),
    });
    let session = site.session().session_cookie("sid").unwrap();
    let mut client = AuthLayer::new(session).layer(site.clone());
    for _ in 0..2 {
        call(&mut client, get(THINGS)).await.unwrap();
    }
    assert_eq!(site.cookies(), ["other=2; sid=1", "sid=1"]);
    assert_eq!(site.logins(), 1);
}

/// Of a session that is closed: what the site was asked, and what came of it.
async fn closed(status: u16, at: &str) -> (Site, Result<(), Error>) {
    let site = Site::new(move |asked| match asked.is_login() {
        true => Answer::new(
            200,
            &[
                "sid=planted; Path=/v1/session",
                "deep=er; Path=/v1/session/logout",
            ],
        ),
        false => Answer::new(status, &[]).saying(&json!({"error_description": "no planted"})),
    });
    let session = site.session().log_out_at(at).unwrap();
    let token = fetch(&session).await.unwrap();
    let closed = session.close(Some(token)).await;
    (site, closed)
}

#[tokio::test]
async fn the_session_is_ended_as_the_cache_is_closed() {
    let site = Site::setting(["sid=1; Path=/"]);
    let session = site.session().log_out_at(LOGOUT).unwrap();
    let layer = AuthLayer::new(session);
    layer.cache().token().await.unwrap();
    layer.cache().close().await;
    let requests = site.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(
        (requests[0].url.as_str(), requests[0].body.as_str()),
        (LOGOUT, "{}")
    );
    assert_eq!(requests[0].cookies(), "sid=1");
    assert_eq!(requests[0].headers["content-type"], "application/json");
    assert!(requests[0].headers[COOKIE].is_sensitive());
}

#[tokio::test]
async fn a_session_that_was_issued_anew_is_ended_by_its_new_name() {
    let site = Site::new(|asked| match asked.is_login() {
        true => Answer::new(200, &["sid=1; Path=/"]),
        false => Answer::new(200, &["sid=2; Path=/"]),
    });
    let layer = AuthLayer::new(site.session().log_out_at(LOGOUT).unwrap());
    layer
        .layer(site.clone())
        .oneshot(get(THINGS))
        .await
        .unwrap();
    layer.cache().close().await;
    assert_eq!(site.cookies(), ["sid=1", "sid=2"]);
}

#[tokio::test]
async fn a_logout_that_fails_is_told_and_shows_no_cookie() {
    for status in [200, 204, 401] {
        let (site, closed) = closed(status, LOGOUT).await;
        closed.unwrap();
        assert_eq!(site.cookies(), ["deep=er; sid=planted"]);
    }
    for status in [400, 404, 500] {
        let error = closed(status, LOGOUT).await.1.unwrap_err();
        assert!(error.is_denied(), "{error}");
        assert_eq!(error.description(), Some("no [redacted]"));
        assert!(!all_text_of(&error).contains("planted"), "{error}");
    }
}

#[tokio::test]
async fn a_logout_elsewhere_gets_no_cookie() {
    for at in [
        "https://other.example.com/v1/session/logout",
        "https://api.example.com:8443/v1/session/logout",
        "https://api.example.com/v2/logout",
    ] {
        let (site, closed) = closed(200, at).await;
        assert!(closed.unwrap_err().is_origin(), "{at}");
        assert!(site.requests().is_empty(), "{at}");
    }
}

#[tokio::test]
async fn who_never_logged_in_or_names_no_logout_logs_out_of_nothing() {
    let site = Site::setting(["sid=1"]);
    let session = site.session().log_out_at(LOGOUT).unwrap();
    session.close(None).await.unwrap();
    // A token of another source's.
    session
        .close(Some(Token::bearer("x").unwrap()))
        .await
        .unwrap();
    let silent = site.session();
    let token = fetch(&silent).await.unwrap();
    silent.close(Some(token)).await.unwrap();
    assert!(site.requests().is_empty());
}

#[tokio::test]
async fn settings_are_checked_at_once() {
    let site = Site::setting([]);
    for (url, user, password) in [
        ("http://api.example.com/login", "me", "secret"),
        (LOGIN, "", "secret"),
        (LOGIN, "me", ""),
    ] {
        let session = Session::with_transport(url, user, password, site.clone());
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
    let session = Session::with_transport(LOGIN, "me", "secret", hanging).unwrap();
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
