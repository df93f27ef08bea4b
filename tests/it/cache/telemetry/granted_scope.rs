//! The warning that less scope was granted than requested. It is logged once, before the first 403.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tower_auth::oauth2::{ClientCredentials, RefreshToken};
use tower_auth::{Reason, Token, TokenCache, TokenSource};
use tower_auth_test::{ScriptedResponse, ScriptedServer};
use tracing::Level;

use crate::support::log::{Line, Log, listen};
use crate::support::login_server::LoginServer;
use crate::support::scenarios::orders;
use crate::support::token_server::{ID, SECRET, TokenServer, URL};

const MESSAGE: &str = "the authorization server granted less scope than was requested, so the API may \
                       refuse requests with a 403; allow the missing scopes for this client, or stop \
                       requesting them";

/// Returns the missing scope that each warning since the last call names.
#[track_caller]
fn told(log: &Log) -> Vec<String> {
    let mut lines: Vec<Line> = log.all();
    lines.retain(|line| !line.is_span && line.level < Level::DEBUG);
    let missing = lines.iter().map(|line| {
        assert_eq!((line.level, &*line.message), (Level::WARN, MESSAGE));
        assert_eq!(line.fields.len(), 2, "{line}");
        assert_eq!(line.value("tower_auth.cache"), "orders");
        line.value("tower_auth.scope.missing").to_owned()
    });
    missing.collect()
}

