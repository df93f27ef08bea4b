//! One POST to one address: timed, capped, followed nowhere.

use std::future::Future;
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use http::{HeaderValue, Method, Request, header};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use zeroize::{Zeroize, Zeroizing};

use super::reply::{Answer, unusable};
use super::transport::{DynTransport, Reply};
use super::url::EndpointUrl;
use crate::error::{BoxError, Error, Kind};

/// The most of an answer that is read. Tokens travel in headers, which servers cap at 8 to 16 KiB,
/// so a token, a refresh token and an ID token fit several times over.
const REPLY_LIMIT: usize = 64 * 1024;

/// Issuing a token takes milliseconds; in ten seconds a connection has been retried by TCP thrice.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where is asked, and by what.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) url: EndpointUrl,
    pub(crate) timeout: Duration,
    transport: DynTransport,
}

/// What is asked. The body's bytes are zeroized when the transport lets go of them.
pub(crate) struct Question {
    pub(crate) body: Zeroizing<Vec<u8>>,
    pub(crate) content_type: &'static str,
    pub(crate) authorization: Option<HeaderValue>,
}

impl Exchange {
    pub(crate) fn new(url: EndpointUrl, transport: DynTransport) -> Self {
        Self {
            url,
            timeout: TIMEOUT,
            transport,
        }
    }

    /// To another address by the same transport.
    pub(crate) fn to(&self, url: EndpointUrl) -> Self {
        Self {
            url,
            timeout: self.timeout,
            transport: self.transport.clone(),
        }
    }

    /// Bounds whatever it takes to ask.
    pub(crate) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        // Tokio's timer would panic.
        if tokio::runtime::Handle::try_current().is_err() {
            let message = "a token can only be fetched within a Tokio runtime";
            return Err(Error::new(Kind::Runtime, message));
        }
        match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("the token endpoint took longer than {:?}", self.timeout);
                Err(Error::new(Kind::Timeout, message))
            }
        }
    }

    /// Asks once, and reads the answer.
    pub(crate) async fn post(&self, question: Question) -> Result<Answer, Error> {
        self.send(self.request(question)).await
    }

    /// The same with a request of [`request`](Self::request) that something was added to.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Error> {
        let started = SystemTime::now();
        let reply = self.transport.exchange(request).await.map_err(broken)?;
        read(reply, started).await
    }

    pub(crate) fn request(&self, question: Question) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from_owner(question.body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.uri().clone();
        let headers = request.headers_mut();
        let content_type = HeaderValue::from_static(question.content_type);
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = question.authorization {
            headers.insert(header::AUTHORIZATION, authorization);
        }
        request
    }
}

async fn read(reply: Reply, started: SystemTime) -> Result<Answer, Error> {
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
    Ok(Answer {
        status,
        headers: head.headers,
        body,
        started,
    })
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
