//! Where a session's cookies are sent, and which cookies are accepted from responses (RFC 6265).

use http::header::COOKIE;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use tower_auth::login::Session;
use tower_auth::{AuthLayer, BoxError, Error};

use crate::support::call;
use crate::support::session_site::{Site, THINGS, cookies, get, setting};

fn error_of(error: &BoxError) -> &Error {
    error.downcast_ref().unwrap()
}

/// Sends a request to this URL. Returns the request's cookies, or `None` if the layer rejects the
/// request because of its origin.
async fn sent(site: &Site, layer: AuthLayer, url: &str) -> Option<String> {
    let before = site.requests().len();
    match layer.layer(site.clone()).oneshot(get(url)).await {
        Ok(_) => Some(site.cookies().swap_remove(before)),
        Err(error) => {
            assert!(error_of(&error).is_origin(), "{url}: {error}");
            assert!(!error.to_string().contains("planted"), "{url}: {error}");
            assert_eq!(site.requests().len(), before, "{url}");
            None
        }
    }
}

#[tokio::test]
async fn cookies_go_to_the_logins_origin_and_no_other() {
    // By RFC 6265 alone, the cookie goes to all hosts of the domain, on any port.
    let site = Site::setting(["sid=planted; Domain=example.com; Path=/"]);
    let layer = crate::support::layer(site.session());
    for url in [
        THINGS,
        "https://API.example.com:443/",
        "https://api.example.com?q",
        "/v1/things",
    ] {
        let cookies = sent(&site, layer.clone(), url).await;
        assert_eq!(cookies.as_deref(), Some("sid=planted"), "{url}");
    }
    for url in [
        "https://example.com/",
        "https://www.example.com/",
        "https://api.example.com.evil.test/",
        "https://api.example.com:8443/",
        "https://127.0.0.1/",
        "http://localhost/",
        "wss://api.example.com/",
    ] {
        assert_eq!(sent(&site, layer.clone(), url).await, None, "{url}");
    }
    // Even if the layer allows another origin, the cookie isn't sent there.
    let layer = layer
        .only_to(["http://api.example.com", "https://b.example.com"])
        .unwrap();
    for url in ["http://api.example.com/", "https://b.example.com/"] {
        assert_eq!(sent(&site, layer.clone(), url).await, None, "{url}");
    }
}

#[tokio::test]
async fn cookies_go_to_an_origin_that_was_named_as_far_as_their_domain_has_them_go() {
    let site = Site::setting([
        "wide=1; Domain=example.com; Path=/",
        "sid=2; Path=/; HttpOnly",
    ]);
    let session = site.session();
    let session = session.origin("https://files.example.com").unwrap();
    let session = session.origin("https://api.example.com:8443").unwrap();
    let session = session.origin("wss://api.example.com").unwrap();
    let session = session.origin("https://example.org").unwrap();
    let layer = crate::support::layer(session);
    for (url, cookies) in [
        ("https://files.example.com/a", Some("wide=1")),
        // The port isn't part of a cookie's scope.
        ("https://api.example.com:8443/a", Some("sid=2; wide=1")),
        ("wss://api.example.com/socket", Some("sid=2; wide=1")),
        ("https://example.org/", None),
        ("https://a.files.example.com/", None),
    ] {
        let sent = sent(&site, layer.clone(), url).await;
        assert_eq!(sent.as_deref(), cookies, "{url}");
    }
    let named = site.session().session_cookie("sid").unwrap();
    let layer = crate::support::layer(named.origin("https://files.example.com").unwrap());
    // `sid` doesn't belong to this origin. Without the session cookie, no other cookie is sent.
    let cookies = sent(&site, layer, "https://files.example.com/a").await;
    assert_eq!(cookies, None);
}

