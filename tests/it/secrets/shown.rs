//! Nothing that can be printed shows a secret, and nothing is logged that holds one: tokens, the
//! layer, and one source for all. What each source has of its own is in `secrets_of_sources`.

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use http::request::Parts;
use http::{HeaderName, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tokio_test::{assert_pending, assert_ready_ok, task};
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::oauth2::{ClientCredentials, EndpointUrl};
use tower_auth::{
    AuthLayer, AuthRequest, Error, NotReplayed, Origin, Reason, Token, TokenCache, TokenSource,
};
use tower_test::mock;

use crate::support::watch::{PLANTED, Watch, shows_a_secret};
use crate::support::{Api, Fetch, call, paused, request, settle, source};

#[test]
fn a_token_does_not_show_its_secret() {
    let watch = Watch::start();
    let bearer = Token::bearer("planted-bearer").unwrap();
    let bearer = bearer
        .expires_in(Duration::from_secs(60))
        .with_scope("read");
    let own_header = Token::header(HeaderName::from_static("x-api-key"), "planted-key").unwrap();
    for token in [&bearer, &own_header] {
        assert!(token.secret().starts_with(PLANTED));
        watch.print(token);
        watch.print(&token.header_value());
        watch.print(&Reason::Refused);
    }
    watch.end();
}

#[test]
fn a_token_that_is_illegal_is_not_quoted() {
    let watch = Watch::start();
    for secret in [
        "planted\n",
        " planted",
        "planted\u{7f}",
        "planted\r\nx: y",
        "plänted\0planted",
    ] {
        watch.print_error(&Token::bearer(secret).unwrap_err());
        let name = HeaderName::from_static("x-api-key");
        watch.print_error(&Token::header(name, secret).unwrap_err());
    }
    watch.end();
}

#[test]
fn a_setting_that_is_wrong_is_not_quoted_where_it_may_hold_a_secret() {
    let watch = Watch::start();
    for url in [
        "https://id:planted@api.example.com",
        "https://api.example.com/planted",
        "https://api.example.com?key=planted",
        "planted",
    ] {
        watch.print_error(&url.parse::<Origin>().unwrap_err());
        let layer = AuthLayer::new(|_| async { Token::bearer("planted") });
        watch.print_error(&layer.only_to([url]).unwrap_err());
    }
    for url in [
        "https://id:planted@id.example.com/token",
        "https://id.example.com/token#planted",
        "http://id.example.com/token?key=planted",
        "planted",
    ] {
        watch.print_error(&EndpointUrl::try_from(url).unwrap_err());
    }
    watch.print(&EndpointUrl::try_from("https://id.example.com/token?key=planted").unwrap());
    watch.end();
}

#[tokio::test]
async fn no_state_of_a_request_shows_its_credential() {
    let watch = Watch::start();
    let (source, mut fetches) = source();
    let cache = TokenCache::builder(source);
    watch.print(&cache);
    let layer = AuthLayer::from(cache.build());
    let (client, mut api) = mock::pair::<Request<Full<Bytes>>, Response<()>>();
    let mut client = layer.layer(client);
    let print_all = |client: &dyn fmt::Debug| {
        watch.print(&client);
        watch.print(&layer);
        watch.print(layer.cache());
    };
    let refusal = || Response::builder().status(401).body(()).unwrap();
    print_all(&client.get_ref().clone());

    let mut waiting = task::spawn(layer.cache().token());
    watch.print(&*waiting);
    assert_pending!(waiting.poll());
    watch.print(&*waiting);

    assert_ready_ok!(task::spawn(client.ready()).poll());
    let mut response = task::spawn(tower_service::Service::call(&mut client, request("")));
    let mut states = Vec::new();
    let mut print_state = |response: &dyn fmt::Debug| {
        watch.print(&response);
        let state = format!("{response:?}");
        states.push(state.split_once('(').unwrap().1.replace(')', ""));
    };
    print_state(&*response);
    assert_pending!(response.poll());

    api.allow(0);
    fetches.next().await.issue("planted-1");
    watch.print(&waiting.await.unwrap());
    assert_pending!(response.poll());
    print_state(&*response);

    api.allow(1);
    assert_pending!(response.poll());
    print_state(&*response);
    let (sent, answer) = api.next_request().await.unwrap();
    assert_eq!(sent.headers()[AUTHORIZATION], "Bearer planted-1");
    watch.print(&sent);
    assert!(format!("{sent:?}").contains("Sensitive"));
    watch.print(&sent.headers());
    answer.send_response(refusal());
    assert_pending!(response.poll());
    print_state(&*response);

    fetches.next().await.issue("planted-2");
    settle().await;
    assert_pending!(response.poll());
    print_state(&*response);

    api.allow(1);
    assert_pending!(response.poll());
    print_state(&*response);
    let (sent, answer) = api.next_request().await.unwrap();
    assert_eq!(sent.headers()[AUTHORIZATION], "Bearer planted-2");
    watch.print(&sent);
    answer.send_response(refusal());
    let response = assert_ready_ok!(response.poll());
    watch.print(&response);
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
            "Resending"
        ]
    );
    print_all(&client.get_ref().clone());
    watch.end();
}

