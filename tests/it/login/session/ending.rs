//! When a session ends, and which events end it.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use http::StatusCode;
use http::header::COOKIE;
use serde_json::json;
use tower::{Layer, ServiceExt};
use tower_auth::cache::Clock;
use tower_auth::{Error, NotReplayed, Token, TokenSource};

use super::{LOGOUT, fetch};
use crate::support::session_site::{Site, THINGS, cookies, get, setting};
use crate::support::token_server::{all_text_of, expiry};
use crate::support::{call, clocked};

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
        // `Max-Age` takes precedence over `Expires`.
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
        setting(200, &[&format!("sid=1; Expires={end}")])
    });
    let end = expiry(&fetch(&site.session()).await.unwrap());
    // The date in `Expires` has no fractions of a second.
    assert!(end == "In(3600s)" || end.starts_with("In(3599."), "{end}");
}

#[tokio::test]
async fn a_session_that_has_ended_is_followed_by_a_login_before_the_next_request() {
    let site = Site::new(|asked| match asked.is_login() {
        true => setting(
            200,
            &[&format!("sid={}; Max-Age=600; Path=/", asked.logins)],
        ),
        // This cookie isn't the session's cookie, so its expiry doesn't delay the next login.
        false => setting(200, &["other=1; Max-Age=3600; Path=/"]),
    });
    let clock = Clock::manual();
    let cache = clocked(site.session(), &clock).build();
    let mut client = crate::support::layer_from(cache).layer(site.clone());
    call(&mut client, get(THINGS)).await.unwrap();
    clock.advance(Duration::from_secs(601));
    call(&mut client, get(THINGS)).await.unwrap();
    assert_eq!(site.cookies(), ["sid=1", "sid=2"]);
}

#[tokio::test(start_paused = true)]
async fn a_cookie_that_has_expired_is_neither_sent_nor_kept_unless_it_is_the_session() {
    let site = Site::new(|asked| match asked.is_login() {
        true => setting(
            200,
            &[
                "sid=1; Path=/",
                "other=2; Max-Age=10; Path=/",
                "kept=3; Path=/",
            ],
        ),
        false if asked.requests == 0 => setting(200, &["sid=1; Max-Age=10; Path=/"]),
        false => setting(200, &[]),
    });
    let session = site.session().session_cookie("sid").unwrap();
    let mut client = crate::support::layer(session).layer(site.clone());
    for _ in 0..2 {
        call(&mut client, get(THINGS)).await.unwrap();
        tokio::time::advance(Duration::from_secs(11)).await;
    }
    let sent = ["kept=3; other=2; sid=1", "kept=3; sid=1"];
    assert_eq!(site.cookies(), sent);
}