#[tokio::test]
async fn cookies_go_where_their_path_has_them_go_and_the_longest_comes_first() {
    let site = Site::setting([
        "all=1; Path=/v1",
        "some=2; Path=/v1/things",
        // Without a valid path, a cookie gets the default path of the login URL (RFC 6265 §5.1.4).
        "own=3",
        "no=4; Path=relative",
    ]);
    let layer = crate::support::layer(site.session());
    for (path, cookies) in [
        ("/v1", Some("all=1")),
        ("/v1/things", Some("some=2; all=1")),
        ("/v1/things/7?q=/", Some("some=2; all=1")),
        ("/v1/thingsome", Some("all=1")),
        ("/v1/session/me", Some("no=4; own=3; all=1")),
        ("/v10", None),
        ("/", None),
        ("/V1", None),
        ("", None),
    ] {
        let url = format!("https://api.example.com{path}");
        let sent = sent(&site, layer.clone(), &url).await;
        assert_eq!(sent.as_deref(), cookies, "{path}");
    }
}

#[tokio::test]
async fn a_secure_cookie_goes_over_https_or_to_loopback() {
    let site = Site::setting([
        "sid=1; Secure; Path=/; Domain=example.com",
        "open=2; Path=/; Domain=example.com",
    ]);
    let session = site.session().origin("http://b.example.com").unwrap();
    let layer = crate::support::layer(session);
    let layer = layer
        .only_to(["https://api.example.com", "http://b.example.com"])
        .unwrap();
    assert_eq!(
        sent(&site, layer.clone(), THINGS).await.as_deref(),
        Some("open=2; sid=1")
    );
    let cookies = sent(&site, layer, "http://b.example.com/").await;
    assert_eq!(cookies.as_deref(), Some("open=2"));

    for host in [
        "localhost:8080",
        "127.0.0.1:8080",
        "[::1]:8080",
        "api.localhost",
    ] {
        let url = format!("http://{host}/v1/session/login");
        let site = Site::setting(["sid=1; Secure; Path=/"]);
        let session = Session::new(url, "me", "secret")
            .unwrap()
            .transport(site.clone());
        let url = format!("http://{host}/v1/things");
        let cookies = sent(&site, crate::support::layer(session), &url).await;
        assert_eq!(cookies.as_deref(), Some("sid=1"), "{host}");
    }
}

#[tokio::test]
async fn a_secure_cookie_that_can_go_nowhere_is_no_session() {
    use tower_auth::oauth2::EndpointUrl;
    let url = EndpointUrl::danger_allow_http("http://api.internal/login").unwrap();
    let site = Site::setting(["sid=planted; Secure; Path=/"]);
    let session = Session::new(url, "me", "secret")
        .unwrap()
        .transport(site.clone());
    let error = crate::support::layer(session)
        .cache()
        .token()
        .await
        .unwrap_err();
    assert!(
        error.is_reply() && error.to_string().contains("`Secure`"),
        "{error}"
    );
}

/// Sends a request with these `Cookie` lines of the caller. Returns the line that the site gets.
async fn beside<const N: usize>(layer: &AuthLayer, site: &Site, own: [&str; N]) -> HeaderValue {
    let mut request = get(THINGS);
    for line in own {
        let line = HeaderValue::from_str(line).unwrap();
        request.headers_mut().append(COOKIE, line);
    }
    layer.layer(site.clone()).oneshot(request).await.unwrap();
    let last = site.requests().pop().unwrap();
    // `cookies` panics if there is more than one line.
    let _ = cookies(&last);
    last.headers()[COOKIE].clone()
}

#[tokio::test]
async fn the_callers_own_cookies_stay_and_are_no_login() {
    let site = Site::setting(["sid=planted; Path=/"]);
    let layer = crate::support::layer(site.session());
    for (own, all) in [
        (["lang=de", ""], "lang=de; sid=planted"),
        (
            ["lang=de; tz=utc", "a=b"],
            "lang=de; tz=utc; a=b; sid=planted",
        ),
        (["lang=de;; ", ";"], "lang=de; sid=planted"),
        (["sid2=x", "SID=x"], "sid2=x; SID=x; sid=planted"),
        (["bare", "x=sid=1"], "bare; x=sid=1; sid=planted"),
    ] {
        let cookies = beside(&layer, &site, own).await;
        assert_eq!(cookies, all, "{own:?}");
        assert!(cookies.is_sensitive());
    }
    assert_eq!(site.logins(), 1);
}

