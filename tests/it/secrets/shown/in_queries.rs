//! A key in the query. reqwest's errors contain the URL, and the layer removes the key from it.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use http::header::LOCATION;
use http::{Request, Response};
use http_body_util::Full;
use reqwest_middleware::ClientBuilder;
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::layer::AuthMiddleware;
use tower_auth::{ApiKey, AuthLayer, BoxError};
use tower_auth_test::{ScriptedResponse, ScriptedServer};

use crate::support::log::all_text_of;
use crate::support::secret_finder::{SecretFinder, shows_a_secret};

/// A key that is spelled in several ways.
const KEY: &str = "planted+key/of mine";

fn layer() -> AuthLayer {
    crate::support::layer(ApiKey::new(KEY).query("api_key").unwrap())
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy()
}

/// Sends a request through the layer, alone and in a chain of middleware, and reads the response.
/// Returns the two errors.
async fn errors(client: reqwest::Client, url: &str) -> [reqwest::Error; 2] {
    async fn read(response: reqwest::Response) -> reqwest::Error {
        match response.error_for_status() {
            Ok(response) => response.bytes().await.unwrap_err(),
            Err(error) => error,
        }
    }
    let request = || client.get(url).build().unwrap();
    let sent = layer().layer(client.clone()).oneshot(request()).await;
    let plain = match sent {
        Ok(response) => read(response).await,
        Err(error) => *error.downcast().unwrap(),
    };
    let chain = ClientBuilder::new(client.clone()).with(AuthMiddleware::new(layer()));
    let in_chain = match chain.build().execute(request()).await {
        Ok(response) => read(response).await,
        Err(reqwest_middleware::Error::Reqwest(error)) => error,
        Err(error) => panic!("{error:?}"),
    };
    [plain, in_chain]
}

/// Checks that the error is what it was, and contains the URL without the key.
#[track_caller]
fn check(errors: &[reqwest::Error], kind: fn(&reqwest::Error) -> bool) {
    for error in errors {
        let text = all_text_of(error);
        SecretFinder::start().text(&text);
        assert!(!text.contains("api_key"), "{text}");
        assert!(kind(error), "{text}");
        assert!(error.url().unwrap().as_str().contains("page=2"), "{text}");
    }
}

