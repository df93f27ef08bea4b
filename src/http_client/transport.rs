//! The HTTP client that sends this crate's own requests. The user can choose the type of the
//! client.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;
use tower_service::Service;

use super::content_coding::ACCEPTED;
use crate::error::{BoxError, Error};

/// An HTTP client that can send token requests and fetch metadata. A transport is a Tower service
/// that takes an `http::Request<Full<Bytes>>` and returns an `http::Response` with any body.
///
/// Every service with these bounds implements the trait:
///
/// - `Service<http::Request<Full<Bytes>>, Response = http::Response<B>>`, `Clone + Send + Sync +
///   'static`, with a future that is `Send`
/// - errors that are `Into<BoxError>`
/// - a `B` that is `http_body::Body + Send + 'static`, with errors that are `Into<BoxError>`
///
/// Examples are hyper-util's client, an axum `Router` in a test, and layers over such a service.
/// For reqwest's client, use `ReqwestTransport` (feature `reqwest`). For each request, this crate
/// clones the service and waits until the clone is ready.
///
/// The service must not follow redirects, because the target of a redirect would receive the
/// secret.
///
/// # Content codings
///
/// Each request has `Accept-Encoding: identity`, so that servers don't compress the body of the
/// response. With the feature `gzip`, the header is `Accept-Encoding: gzip`, and this crate decodes
/// the body. The limit of 64 KiB then applies to the decoded body.
///
/// Some servers ignore this header. A body with an unsupported coding, such as `br`, is an
/// [error](crate::Error::is_reply) that names the coding. A transport may decode the body itself,
/// if the transport then removes `Content-Encoding`. tower-http's `Decompression` and reqwest's own
/// features for decompression do this.
///
/// # Example
///
/// ```
/// use std::convert::Infallible;
///
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tower_auth::oauth2::Transport;
///
/// fn takes(_: impl Transport) {}
///
/// takes(tower::service_fn(|_request: Request<Full<Bytes>>| async {
///     Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(r#"{"access_token":"t"}"#)))
/// }));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an HTTP client for `http::Request<Full<Bytes>>`",
    note = "see the bounds in the documentation of `Transport`"
)]
pub trait Transport: sealed::SealedTransport {}

impl<T> Transport for T where T: sealed::SealedTransport {}

pub(crate) type RawResponse = Response<UnsyncBoxBody<Bytes, BoxError>>;
pub(crate) type ResponseFuture =
    Pin<Box<dyn Future<Output = Result<RawResponse, BoxError>> + Send>>;

mod sealed {
    use bytes::Bytes;
    use http::Request;
    use http_body_util::Full;

    /// The bounds of a transport. The trait is sealed so that later versions can add bounds.
    pub trait SealedTransport: Send + Sync + 'static {
        #[doc(hidden)]
        fn send(&self, request: Request<Full<Bytes>>) -> super::ResponseFuture;

        #[doc(hidden)]
        fn prepare(&self) -> Result<(), super::Error> {
            Ok(())
        }
    }
}

pub(crate) use sealed::SealedTransport;

impl<S, B> SealedTransport for S
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn send(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        // `oneshot` polls the clone for readiness, because a clone doesn't share the original's
        // readiness.
        let service = self.clone();
        Box::pin(async move {
            let response = service.oneshot(request).await;
            Ok(response.map_err(Into::into)?.map(erase))
        })
    }
}

/// Boxes a body of any type.
pub(crate) fn erase<B>(body: B) -> UnsyncBoxBody<Bytes, BoxError>
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_frame(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
        .map_err(Into::into)
        .boxed_unsync()
}

/// A transport as a trait object.
#[derive(Clone)]
pub(crate) struct DynTransport(Arc<dyn SealedTransport>);

impl DynTransport {
    pub(crate) fn new(transport: impl SealedTransport) -> Self {
        Self(Arc::new(transport))
    }

    /// Sends a request that accepts only the content codings that this crate can decode.
    pub(crate) fn send(&self, mut request: Request<Full<Bytes>>) -> ResponseFuture {
        let accepted = HeaderValue::from_static(ACCEPTED);
        request
            .headers_mut()
            .insert(header::ACCEPT_ENCODING, accepted);
        self.0.send(request)
    }

    /// Creates the client before the first request, if the client doesn't exist yet.
    #[cfg(feature = "authorization-code")]
    pub(crate) fn prepare(&self) -> Result<(), Error> {
        self.0.prepare()
    }
}

impl fmt::Debug for DynTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}
