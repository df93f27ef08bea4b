//! The token endpoint (RFC 6749 §3.2): one POST, timed, capped, to one address only.
//!
//! Every grant is a set of parameters handed to [`TokenEndpoint::request`].

use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use http::{HeaderValue, Method, Request, header};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use zeroize::{Zeroize, Zeroizing};

use super::client_auth::{ClientAuth, Identity};
use super::params::{Format, Params};
use super::redact::Redactor;
use super::reply::{Answer, TokenReply, unusable};
use super::transport::{DynTransport, Reply};
use super::url::TokenUrl;
use crate::error::{BoxError, Error, Kind};

/// The most of an answer that is read. Tokens travel in headers, which servers cap at 8 to 16 KiB,
/// so a token, a refresh token and an ID token fit several times over.
const REPLY_LIMIT: usize = 64 * 1024;

/// Issuing a token takes milliseconds; in ten seconds a connection has been retried by TCP thrice.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where tokens are issued, and as whom they're asked for.
#[derive(Debug)]
pub(crate) struct TokenEndpoint {
    pub(crate) url: TokenUrl,
    pub(crate) client: ClientAuth,
    pub(crate) format: Format,
    pub(crate) timeout: Duration,
    transport: DynTransport,
}

impl TokenEndpoint {
    pub(crate) fn new(url: TokenUrl, client: ClientAuth, transport: DynTransport) -> Self {
        Self {
            url,
            client,
            format: Format::default(),
            timeout: TIMEOUT,
            transport,
        }
    }

    /// Asks once. `grant` holds `grant_type` and what belongs to it; the client is added here.
    pub(crate) async fn request(&self, grant: Params<'_>) -> Result<TokenReply, Error> {
        // Tokio's timer would panic.
        if tokio::runtime::Handle::try_current().is_err() {
            let message = "a token can only be fetched within a Tokio runtime";
            return Err(Error::new(Kind::Runtime, message));
        }
        let exchange = self.exchange(grant);
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("the token endpoint took longer than {:?}", self.timeout);
                Err(Error::new(Kind::Timeout, message))
            }
        }
    }

    async fn exchange(&self, grant: Params<'_>) -> Result<TokenReply, Error> {
        let client = self.client.identify().await?;
        let mut params = grant;
        client.add_to(&mut params);
        let started = SystemTime::now();
        let request = self.post(&params, &client)?;
        let reply = self.transport.exchange(request).await.map_err(broken)?;
        let redactor = redactor(&params, &client);
        self.read(reply, redactor, started).await
    }

    fn post(
        &self,
        params: &Params<'_>,
        client: &Identity<'_>,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let unwritable = || Error::new(Kind::Config, "the token request can't be written");
        let body = params.encode(self.format).ok_or_else(unwritable)?;
        // The bytes are zeroized when the transport lets go of them.
        let mut request = Request::new(Full::new(Bytes::from_owner(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.uri().clone();
        let headers = request.headers_mut();
        let content_type = HeaderValue::from_static(self.format.content_type());
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = client.header() {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        Ok(request)
    }

    async fn read(
        &self,
        reply: Reply,
        redactor: Redactor,
        started: SystemTime,
    ) -> Result<TokenReply, Error> {
        let (head, body) = reply.into_parts();
        let status = head.status;
        if status.is_redirection() {
            // Its target is not told: it may carry what was sent.
            let what = "is a redirect, which is not followed, for the client secret would go \
                        along; check the token endpoint's address";
            return Err(unusable(status, what));
        }
        let body = match collect(body).await {
            Ok(body) => body,
            // The body of a refusal only explains it.
            Err(_) if !status.is_success() => Zeroizing::default(),
            Err(Unread::TooLong) => {
                let what = format!("is longer than {} KiB", REPLY_LIMIT / 1024);
                return Err(unusable(status, &what));
            }
            Err(Unread::Broken(error)) => return Err(broken(error)),
        };
        let answer = Answer {
            status,
            headers: &head.headers,
            body: &body,
        };
        answer.read(redactor, started)
    }
}

fn redactor(params: &Params<'_>, client: &Identity<'_>) -> Redactor {
    let mut redactor = Redactor::default();
    for secret in client.secrets() {
        redactor.hide(&secret);
    }
    for secret in params.secrets() {
        redactor.hide(secret);
    }
    redactor
}

/// Why there is no body.
enum Unread {
    TooLong,
    Broken(BoxError),
}

/// Reads frame by frame, so that no more is ever held than is allowed.
async fn collect<B>(body: B) -> Result<Zeroizing<Vec<u8>>, Unread>
where
    B: Body<Data = Bytes, Error = BoxError>,
{
    // As long as it can get, for what a growing buffer leaves behind isn't zeroized.
    let mut bytes = Zeroizing::new(Vec::with_capacity(REPLY_LIMIT));
    let mut body = std::pin::pin!(body);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Unread::Broken)?.into_data() else {
            continue;
        };
        if data.remaining() > REPLY_LIMIT - bytes.len() {
            return Err(Unread::TooLong);
        }
        bytes.extend_from_slice(&data);
        // The transport's own copy, if nobody shares it.
        if let Ok(mut data) = data.try_into_mut() {
            data.as_mut().zeroize();
        }
    }
    Ok(bytes)
}

fn broken(error: BoxError) -> Error {
    let message = "the token endpoint could not be reached, or the connection broke";
    Error::new(Kind::Transport, message).with_source(error)
}
