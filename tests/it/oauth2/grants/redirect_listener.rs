//! The listener for the browser's redirect, and which requests end the listener.
//!
//! The browser is a plain socket. So it can send what no real browser sends.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tower_auth::oauth2::{
    AuthorizationCode, AuthorizationRequest, AuthorizationResponse, Client, RedirectListener,
};
use tower_auth::{Error, Reason, TokenSource};

use crate::support::login_server::{ISSUED, LoginServer};
use crate::support::token_server::{ID, URL};

const AUTHORIZE: &str = "https://id.example.com/authorize";

fn login(server: &LoginServer) -> AuthorizationCode {
    let client = Client::public(URL, ID)
        .unwrap()
        .transport(server.transport());
    AuthorizationCode::new(client, AUTHORIZE).unwrap()
}

async fn begin(listener: &RedirectListener) -> AuthorizationRequest {
    let login = login(&LoginServer::default());
    login.begin(listener.redirect_uri()).await.unwrap()
}

fn state(request: &AuthorizationRequest) -> String {
    let (_, query) = request.url().split_once('?').unwrap();
    let mut params = form_urlencoded::parse(query.as_bytes());
    let state = params.find(|(name, _)| name == "state");
    state.unwrap().1.into_owned()
}

/// A waiting listener and its address.
struct Waiting {
    accepted: JoinHandle<(AuthorizationRequest, Result<AuthorizationResponse, Error>)>,
    authority: String,
    state: String,
}

impl Waiting {
    async fn start() -> Self {
        Self::at(RedirectListener::bind().await.unwrap()).await
    }

    async fn at(listener: RedirectListener) -> Self {
        let request = begin(&listener).await;
        let uri = listener.redirect_uri();
        let authority = uri
            .strip_prefix("http://")
            .unwrap()
            .split('/')
            .next()
            .unwrap();
        let (authority, state) = (authority.to_owned(), state(&request));
        let accepted = tokio::spawn(async move {
            let response = listener.accept(&request).await;
            (request, response)
        });
        Self {
            accepted,
            authority,
            state,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.authority).await.unwrap()
    }

    /// Sends these bytes and returns the whole response.
    async fn send(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut socket = self.connect().await;
        socket.write_all(bytes.as_ref()).await.unwrap();
        let mut response = Vec::new();
        socket.read_to_end(&mut response).await.unwrap();
        String::from_utf8(response).unwrap()
    }

    async fn get(&self, target: &str) -> String {
        let host = &self.authority;
        self.send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n"))
            .await
    }

    async fn come_back(&self) -> String {
        self.get(&format!("/callback?code=c&state={}", self.state))
            .await
    }

    /// Asserts that the listener still waits, and that the right redirect ends the wait.
    async fn waits_on(self) {
        assert!(!self.accepted.is_finished());
        let page = self.come_back().await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        self.accepted.await.unwrap().1.unwrap();
    }
}

#[tokio::test]
async fn the_browser_comes_back_and_gets_a_page_that_tells_nothing() {
    let waiting = Waiting::start().await;
    let port = waiting.authority.strip_prefix("127.0.0.1:").unwrap();
    assert_ne!(port.parse::<u16>().unwrap(), 0);
    let page = waiting.come_back().await;
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for header in [
        "content-type: text/html; charset=utf-8",
        "cache-control: no-store",
        "referrer-policy: no-referrer",
        "content-security-policy: default-src 'none'",
        "x-content-type-options: nosniff",
        "connection: close",
    ] {
        assert!(
            head.lines().any(|line| line == header),
            "{header} isn't in {head}"
        );
    }
    assert!(body.contains("You can close this window"), "{body}");
    let authority = waiting.authority.clone();
    waiting.accepted.await.unwrap().1.unwrap();
    // After the response, the listener's port is closed.
    TcpStream::connect(authority).await.unwrap_err();
}

#[tokio::test]
async fn what_came_back_is_exchanged() {
    let server = LoginServer::responding([ISSUED]);
    let login = login(&server);
    let listener = RedirectListener::bind().await.unwrap();
    let request = login.begin(listener.redirect_uri()).await.unwrap();
    let target = format!("/callback?code=the%2Fcode&state={}", state(&request));
    let address = listener.redirect_uri();
    let host = address
        .strip_prefix("http://")
        .unwrap()
        .strip_suffix("/callback")
        .unwrap();
    let mut browser = TcpStream::connect(host).await.unwrap();
    let sent = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    browser.write_all(sent.as_bytes()).await.unwrap();
    let response = listener.accept(&request).await.unwrap();
    let source = login.finish(request, response).await.unwrap();
    assert_eq!(source.fetch(Reason::First).await.unwrap().secret(), "first");
    let (_, form) = server.asked().remove(0);
    assert!(form.contains(&("code".into(), "the/code".into())));
    assert!(form.contains(&("redirect_uri".into(), address.clone())));
    // The page was sent before `accept` returned. The browser reads the page only now.
    let mut page = String::new();
    browser.read_to_string(&mut page).await.unwrap();
    assert!(page.ends_with("</html>\n"), "{page}");
}

