//! How the crate handles a late, endless or missing response, and a redirect.

use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tower::Service;
use tower_auth::oauth2::{ClientCredentials, EndpointUrl};
use tower_auth::{Reason, TokenSource};

use crate::support::token_server::{ID, SECRET, TokenServer, URL, all_text_of};

#[tokio::test(start_paused = true)]
async fn a_server_that_never_responds_is_given_up_after_ten_seconds() {
    let silent = tower::service_fn(|_: Request<Full<Bytes>>| {
        pending::<Result<Response<Full<Bytes>>, Infallible>>()
    });
    let source = ClientCredentials::new(URL, ID, SECRET)
        .unwrap()
        .transport(silent);
    let start = tokio::time::Instant::now();
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(start.elapsed().as_secs(), 10);
}

/// Sends this many frames of 1 KiB, and then does what `end` says.
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
    let source = ClientCredentials::new(URL, ID, SECRET)
        .unwrap()
        .transport(transport);
    (source, sent)
}

#[tokio::test(start_paused = true)]
async fn a_response_that_stalls_is_given_up_after_the_timeout() {
    let (source, _) = endless(200, 3);
    let start = tokio::time::Instant::now();
    let source = source.timeout(Duration::from_secs(2));
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(start.elapsed().as_secs(), 2);
}

#[tokio::test]
async fn no_more_than_64_kib_of_a_response_is_read() {
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
async fn a_response_of_exactly_64_kib_is_read() {
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

/// A large buffer would also take longer to zeroize.
#[tokio::test]
async fn a_short_response_takes_little_memory() {
    let source = TokenServer::issuing().client();
    let fetch = || source.fetch(Reason::First).now_or_never().unwrap().unwrap();
    let memory = allocation_counter::measure(|| drop(fetch()));
    assert!(memory.bytes_max < 16 * 1024, "{memory:?}");
}

#[tokio::test]
async fn a_response_that_comes_in_pieces_is_read_whole() {
    for length in [100, 5 * 1024, 64 * 1024] {
        let transport = tower::service_fn(move |_: Request<Full<Bytes>>| {
            let mut response = br#"{"access_token":"issued"}"#.to_vec();
            response.resize(length, b' ');
            let pieces: Vec<_> = response.chunks(10).map(Bytes::copy_from_slice).collect();
            let frames = pieces
                .into_iter()
                .map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
            let body = StreamBody::new(stream::iter(frames));
            ready(Ok::<_, Infallible>(Response::new(body)))
        });
        let source = ClientCredentials::new(URL, ID, SECRET)
            .unwrap()
            .transport(transport);
        let token = source.fetch(Reason::First).await.unwrap();
        assert_eq!(token.secret(), "issued", "{length} bytes");
    }
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

/// A client that panics if it is called without being polled ready.
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
    let source = ClientCredentials::new(URL, ID, SECRET)
        .unwrap()
        .transport(Strict::default());
    for _ in 0..2 {
        assert!(source.fetch(Reason::First).await.is_ok());
    }
}

#[tokio::test]
async fn a_transport_that_fails_is_the_source_of_the_error() {
    let broken = tower::service_fn(|_: Request<Full<Bytes>>| async {
        Err::<Response<Full<Bytes>>, _>(std::io::Error::other("no route to host"))
    });
    let source = ClientCredentials::new(URL, ID, SECRET)
        .unwrap()
        .transport(broken);
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

#[tokio::test]
async fn an_error_of_a_client_is_one_of_transport() {
    let broken = tower::service_fn(|_: Request<Full<Bytes>>| async {
        let of_the_clients_own = EndpointUrl::try_from("").unwrap_err();
        assert!(of_the_clients_own.is_config());
        Err::<Response<Full<Bytes>>, _>(of_the_clients_own)
    });
    let source = ClientCredentials::new(URL, ID, SECRET)
        .unwrap()
        .transport(broken);
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_transport(), "{error}");
}