#[tokio::test]
async fn an_error_of_reqwest_loses_the_key_and_keeps_the_rest_of_its_url() {
    let finder = SecretFinder::start();
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = format!("http://{}/?page=2", nobody.local_addr().unwrap());
    drop(nobody);
    let client = builder().build().unwrap();
    check(&errors(client.clone(), &refused).await, |error| {
        error.is_connect()
    });

    let https_only = builder().https_only(true).build().unwrap();
    check(&errors(https_only, &refused).await, |error| {
        error.is_builder()
    });

    // The server sends the client back to the address with the key.
    let looping = ScriptedServer::new(|request| {
        let location = request.uri().to_string();
        ScriptedResponse::new(302).header(LOCATION.as_str(), location)
    });
    let looping = looping.serve().await.unwrap();
    let found = errors(client.clone(), &looping.url("/?page=2")).await;
    check(&found, reqwest::Error::is_redirect);

    for (response, kind) in [
        (
            ScriptedResponse::new(404),
            reqwest::Error::is_status as fn(&reqwest::Error) -> bool,
        ),
        (
            ScriptedResponse::new(200)
                .body("a long body")
                .reset_after(4),
            reqwest::Error::is_decode,
        ),
        (ScriptedResponse::reset(), reqwest::Error::is_request),
    ] {
        let server = ScriptedServer::new(move |_| response.clone());
        let server = server.serve().await.unwrap();
        check(&errors(client.clone(), &server.url("/?page=2")).await, kind);
    }
    finder.end();
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_reqwest_loses_the_key_too() {
    let server = ScriptedServer::new(|_| ScriptedResponse::stall());
    let server = server.serve().await.unwrap();
    let hasty = builder().timeout(Duration::from_secs(1)).build().unwrap();
    check(&errors(hasty, &server.url("/?page=2")).await, |error| {
        error.is_timeout()
    });
}

#[tokio::test]
async fn the_url_of_a_response_has_no_key_and_the_rest_of_the_response_is_as_it_was() {
    let response = ScriptedResponse::new(200).body("hello").header("x-id", "7");
    let server = ScriptedServer::new(move |_| response.clone());
    let server = server.serve().await.unwrap();
    let client = builder().build().unwrap();
    let url = server.url("/?page=2");
    let request = client.get(&url).build().unwrap();
    let response = layer().layer(client).oneshot(request).await.unwrap();
    assert_eq!(response.url().as_str(), url);
    SecretFinder::start().print(&response);
    assert_eq!(response.headers()["x-id"], "7");
    assert_eq!(response.remote_addr(), Some(server.address()));
    assert_eq!(response.content_length(), Some(5));
    assert_eq!(response.text().await.unwrap(), "hello");
}

#[tokio::test]
async fn a_redirect_sends_the_key_to_another_origin_unless_the_client_sends_no_referer() {
    let other = ScriptedServer::new(|_| ScriptedResponse::new(200));
    let target = other.serve().await.unwrap();
    let location = target.url("/");
    let server = ScriptedServer::new(move |_| {
        ScriptedResponse::new(302).header(LOCATION.as_str(), location.clone())
    });
    let server = server.serve().await.unwrap();
    for is_sent in [true, false] {
        let client = builder().referer(is_sent).build().unwrap();
        let request = client.get(server.url("/")).build().unwrap();
        let response = layer().layer(client).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let requests = other.requests();
        let referer = requests.last().unwrap().header("referer");
        assert_eq!(referer.is_some_and(shows_a_secret), is_sent);
    }
}

/// Places in which servers repeat a key or a request's target. The arguments are the key as the
/// request spelled it, and the whole target.
const REPEATED: [fn(&str, &str) -> String; 10] = [
    |key, _| format!("/end?page=2&token={key}"),
    |key, _| format!("/end?page=2&API_KEY={key}"),
    |key, _| format!("/end?page=2&a=1;api_key={key}"),
    |key, _| format!("/end/{key}/x?page=2#{key}"),
    |key, _| format!("/end?page=2#api_key={key}"),
    |_, target| format!("/end?page=2&return_to={}", encoded(target)),
    |_, target| format!("/end?return_to={}&page=2", encoded(&encoded(target))),
    |key, _| {
        format!(
            "/end?page=2&token={}",
            key.to_lowercase().replace("%2f", "/")
        )
    },
    |key, _| format!("/end/{}?page=2", encoded(&key.replace("%2F", "/"))),
    |_, _| String::from("/end?page=2&next=planted%2Bkey%2Fof+mine"),
];

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A redirect to a login page often contains the address to which the person returns.
#[tokio::test]
async fn no_url_and_no_error_shows_the_key_that_a_redirect_repeats() {
    for repeat in REPEATED {
        let server = ScriptedServer::new(move |request| match request.uri().path() {
            "/" => {
                let target = request.uri().to_string();
                let (_, key) = target.split_once("api_key=").unwrap();
                ScriptedResponse::new(302).header(LOCATION.as_str(), repeat(key, &target))
            }
            _ => ScriptedResponse::new(200)
                .body("a long body")
                .reset_after(4),
        });
        let server = server.serve().await.unwrap();
        let client = builder().build().unwrap();
        let url = server.url("/?page=2");
        let request = client.get(&url).build().unwrap();
        let response = layer()
            .layer(client.clone())
            .oneshot(request)
            .await
            .unwrap();
        assert_eq!(response.url().query(), Some("page=2"), "{}", response.url());
        assert!(
            !response.url().as_str().contains("lanted"),
            "{}",
            response.url()
        );
        let found = errors(client, &url).await;
        check(&found, reqwest::Error::is_decode);
        assert!(!all_text_of(&found[0]).contains("lanted"), "{:?}", found[0]);
    }
}

#[tokio::test]
async fn an_error_about_a_redirect_that_repeats_the_key_is_still_an_error_of_reqwest() {
    for (location, kind) in [
        (
            "odd://x/planted+key/of%20mine?page=2",
            reqwest::Error::is_builder as fn(&_) -> bool,
        ),
        (
            "http://planted%2Bkey%2Fof%20mine@127.0.0.1:9/?page=2",
            reqwest::Error::is_request,
        ),
    ] {
        let moved = ScriptedResponse::new(302).header(LOCATION.as_str(), location);
        let server = ScriptedServer::new(move |_| moved.clone());
        let server = server.serve().await.unwrap();
        let found = errors(builder().build().unwrap(), &server.url("/?page=2")).await;
        check(&found, kind);
    }
}

#[cfg(feature = "tower-http")]
#[tokio::test]
async fn the_uri_that_tower_http_requested_last_has_no_key() {
    use tower_http::follow_redirect::{FollowRedirect, RequestUri};

    let http = service_fn(|request: Request<Full<bytes::Bytes>>| async move {
        let mut response = Response::builder();
        if request.uri().path() == "/" {
            let location = format!("/end?page=2&was={}", encoded(&request.uri().to_string()));
            response = response.status(302).header(LOCATION, location);
        }
        Ok::<_, BoxError>(response.body(Full::<bytes::Bytes>::default()).unwrap())
    });
    for (path, expected) in [("/", "/end?page=2"), ("/x?page=2", "/x?page=2")] {
        let request = Request::get(format!("https://api.example.com{path}"));
        let request = request.body(Full::default()).unwrap();
        let client = layer().layer(FollowRedirect::new(http));
        let response = client.oneshot(request).await.unwrap();
        let RequestUri(uri) = response.extensions().get().unwrap();
        assert_eq!(*uri, *format!("https://api.example.com{expected}"));
    }
}

/// An error of a client that this crate doesn't know.
#[derive(Debug)]
struct Unsent {
    uri: String,
    cause: Option<Box<Self>>,
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not send a request to {}", self.uri)
    }
}

impl StdError for Unsent {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.cause.as_deref()?)
    }
}

#[tokio::test]
async fn an_error_of_an_unknown_type_is_replaced_by_its_text_if_it_shows_the_key() {
    let sent = |is_shown: bool, is_inner: bool| {
        let client = service_fn(move |request: Request<Full<bytes::Bytes>>| {
            let uri = match is_shown {
                true => request.uri().to_string(),
                false => "the API".to_owned(),
            };
            let cause = is_inner.then(|| {
                let cause = None;
                Box::new(Unsent {
                    uri: uri.clone(),
                    cause,
                })
            });
            let uri = if is_inner { "a pool".to_owned() } else { uri };
            std::future::ready(Err::<Response<()>, BoxError>(Unsent { uri, cause }.into()))
        });
        let request = Request::get("https://api.example.com/v1?page=2");
        let request = request.body(Full::default()).unwrap();
        layer().layer(client).oneshot(request)
    };
    for is_inner in [false, true] {
        let error = sent(true, is_inner).await.unwrap_err();
        let text = all_text_of(&*error);
        SecretFinder::start().text(&text);
        assert!(text.contains("page=2&api_key=[redacted]"), "{text}");
        assert_eq!(error.source().is_some(), is_inner);

        let error = sent(false, is_inner).await.unwrap_err();
        assert!(error.is::<Unsent>());
    }
}
