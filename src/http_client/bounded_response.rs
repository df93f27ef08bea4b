//! The response of an endpoint, read completely and within a size limit.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, StatusCode};
use http_body::Body;
use secrecy::SecretString;
use tokio::time::Instant;
use zeroize::{Zeroize, Zeroizing};

use super::body_value::Malformed;
use super::content_coding::{self, DecodeError, Undecoded};
use super::default_transport::no_response;
use super::endpoint_kind::EndpointKind;
use super::response_fields::ResponseFields;
use super::token_response_format::TokenResponseFormat;
use super::transport::RawResponse;
use crate::error::{BoxError, Error, Kind, Reply};
use crate::token::redact::Redactor;

/// The limit of a body in bytes. Tokens are sent in headers, which servers limit to 8 to 16 KiB.
/// The body's limit leaves room for three tokens of that size: an access token, a refresh token and
/// an ID token.
pub(crate) const RESPONSE_LIMIT: usize = 64 * 1024;

/// The initial capacity in bytes of the buffer for a body. Most bodies are shorter.
const INITIAL_CAPACITY: usize = 4 * 1024;

tokio::task_local! {
    /// When the timeout of the current request ends. If a body isn't complete by then, the bytes
    /// that arrived are kept.
    pub(crate) static DEADLINE: Instant;
}

/// A response whose body has been read.
pub(crate) struct EndpointResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The decoded body, or the part of the body that could be decoded.
    body: Zeroizing<Vec<u8>>,
    /// Why the body could not be decoded.
    pub(crate) undecoded: Option<Undecoded>,
    /// When the request started.
    pub(crate) started: SystemTime,
    /// Hides the values in the query of the request's address.
    pub(crate) sent: Redactor,
    /// The name of the endpoint in error messages.
    pub(crate) endpoint: &'static str,
    pub(crate) format: Arc<TokenResponseFormat>,
}

/// A response whose body may be cut off.
pub(crate) struct PartialResponse {
    /// The response. If the body is cut off, `body` contains only the bytes that arrived.
    pub(crate) response: EndpointResponse,
    /// Why the body is cut off.
    pub(crate) cut_off: Option<ReadError>,
}

/// Why a response could not be read.
pub(crate) enum ReadError {
    Redirect(StatusCode),
    /// The body is longer than this limit.
    TooLong(StatusCode, usize),
    Broken(BoxError),
    /// The timeout ended before the body was complete.
    Stalled,
}

impl EndpointResponse {
    /// Reads the response to a request that started at `started`.
    pub(crate) async fn read(
        response: RawResponse,
        started: SystemTime,
    ) -> Result<Self, ReadError> {
        let partial = PartialResponse::read(response, started, RESPONSE_LIMIT).await?;
        match partial.cut_off {
            None => Ok(partial.response),
            Some(error) => Err(error),
        }
    }

    /// Returns the body. Returns an error if the body could not be decoded.
    pub(crate) fn decoded(&self) -> Result<&[u8], Malformed> {
        match &self.undecoded {
            None => Ok(&self.body),
            Some(undecoded) => Err(Malformed::Undecoded(undecoded.clone())),
        }
    }

    /// Returns the refresh token of a successful response. Also searches a body that can't be
    /// parsed. `is_complete` says whether the whole body arrived.
    pub(crate) fn refresh_token(
        &self,
        fields: &ResponseFields,
        malformed: Option<&Malformed>,
        is_complete: bool,
    ) -> Option<SecretString> {
        let found = self
            .format
            .refresh_token(fields, malformed, &self.body, is_complete);
        found.filter(|_| self.status.is_success())
    }

    /// Reads the fields of the body.
    pub(crate) fn fields(&self) -> Result<ResponseFields, Malformed> {
        match self.read_fields(true) {
            (fields, None) => Ok(fields),
            (_, Some(malformed)) => Err(malformed),
        }
    }

    /// Reads the fields of the body, and returns the body's error, if any. Fields after an error
    /// aren't read. `is_complete` says whether the whole body arrived.
    pub(crate) fn read_fields(&self, is_complete: bool) -> (ResponseFields, Option<Malformed>) {
        let is_complete = is_complete && self.undecoded.is_none();
        let (fields, malformed) = self.format.read(&self.headers, &self.body, is_complete);
        match &self.undecoded {
            None => (fields, malformed),
            Some(undecoded) => (fields, Some(Malformed::Undecoded(undecoded.clone()))),
        }
    }
}