#[tokio::test]
async fn a_service_that_keeps_a_copy_of_the_header_does_not_show_it() {
    let watch = Watch::start();
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
    let layer = AuthLayer::new(|_| async { Token::bearer("planted") });
    let mut client = layer.layer(Client(Arc::clone(&seen)));
    for _ in 0..4 {
        call(&mut client, request("")).await.unwrap();
        watch.print(&client);
        watch.print(&client.clone());
    }
    // From the third on it is the private copy that goes out.
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 4);
    for request in &*seen {
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer planted");
        assert!(request.headers()[AUTHORIZATION].is_sensitive());
        watch.print(request);
    }
    watch.end();
}

/// A copy is what the caller had in the request, which may be a secret of theirs.
#[test]
fn what_is_kept_of_a_request_shows_nothing_of_it() {
    let watch = Watch::start();
    let mut request = Request::post("https://api.example.com/?key=planted")
        .header("x-api-key", "planted")
        .body(Full::<Bytes>::from("planted"))
        .unwrap();
    watch.print(&request.record(64 * 1024).unwrap());
    #[cfg(feature = "reqwest")]
    for body in [
        reqwest::Body::from("planted"),
        reqwest::Body::wrap(Full::<Bytes>::from("planted")),
    ] {
        let url = "https://api.example.com/?key=planted".parse().unwrap();
        let mut request = reqwest::Request::new(http::Method::POST, url);
        let own = HeaderValue::from_static("planted");
        request.headers_mut().insert(AUTHORIZATION, own);
        *request.body_mut() = Some(body);
        watch.print(&request.record(64 * 1024).unwrap());
        let mut body = request.body_mut().take().unwrap();
        watch.print(&tower_auth::Replay::record(&mut body, 64 * 1024).unwrap());
    }
    watch.end();
}

