//! One POST to one endpoint, with a timeout, a response limit and no redirects.

use std::future::Future;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use zeroize::Zeroizing;

use super::bounded_response::{EndpointResponse, PartialResponse, ReadError};
use super::endpoint_kind::EndpointKind;
use super::endpoint_url::EndpointUrl;
use super::redact::Redactor;
use super::token_response::{TokenType, UnjudgedResponse};
use super::transport::DynTransport;
use crate::error::{Error, Kind};

/// The default timeout of a request. A server issues a token within milliseconds. Within 10 s, TCP
/// repeats a failed connection attempt three times.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// An endpoint, with the transport and the timeout of its requests.
#[derive(Clone, Debug)]
pub(crate) struct EndpointClient {
    pub(crate) url: EndpointUrl,
    kind: EndpointKind,
    pub(crate) timeout: Duration,
    pub(crate) transport: DynTransport,
}

/// A request to send. The bytes of the body are zeroized when the transport drops them.
pub(crate) struct EndpointRequest {
    pub(crate) body: Zeroizing<Vec<u8>>,
    pub(crate) content_type: &'static str,
    /// The request's headers, except `Content-Type` and `Accept`.
    pub(crate) headers: HeaderMap,
}

impl EndpointRequest {
    /// Creates a request with a JSON body and no additional headers.
    pub(crate) fn json(body: Zeroizing<Vec<u8>>) -> Self {
        Self {
            body,
            content_type: "application/json",
            headers: HeaderMap::new(),
        }
    }

    fn into_http(self, address: Uri) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from_owner(self.body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = address;
        let headers = request.headers_mut();
        let content_type = HeaderValue::from_static(self.content_type);
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.extend(self.headers);
        request
    }
}

impl EndpointClient {
    pub(crate) fn new(url: EndpointUrl) -> Self {
        Self {
            url,
            kind: EndpointKind::Token,
            timeout: TIMEOUT,
            transport: DynTransport::default(),
        }
    }

    /// Returns a client for another endpoint, with the same transport and timeout.
    pub(crate) fn to(&self, url: EndpointUrl, kind: EndpointKind) -> Self {
        Self {
            url,
            kind,
            timeout: self.timeout,
            transport: self.transport.clone(),
        }
    }

    /// Applies the timeout to `work`: all the steps that lead to a response.
    pub(crate) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let with = match self.url.issuer() {
            Some(_) => ", including its metadata,",
            None => "",
        };
        within(self.timeout, &format!("{}{with}", self.kind.name()), work).await
    }

    /// Returns the address of this endpoint. Call this method, and each method that sends a
    /// request, inside [`within`](Self::within).
    pub(crate) async fn address(&self) -> Result<Uri, Error> {
        self.resolve(&self.url, self.kind).await
    }

    /// Returns an endpoint's address: the known address, or the address in the issuer's metadata.
    pub(crate) async fn resolve(
        &self,
        url: &EndpointUrl,
        kind: EndpointKind,
    ) -> Result<Uri, Error> {
        url.resolve(kind, &self.transport, self.timeout).await
    }

    /// Returns the issuer as its metadata writes it, or `None` if `url` is an address.
    pub(crate) async fn published_issuer(
        &self,
        url: &EndpointUrl,
    ) -> Result<Option<String>, Error> {
        match url.resolver() {
            Some(resolver) => {
                let issuer = resolver.published_issuer(&self.transport, self.timeout);
                issuer.await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// Sends a request once and reads the response.
    pub(crate) async fn post(&self, request: EndpointRequest) -> Result<EndpointResponse, Error> {
        let request = self.request(request).await?;
        self.send(request).await
    }

    /// Sends a request like [`post`](Self::post). The body of the response may be cut off.
    pub(crate) async fn post_partial(
        &self,
        request: EndpointRequest,
    ) -> Result<PartialResponse, Error> {
        let request = self.request(request).await?;
        self.send_partial(request).await
    }

    /// Builds the request that [`post`](Self::post) sends.
    pub(crate) async fn request(
        &self,
        request: EndpointRequest,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let address = self.address().await?;
        Ok(request.into_http(address))
    }

    /// Sends a request from [`request`](Self::request). The caller may have added headers.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<EndpointResponse, Error> {
        self.complete(self.send_partial(request).await?)
    }

    async fn send_partial(&self, request: Request<Full<Bytes>>) -> Result<PartialResponse, Error> {
        let started = SystemTime::now();
        let sent = Redactor::of_address(request.uri());
        let response = match self.transport.send(request).await {
            Ok(response) => {
                if let Some(resolver) = self.url.resolver()
                    && has_moved(response.status())
                {
                    resolver.invalidate();
                }
                PartialResponse::read(response, started).await
            }
            Err(error) => Err(ReadError::Broken(error)),
        };
        let mut partial = response.map_err(|error| self.unread(error))?;
        partial.response.sent = sent;
        Ok(partial)
    }

    /// Returns the response if its body isn't cut off.
    pub(crate) fn complete(&self, partial: PartialResponse) -> Result<EndpointResponse, Error> {
        match partial.cut_off {
            None => Ok(partial.response),
            Some(error) => Err(self.unread(error)),
        }
    }

    /// Reads the tokens of a token endpoint. The body may be cut off after the refresh token.
    pub(crate) fn tokens(
        &self,
        partial: PartialResponse,
        wanted: TokenType,
        redactor: Redactor,
    ) -> UnjudgedResponse {
        match partial.cut_off {
            None => partial.response.tokens(wanted, redactor),
            Some(error) => UnjudgedResponse {
                refresh_token: partial.response.find_refresh_token(false),
                rest: Err(self.unread(error)),
            },
        }
    }

    /// Returns the error for a response that could not be read.
    fn unread(&self, error: ReadError) -> Error {
        let name = self.kind.name();
        let not_followed = "is a redirect, which is not followed because it would get the \
                            client secret; check the endpoint's address";
        error.into_error(name, &format!("{name}'s reply"), not_followed)
    }
}

/// Applies a timeout to `work`. The error message calls the work `what`.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    // Without a runtime, Tokio's timer would panic.
    if tokio::runtime::Handle::try_current().is_err() {
        let message = "a token can only be fetched within a Tokio runtime";
        return Err(Error::new(Kind::Runtime, message));
    }
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!("{what} took longer than {limit:?}");
            Err(Error::new(Kind::Timeout, message))
        }
    }
}

/// Returns whether the status means that this address doesn't accept a POST.
fn has_moved(status: StatusCode) -> bool {
    status.is_redirection() || matches!(status.as_u16(), 404 | 405 | 410)
}