impl PartialResponse {
    /// Reads the response to a request that started at `started`. `limit` is the maximum length of
    /// the body in bytes.
    pub(crate) async fn read(
        response: RawResponse,
        started: SystemTime,
        limit: usize,
    ) -> Result<Self, ReadError> {
        let (head, body) = response.into_parts();
        let status = head.status;
        if status.is_redirection() {
            return Err(ReadError::Redirect(status));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(INITIAL_CAPACITY));
        let mut cut_off = collect(&head, body, limit, &mut bytes).await.err();
        let mut undecoded = None;
        match content_coding::decode(&head.headers, &mut bytes, limit) {
            Ok(()) => {}
            #[cfg(feature = "gzip")]
            Err(DecodeError::TooLong) => {
                cut_off = cut_off.or(Some(ReadError::TooLong(status, limit)));
            }
            Err(DecodeError::Undecoded(why)) => undecoded = Some(why),
        }
        let has_ended = !matches!(cut_off, None | Some(ReadError::Stalled));
        if has_ended && !status.is_success() {
            // A refusal is usable without its body, because the body only explains the refusal. But
            // if the body stalls, the request fails: another attempt may show whether the refusal
            // is permanent.
            (bytes, undecoded, cut_off) = (Zeroizing::default(), None, None);
        }
        let response = EndpointResponse {
            status,
            headers: head.headers,
            body: bytes,
            undecoded,
            started,
            sent: Redactor::default(),
            endpoint: EndpointKind::Token.name(),
            format: Arc::default(),
        };
        Ok(Self { response, cut_off })
    }
}

impl ReadError {
    /// Returns the error for the caller. The message calls the endpoint `endpoint` and its response
    /// `response`. For a redirect, the message contains `not_followed`, the reason for the
    /// rejection.
    pub(crate) fn into_error(self, endpoint: &str, response: &str, not_followed: &str) -> Error {
        match self {
            // Omits the target of the redirect, because the target may contain what the client
            // sent.
            Self::Redirect(status) => unusable(response, status, not_followed),
            Self::TooLong(status, limit) => {
                let what = format!("is longer than {} KiB", limit / 1024);
                unusable(response, status, &what)
            }
            Self::Broken(error) => {
                let message = format!("{endpoint} could not be reached, or the connection broke");
                no_response(message, error)
            }
            Self::Stalled => {
                let message = format!("{endpoint} took too long to send its response");
                Error::new(Kind::Timeout, message)
            }
        }
    }
}

/// Returns the error for an unusable response. `what` must contain no text of the body.
pub(crate) fn unusable(response: &str, status: StatusCode, what: &str) -> Error {
    let reply = Reply {
        status: Some(status),
        ..Reply::default()
    };
    Error::new(Kind::Reply, format!("{response} {what}")).with_reply(reply)
}

/// Reads the body into `bytes` frame by frame, so that memory never contains more than the limit.
async fn collect<B>(
    head: &Parts,
    body: B,
    limit: usize,
    bytes: &mut Zeroizing<Vec<u8>>,
) -> Result<(), ReadError>
where
    B: Body<Data = Bytes, Error = BoxError>,
{
    let encoded_limit = content_coding::encoded_limit(&head.headers, limit);
    let mut body = std::pin::pin!(body);
    let mut next = async || {
        poll_fn(|cx| match body.as_mut().poll_frame(cx) {
            Poll::Pending if is_past_deadline() => Poll::Ready(Some(Err(ReadError::Stalled))),
            frame => frame.map(|frame| frame.map(|it| it.map_err(ReadError::Broken))),
        })
        .await
    };
    while let Some(frame) = next().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        let left = encoded_limit - bytes.len();
        let is_too_long = data.len() > left;
        append(bytes, &data[..data.len().min(left)]);
        // Zeroizes the transport's bytes, unless another owner shares them.
        if let Ok(mut data) = data.try_into_mut() {
            data.as_mut().zeroize();
        }
        if is_too_long {
            return Err(ReadError::TooLong(head.status, limit));
        }
    }
    Ok(())
}

fn is_past_deadline() -> bool {
    let is_past = DEADLINE.try_with(|deadline| *deadline <= Instant::now());
    is_past.unwrap_or(false)
}

fn append(bytes: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    let length = bytes.len() + data.len();
    if length > bytes.capacity() {
        // `Vec` frees its old buffer without zeroizing it, so this code replaces the buffer itself.
        let mut larger = Zeroizing::new(Vec::with_capacity(length.next_power_of_two()));
        larger.extend_from_slice(bytes);
        *bytes = larger;
    }
    bytes.extend_from_slice(data);
}