#[tokio::test(start_paused = true)]
async fn fetch_refresh_and_replay_leave_no_secret_behind() {
    let watch = Watch::start();
    let (source, mut fetches) = source();
    let cache = paused(source)
        .fetch_timeout(Duration::from_secs(20))
        .build();
    let api = Api::accepting(["planted-1", "planted-2"]);
    let layer = AuthLayer::from(cache.clone());
    let client = layer.layer(api.clone());
    let send = || tokio::spawn(client.clone().oneshot(request("planted")));
    let hour = Duration::from_secs(3_600);

    // A fetch, and a refresh behind.
    let response = send();
    fetches.next().await.issue_for("planted-1", hour);
    assert_eq!(response.await.unwrap().unwrap().status(), 200);
    tokio::time::advance(hour - Duration::from_secs(200)).await;
    let response = send();
    let refresh = fetches.next().await;
    assert_eq!(refresh.reason, Reason::Stale);
    watch.print(&layer);
    refresh.fail("the vault is sealed");
    assert_eq!(response.await.unwrap().unwrap().status(), 200);
    settle().await;
    tokio::time::advance(Duration::from_secs(2)).await;
    let response = send();
    fetches.next().await.issue_for("planted-2", hour);
    assert_eq!(response.await.unwrap().unwrap().status(), 200);
    settle().await;

    // A replay.
    api.revoke("planted-2");
    api.accept("planted-3");
    let response = send();
    let fetch = fetches.next().await;
    assert_eq!(fetch.reason, Reason::Refused);
    fetch.issue("planted-3");
    let response = response.await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    watch.print(&response);

    fetches.none().await;
    watch.end();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_stands_leaves_no_secret_behind() {
    let watch = Watch::start();
    type Answer = fn(Fetch);
    let answers: [(Answer, &str); 5] = [
        (|fetch| fetch.issue("planted-1"), "SameToken"),
        (|fetch| fetch.issue("planted-2"), "Again"),
        (|fetch| fetch.fail("the vault is sealed"), "Fetch"),
        (|fetch| fetch.answer(Token::bearer("planted\n")), "Fetch"),
        // Hangs.
        (drop, "Fetch"),
    ];
    for (answer, expected) in answers {
        let (source, mut fetches) = source();
        let layer = AuthLayer::from(paused(source).build());
        let client = layer.layer(Api::default());
        let response = tokio::spawn(client.oneshot(request("planted")));
        fetches.next().await.issue("planted-1");
        answer(fetches.next().await);
        let response = response.await.unwrap().unwrap();
        assert_eq!(response.status(), 401);
        watch.print(&response);
        watch.print(&layer);
        let why = response.extensions().get::<NotReplayed>().unwrap();
        assert!(format!("{why:?}").starts_with(expected), "{why:?}");
        assert!(!shows_a_secret(&why.to_string()));
        if let NotReplayed::Fetch(error) = why {
            watch.print_error(error);
        }
    }
    let log = watch.end();
    let lines = log.matches("a refused request is not replayed").count();
    assert_eq!(lines, answers.len(), "{log}");
}

#[tokio::test]
async fn a_request_that_is_not_sent_is_not_quoted() {
    let watch = Watch::start();
    let layer = AuthLayer::new(|_| async { Token::bearer("planted") });
    let only = layer
        .clone()
        .only_to(["https://other.example.com"])
        .unwrap();
    layer.cache().token().await.unwrap();
    for layer in [layer, only] {
        let client = layer.layer(Api::default());
        let mut request = request("planted");
        *request.uri_mut() = "http://id:planted@api.example.com/planted?key=planted"
            .parse()
            .unwrap();
        let error = client.oneshot(request).await.unwrap_err();
        let error = error.downcast_ref::<Error>().unwrap();
        assert!(error.is_origin());
        watch.print_error(error);
    }
    watch.end();
}

#[tokio::test]
async fn what_a_source_says_when_it_panics_is_not_repeated() {
    async fn panicking(_: Reason) -> Result<Token, Error> {
        panic!("planted, on purpose")
    }
    let watch = Watch::start();
    let layer = AuthLayer::new(panicking);
    let error = layer.cache().token().await.unwrap_err();
    assert!(error.is_panic());
    watch.print_error(&error);
    let error = layer.layer(Api::default()).oneshot(request("")).await;
    watch.print_error(error.unwrap_err().downcast_ref().unwrap());
    watch.end();
}

#[test]
fn a_cache_without_a_runtime_shows_no_secret() {
    let watch = Watch::start();
    let cache = TokenCache::new(|_| async { Token::bearer("planted") });
    let error = assert_ready_err(task::spawn(cache.token()).poll());
    assert!(error.is_runtime());
    watch.print_error(&error);
    watch.end();
}

fn assert_ready_err(polled: std::task::Poll<Result<Token, Error>>) -> Error {
    match polled {
        std::task::Poll::Ready(Err(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// With characters in it that each way of writing a request spells differently.
const CLIENT_SECRET: &str = "planted+client/secret: \"of\" the\\planted client";

/// A token endpoint that gives back what it was sent, in every place that an answer has.
fn echo(parts: &Parts, body: &str) -> Vec<Response<Full<Bytes>>> {
    let json = |status: u16, value: &serde_json::Value| {
        Response::builder()
            .status(status)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(value.to_string()))
            .unwrap()
    };
    let authorization = parts.headers.get(AUTHORIZATION);
    let authorization = authorization.map_or("", |value| value.to_str().unwrap());
    let mut answers = Vec::new();
    for sent in [body, authorization, CLIENT_SECRET] {
        for status in [200, 400, 401, 500] {
            let answer = json!({
                "error": sent, "error_description": sent, "error_uri": sent,
            });
            answers.push(json(status, &answer));
            let answer = json!({ "error": "invalid_client", "error_description": sent });
            answers.push(json(status, &answer));
            let nested = json!({ "error": { "message": sent }, "message": sent });
            answers.push(json(status, &nested));
            answers.push(json(status, &json!(sent)));
            answers.push(json(status, &json!([sent])));
            answers.push(json(status, &json!({ sent: sent })));
            let mut text = Response::new(Full::from(sent.to_owned()));
            *text.status_mut() = status.try_into().unwrap();
            answers.push(text);
        }
        for answer in [
            json!({ "access_token": format!("planted\n{sent}") }),
            json!({ "access_token": { sent: sent } }),
            json!({ "access_token": [sent] }),
            json!({ "access_token": "planted", "token_type": sent }),
            json!({ "access_token": "planted", "token_type": [sent] }),
            json!({ "access_token": "planted", "expires_in": sent }),
            json!({ "access_token": "planted", "expires_in": { sent: sent } }),
            json!({ "access_token": "planted", "token_type": "mac", "error": sent }),
        ] {
            answers.push(json(200, &answer));
        }
        let Ok(header) = HeaderValue::try_from(sent) else {
            continue;
        };
        let mut odd_type = Response::new(Full::from("<html>planted</html>"));
        odd_type.headers_mut().insert(CONTENT_TYPE, header.clone());
        answers.push(odd_type);
        for status in [302, 307, 308] {
            let mut redirect = Response::new(Full::from(sent.to_owned()));
            *redirect.status_mut() = status.try_into().unwrap();
            redirect.headers_mut().insert(LOCATION, header.clone());
            answers.push(redirect);
        }
    }
    // Cut in the middle of a text.
    answers.push(Response::new(Full::from("{\"access_token\":\"planted")));
    answers.push(Response::new(Full::from(
        "{\"access_token\":\"planted\",\"access_token\":\"planted\"}",
    )));
    answers
}

#[tokio::test]
async fn a_token_endpoint_that_echoes_what_it_was_sent_gets_no_secret_into_an_error() {
    let watch = Watch::start();
    // In the body, in the header, and in JSON.
    let ways: [fn(ClientCredentials) -> ClientCredentials; 3] = [
        |source| source,
        ClientCredentials::basic_auth,
        ClientCredentials::json,
    ];
    for way in ways {
        let mut next = 0;
        loop {
            let left = Arc::new(Mutex::new(None));
            let answered = Arc::clone(&left);
            let server = service_fn(move |request: Request<Full<Bytes>>| {
                let answered = Arc::clone(&answered);
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    let mut answers = echo(&parts, std::str::from_utf8(&body).unwrap());
                    *answered.lock().unwrap() = Some(answers.len());
                    Ok::<_, Infallible>(answers.swap_remove(next))
                }
            });
            let url = "https://id.example.com/token?key=planted";
            let source = ClientCredentials::with_transport(url, "client", CLIENT_SECRET, server);
            let source = source.unwrap().param("key", "planted-param").unwrap();
            let source = way(source);
            watch.print(&source);

            // By itself, and below a layer, which logs.
            match source.fetch(Reason::First).await {
                Ok(token) => watch.print(&token),
                Err(error) => {
                    watch.print_error(&error);
                    let code = (error.code(), error.description());
                    watch.print(&code);
                }
            }
            // One attempt says all: between two there is a pause.
            let cache = TokenCache::builder(source).fetch_attempts(1).build();
            let layer = AuthLayer::from(cache);
            let client = layer.layer(Api::default());
            match client.oneshot(request("")).await {
                Ok(response) => watch.print(&response),
                Err(error) => watch.print_error(error.downcast_ref().unwrap()),
            }
            watch.print(&layer);
            next += 1;
            if left.lock().unwrap().unwrap() == next {
                break;
            }
        }
    }
    watch.end();
}

#[tokio::test]
async fn a_transport_that_fails_or_hangs_gets_no_secret_into_an_error() {
    let watch = Watch::start();
    let url = "https://id.example.com/token?key=planted";
    let broken = service_fn(|_: Request<Full<Bytes>>| async {
        Err::<Response<Full<Bytes>>, _>(std::io::Error::other("the line is cut"))
    });
    let source = ClientCredentials::with_transport(url, "client", CLIENT_SECRET, broken);
    let error = source.unwrap().fetch(Reason::First).await.unwrap_err();
    assert!(error.is_transport());
    watch.print_error(&error);

    let hanging = service_fn(|_: Request<Full<Bytes>>| {
        pending::<Result<Response<Full<Bytes>>, Infallible>>()
    });
    let source = ClientCredentials::with_transport(url, "client", CLIENT_SECRET, hanging);
    let source = source.unwrap().timeout(Duration::ZERO);
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_timeout());
    watch.print_error(&error);

    #[cfg(feature = "reqwest")]
    {
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = nobody.local_addr().unwrap();
        drop(nobody);
        let url = format!("http://{address}/planted?key=planted");
        let source = ClientCredentials::new(url, "client", CLIENT_SECRET).unwrap();
        let error = source.fetch(Reason::First).await.unwrap_err();
        assert!(error.is_transport());
        watch.print_error(&error);
    }
    watch.end();
}