#[tokio::test]
async fn a_cookie_of_the_callers_goes_before_ours_of_the_same_name() {
    let site = Site::setting(["sid=planted; Path=/", "lang=en; Path=/"]);
    let layer = crate::support::layer(site.session());
    assert_eq!(
        beside(&layer, &site, ["lang=de"]).await,
        "lang=de; sid=planted"
    );
    let both = beside(&layer, &site, [" sid = own ; lang=de"]).await;
    assert_eq!(both, " sid = own ; lang=de");
    assert!(!both.is_sensitive(), "it passes as it is");
    let replacing = crate::support::layer(site.session()).replace_existing(true);
    let cookies = beside(&replacing, &site, ["a=b; sid=own", "lang=de"]).await;
    assert_eq!(cookies, "a=b; lang=en; sid=planted");

    let named = crate::support::layer(site.session().session_cookie("sid").unwrap());
    // The request belongs to the caller's session, so the layer adds no cookie.
    assert_eq!(beside(&named, &site, ["sid=own"]).await, "sid=own");
}

/// The cookies of one caller never go into the requests of another.
#[tokio::test]
async fn what_a_response_sets_in_place_of_the_callers_cookie_is_not_learned() {
    let site = Site::new(|asked| match (asked.is_login(), asked.requests) {
        (true, _) => setting(200, &["sid=1; Path=/", "lang=en; Path=/"]),
        (false, 0) => setting(
            200,
            &[
                "sid=planted; Path=/",
                "own=planted; Path=/",
                "new=2; Path=/",
            ],
        ),
        (false, 1) => setting(200, &["sid=; Path=/; Max-Age=0"]),
        (false, _) => setting(200, &[]),
    });
    let layer = crate::support::layer(site.session());
    for _ in 0..2 {
        let cookies = beside(&layer, &site, ["own=a; sid = theirs", "sid=b"]).await;
        assert!(cookies.to_str().unwrap().starts_with("own=a; sid"));
    }
    assert_eq!(beside(&layer, &site, []).await, "lang=en; new=2; sid=1");
    assert_eq!(site.logins(), 1);

    // The layer has replaced the caller's `sid`, but not the caller's `own`.
    let site = Site::new(|asked| match asked.is_login() {
        true => setting(200, &["sid=1; Path=/"]),
        false => setting(200, &["sid=2; Path=/", "own=planted; Path=/"]),
    });
    let layer = crate::support::layer(site.session()).replace_existing(true);
    let cookies = beside(&layer, &site, ["own=a; sid=theirs"]).await;
    assert_eq!(cookies, "own=a; sid=1");
    assert_eq!(beside(&layer, &site, []).await, "sid=2");
}

