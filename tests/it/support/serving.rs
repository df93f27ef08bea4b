//! What servers in memory do alike: they read a request to its end, and answer it.

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Service, service_fn};
use tower_auth::BoxError;

pub(crate) type Answer = Response<Full<Bytes>>;

/// A server that answers heads and bodies so.
pub(crate) fn serving<F>(
    answer: impl Fn(Parts, Bytes) -> F + Clone + Send + Sync + 'static,
) -> impl Service<Request<Full<Bytes>>, Response = Answer, Error = BoxError, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
where
    F: Future<Output = Result<Answer, BoxError>> + Send,
{
    service_fn(move |request: Request<Full<Bytes>>| {
        let answer = answer.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            answer(head, body).await
        }
    })
}

pub(crate) fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// The parameters of a form, in order.
pub(crate) fn params<C: FromIterator<(String, String)>>(form: &[u8]) -> C {
    form_urlencoded::parse(form).into_owned().collect()
}
