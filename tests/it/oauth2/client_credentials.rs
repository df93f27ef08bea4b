//! What the client credentials grant asks for, of whom, and in which words.

use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::Full;
use serde_json::json;
use tower::Service;
use tower_auth::oauth2::{ClientCredentials, EndpointUrl};
use tower_auth::{Error, Place, Reason, TokenSource};

use crate::support::token_server::{ID, SECRET, TokenServer, URL, all_text_of};

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    pairs.iter().map(owned).collect()
}

fn at(url: &str) -> Result<ClientCredentials, Error> {
    ClientCredentials::with_transport(url, ID, SECRET, TokenServer::issuing().transport())
}

#[tokio::test]
async fn id_and_secret_go_in_a_form_unless_said_otherwise() {
    let server = TokenServer::issuing();
    let token = server.client().fetch(Reason::First).await.unwrap();
    assert_eq!(*token.place(), Place::Header(AUTHORIZATION));
    assert_eq!(token.header_value().unwrap(), "Bearer issued");

    let (head, body) = server.request();
    assert_eq!(head.method, Method::POST);
    assert_eq!(head.uri, URL);
    assert_eq!(
        head.headers[CONTENT_TYPE],
        "application/x-www-form-urlencoded"
    );
    assert_eq!(head.headers[ACCEPT], "application/json");
    assert!(!head.headers.contains_key(AUTHORIZATION));
    assert_eq!(
        body,
        "grant_type=client_credentials&client_id=the-client\
         &client_secret=s3cr3t%2Fof%2Bthe+client"
    );
}

#[tokio::test]
async fn every_setting_is_a_parameter_of_its_own() {
    let server = TokenServer::issuing();
    let source = server
        .client()
        .scopes(["read", "write"])
        .audience("https://api.example.com")
        .resource("https://one.example.com/?a=b&c")
        .resource("https://two.example.com")
        .param("organization", "org_1")
        .unwrap();
    source.fetch(Reason::First).await.unwrap();
    let expected = [
        ("grant_type", "client_credentials"),
        ("scope", "read write"),
        ("audience", "https://api.example.com"),
        ("resource", "https://one.example.com/?a=b&c"),
        ("resource", "https://two.example.com"),
        ("organization", "org_1"),
        ("client_id", ID),
        ("client_secret", SECRET),
    ];
    assert_eq!(server.form(), pairs(&expected));
}

#[tokio::test]
async fn json_holds_the_same_and_several_resources_as_an_array() {
    let server = TokenServer::issuing();
    let source = server
        .client()
        .json()
        .audience("api")
        .resource("urn:a")
        .resource("urn:\"b");
    source.fetch(Reason::First).await.unwrap();
    let (head, body) = server.request();
    assert_eq!(head.headers[CONTENT_TYPE], "application/json");
    let expected = json!({
        "grant_type": "client_credentials",
        "audience": "api",
        "resource": ["urn:a", "urn:\"b"],
        "client_id": ID,
        "client_secret": SECRET,
    });
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&body).unwrap(),
        expected
    );
}

