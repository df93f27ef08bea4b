//! The clients below the contenders: any Tower service, and a service that responds at once.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::Full;
use tower::{BoxError, Service};

pub type Body = Full<Bytes>;

/// A client that a contender sends its requests to.
pub trait Inner:
    Service<Request<Body>, Response = Response<()>, Error = BoxError, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Inner for S where
    S: Service<Request<Body>, Response = Response<()>, Error = BoxError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Makes and sends requests, one after the other.
pub trait Call: Clone + Send + Sync + 'static {
    fn call(&mut self) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// Sends requests through a Tower service.
#[derive(Clone)]
pub struct Sending<S>(pub S);

impl<S: Inner> Call for Sending<S> {
    #[inline]
    async fn call(&mut self) -> Result<(), BoxError> {
        ready(&mut self.0).await?;
        // Makes the request only when the service is ready. A future that waits for readiness then
        // doesn't store a request.
        black_box(self.0.call(request()).await?);
        Ok(())
    }
}

#[inline]
pub async fn ready<S: Inner>(service: &mut S) -> Result<(), BoxError> {
    poll_fn(|cx| service.poll_ready(cx)).await
}

/// Makes a request as a client does: header by header. (A cloned request would have a header map
/// without room for another header.)
#[inline]
pub fn request() -> Request<Body> {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    let mut request = Request::new(Full::from("{}"));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = URI.clone();
    request.headers_mut().insert(ACCEPT, JSON);
    request.headers_mut().insert(CONTENT_TYPE, JSON);
    request
}

static URI: LazyLock<Uri> = LazyLock::new(|| Uri::from_static("https://api.example.com/v1/things"));

/// A service that responds at once.
#[derive(Clone)]
pub struct Bare;

/// A future that makes the response only when polled, like a response from a network.
pub struct Answer;

impl Future for Answer {
    type Output = Result<Response<()>, BoxError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(Response::new(())))
    }
}

impl Service<Request<Body>> for Bare {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        drop(black_box(request));
        Answer
    }
}
