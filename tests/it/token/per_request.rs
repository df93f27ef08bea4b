//! Per-request credentials: how often the layer calls `apply` and `observe`, and on which token.
//! The signing examples are also tested here, with the vectors of their specifications.

use std::future::ready;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_auth::token::{Applied, Feedback, PerRequestCredential, RequestHead};
use tower_auth::{BoxError, Error, NotReplayed, Place, Reason, Token};
use tower_auth_test::ScriptedSource;

use crate::support::{call, layer};

#[cfg(feature = "reqwest")]
mod digest;
mod http_signature;
mod sigv4;

const FIELD: HeaderName = HeaderName::from_static("x-signature");

type Log = Arc<Mutex<Vec<String>>>;

/// Attaches its secret and the path to each request. Returns the feedback that each response's
/// header asks for.
struct Recorder {
    secret: String,
    log: Log,
}

impl PerRequestCredential for Recorder {
    fn apply(&self, head: &RequestHead, headers: &mut HeaderMap) -> Result<Applied, BoxError> {
        if head.path() == "/unsignable" {
            return Err("there is no such key".into());
        }
        let value = format!("{}:{}", self.secret, head.path());
        self.log.lock().unwrap().push(format!("apply {value}"));
        headers.insert(FIELD, value.parse()?);
        Ok(Applied::Done)
    }

    fn observe(&self, head: &RequestHead, status: StatusCode, headers: &HeaderMap) -> Feedback {
        let line = format!(
            "observe {}:{} {}",
            self.secret,
            head.path(),
            status.as_u16()
        );
        self.log.lock().unwrap().push(line);
        match headers.get("says").map(|says| says.to_str().unwrap()) {
            Some("once-more") => Feedback::OnceMore,
            Some("ended") => Feedback::TokenEnded,
            _ => Feedback::Nothing,
        }
    }
}

/// Builds a source whose nth token has the secret that `script` returns for n.
fn recording(log: &Log, script: fn(usize) -> String) -> ScriptedSource {
    let log = Arc::clone(log);
    ScriptedSource::from_fn(move |attempt| {
        let (secret, log) = (script(attempt), Arc::clone(&log));
        let recorder = Recorder {
            secret: secret.clone(),
            log,
        };
        Ok(Token::per_request(
            Place::Header(FIELD),
            secret,
            Arc::new(recorder),
        ))
    })
}

fn key(attempt: usize) -> String {
    format!("key-{attempt}")
}

/// Builds an API. For the nth request, counted from 1, `script` returns the status and the header
/// `says`.
fn api(
    script: fn(usize) -> (u16, &'static str),
) -> impl Service<Request<&'static str>, Response = Response<()>, Error = BoxError, Future: Send>
+ Clone
+ Send
+ 'static {
    let count = Arc::new(Mutex::new(0));
    service_fn(move |_| {
        let mut count = count.lock().unwrap();
        *count += 1;
        let (status, says) = script(*count);
        let response = Response::builder().status(status).header("says", says);
        ready(response.body(()).map_err(BoxError::from))
    })
}

fn get(path: &str) -> Request<&'static str> {
    let url = format!("https://api.example.com{path}");
    Request::get(url).body("").unwrap()
}

