//! The common part of in-memory servers: they read the whole request, and then respond.

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{Service, service_fn};
use tower_auth::BoxError;

pub(crate) type ServerResponse = Response<Full<Bytes>>;

/// Builds a server from a function of the request's head and body.
pub(crate) fn serving<F>(
    respond: impl Fn(Parts, Bytes) -> F + Clone + Send + Sync + 'static,
) -> impl Service<Request<Full<Bytes>>, Response = ServerResponse, Error = BoxError, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
where
    F: Future<Output = Result<ServerResponse, BoxError>> + Send,
{
    service_fn(move |request: Request<Full<Bytes>>| {
        let respond = respond.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            respond(head, body).await
        }
    })
}

pub(crate) fn respond(status: u16, body: impl Into<Bytes>) -> ServerResponse {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// Returns the parameters of a form, in order.
pub(crate) fn params<C: FromIterator<(String, String)>>(form: &[u8]) -> C {
    form_urlencoded::parse(form).into_owned().collect()
}