#[tokio::test]
async fn one_resource_in_json_is_a_text() {
    let server = TokenServer::issuing();
    server
        .client()
        .json()
        .resource("urn:a")
        .fetch(Reason::First)
        .await
        .unwrap();
    let (_, body) = server.request();
    assert!(body.contains(r#""resource":"urn:a""#), "{body}");
}

#[tokio::test]
async fn basic_authentication_leaves_the_body_without_id_and_secret() {
    for is_json in [false, true] {
        let server = TokenServer::issuing();
        let source = server.client().basic_auth();
        let source = if is_json { source.json() } else { source };
        source.fetch(Reason::First).await.unwrap();
        let (head, body) = server.request();
        assert!(head.headers[AUTHORIZATION].is_sensitive());
        assert!(
            !body.contains("client_id") && !body.contains("client_secret"),
            "{body}"
        );
        let expected = if is_json {
            r#"{"grant_type":"client_credentials"}"#
        } else {
            "grant_type=client_credentials"
        };
        assert_eq!(body, expected);
    }
}

#[tokio::test]
async fn id_and_secret_are_form_encoded_before_they_are_joined() {
    let server = TokenServer::issuing();
    let (id, secret) = ("a:b c", "p%q+r é&=~");
    let source = ClientCredentials::with_transport(URL, id, secret, server.transport()).unwrap();
    source.basic_auth().fetch(Reason::First).await.unwrap();
    let (head, _) = server.request();
    let value = head.headers[AUTHORIZATION]
        .to_str()
        .unwrap()
        .strip_prefix("Basic ")
        .unwrap();
    let pair = base64::engine::general_purpose::STANDARD
        .decode(value)
        .unwrap();
    assert_eq!(
        String::from_utf8(pair).unwrap(),
        "a%3Ab+c:p%25q%2Br+%C3%A9%26%3D%7E"
    );
}

#[tokio::test]
async fn a_public_client_sends_its_id_and_no_secret() {
    let server = TokenServer::issuing();
    let client = || ClientCredentials::public_with_transport(URL, ID, server.transport()).unwrap();
    client().fetch(Reason::First).await.unwrap();
    let expected = [("grant_type", "client_credentials"), ("client_id", ID)];
    assert_eq!(server.form(), pairs(&expected));

    client().basic_auth().fetch(Reason::First).await.unwrap();
    let (head, _) = server.request();
    assert_eq!(
        head.headers[AUTHORIZATION], "Basic dGhlLWNsaWVudDo=",
        "`the-client:`"
    );
}

#[test]
fn an_empty_id_or_secret_is_refused_at_once() {
    let transport = || TokenServer::issuing().transport();
    let no_secret = ClientCredentials::with_transport(URL, ID, "", transport()).unwrap_err();
    assert!(no_secret.is_config() && no_secret.to_string().contains("secret is empty"));
    let no_id = ClientCredentials::public_with_transport(URL, "", transport()).unwrap_err();
    assert!(no_id.is_config() && no_id.to_string().contains("id is empty"));
}

#[test]
fn a_parameter_that_has_a_method_of_its_own_is_refused() {
    let reserved = [
        "grant_type",
        "client_id",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "scope",
        "audience",
        "resource",
        "",
    ];
    for name in reserved {
        let error = TokenServer::issuing()
            .client()
            .param(name, "hidden-value")
            .unwrap_err();
        assert!(error.is_config());
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        assert!(!all_text_of(&error).contains("hidden-value"));
    }
}

#[test]
fn a_parameter_is_refused_the_second_time() {
    let source = TokenServer::issuing()
        .client()
        .param("tenant", "a")
        .unwrap();
    assert!(
        source
            .param("tenant", "b")
            .unwrap_err()
            .to_string()
            .contains("set already")
    );
}

#[test]
fn the_address_is_https_or_loopback() {
    for url in [
        "https://id.example.com/token",
        "https://id.example.com:8443/token?api-version=1",
        "HTTPS://ID.EXAMPLE.COM/token",
        "http://localhost/token",
        "http://LOCALHOST:8080/token",
        "http://localhost./token",
        "http://id.localhost:8080/token",
        "http://127.0.0.1:8080/token",
        "http://127.255.0.3/token",
        "http://[::1]:8080/token",
    ] {
        assert!(at(url).is_ok(), "{url}: {:?}", at(url));
    }
}

#[test]
fn a_cleartext_address_is_refused_before_anything_is_sent() {
    for url in [
        "http://example.com/token",
        "http://10.0.0.1/token",
        "http://0.0.0.0/token",
        "http://localhost.evil.com/token",
        "http://127.0.0.1.nip.io/token",
        "http://127.0.0.1.localhost.evil/token",
        "http://notlocalhost/token",
        "http://.localhost/token",
        "http://[::2]/token",
        "http://[::ffff:10.0.0.1]/token",
        "http://128.0.0.1/token",
    ] {
        let error = at(url).map(|_| url).unwrap_err();
        assert!(error.is_config());
        assert!(error.to_string().contains("use https"), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_cleartext_address_can_be_allowed_by_name() {
    let server = TokenServer::issuing();
    let url = EndpointUrl::danger_allow_http("http://id.internal/token").unwrap();
    let source = ClientCredentials::with_transport(url, ID, SECRET, server.transport()).unwrap();
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(server.request().0.uri, "http://id.internal/token");
}

#[test]
fn an_address_that_is_none_is_refused_without_quoting_it() {
    for (url, what) in [
        ("https://me:hunter22@id.example.com/token", "user name"),
        ("https://hunter22@id.example.com/token", "user name"),
        ("https://id.example.com/token#hunter22", "fragment"),
        ("ftp://localhost/hunter22", "neither https nor http"),
        ("/hunter22", "not absolute"),
        ("hunter22", "not absolute"),
        ("hunter22 and more", "no valid URL"),
        ("", "no valid URL"),
        ("https:///hunter22", "no valid URL"),
        ("https://id.example.com:99999/hunter22", "port"),
        (" https://id.example.com/hunter22", "no valid URL"),
    ] {
        for error in [
            at(url).unwrap_err(),
            EndpointUrl::danger_allow_http(url).unwrap_err(),
        ] {
            assert!(error.is_config());
            assert!(error.to_string().contains(what), "{url}: {error}");
            assert!(!all_text_of(&error).contains("hunter22"), "{error}");
        }
    }
}

#[test]
fn debug_shows_no_secret_no_query_and_no_value_of_an_extra_parameter() {
    let url = "https://id.example.com/token?key=query-key";
    let transport = TokenServer::issuing().transport();
    let source = ClientCredentials::with_transport(url, ID, "hunter22", transport).unwrap();
    let source = source.basic_auth().param("pin", "pin-value").unwrap();
    let text = format!("{source:?} {source:#?}");
    assert!(
        text.contains(ID) && text.contains("\"pin\"") && text.contains("[redacted]"),
        "{text}"
    );
    for secret in ["hunter22", "pin-value", "query-key"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up_after_ten_seconds() {
    let silent = tower::service_fn(|_: Request<Full<Bytes>>| {
        pending::<Result<Response<Full<Bytes>>, Infallible>>()
    });
    let source = ClientCredentials::with_transport(URL, ID, SECRET, silent).unwrap();
    let start = tokio::time::Instant::now();
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(start.elapsed().as_secs(), 10);
}

/// Sends frames of 1 KiB, so many of them, and then what `end` says.
struct Endless {
    sent: Arc<AtomicUsize>,
    limit: usize,
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.sent.load(Ordering::Relaxed) == self.limit {
            return Poll::Pending;
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 1024])))))
    }
}

fn endless(status: u16, limit: usize) -> (ClientCredentials, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let transport = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let sent = Arc::clone(&count);
        let response = Response::builder()
            .status(status)
            .body(Endless { sent, limit });
        ready(response)
    });
    let source = ClientCredentials::with_transport(URL, ID, SECRET, transport).unwrap();
    (source, sent)
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stalls_is_given_up_after_the_timeout() {
    let (source, _) = endless(200, 3);
    let start = tokio::time::Instant::now();
    let source = source.timeout(Duration::from_secs(2));
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(start.elapsed().as_secs(), 2);
}