#[tokio::test]
async fn a_session_that_a_response_ends_is_one_login_for_all_who_come_after() {
    for end in [
        "sid=; Path=/; Max-Age=0",
        "sid=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
    ] {
        let site = Site::new(move |asked| match asked.is_login() {
            true => setting(200, &[&format!("sid={}; Path=/", asked.logins)]),
            false if asked.logins == 1 => setting(204, &[end]),
            false => setting(200, &[]),
        });
        let client = crate::support::layer(site.session()).layer(site.clone());
        let five = || join_all((0..5).map(|_| client.clone().oneshot(get(THINGS))));
        // All requests are in flight when the first gets its response.
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

/// A 403 isn't a refusal by default. A 401 without a challenge isn't one if the layer is so
/// configured. A deleted cookie ends the session in any case.
#[tokio::test]
async fn a_session_that_any_response_deletes_has_ended() {
    for status in [200, 302, 401, 403, 500] {
        let site = Site::new(move |asked| match asked.is_login() {
            true => setting(200, &[&format!("sid={}; Path=/", asked.logins)]),
            false if asked.logins == 1 => setting(status, &["sid=; Path=/; Max-Age=0"]),
            false => setting(200, &[]),
        });
        let layer = crate::support::layer(site.session()).retry_without_challenge(false);
        let mut client = layer.layer(site.clone());
        for expected in [status, 200] {
            let response = call(&mut client, get(THINGS)).await.unwrap();
            assert_eq!(response.status(), expected);
            let why = response.extensions().get();
            let has_no_challenge = matches!(why, Some(NotReplayed::NoChallenge));
            assert_eq!(has_no_challenge, expected == 401);
        }
        assert_eq!(site.cookies(), ["sid=1", "sid=2"], "{status}");
    }
}

/// The old cookie is sent until there is a new one, and it may be refused. Every request carries a
/// cookie, and none fails.
#[tokio::test]
async fn a_site_that_ends_each_session_at_once_is_asked_with_what_it_has_set() {
    let site = Site::new(|asked| match asked.is_login() {
        true => setting(200, &[&format!("sid={}; Path=/", asked.logins)]),
        false => setting(401, &["sid=; Path=/; Max-Age=0"]),
    });
    let mut client = crate::support::layer(site.session()).layer(site.clone());
    for _ in 0..3 {
        let response = call(&mut client, get(THINGS)).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    // The API refused two new sessions. So the refusal budget allows no third login.
    assert_eq!(site.cookies(), ["sid=1", "sid=2", "sid=2", "sid=2"]);
}

#[tokio::test]
async fn a_cookie_that_is_not_the_session_may_be_deleted() {
    let site = Site::new(|asked| match asked.is_login() {
        true => setting(200, &["sid=1; Path=/", "other=2; Path=/"]),
        false => setting(200, &["other=; Path=/; Max-Age=0"]),
    });
    let session = site.session().session_cookie("sid").unwrap();
    let mut client = crate::support::layer(session).layer(site.clone());
    for _ in 0..2 {
        call(&mut client, get(THINGS)).await.unwrap();
    }
    assert_eq!(site.cookies(), ["other=2; sid=1", "sid=1"]);
    assert_eq!(site.logins(), 1);
}

/// Closes a session. Returns the result, and the site with the recorded requests.
async fn closed(status: u16, at: &str) -> (Site, Result<(), Error>) {
    let site = Site::new(move |asked| match asked.is_login() {
        true => setting(
            200,
            &[
                "sid=planted; Path=/v1/session",
                "deep=er; Path=/v1/session/logout",
            ],
        ),
        false => setting(status, &[]).body(json!({"error_description": "no planted"}).to_string()),
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
    let layer = crate::support::layer(session);
    layer.cache().token().await.unwrap();
    layer.cache().close().await;
    let requests = site.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(
        (requests[0].uri().to_string(), requests[0].text()),
        (LOGOUT.into(), "{}".into())
    );
    assert_eq!(cookies(&requests[0]), "sid=1");
    assert_eq!(requests[0].headers()["content-type"], "application/json");
    assert!(requests[0].headers()[COOKIE].is_sensitive());
}

#[tokio::test]
async fn a_session_that_was_issued_again_is_ended_by_its_new_name() {
    let site = Site::new(|asked| match asked.is_login() {
        true => setting(200, &["sid=1; Path=/"]),
        false => setting(200, &["sid=2; Path=/"]),
    });
    let layer = crate::support::layer(site.session().log_out_at(LOGOUT).unwrap());
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
    // This token comes from another source, so there is no session to end.
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
async fn an_empty_session_cookie_ends_the_session() {
    for line in [
        "sid=; Path=/",
        "sid=\"\"; Path=/",
        "sid=; Path=/; Expires=0",
    ] {
        let site = Site::new(move |asked| match (asked.is_login(), asked.requests) {
            (true, _) => setting(200, &[&format!("sid={}; Path=/", asked.logins)]),
            (false, 0) => setting(200, &[line]),
            (false, _) => setting(200, &[]),
        });
        let mut client = crate::support::layer(site.session()).layer(site.clone());
        for _ in 0..2 {
            call(&mut client, get(THINGS)).await.unwrap();
        }
        assert_eq!(site.cookies(), ["sid=1", "sid=2"], "{line}");

        let site = Site::setting([line]);
        let error = super::fetch(&site.session()).await.unwrap_err();
        assert!(error.is_reply(), "{error}");
        assert!(error.to_string().contains("a cookie is empty"), "{error}");
    }
}
