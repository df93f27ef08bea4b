//! The CSRF token that goes into a header of unsafe requests.

use bytes::Bytes;
use http::header::COOKIE;
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use serde_json::json;
use tower::{Layer, ServiceExt};
use tower_auth::login::Session;
use tower_auth::{AuthLayer, Error};
use tower_auth_test::{RecordedRequest, ScriptedResponse};

use super::{LOGOUT, fetch};
use crate::support::call;
use crate::support::session_site::{Site, THINGS, get, setting};
use crate::support::token_server::all_text_of;

const HEADER: &str = "x-xsrf-token";

fn with_cookie(site: &Site) -> Session {
    let session = site.session().session_cookie("sid").unwrap();
    session.csrf_cookie("XSRF-TOKEN", "X-XSRF-TOKEN").unwrap()
}

fn with_field(site: &Site) -> Session {
    let session = site.session().log_out_at(LOGOUT).unwrap();
    session.csrf_field("/data/csrf", "X-XSRF-TOKEN").unwrap()
}

/// Builds a site whose login sets a session cookie and returns this body.
fn with_body(body: impl Into<String>) -> Site {
    let body = body.into();
    Site::new(move |asked| match asked.is_login() {
        true => setting(200, &["sid=1; Path=/"]).body(body.clone()),
        false => setting(200, &[]),
    })
}

fn post(method: &str) -> Request<Full<Bytes>> {
    let request = Request::post(THINGS).method(method);
    request.body(Full::default()).unwrap()
}

/// Returns the CSRF header that the site got last.
fn last(site: &Site) -> Option<HeaderValue> {
    let request: RecordedRequest = site.requests().pop().unwrap();
    assert!(request.headers().get_all(HEADER).iter().count() < 2);
    request.headers().get(HEADER).cloned()
}

#[tokio::test]
async fn unsafe_requests_get_the_token_and_safe_ones_do_not() {
    let of_cookie = Site::setting(["sid=1; Path=/", "XSRF-TOKEN=planted; Path=/"]);
    let of_field = with_body(json!({"data": {"csrf": "planted"}}).to_string());
    for (site, session) in [
        (&of_cookie, with_cookie(&of_cookie)),
        (&of_field, with_field(&of_field)),
    ] {
        let mut client = crate::support::layer(session).layer(site.clone());
        for method in ["POST", "PUT", "PATCH", "DELETE", "QUERY", "PURGE", "get"] {
            call(&mut client, post(method)).await.unwrap();
            let token = last(site);
            let is_sensitive = token.as_ref().is_some_and(HeaderValue::is_sensitive);
            assert_eq!(
                token.as_ref().map(HeaderValue::as_bytes),
                Some(&b"planted"[..]),
                "{method}"
            );
            assert!(is_sensitive);
        }
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
            call(&mut client, post(method.as_str())).await.unwrap();
            assert_eq!(last(site), None, "{method}");
        }
        assert_eq!(site.logins(), 1);
    }
}

#[tokio::test]
async fn the_value_of_the_cookie_is_percent_decoded() {
    for (cookie, token) in [
        ("a%2Bb%2F%3D%3d", "a+b/=="),
        ("a+b", "a+b"),
        ("50%25", "50%"),
        ("%zz%4", "%zz%4"),
        ("a%20b", "a b"),
        ("\"a=b\"", "\"a=b\""),
        ("a=b=", "a=b="),
    ] {
        let line: &'static str = format!("XSRF-TOKEN={cookie}; Path=/").leak();
        let site = Site::setting(["sid=1; Path=/", line]);
        let mut client = crate::support::layer(with_cookie(&site)).layer(site.clone());
        call(&mut client, post("POST")).await.unwrap();
        assert_eq!(last(&site).unwrap(), token, "{cookie}");
    }
}

#[tokio::test]
async fn the_current_value_of_the_cookie_counts() {
    let site = Site::new(|asked| match (asked.is_login(), asked.requests) {
        // The login sets no CSRF token. Many servers set the token with the first page.
        (true, _) => setting(200, &["sid=1; Path=/"]),
        (false, 3) => setting(200, &["XSRF-TOKEN=; Path=/; Max-Age=0"]),
        (false, 4) => setting(200, &["XSRF-TOKEN=; Path=/"]),
        (false, number) => setting(200, &[&format!("XSRF-TOKEN=after-{number}; Path=/")]),
    });
    let mut client = crate::support::layer(with_cookie(&site)).layer(site.clone());
    for expected in [
        None,
        Some("after-0"),
        Some("after-1"),
        Some("after-2"),
        None,
        None,
    ] {
        call(&mut client, post("POST")).await.unwrap();
        let token = last(&site);
        assert_eq!(token.as_ref().map(|it| it.to_str().unwrap()), expected);
    }
}