#[tokio::test]
async fn no_more_than_64_kib_of_an_answer_is_read() {
    let (source, sent) = endless(200, 1000);
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_reply(), "{error}");
    assert!(error.to_string().contains("longer than 64 KiB"), "{error}");
    assert_eq!(sent.load(Ordering::Relaxed), 65);
}

#[tokio::test]
async fn an_endless_error_page_is_still_that_error() {
    let (source, sent) = endless(503, 1000);
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_denied(), "{error}");
    assert_eq!(error.status().unwrap(), 503);
    assert_eq!(sent.load(Ordering::Relaxed), 65);
}

#[tokio::test]
async fn an_answer_of_exactly_64_kib_is_read() {
    let mut body = r#"{"access_token":"issued"}"#.to_owned();
    body.push_str(&" ".repeat(64 * 1024 - body.len()));
    let server = TokenServer::new(200, body.clone());
    assert!(server.client().fetch(Reason::First).await.is_ok());
    body.push(' ');
    let server = TokenServer::new(200, body);
    assert!(
        server
            .client()
            .fetch(Reason::First)
            .await
            .unwrap_err()
            .is_reply()
    );
}

#[tokio::test]
async fn a_redirect_is_an_error_that_does_not_say_where_to() {
    for status in [301, 302, 303, 307, 308] {
        let location = "https://evil.example.com/?secret=hunter22";
        let server = TokenServer::new(status, r#"{"access_token":"issued"}"#)
            .with_header("location", location);
        let error = server.client().fetch(Reason::First).await.unwrap_err();
        assert!(error.is_reply(), "{error}");
        assert_eq!(error.status().unwrap(), status);
        assert!(error.to_string().contains("redirect"));
        assert!(error.to_string().contains(&status.to_string()));
        assert!(!all_text_of(&error).contains("evil"));
        assert_eq!(server.times_asked(), 1);
    }
}

/// Panics if it is called without having been polled ready.
#[derive(Default)]
struct Strict {
    is_ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request<Full<Bytes>>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.is_ready),
            "called before it was ready"
        );
        ready(Ok(Response::new(Full::from(
            r#"{"access_token":"issued"}"#,
        ))))
    }
}