#[tokio::test]
async fn an_icon_and_whatever_else_a_browser_asks_for_is_told_no_and_it_waits_on() {
    let waiting = Waiting::start().await;
    let good = format!("?code=c&state={}", waiting.state);
    for target in [
        "/favicon.ico",
        "/",
        "/callback/",
        "/callbackx",
        "/Callback",
        "//callback",
    ] {
        let page = waiting.get(&format!("{target}{good}")).await;
        assert!(page.starts_with("HTTP/1.1 404 "), "{target}: {page}");
    }
    for method in ["POST", "HEAD", "PUT", "OPTIONS", "get"] {
        let host = &waiting.authority;
        let asked = format!("{method} /callback{good} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let page = waiting.send(asked).await;
        assert!(
            page.starts_with("HTTP/1.1 405 ") && page.contains("allow: GET"),
            "{page}"
        );
    }
    waiting.waits_on().await;
}

#[tokio::test]
async fn a_stranger_on_the_machine_can_not_end_it() {
    let waiting = Waiting::start().await;
    let state = waiting.state.clone();
    let other = format!("{}x", &state[..42]);
    for query in [
        String::new(),
        "?code=c".into(),
        "?code=c&state=".into(),
        format!("?code=c&state={other}"),
        format!("?error=access_denied&state={other}"),
        format!("?state={state}&state={state}&code=c"),
        "?%3Cscript%3Ealert(1)=%3C/script%3E".into(),
    ] {
        let page = waiting.get(&format!("/callback{query}")).await;
        assert!(page.starts_with("HTTP/1.1 400 "), "{query}: {page}");
        assert!(
            !page.contains(&other) && !page.contains("script>"),
            "{page}"
        );
        assert!(page.contains("cache-control: no-store"), "{page}");
    }
    for garbage in [
        "hello\r\n\r\n",
        "GET /callback HTTP/9.9\r\n\r\n",
        "\0\0\0\0\r\n",
    ] {
        let page = waiting.send(garbage).await;
        assert!(!page.starts_with("HTTP/1.1 2"), "{page}");
    }
    waiting.waits_on().await;
}

#[tokio::test]
async fn a_name_that_somebody_else_has_pointed_here_leads_nowhere() {
    let waiting = Waiting::start().await;
    let target = format!("/callback?code=c&state={}", waiting.state);
    let port = waiting
        .authority
        .strip_prefix("127.0.0.1")
        .unwrap()
        .to_owned();
    let own = format!("host: {}\r\n", waiting.authority);
    for hosts in [
        String::new(),
        "host: \r\n".into(),
        "host: 127.0.0.1\r\n".into(),
        "host: 127.0.0.1:1\r\n".into(),
        format!("host: evil.example.com{port}\r\n"),
        format!("host: localhost{port}\r\n"),
        format!("{own}host: evil.example.com\r\n"),
        format!("{own}{own}"),
    ] {
        let page = waiting
            .send(format!("GET {target} HTTP/1.1\r\n{hosts}\r\n"))
            .await;
        let status = page.split(' ').nth(1).unwrap_or_default();
        assert!(["421", "400"].contains(&status), "{hosts}: {page}");
    }
    let absolute = format!("GET http://evil.example.com{target} HTTP/1.1\r\n{own}\r\n");
    assert!(waiting.send(absolute).await.starts_with("HTTP/1.1 421 "));
    waiting.waits_on().await;
}

/// Browsers open connections in advance and may never use them.
#[tokio::test]
async fn connections_that_ask_nothing_are_no_hindrance() {
    let waiting = Waiting::start().await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut socket = waiting.connect().await;
        socket.write_all(b"GET /call").await.unwrap();
        idle.push(socket);
    }
    waiting.waits_on().await;
}