#[tokio::test]
async fn a_refusal_of_the_callers_own_session_costs_no_login() {
    let site = Site::new(|asked| match asked.is_login() {
        true => setting(200, &["sid=1; Path=/"]),
        false => setting(401, &["sid=; Path=/; Max-Age=0"]),
    });
    let layer = crate::support::layer(site.session());
    let request = Request::get(THINGS).header(COOKIE, "sid=own");
    let request = request.body(Full::default()).unwrap();
    let response = layer.layer(site.clone()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    layer.cache().token().await.unwrap();
    assert_eq!(
        (site.cookies(), site.logins()),
        (vec![String::from("sid=own")], 1)
    );
}

#[tokio::test]
async fn a_request_with_no_room_for_a_cookie_is_not_sent() {
    let site = Site::setting(["sid=planted; Path=/"]);
    let mut request = get(THINGS);
    for n in 0.. {
        let name = HeaderName::try_from(format!("x-{n}")).unwrap();
        if request
            .headers_mut()
            .try_insert(name, HeaderValue::from_static(""))
            .is_err()
        {
            break;
        }
    }
    let client = crate::support::layer(site.session()).layer(site.clone());
    let error = client.oneshot(request).await.unwrap_err();
    assert!(error_of(&error).is_config(), "{error}");
    assert!(site.requests().is_empty());
}

/// Returns the cookies that are sent after each of these responses. Requests after the last
/// response set nothing.
async fn after(login: &[&str], responses: &[&[&str]]) -> Vec<String> {
    let owned = |lines: &[&str]| lines.iter().copied().map(String::from).collect::<Vec<_>>();
    let login = owned(login);
    let responses: Vec<_> = responses.iter().map(|lines| owned(lines)).collect();
    let count = responses.len();
    let site = Site::new(move |asked| {
        let set = match asked.is_login() {
            true => Some(&login),
            false => responses.get(asked.requests),
        };
        let set: Vec<&str> = set.into_iter().flatten().map(String::as_str).collect();
        setting(200, &set)
    });
    let layer = crate::support::layer(site.session().session_cookie("sid").unwrap());
    let mut client = layer.layer(site.clone());
    for _ in 0..=count {
        call(&mut client, get(THINGS)).await.unwrap();
    }
    assert_eq!(site.logins(), 1);
    site.cookies().split_off(1)
}

#[tokio::test]
async fn what_responses_set_is_sent_from_then_on() {
    let responses: [&[&str]; _] = [
        &["sid=2; Path=/", "new=3; Path=/v1"],
        &["new=4; Path=/v1", "deep=5; Path=/v1/things"],
        &["deep=; Path=/v1/things; Max-Age=0", "far=6; Path=/v2"],
        // `sid` with another path is another cookie.
        &["sid=7; Path=/v1"],
        &["sid=; Path=/; Max-Age=0"],
    ];
    assert_eq!(
        after(&["sid=1; Path=/"], &responses).await,
        [
            "new=3; sid=2",
            "deep=5; new=4; sid=2",
            "new=4; sid=2",
            "new=4; sid=7; sid=2",
            "new=4; sid=7",
        ]
    );
}

#[tokio::test]
async fn what_can_not_be_kept_is_as_if_it_was_not_there() {
    let large = format!("sid={}; Path=/", "x".repeat(4096));
    let fits = format!("sid={}; Path=/", "x".repeat(4096 - "sid=; Path=/".len()));
    for line in [
        "sid=2; Path=/; Domain=example.org",
        "sid=2; Path=/; Domain=com.",
        "sid=2; Path=/; Domain=other.api.example.com",
        "sid=2; Path=/; Domain=\u{fdd0}",
        "sid",
        "=2",
        "",
        ";",
        large.as_str(),
    ] {
        assert_eq!(
            after(&["sid=1; Path=/"], &[&[line]]).await,
            ["sid=1"],
            "{line}"
        );
    }
    let longest = after(&["sid=1; Path=/"], &[&[&fits]]).await;
    assert_eq!(longest[0].len(), 4096 - "; Path=/".len());
}

#[tokio::test]
async fn no_more_than_fifty_cookies_are_kept() {
    let many: Vec<String> = (0..60).map(|n| format!("n{n:02}={n}; Path=/")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let responses: [&[&str]; _] = [
        &many,
        // The first line deletes a cookie. This makes room for the cookie of the second line. The
        // other lines replace existing cookies.
        &[
            "n00=; Path=/; Max-Age=0",
            "last=1; Path=/",
            "n01=new; Path=/",
            "sid=2; Path=/",
        ],
    ];
    let sent = after(&["sid=1; Path=/"], &responses).await;
    assert_eq!(sent[0].split("; ").count(), 50);
    assert!(sent[0].contains("n48=48; sid=1"), "{}", sent[0]);
    assert_eq!(sent[1].split("; ").count(), 50);
    assert!(sent[1].starts_with("last=1; n01=new; n02=2"), "{}", sent[1]);
    assert!(sent[1].ends_with("; sid=2"), "{}", sent[1]);
}

#[tokio::test]
async fn what_is_unusual_is_sent_as_it_came() {
    let site = Site::setting([
        "sid=\"quoted\"; Path=/",
        "a=x=y=; Path=/",
        "empty=; Path=/",
        "p=%20; Path=/",
    ]);
    let layer = crate::support::layer(site.session());
    let cookies = sent(&site, layer, THINGS).await.unwrap();
    assert_eq!(cookies, "a=x=y=; empty=; p=%20; sid=\"quoted\"");
}

/// For any response, nothing panics and the session continues.
#[tokio::test]
async fn no_response_can_harm_the_session() {
    let names = ["sid", "s i d", "\u{e9}", "__Host-a", "$x", ""];
    let attributes = [
        "",
        "; Path",
        "; Path=",
        "; Path=//",
        "; Path=\u{e9}",
        "; Domain=",
        "; Domain=.",
        "; Domain=..",
        "; Domain=.api.example.com",
        "; Domain=[::1]",
        "; Domain=127.0.0.1",
        "; Domain=xn--",
        "; Max-Age=9223372036854775807",
        "; Max-Age=-9223372036854775808",
        "; Max-Age=1e9",
        "; Expires=Fri, 31 Dec 9999 23:59:59 GMT",
        "; Expires=Sun, 06 Nov 99 08:49:37 GMT",
        "; Expires=Mon, 99 Foo 0000 99:99:99 GMT",
        "; Secure; HttpOnly; SameSite=What; Partitioned; =; ;",
    ];
    for name in names {
        for attribute in attributes {
            let line = format!("{name}=x{attribute}");
            let site = Site::new(move |asked| match asked.is_login() {
                true => setting(200, &["sid=1; Path=/v1/things"]),
                false => setting(200, &[&line]),
            });
            let session = site.session().session_cookie("sid").unwrap();
            let mut client = crate::support::layer(session).layer(site.clone());
            for _ in 0..2 {
                let url = "https://api.example.com/v1/things/\u{e9}/%zz//";
                call(&mut client, get(&url.replace('\u{e9}', "%C3%A9")))
                    .await
                    .unwrap();
            }
            assert!(site.cookies()[1].contains("sid=1"), "{name}{attribute}");
        }
    }
}

#[cfg(feature = "reqwest")]
#[tokio::test]
async fn what_another_origin_sets_that_a_redirect_led_to_is_not_learned() {
    use axum::Router;
    use axum::http::HeaderMap;
    use axum::response::{AppendHeaders, Redirect};
    use axum::routing::{get, post};
    use tokio::net::TcpListener;
    use tower_auth::oauth2::ReqwestTransport;

    async fn serve(router: Router) -> (String, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = async { axum::serve(listener, router).await.unwrap() };
        (url, tokio::spawn(server))
    }

    // RFC 6265 ignores the port, so this server could read and set the site's cookies.
    let echo = |headers: HeaderMap| async move {
        let seen = headers
            .get("cookie")
            .map(|line| line.to_str().unwrap().to_owned());
        let set = AppendHeaders([("set-cookie", "sid=strangers; Path=/")]);
        (set, seen.unwrap_or_default())
    };
    let (other, strangers) = serve(Router::new().route("/", get(echo))).await;
    let own = |headers: HeaderMap| async move { headers["cookie"].to_str().unwrap().to_owned() };
    let router = Router::new()
        .route(
            "/login",
            post(|| async { AppendHeaders([("set-cookie", "sid=own; Path=/")]) }),
        )
        .route("/moved", get(|| async move { Redirect::temporary(&other) }))
        .route("/things", get(own));
    let (site, servers) = serve(router).await;

    let http = reqwest::Client::new();
    let transport = ReqwestTransport::new(http.clone());
    let login = format!("{site}/login");
    let session = Session::new(login, "me", "secret")
        .unwrap()
        .transport(transport);
    let mut client = crate::support::layer(session).layer(http.clone());
    for (path, seen) in [
        ("/things", "sid=own"),
        ("/moved", ""),
        ("/things", "sid=own"),
    ] {
        let request = http.get(format!("{site}{path}")).build().unwrap();
        let response = call(&mut client, request).await.unwrap();
        assert_eq!(response.text().await.unwrap(), seen, "{path}");
    }
    strangers.abort();
    servers.abort();
}
