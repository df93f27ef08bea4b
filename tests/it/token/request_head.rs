//! The request head that a per-request credential sees.

use std::future::ready;
use std::sync::{Arc, Mutex};

use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::layer::AuthRequest;
use tower_auth::token::{Applied, Feedback, PerRequestCredential, RequestHead};
use tower_auth::{BoxError, Place, Token};

use crate::support::layer;

const FIELD: HeaderName = HeaderName::from_static("x-signature");

/// A credential that records the request heads it gets.
#[derive(Clone, Default)]
struct Witness(Arc<Mutex<Vec<RequestHead>>>);

impl PerRequestCredential for Witness {
    fn apply(&self, head: &RequestHead, headers: &mut HeaderMap) -> Result<Applied, BoxError> {
        self.0.lock().unwrap().push(head.clone());
        headers.insert(FIELD, "signed-with-s3cret".parse()?);
        Ok(Applied::Done)
    }

    fn observe(&self, head: &RequestHead, _: StatusCode, _: &HeaderMap) -> Feedback {
        self.0.lock().unwrap().push(head.clone());
        Feedback::Nothing
    }
}

/// Returns the heads that `apply` and `observe` get for this request.
async fn seen<Req>(request: Req) -> [RequestHead; 2]
where
    Req: AuthRequest + Send + 'static,
{
    let witness = Witness::default();
    let token = Token::per_request(Place::Header(FIELD), "key", Arc::new(witness.clone()));
    let api = service_fn(async |_: Req| Ok::<_, BoxError>(Response::new(())));
    let layer = layer(move |_| ready(Ok(token.clone())));
    layer.layer(api).oneshot(request).await.unwrap();
    let seen = witness.0.lock().unwrap().clone();
    seen.try_into().unwrap()
}

#[track_caller]
fn is(head: &RequestHead, origin: Option<&str>, path: &str, query: Option<&str>) {
    assert_eq!(head.method(), Method::PUT);
    assert_eq!(head.origin(), origin);
    let authority = origin.map(|origin| origin.split_once("://").unwrap().1);
    assert_eq!(head.authority(), authority);
    assert_eq!((head.path(), head.query()), (path, query));
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    assert_eq!(
        head.url(),
        origin.map(|origin| format!("{origin}{target}")),
        "{head:?}"
    );
    assert_eq!(head.path_and_query(), target);
    assert!(!head.replaces_existing());
}

const ADDRESSES: &[(&str, &str, &str, Option<&str>)] = &[
    (
        "https://api.example.com/things?b=2&a=1",
        "https://api.example.com",
        "/things",
        Some("b=2&a=1"),
    ),
    // This path and query aren't decoded, sorted or shortened.
    (
        "https://api.example.com/a%2Fb/../c?x=%20&&y",
        "https://api.example.com",
        "/a%2Fb/../c",
        Some("x=%20&&y"),
    ),
    (
        "https://api.example.com",
        "https://api.example.com",
        "/",
        None,
    ),
    (
        "https://api.example.com/?",
        "https://api.example.com",
        "/",
        Some(""),
    ),
    (
        "https://API.Example.com:443/A",
        "https://api.example.com",
        "/A",
        None,
    ),
    (
        "https://api.example.com:8443/",
        "https://api.example.com:8443",
        "/",
        None,
    ),
    ("http://127.0.0.1:80/", "http://127.0.0.1", "/", None),
    ("http://[::1]:8080/", "http://[::1]:8080", "/", None),
];

#[tokio::test]
async fn of_an_http_request_it_sees_the_target_as_written_and_the_origin_normalized() {
    for (url, origin, path, query) in ADDRESSES {
        let request = Request::put(*url).body("").unwrap();
        for head in seen(request).await {
            is(&head, Some(origin), path, *query);
        }
    }
}

#[tokio::test]
async fn of_a_uri_that_is_only_a_path_there_is_no_origin() {
    let request = Request::put("/things?a=1").body("").unwrap();
    for head in seen(request).await {
        is(&head, None, "/things", Some("a=1"));
    }
}

#[cfg(feature = "reqwest")]
#[tokio::test]
async fn of_a_request_of_reqwest_it_sees_the_same() {
    for (url, origin, path, query) in ADDRESSES {
        let url: reqwest::Url = url.parse().unwrap();
        // `reqwest::Url` resolves dot segments, as the URL standard requires.
        let path = path.replace("/../", "/").replace("/a%2Fb/c", "/c");
        for head in seen(reqwest::Request::new(Method::PUT, url)).await {
            is(&head, Some(origin), &path, *query);
        }
    }
}

#[tokio::test]
async fn the_credential_that_was_sent_is_known_with_the_response() {
    let request = Request::put("https://api.example.com/").body("").unwrap();
    let [applied, observed] = seen(request).await;
    assert_eq!(applied.sent_credential(), None);
    assert_eq!(observed.sent_credential().unwrap(), "signed-with-s3cret");
}

#[tokio::test]
async fn debug_shows_neither_the_path_nor_the_query_nor_the_credential() {
    let url = "https://api.example.com/p4th?key=qu3ry";
    for head in seen(Request::put(url).body("").unwrap()).await {
        let shown = format!("{head:?}");
        assert!(shown.contains("PUT") && shown.contains("https://api.example.com"));
        for secret in ["p4th", "qu3ry", "s3cret"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
