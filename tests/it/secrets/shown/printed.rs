//! What tokens, layers, requests and their futures show when they are printed.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderName, Request, Response};
use http_body_util::Full;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, ServiceExt};
use tower_auth::layer::AuthRequest;
use tower_auth::oauth2::EndpointUrl;
use tower_auth::{NotReplayed, Origin, Reason, Token, TokenCache};
use tower_auth_test::{controlled_source, run_until_idle};
use tower_test::mock;

use crate::support::secret_finder::{PLANTED, SecretFinder};
use crate::support::{call, request};

#[test]
fn a_token_does_not_show_its_secret() {
    let finder = SecretFinder::start();
    let bearer = Token::bearer("planted-bearer").unwrap();
    let bearer = bearer
        .expires_in(Duration::from_secs(60))
        .with_scope("read");
    let own_header = Token::header(HeaderName::from_static("x-api-key"), "planted-key").unwrap();
    for token in [&bearer, &own_header] {
        assert!(token.secret().starts_with(PLANTED));
        finder.print(token);
        finder.print(&token.header_value());
        finder.print(&Reason::Refused);
    }
    finder.end();
}

#[test]
fn a_token_that_is_illegal_is_not_quoted() {
    let finder = SecretFinder::start();
    for secret in [
        "planted\n",
        " planted",
        "planted\u{7f}",
        "planted\r\nx: y",
        "plänted\0planted",
    ] {
        finder.print_error(&Token::bearer(secret).unwrap_err());
        let name = HeaderName::from_static("x-api-key");
        finder.print_error(&Token::header(name, secret).unwrap_err());
    }
    finder.end();
}

#[test]
fn a_setting_that_is_wrong_is_not_quoted_where_it_may_hold_a_secret() {
    let finder = SecretFinder::start();
    for url in [
        "https://id:planted@api.example.com",
        "https://api.example.com/planted",
        "https://api.example.com?key=planted",
        "planted",
    ] {
        finder.print_error(&url.parse::<Origin>().unwrap_err());
        let layer = crate::support::layer(|_| async { Token::bearer("planted") });
        finder.print_error(&layer.only_to([url]).unwrap_err());
    }
    for url in [
        "https://id:planted@id.example.com/token",
        "https://id.example.com/token#planted",
        "http://id.example.com/token?key=planted",
        "planted",
    ] {
        finder.print_error(&EndpointUrl::try_from(url).unwrap_err());
    }
    finder.print(&EndpointUrl::try_from("https://id.example.com/token?key=planted").unwrap());
    finder.end();
}

#[tokio::test]
async fn no_state_of_a_request_shows_its_credential() {
    let finder = SecretFinder::start();
    let (source, mut fetches) = controlled_source();
    let cache = TokenCache::builder(source);
    finder.print(&cache);
    let layer = crate::support::layer_from(cache.build());
    let (client, mut api) = mock::pair::<Request<Full<Bytes>>, Response<()>>();
    let mut client = layer.layer(client);
    let print_all = |client: &dyn fmt::Debug| {
        finder.print(&client);
        finder.print(&layer);
        finder.print(layer.cache());
    };
    let refusal = || Response::builder().status(401).body(()).unwrap();
    print_all(&client.get_ref().clone());

    let mut waiting = task::spawn(layer.cache().token());
    finder.print(&*waiting);
    assert_pending!(waiting.poll());
    finder.print(&*waiting);

    assert_ready_ok!(task::spawn(client.ready()).poll());
    let mut response = task::spawn(tower_service::Service::call(&mut client, request("")));
    let mut states = Vec::new();
    let mut print_state = |response: &dyn fmt::Debug| {
        finder.print(&response);
        let state = format!("{response:?}");
        states.push(state.split_once('(').unwrap().1.replace(')', ""));
    };
    print_state(&*response);
    assert_pending!(response.poll());

    api.allow(0);
    fetches.next().await.issue("planted-1");
    finder.print(&waiting.await.unwrap());
    assert_pending!(response.poll());
    print_state(&*response);

    api.allow(1);
    assert_pending!(response.poll());
    print_state(&*response);
    let (sent, send_response) = api.next_request().await.unwrap();
    assert_eq!(sent.headers()[AUTHORIZATION], "Bearer planted-1");
    finder.print(&sent);
    assert!(format!("{sent:?}").contains("Sensitive"));
    finder.print(&sent.headers());
    send_response.send_response(refusal());
    assert_pending!(response.poll());
    print_state(&*response);

    fetches.next().await.issue("planted-2");
    run_until_idle().await;
    assert_pending!(response.poll());
    print_state(&*response);

    api.allow(1);
    assert_pending!(response.poll());
    print_state(&*response);
    let (sent, send_response) = api.next_request().await.unwrap();
    assert_eq!(sent.headers()[AUTHORIZATION], "Bearer planted-2");
    finder.print(&sent);
    send_response.send_response(refusal());
    let response = assert_ready_ok!(response.poll());
    finder.print(&response);
    assert!(matches!(
        response.extensions().get(),
        Some(NotReplayed::Again)
    ));

    assert_eq!(
        states,
        [
            "Acquiring",
            "Readying",
            "Sending",
            "Renewing",
            "ReadyingAgain",
            "Sending"
        ]
    );
    print_all(&client.get_ref().clone());
    finder.end();
}

#[tokio::test]
async fn a_service_that_keeps_a_copy_of_the_header_does_not_show_it() {
    let finder = SecretFinder::start();
    let seen = Arc::new(Mutex::new(Vec::new()));
    #[derive(Clone, Debug)]
    struct Client(Arc<Mutex<Vec<Request<Full<Bytes>>>>>);
    impl tower_service::Service<Request<Full<Bytes>>> for Client {
        type Response = Response<()>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<()>, Infallible>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
            self.0.lock().unwrap().push(request);
            std::future::ready(Ok(Response::new(())))
        }
    }
    let layer = crate::support::layer(|_| async { Token::bearer("planted") });
    let mut client = layer.layer(Client(Arc::clone(&seen)));
    for _ in 0..4 {
        call(&mut client, request("")).await.unwrap();
        finder.print(&client);
        finder.print(&client.clone());
    }
    // From the third request on, the client sends its private copy of the header.
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 4);
    for request in &*seen {
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer planted");
        assert!(request.headers()[AUTHORIZATION].is_sensitive());
        finder.print(request);
    }
    finder.end();
}

/// A copy of a request contains parts that may be a secret.
#[test]
fn what_is_kept_of_a_request_shows_nothing_of_it() {
    let finder = SecretFinder::start();
    let mut request = Request::post("https://api.example.com/?key=planted")
        .header("x-api-key", "planted")
        .body(Full::<Bytes>::from("planted"))
        .unwrap();
    finder.print(&request.record(64 * 1024).unwrap());
    #[cfg(feature = "reqwest")]
    for body in [
        reqwest::Body::from("planted"),
        reqwest::Body::wrap(Full::<Bytes>::from("planted")),
    ] {
        let url = "https://api.example.com/?key=planted".parse().unwrap();
        let mut request = reqwest::Request::new(http::Method::POST, url);
        let own = http::HeaderValue::from_static("planted");
        request.headers_mut().insert(AUTHORIZATION, own);
        *request.body_mut() = Some(body);
        finder.print(&request.record(64 * 1024).unwrap());
        let mut body = request.body_mut().take().unwrap();
        finder.print(&tower_auth::layer::Replay::record(&mut body, 64 * 1024).unwrap());
    }
    finder.end();
}