/// Builds a cache whose source requests this scope. The server grants these scopes in turn, and
/// then repeats the last.
fn cache<const N: usize>(requested: &str, granted: [Option<&'static str>; N]) -> TokenCache {
    let granted = Arc::new(Mutex::new(VecDeque::from(granted)));
    let transport = ScriptedServer::new(move |_| {
        let mut left = granted.lock().unwrap();
        let scope = match left.len() {
            1 => left[0],
            _ => left.pop_front().unwrap(),
        };
        let scope = scope.map_or(String::new(), |scope| format!(r#","scope":"{scope}""#));
        let token = format!(r#"{{"access_token":"token","expires_in":3600{scope}}}"#);
        ScriptedResponse::json(200, token)
    });
    let source = ClientCredentials::new(URL, ID, SECRET).unwrap();
    orders(source.transport(transport).scope(requested))
}

#[tokio::test(start_paused = true)]
async fn it_is_told_once_over_many_fetches() {
    let (log, _listening) = listen();
    let cache = cache("write read delete", [Some("read"), Some(" read read ")]);
    assert_eq!(cache.token().await.unwrap().scope(), Some("read"));
    assert_eq!(told(&log), ["delete write"]);
    for _ in 0..20 {
        cache.refresh_now().await.unwrap();
    }
    cache.reject(&cache.token().await.unwrap());
    cache.token().await.unwrap();
    assert!(told(&log).is_empty());
}

#[tokio::test(start_paused = true)]
async fn it_is_told_again_when_other_scopes_are_missing() {
    let (log, _listening) = listen();
    let granted = [
        Some("a b"),
        Some("a"),
        Some("a"),
        Some("a b c"),
        Some("c"),
        // From `c` to `x c`, the missing scopes stay the same.
        Some("x c"),
        None,
        Some("c"),
    ];
    let cache = cache("a b c", granted);
    for expected in [
        Some("c"),
        Some("b c"),
        None,
        None,
        Some("a b"),
        None,
        None,
        Some("a b"),
    ] {
        cache.refresh_now().await.unwrap();
        assert_eq!(told(&log), Vec::from_iter(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_scope_that_is_absent_equal_or_more_is_no_news() {
    let (log, _listening) = listen();
    for granted in [
        None,
        Some(""),
        Some("read write"),
        Some("write  read"),
        Some("write read write"),
        Some("admin read write"),
    ] {
        let cache = cache("read write", [granted]);
        cache.token().await.unwrap();
        cache.refresh_now().await.unwrap();
    }
    cache("", [Some("read")]).token().await.unwrap();
    cache("openid offline_access read", [Some("read")])
        .token()
        .await
        .unwrap();
    assert!(told(&log).is_empty());
    // This scope isn't in the form of RFC 6749, so it is unknown what was granted.
    let array = r#"{"access_token":"token","scope":["read"]}"#;
    let source = TokenServer::new(200, array).client().scope("read write");
    orders(source).token().await.unwrap();
    assert!(told(&log).is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_cache_tells_for_itself() {
    let (log, _listening) = listen();
    for _ in 0..2 {
        cache("a b", [Some("a")]).token().await.unwrap();
        assert_eq!(told(&log), ["b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_names_are_harmless_and_their_number_is_bounded() {
    let (log, _listening) = listen();
    let many: Vec<String> = (0..1_000)
        .map(|number| format!("scope-{number:03}"))
        .collect();
    cache(&many.join(" "), [Some("x")]).token().await.unwrap();
    let [missing] = &told(&log)[..] else {
        panic!("one warning");
    };
    assert!(missing.starts_with("scope-000 scope-001 "), "{missing}");
    assert!(
        missing.ends_with(" and 980 more") && missing.len() < 256,
        "{missing}"
    );

    let hostile = format!("a\u{7}b\u{202e}c{}", "d".repeat(10_000));
    cache(&hostile, [Some("x")]).token().await.unwrap();
    let [missing] = &told(&log)[..] else {
        panic!("one warning");
    };
    assert!(
        missing.starts_with("a b cddd") && missing.len() <= 256,
        "{missing}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_asks_for_less_is_compared_with_what_it_asks_for() {
    let (log, _listening) = listen();
    let response = (
        200,
        r#"{"access_token":"token","expires_in":3600,"scope":"read"}"#,
    );
    let server = LoginServer::responding([response, response]);
    // This source names no scope, so the scope of the login is unknown.
    let source = RefreshToken::new(server.client(), "refresh");
    orders(source).token().await.unwrap();
    assert!(told(&log).is_empty());
    let source = RefreshToken::new(server.client(), "refresh").scope("read write");
    orders(source).token().await.unwrap();
    assert_eq!(told(&log), ["write"]);
}

#[cfg(feature = "authorization-code")]
#[tokio::test(start_paused = true)]
async fn a_person_who_allowed_less_is_told_of_once() {
    use tower_auth::oauth2::AuthorizationCode;

    let (log, _listening) = listen();
    let first = r#"{"access_token":"a","refresh_token":"r","expires_in":3600,"scope":"read"}"#;
    let server = LoginServer::responding([(200, first), (200, first)]);
    let login = AuthorizationCode::new(server.client(), "https://id.example.com/authorize");
    let login = login.unwrap().scope("openid read write");
    let request = login.begin("http://127.0.0.1:4711/").await.unwrap();
    let (_, query) = request.url().split_once('?').unwrap();
    let state = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "state");
    let target = format!("?code=c&state={}", state.unwrap().1);
    let response = request.read(&target).unwrap();
    let cache = orders(login.finish(request, response).await.unwrap());
    cache.token().await.unwrap();
    assert_eq!(told(&log), ["write"]);
    cache.refresh_now().await.unwrap();
    assert!(told(&log).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_step_up_that_is_granted_in_part_tells_what_is_still_missing() {
    use tower_auth::challenge::Challenge;
    use tower_auth::oauth2::{Client, StepUp};

    let (log, _listening) = listen();
    // The source requests `read`, and later also `write`. The server always grants only `read`.
    let transport = ScriptedServer::new(|_| {
        let token = r#"{"access_token":"token","expires_in":3600,"scope":"read"}"#;
        ScriptedResponse::json(200, token)
    });
    let client = Client::new(URL, ID, SECRET).unwrap().transport(transport);
    let source = StepUp::new(move |wanted| {
        Ok(ClientCredentials::with_client(client.clone()).scope(wanted.scope()))
    });
    let source = Arc::new(source.scope("read").allow("write"));
    let cache = orders(Shared(Arc::clone(&source)));
    let token = cache.token().await.unwrap();
    assert!(told(&log).is_empty());

    let wanted = r#"Bearer error="insufficient_scope", scope="write""#;
    let headers = [(http::header::WWW_AUTHENTICATE, wanted.parse().unwrap())];
    let challenges = Challenge::parse(&headers.into_iter().collect());
    assert!(source.challenged(&token, &challenges));
    for expected in [&["write"][..], &[]] {
        cache.refresh_now().await.unwrap();
        assert_eq!(told(&log), expected);
    }
}

/// A source that the test can also call directly.
struct Shared(Arc<tower_auth::oauth2::StepUp>);

impl TokenSource for Shared {
    async fn fetch(&self, reason: Reason) -> Result<Token, tower_auth::Error> {
        self.0.fetch(reason).await
    }
}

#[cfg(feature = "fleet")]
#[tokio::test(start_paused = true)]
async fn of_a_fleet_the_process_that_fetches_tells() {
    use crate::support::breakable_store::BreakableStore;

    let (log, _listening) = listen();
    let server = ScriptedServer::new(|request| {
        let number = request.number();
        let token =
            format!(r#"{{"access_token":"token-{number}","expires_in":3600,"scope":"read"}}"#);
        ScriptedResponse::json(200, token)
    });
    let store = BreakableStore::default();
    let process = || {
        let source = ClientCredentials::new(URL, ID, SECRET).unwrap();
        store.process(source.transport(server.clone()).scope("read write"))
    };
    let (fetches, loads) = (process(), process());
    fetches.token().await.unwrap();
    assert_eq!(told(&log), ["write"]);
    loads.token().await.unwrap();
    assert!(told(&log).is_empty());
    loads.refresh_now().await.unwrap();
    assert_eq!(told(&log), ["write"]);
    // `fetches` loads the token of the other process, and later fetches another. The missing scope
    // isn't logged again.
    fetches.reject(&fetches.token().await.unwrap());
    fetches.token().await.unwrap();
    assert_eq!(server.requests().len(), 2);
    fetches.refresh_now().await.unwrap();
    assert_eq!(server.requests().len(), 3);
    assert!(told(&log).is_empty());
}
