//! One request to one endpoint, with a timeout, a response limit and no redirects.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use tokio::time::{Instant, sleep_until};
use zeroize::Zeroizing;

use super::bounded_response::{
    DEADLINE, EndpointResponse, PartialResponse, RESPONSE_LIMIT, ReadError,
};
use super::endpoint_kind::EndpointKind;
use super::endpoint_url::EndpointUrl;
use super::token_response::{UnjudgedResponse, WantedToken};
use super::token_response_format::TokenResponseFormat;
use super::transport::DynTransport;
use crate::error::{Error, Kind};
use crate::token::redact::Redactor;

/// The default timeout of a request. A server issues a token within milliseconds. Within 10 s, TCP
/// repeats a failed connection attempt three times.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// An endpoint, with the transport and the timeout of its requests.
#[derive(Clone, Debug)]
pub(crate) struct EndpointClient {
    pub(crate) url: EndpointUrl,
    kind: EndpointKind,
    /// The name of the endpoint in error messages.
    name: &'static str,
    pub(crate) timeout: Duration,
    /// The limit of a response's body in bytes.
    pub(crate) limit: usize,
    pub(crate) transport: DynTransport,
    /// The format of the responses.
    pub(crate) format: Arc<TokenResponseFormat>,
}

/// A request to send. The bytes of the body are zeroized when the transport drops them.
pub(crate) struct EndpointRequest {
    pub(crate) method: Method,
    pub(crate) body: Zeroizing<Vec<u8>>,
    pub(crate) content_type: &'static str,
    /// The request's headers, except `Content-Type`. An `Accept` here replaces the usual `Accept`.
    pub(crate) headers: HeaderMap,
}

impl EndpointRequest {
    /// Creates a request with a JSON body and no additional headers.
    pub(crate) fn json(body: Zeroizing<Vec<u8>>) -> Self {
        Self {
            method: Method::POST,
            body,
            content_type: "application/json",
            headers: HeaderMap::new(),
        }
    }

    /// Creates a GET request without a body and without additional headers.
    #[cfg(any(
        feature = "azure",
        feature = "gcp",
        feature = "github",
        feature = "vault"
    ))]
    pub(crate) fn get() -> Self {
        Self {
            method: Method::GET,
            body: Zeroizing::default(),
            content_type: "",
            headers: HeaderMap::new(),
        }
    }

    fn into_http(self, address: Uri, accept: HeaderValue) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from_owner(self.body)));
        *request.method_mut() = self.method;
        *request.uri_mut() = address;
        let headers = request.headers_mut();
        if !self.content_type.is_empty() {
            let content_type = HeaderValue::from_static(self.content_type);
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        headers.insert(header::ACCEPT, accept);
        headers.extend(self.headers);
        request
    }
}

impl EndpointClient {
    pub(crate) fn new(url: EndpointUrl) -> Self {
        Self {
            url,
            kind: EndpointKind::Token,
            name: EndpointKind::Token.name(),
            timeout: TIMEOUT,
            limit: RESPONSE_LIMIT,
            transport: DynTransport::default(),
            format: Arc::default(),
        }
    }

    /// Returns a client for another endpoint, with the same transport, timeout and format.
    pub(crate) fn to(&self, url: EndpointUrl, kind: EndpointKind) -> Self {
        Self {
            url,
            kind,
            name: kind.name(),
            timeout: self.timeout,
            limit: self.limit,
            transport: self.transport.clone(),
            format: Arc::clone(&self.format),
        }
    }

    /// Sets the name of the endpoint in error messages, such as `the metadata server`.
    #[cfg(any(
        feature = "azure",
        feature = "gcp",
        feature = "github",
        feature = "kubernetes",
        feature = "vault"
    ))]
    pub(crate) fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Applies the timeout to `work`: all the steps that lead to a response.
    pub(crate) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        within(self.timeout, &self.work(), work).await
    }

    /// Returns what the timeout covers, for its error message.
    fn work(&self) -> String {
        let with = match self.url.issuer() {
            Some(_) => ", including its metadata,",
            None => "",
        };
        format!("{}{with}", self.name)
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

    /// Returns the issuer as the server's metadata writes it, or `None` if `url` is an address.
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

    /// Sends a request once and reads the response. The body of the response may be cut off.
    pub(crate) async fn post_partial(
        &self,
        request: EndpointRequest,
    ) -> Result<PartialResponse, Error> {
        let request = self.request(request).await?;
        self.send_partial(request).await
    }

    /// Builds the request that [`post_partial`](Self::post_partial) sends.
    pub(crate) async fn request(
        &self,
        request: EndpointRequest,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let address = self.address().await?;
        Ok(request.into_http(address, self.format.accept()))
    }

    /// Sends a request from [`request`](Self::request). The caller may have added headers.
    #[cfg(feature = "cookies")]
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
                PartialResponse::read(response, started, self.limit).await
            }
            Err(error) => Err(ReadError::Broken(error)),
        };
        let mut partial = response.map_err(|error| self.unread(error))?;
        partial.response.sent = sent;
        partial.response.endpoint = self.name;
        partial.response.format = Arc::clone(&self.format);
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
        wanted: WantedToken<'_>,
        redactor: Redactor,
    ) -> UnjudgedResponse {
        match partial.cut_off {
            None => partial.response.tokens(wanted, redactor),
            Some(error) => UnjudgedResponse {
                refresh_token: partial.response.refresh_token_before_its_end(),
                rest: Err(self.unread(error)),
            },
        }
    }

    /// Returns the error for a response that could not be read.
    fn unread(&self, error: ReadError) -> Error {
        if let ReadError::Stalled = error {
            return took_longer(self.timeout, &self.work());
        }
        let name = self.name;
        let not_followed = "is a redirect, which is not followed because it would get the \
                            request's secrets; check the endpoint's address";
        error.into_error(name, &format!("{name}'s reply"), not_followed)
    }
}

/// Applies a timeout to `work`. The error message calls the work `what`. If the timeout ends while
/// a body is read, the work continues with the bytes that arrived.
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
    let now = Instant::now();
    let deadline = now.checked_add(limit).unwrap_or(now + LONGEST_TIMEOUT);
    let mut end = pin!(sleep_until(deadline));
    let mut work = pin!(DEADLINE.scope(deadline, work));
    poll_fn(|cx| {
        // Polls the timer first. So the work is polled once more after the deadline, and can then
        // use the bytes that arrived.
        let has_ended = end.as_mut().poll(cx).is_ready();
        match work.as_mut().poll(cx) {
            Poll::Pending if has_ended => Poll::Ready(Err(took_longer(limit, what))),
            result => result,
        }
    })
    .await
}

/// Replaces a timeout that is too long for the clock.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn took_longer(limit: Duration, what: &str) -> Error {
    let message = format!("{what} took longer than {limit:?}");
    Error::new(Kind::Timeout, message)
}

/// Returns whether the status means that this address doesn't accept a POST.
fn has_moved(status: StatusCode) -> bool {
    status.is_redirection() || matches!(status.as_u16(), 404 | 405 | 410)
}