#[tokio::test]
async fn the_clone_that_is_called_is_the_one_that_was_polled_ready() {
    let source = ClientCredentials::with_transport(URL, ID, SECRET, Strict::default()).unwrap();
    for _ in 0..2 {
        assert!(source.fetch(Reason::First).await.is_ok());
    }
}

#[tokio::test]
async fn a_transport_that_fails_is_the_source_of_the_error() {
    let broken = tower::service_fn(|_: Request<Full<Bytes>>| async {
        Err::<Response<Full<Bytes>>, _>(std::io::Error::other("no route to host"))
    });
    let source = ClientCredentials::with_transport(URL, ID, SECRET, broken).unwrap();
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_transport(), "{error}");
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "no route to host");
}

#[test]
fn outside_a_runtime_the_fetch_is_an_error_and_no_panic() {
    let source = TokenServer::issuing().client();
    let error = futures_util::future::FutureExt::now_or_never(source.fetch(Reason::First))
        .unwrap()
        .unwrap_err();
    assert!(error.is_runtime(), "{error}");
}

#[cfg(feature = "reqwest")]
mod over_reqwest {
    use axum::Router;
    use axum::extract::State;
    use axum::http::HeaderMap;
    use axum::response::Redirect;
    use axum::routing::{any, post};

    use super::*;

    type Seen = Arc<std::sync::Mutex<Vec<(String, HeaderMap, String)>>>;

    /// A server on loopback: `/token` issues, `/moved` redirects to `/elsewhere`.
    async fn serve() -> (String, Seen) {
        let seen = Seen::default();
        let note = |path: &'static str, answer: &'static str| {
            any(
                move |State(seen): State<Seen>, headers: HeaderMap, body: String| async move {
                    seen.lock().unwrap().push((path.to_owned(), headers, body));
                    answer
                },
            )
        };
        let issued = r#"{"access_token":"issued","expires_in":60}"#;
        let app = Router::new()
            .route("/token", note("token", issued))
            .route("/elsewhere", note("elsewhere", issued))
            .route(
                "/moved",
                post(|| async { Redirect::temporary("/elsewhere") }),
            )
            .with_state(Arc::clone(&seen));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (address, seen)
    }

    #[tokio::test]
    async fn the_default_transport_gets_a_token() {
        let (address, seen) = serve().await;
        let url = format!("{address}/token");
        let source = ClientCredentials::new(&url, ID, SECRET)
            .unwrap()
            .audience("api");
        assert_eq!(
            source.fetch(Reason::First).await.unwrap().secret(),
            "issued"
        );
        let (_, headers, body) = seen.lock().unwrap().remove(0);
        assert!(
            headers["user-agent"]
                .to_str()
                .unwrap()
                .starts_with("tower-auth/")
        );
        assert_eq!(headers["content-length"], body.len().to_string());
        assert!(body.contains("audience=api"), "{body}");
    }

    #[tokio::test]
    async fn the_default_transport_follows_no_redirect() {
        let (address, seen) = serve().await;
        let url = format!("{address}/moved");
        let source = ClientCredentials::new(url, ID, SECRET).unwrap();
        let error = source.fetch(Reason::First).await.unwrap_err();
        assert!(seen.lock().unwrap().is_empty(), "the secret went along");
        assert!(error.is_reply(), "{error}");
        assert_eq!(error.status().unwrap(), 307);
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_a_transport_error_without_its_address() {
        // Bound and let go, so that nothing listens on it.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let url = format!("http://{address}/token?key=hunter22");
        let source = ClientCredentials::public(url, ID).unwrap();
        let error = source.fetch(Reason::First).await.unwrap_err();
        assert!(error.is_transport(), "{error}");
        assert!(
            !all_text_of(&error).contains("hunter22"),
            "{}",
            all_text_of(&error)
        );
    }

    #[test]
    fn a_cleartext_address_is_refused_at_construction() {
        let error = ClientCredentials::new("http://example.com/token", ID, SECRET).unwrap_err();
        assert!(error.is_config(), "{error}");
    }
}