#[tokio::test]
async fn a_replay_has_the_token_of_the_new_session() {
    let site = Site::new(|asked| match asked.is_login() {
        true => {
            let (sid, token) = (asked.logins, asked.logins);
            setting(
                200,
                &[
                    &format!("sid={sid}; Path=/"),
                    &format!("XSRF-TOKEN=t{token}; Path=/"),
                ],
            )
        }
        false if asked.logins == 1 => setting(401, &[]),
        false => setting(200, &[]),
    });
    let mut client = crate::support::layer(with_cookie(&site)).layer(site.clone());
    call(&mut client, post("POST")).await.unwrap();
    let requests = site.requests();
    let tokens: Vec<_> = requests
        .iter()
        .map(|it| it.header(HEADER).unwrap())
        .collect();
    assert_eq!(tokens, ["t1", "t2"]);
}

/// Sends a request with the caller's own headers. Returns the site's CSRF header and cookies.
async fn beside(layer: AuthLayer, site: &Site, own: &[(&str, &str)]) -> (Option<String>, String) {
    let mut request = post("POST");
    for (name, value) in own {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    layer.layer(site.clone()).oneshot(request).await.unwrap();
    let token = last(site).map(|it| it.to_str().unwrap().to_owned());
    (token, site.cookies().pop().unwrap())
}

#[tokio::test]
async fn what_the_caller_set_has_precedence() {
    let site = Site::setting(["sid=1; Path=/", "XSRF-TOKEN=ours; Path=/"]);
    let layer = crate::support::layer(with_cookie(&site));
    let replacing = crate::support::layer(with_cookie(&site)).replace_existing(true);
    let cookie = COOKIE.as_str();
    for (layer, own, token, cookies) in [
        (
            &layer,
            &[(HEADER, "own")][..],
            Some("own"),
            "XSRF-TOKEN=ours; sid=1",
        ),
        (&layer, &[(HEADER, "")], Some(""), "XSRF-TOKEN=ours; sid=1"),
        // The header is a copy of the caller's cookie, because the server compares both.
        (
            &layer,
            &[(cookie, "XSRF-TOKEN=own%3D")],
            Some("own="),
            "XSRF-TOKEN=own%3D; sid=1",
        ),
        (
            &layer,
            &[(cookie, "a=b; XSRF-TOKEN = own ")],
            Some("own"),
            "a=b; XSRF-TOKEN = own; sid=1",
        ),
        (&layer, &[(cookie, "XSRF-TOKEN")], None, "XSRF-TOKEN; sid=1"),
        // The caller's session cookie makes the credential the caller's own, so the layer adds
        // nothing.
        (&layer, &[(cookie, "sid=own")], None, "sid=own"),
        (
            &replacing,
            &[(HEADER, "own"), (cookie, "sid=own; XSRF-TOKEN=own; a=b")],
            Some("ours"),
            "a=b; XSRF-TOKEN=ours; sid=1",
        ),
    ] {
        let (sent, sent_cookies) = beside(layer.clone(), &site, own).await;
        assert_eq!(
            (sent.as_deref(), &*sent_cookies),
            (token, cookies),
            "{own:?}"
        );
    }
}

#[tokio::test]
async fn the_token_goes_where_the_cookies_go_and_nowhere_else() {
    let site = with_body(json!({"data": {"csrf": "planted"}}).to_string());
    let layer = crate::support::layer(with_field(&site));
    let send = async |layer: AuthLayer, url: &str| {
        let mut request = post("POST");
        *request.uri_mut() = url.parse().unwrap();
        layer.layer(site.clone()).oneshot(request).await
    };
    for url in ["https://b.example.com/", "http://api.example.com/"] {
        let layer = layer.clone().only_to([url.trim_end_matches('/')]).unwrap();
        assert!(send(layer, url).await.is_err(), "{url}");
    }
    assert!(site.requests().is_empty());
    // With `pass_elsewhere`, a request to another origin has no CSRF header.
    let layer = layer
        .only_to(["https://api.example.com"])
        .unwrap()
        .pass_elsewhere();
    send(layer, "https://b.example.com/").await.unwrap();
    assert_eq!(last(&site), None);
}

#[tokio::test]
async fn the_logout_has_the_token() {
    let of_cookie = Site::setting(["sid=1; Path=/", "XSRF-TOKEN=a%3D; Path=/"]);
    let of_field = with_body(json!({"data": {"csrf": "a="}}).to_string());
    let session = with_cookie(&of_cookie).log_out_at(LOGOUT).unwrap();
    for (site, session) in [(&of_cookie, session), (&of_field, with_field(&of_field))] {
        let layer = crate::support::layer(session);
        layer.cache().token().await.unwrap();
        layer.cache().close().await;
        let token = last(site).unwrap();
        assert!(token == "a=" && token.is_sensitive());
    }
}

fn error_of<T>(result: Result<T, tower_auth::BoxError>) -> Error {
    let error = result.err().unwrap();
    error.downcast_ref::<Error>().unwrap().clone()
}

#[tokio::test]
async fn a_cookie_that_can_not_go_into_a_header_is_an_error_and_nothing_is_sent() {
    for cookie in [
        "planted%0A",
        "planted%00x",
        "planted%7F",
        "%20planted",
        "planted%20",
        "%09",
    ] {
        let line: &'static str = format!("XSRF-TOKEN={cookie}; Path=/").leak();
        let site = Site::setting(["sid=1; Path=/", line]);
        let layer = crate::support::layer(with_cookie(&site));
        let mut client = layer.layer(site.clone());
        let error = error_of(call(&mut client, post("POST")).await);
        let text = all_text_of(&error);
        assert!(
            error.is_illegal_token() && text.contains("XSRF-TOKEN"),
            "{text}"
        );
        assert!(!text.contains("planted"), "{text}");
        assert!(site.requests().is_empty());
        call(&mut client, get(THINGS)).await.unwrap();
        let (token, _) = beside(layer, &site, &[(HEADER, "own")]).await;
        assert_eq!(token.as_deref(), Some("own"));
    }
}

#[tokio::test]
async fn a_login_without_the_field_is_an_error_that_names_it() {
    for (body, why) in [
        ("", "has no body"),
        ("planted", "is not valid JSON"),
        ("[\"planted\"]", "not an object"),
        ("{\"csrf\":\"planted\"}", "no string"),
        ("{\"data\":\"planted\"}", "no string"),
        ("{\"data\":{\"csrf\":null}}", "no string"),
        ("{\"data\":{\"csrf\":12345678}}", "no string"),
        ("{\"data\":{\"csrf\":[\"planted\"]}}", "no string"),
        ("{\"data\":{\"csrf\":\"\"}}", "empty string"),
        (
            "{\"data\":{\"csrf\":\"planted\\n\"}}",
            "illegal in a header",
        ),
        ("{\"data\":{\"csrf\":\" planted\"}}", "illegal in a header"),
    ] {
        let site = with_body(body);
        let error = fetch(&with_field(&site)).await.unwrap_err();
        let text = all_text_of(&error);
        assert!(error.is_reply() && text.contains(why), "{body}: {text}");
        assert!(text.contains("`/data/csrf`"), "{text}");
        assert!(
            !text.contains("planted") && !text.contains("12345678"),
            "{text}"
        );
    }
    let site = with_body("\u{feff}{\"data\":{\"csrf\":\"1\"}}");
    fetch(&with_field(&site)).await.unwrap();
}

#[tokio::test]
async fn the_token_shows_nowhere() {
    let echo = || json!({"error_description": "not planted=, not planted%3D"}).to_string();
    let respond = move |login: ScriptedResponse| {
        Site::new(move |asked| match asked.is_login() {
            true => login.clone(),
            false => setting(400, &[]).body(echo()),
        })
    };
    let set = ["sid=1; Path=/", "XSRF-TOKEN=planted%3D; Path=/"];
    let of_cookie = respond(setting(200, &set));
    let body = json!({"data": {"csrf": "planted="}}).to_string();
    let of_field = respond(setting(200, &set[..1]).body(body));
    let session = with_cookie(&of_cookie).log_out_at(LOGOUT).unwrap();
    for session in [session, with_field(&of_field)] {
        let token = fetch(&session).await.unwrap();
        let shown = format!("{session:?} {session:#?} {token:?}");
        let error = tower_auth::TokenSource::close(&session, Some(token))
            .await
            .unwrap_err();
        assert_eq!(error.description(), Some("not [redacted], not [redacted]"));
        let shown = shown + &all_text_of(&error);
        assert!(!shown.contains("planted"), "{shown}");
    }
}

#[tokio::test]
async fn settings_are_checked_at_once_and_the_last_counts() {
    let site = Site::setting(["sid=1; Path=/", "b=2; Path=/"]);
    let session = || site.session();
    for wrong in [
        session().csrf_cookie("", HEADER),
        session().csrf_cookie("a=b", HEADER),
        session().csrf_cookie("a;b", HEADER),
        session().csrf_cookie(" a", HEADER),
        session().csrf_cookie("a", ""),
        session().csrf_cookie("a", "two words"),
        session().csrf_cookie("a", "Cookie"),
        session().csrf_field("csrf", HEADER),
        session().csrf_field("", HEADER),
        session().csrf_field("/a", "two words"),
        session().csrf_field("/a", "cookie"),
    ] {
        assert!(wrong.unwrap_err().is_config());
    }
    let session = session().csrf_field("/nothing", HEADER).unwrap();
    let session = session.csrf_cookie("b", HEADER).unwrap();
    let mut client = crate::support::layer(session).layer(site.clone());
    call(&mut client, post("POST")).await.unwrap();
    assert_eq!(last(&site).unwrap(), "2");
}