#[tokio::test]
async fn it_is_made_again_for_the_replay_by_the_new_token_and_sees_each_response_once() {
    let log = Log::default();
    let source = recording(&log, key);
    let api = api(|n| (if n == 2 { 401 } else { 200 }, ""));
    let mut client = layer(source.clone()).layer(api);
    for path in ["/a", "/b", "/c"] {
        let response = call(&mut client, get(path)).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    let expected = [
        "apply key-1:/a",
        "observe key-1:/a 200",
        "apply key-1:/b",
        "observe key-1:/b 401",
        "apply key-2:/b",
        "observe key-2:/b 200",
        "apply key-2:/c",
        "observe key-2:/c 200",
    ];
    assert_eq!(*log.lock().unwrap(), expected);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test]
async fn once_more_sends_the_request_again_with_the_same_token_and_without_a_fetch() {
    let log = Log::default();
    let source = recording(&log, key);
    let api = api(|n| {
        if n == 1 {
            (401, "once-more")
        } else {
            (200, "")
        }
    });
    let response = layer(source.clone()).layer(api).oneshot(get("/a")).await;
    assert_eq!(response.unwrap().status(), 200);
    let expected = [
        "apply key-1:/a",
        "observe key-1:/a 401",
        "apply key-1:/a",
        "observe key-1:/a 200",
    ];
    assert_eq!(*log.lock().unwrap(), expected);
    assert_eq!(source.fetches(), 1);
}

#[tokio::test]
async fn once_more_is_once() {
    let log = Log::default();
    let source = recording(&log, key);
    let mut client = layer(source.clone()).layer(api(|_| (401, "once-more")));
    let response = call(&mut client, get("/a")).await.unwrap();
    assert_eq!(response.status(), 401);
    let reason = response.extensions().get::<NotReplayed>();
    assert!(matches!(reason, Some(NotReplayed::Again)), "{reason:?}");
    assert_eq!(log.lock().unwrap().len(), 4);
    // The 401s don't count as refusals of the token, so no fetch follows.
    call(&mut client, get("/b")).await.unwrap();
    assert_eq!(source.fetches(), 1);
}

#[tokio::test]
async fn a_token_that_the_server_has_ended_is_not_sent_again() {
    let log = Log::default();
    let source = recording(&log, key);
    let api = api(|n| (200, if n == 1 { "ended" } else { "" }));
    let mut client = layer(source.clone()).layer(api);
    for path in ["/a", "/b"] {
        let response = call(&mut client, get(path)).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    let expected = [
        "apply key-1:/a",
        "observe key-1:/a 200",
        "apply key-2:/b",
        "observe key-2:/b 200",
    ];
    assert_eq!(*log.lock().unwrap(), expected);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test]
async fn a_new_token_with_the_secret_of_the_refused_one_is_not_tried() {
    let log = Log::default();
    let source = recording(&log, |_| String::from("the same"));
    let client = layer(source.clone()).layer(api(|_| (401, "")));
    let response = client.oneshot(get("/a")).await.unwrap();
    let reason = response.extensions().get::<NotReplayed>();
    assert!(matches!(reason, Some(NotReplayed::SameToken)), "{reason:?}");
    let expected = ["apply the same:/a", "observe the same:/a 401"];
    assert_eq!(*log.lock().unwrap(), expected);
    assert_eq!(source.fetches(), 2);
}

#[tokio::test]
async fn a_request_for_which_it_cannot_be_made_is_not_sent() {
    let log = Log::default();
    let client = layer(recording(&log, key)).layer(api(|_| panic!("it was sent")));
    let error = client.oneshot(get("/unsignable")).await.unwrap_err();
    let error = error.downcast_ref::<Error>().unwrap();
    assert!(error.is_source(), "{error}");
    let source = std::error::Error::source(error).unwrap();
    assert_eq!(source.to_string(), "there is no such key");
}

#[tokio::test]
async fn an_error_of_this_crate_reaches_the_caller_as_it_is() {
    struct Strict;
    impl PerRequestCredential for Strict {
        fn apply(&self, _: &RequestHead, _: &mut HeaderMap) -> Result<Applied, BoxError> {
            Err(Token::bearer("").unwrap_err().into())
        }
    }
    let token = Token::per_request(Place::Header(FIELD), "key", Arc::new(Strict));
    let source = move |_| ready(Ok(token.clone()));
    let client = layer(source).layer(api(|_| panic!("it was sent")));
    let error = client.oneshot(get("/")).await.unwrap_err();
    assert!(error.downcast_ref::<Error>().unwrap().is_illegal_token());
}

#[tokio::test]
async fn its_field_is_sensitive_below() {
    struct Twice;
    impl PerRequestCredential for Twice {
        fn apply(&self, _: &RequestHead, headers: &mut HeaderMap) -> Result<Applied, BoxError> {
            headers.append(FIELD, "one".parse()?);
            headers.append(FIELD, "two".parse()?);
            Ok(Applied::Done)
        }
    }
    let below = service_fn(|request: Request<&'static str>| {
        let values = request.headers().get_all(FIELD);
        assert_eq!(
            values.iter().filter(|value| value.is_sensitive()).count(),
            2
        );
        ready(Ok::<_, BoxError>(Response::new(())))
    });
    let token = Token::per_request(Place::Header(FIELD), "key", Arc::new(Twice));
    let mut client = layer(move |_| ready(Ok(token.clone()))).layer(below);
    let request = Request::get("https://api.example.com/").body("").unwrap();
    call(&mut client, request).await.unwrap();
}

#[tokio::test]
async fn the_callers_own_field_passes_and_nothing_is_made_or_observed() {
    let log = Log::default();
    let source = recording(&log, key);
    let client = layer(source.clone()).layer(api(|_| (401, "once-more")));
    let mut request = get("/a");
    request.headers_mut().insert(FIELD, "own".parse().unwrap());
    assert_eq!(client.oneshot(request).await.unwrap().status(), 401);
    assert!(log.lock().unwrap().is_empty());
}

/// Returns the headers that the layer sends with an example's token.
async fn signed(token: Token, request: Request<&'static str>) -> HeaderMap {
    let api = service_fn(async |request| Ok::<_, BoxError>(Response::new(request)));
    let layer = layer(move |_: Reason| ready(Ok(token.clone())));
    let sent = layer.layer(api).oneshot(request).await.unwrap();
    sent.into_body().headers().clone()
}