/// Idle connections use all the slots of the listener until they time out.
#[tokio::test(start_paused = true)]
async fn connections_that_ask_nothing_are_given_up() {
    let listener = RedirectListener::bind().await.unwrap();
    // While everything waits, paused time jumps to the earliest deadline. The listener's timeout of
    // 1 h is later than all others.
    let waiting = Waiting::at(listener.timeout(Duration::from_secs(3600))).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(waiting.connect().await);
    }
    waiting.waits_on().await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_cut_off() {
    let waiting = Waiting::start().await;
    let pad = "x".repeat(32 * 1024);
    let target = format!("/callback?code=c&state={}&pad={pad}", waiting.state);
    let mut socket = waiting.connect().await;
    let host = &waiting.authority;
    let head = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    // The listener may close the connection before everything is sent.
    let _ = socket.write_all(head.as_bytes()).await;
    let mut response = Vec::new();
    let _ = socket.read_to_end(&mut response).await;
    assert!(!response.starts_with(b"HTTP/1.1 2"));
    // A code of 8 KiB still fits.
    let code = "x".repeat(8 * 1024);
    let page = waiting
        .get(&format!("/callback?code={code}&state={}", waiting.state))
        .await;
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    waiting.accepted.await.unwrap().1.unwrap();
}

#[tokio::test]
async fn a_no_ends_it_and_the_person_sees_that() {
    for (query, is_denied) in [
        ("error=access_denied&error_description=%3Cb%3Eno", true),
        ("nothing=x", false),
        ("code=a&code=b", false),
    ] {
        let waiting = Waiting::start().await;
        let page = waiting
            .get(&format!("/callback?state={}&{query}", waiting.state))
            .await;
        assert!(
            page.starts_with("HTTP/1.1 200 ") && page.contains("not logged in"),
            "{page}"
        );
        assert!(
            !page.contains("<b>") && !page.contains("access_denied"),
            "{page}"
        );
        let error = waiting.accepted.await.unwrap().1.unwrap_err();
        assert_eq!(
            (error.is_access_denied(), error.is_reply()),
            (is_denied, !is_denied)
        );
    }
}

#[tokio::test]
async fn a_browser_that_goes_away_is_back_all_the_same() {
    let waiting = Waiting::start().await;
    let mut socket = waiting.connect().await;
    let (host, state) = (&waiting.authority, &waiting.state);
    let asked = format!("GET /callback?code=c&state={state} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    socket.write_all(asked.as_bytes()).await.unwrap();
    drop(socket);
    waiting.accepted.await.unwrap().1.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_browser_that_never_comes_is_given_up_after_five_minutes_or_as_long_as_is_said() {
    for said in [None, Some(Duration::from_secs(7))] {
        let mut listener = RedirectListener::bind().await.unwrap();
        if let Some(timeout) = said {
            listener = listener.timeout(timeout);
        }
        let request = begin(&listener).await;
        let start = tokio::time::Instant::now();
        let error = listener.accept(&request).await.unwrap_err();
        assert!(
            error.is_timeout() && error.to_string().contains("again"),
            "{error}"
        );
        assert_eq!(start.elapsed(), said.unwrap_or(Duration::from_secs(300)));
    }
}

#[tokio::test]
async fn the_path_can_be_another() {
    let listener = RedirectListener::bind().await.unwrap();
    let listener = listener.path("/oauth/back").unwrap();
    assert!(listener.redirect_uri().ends_with("/oauth/back"));
    let waiting = Waiting::at(listener).await;
    let page = waiting
        .get(&format!("/oauth/back?code=c&state={}", waiting.state))
        .await;
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    waiting.accepted.await.unwrap().1.unwrap();
    for bad in [
        "", "callback", "/a b", "/a?b", "/a#b", "/%2e", "/ü", "/a\r\n",
    ] {
        let listener = RedirectListener::bind().await.unwrap();
        assert!(listener.path(bad).unwrap_err().is_config(), "{bad}");
    }
}

#[tokio::test]
async fn the_port_can_be_a_certain_one_that_must_be_free() {
    let taken = RedirectListener::bind().await.unwrap();
    let uri = taken.redirect_uri();
    let port: u16 = uri.split([':', '/']).nth(4).unwrap().parse().unwrap();
    let error = RedirectListener::bind_port(port).await.unwrap_err();
    assert!(
        error.is_transport() && error.to_string().contains(&port.to_string()),
        "{error}"
    );
    drop(taken);
    let again = RedirectListener::bind_port(port).await.unwrap();
    assert_eq!(again.redirect_uri(), uri);
}

#[tokio::test]
async fn a_login_that_comes_back_elsewhere_is_not_waited_for() {
    let (one, other) = (
        RedirectListener::bind().await.unwrap(),
        RedirectListener::bind().await.unwrap(),
    );
    let request = begin(&one).await;
    let other = other.timeout(Duration::from_millis(1));
    assert!(other.accept(&request).await.unwrap_err().is_config());
}

#[test]
fn outside_of_a_runtime_the_error_says_so() {
    let mut bound = tokio_test::task::spawn(RedirectListener::bind());
    let error = tokio_test::assert_ready!(bound.poll()).unwrap_err();
    assert!(error.is_runtime(), "{error}");
}
