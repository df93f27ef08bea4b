//! One POST to one endpoint: timed, capped, followed nowhere.

use std::future::Future;
#[cfg(feature = "authorization-code")]
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use zeroize::{Zeroize, Zeroizing};

use super::endpoint_url::{EndpointUrl, Place};
use super::redact::Redactor;
use super::token_response::{Answer, unusable};
use super::transport::{DynTransport, Reply};
use crate::error::{BoxError, Error, Kind};
#[cfg(feature = "authorization-code")]
use crate::oauth2::discovery::issuer::Metadata;
use crate::oauth2::discovery::issuer::Role;

/// The most of an answer that is read. Tokens travel in headers, which servers cap at 8 to 16 KiB,
/// so a token, a refresh token and an ID token fit several times over.
pub(crate) const REPLY_LIMIT: usize = 64 * 1024;

/// Most replies are shorter.
const ROOM: usize = 4 * 1024;

/// Issuing a token takes milliseconds; in ten seconds a connection has been retried by TCP thrice.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);

/// Where a proof stands (RFC 9449 §4.1).
pub(crate) const PROOF: HeaderName = HeaderName::from_static("dpop");

/// Where is asked, and by what.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) url: EndpointUrl,
    role: Role,
    pub(crate) timeout: Duration,
    transport: DynTransport,
}

/// What is asked. The body's bytes are zeroized when the transport lets go of them.
pub(crate) struct Question {
    pub(crate) body: Zeroizing<Vec<u8>>,
    pub(crate) content_type: &'static str,
    pub(crate) authorization: Option<HeaderValue>,
    /// Of a key (RFC 9449 §5).
    pub(crate) proof: Option<HeaderValue>,
}

impl Question {
    /// One in JSON, from somebody who says in it who they are.
    pub(crate) fn json(body: Zeroizing<Vec<u8>>) -> Self {
        Self {
            body,
            content_type: "application/json",
            authorization: None,
            proof: None,
        }
    }
}

impl Exchange {
    pub(crate) fn new(url: EndpointUrl, transport: DynTransport) -> Self {
        Self {
            url,
            role: Role::Token,
            timeout: TIMEOUT,
            transport,
        }
    }

    /// To another endpoint by the same transport.
    pub(crate) fn to(&self, url: EndpointUrl, role: Role) -> Self {
        Self {
            url,
            role,
            timeout: self.timeout,
            transport: self.transport.clone(),
        }
    }

    /// Bounds whatever it takes to ask.
    pub(crate) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let with = match self.url.issuer() {
            Some(_) => ", with the metadata that names it,",
            None => "",
        };
        within(self.timeout, &format!("{}{with}", self.role.name()), work).await
    }

    /// Where this endpoint is. Within [`within`](Self::within), as all that asks.
    pub(crate) async fn address(&self) -> Result<Uri, Error> {
        self.resolve(&self.url, self.role).await
    }

    /// Where an endpoint is: known, or as the metadata of its issuer says.
    pub(crate) async fn resolve(&self, url: &EndpointUrl, role: Role) -> Result<Uri, Error> {
        match url.place() {
            Place::At(address) => Ok(address.clone()),
            Place::Of(issuer) => issuer.endpoint(role, &self.transport, self.timeout).await,
        }
    }

    /// What is known of the authorization server, if an endpoint of it was made from its issuer.
    #[cfg(feature = "authorization-code")]
    pub(crate) async fn metadata(&self, url: &EndpointUrl) -> Result<Option<Arc<Metadata>>, Error> {
        match url.issuer() {
            Some(issuer) => {
                let metadata = issuer.metadata(&self.transport, self.timeout).await?;
                Ok(Some(metadata))
            }
            None => Ok(None),
        }
    }

    /// Asks once, and reads the answer.
    pub(crate) async fn post(&self, question: Question) -> Result<Answer, Error> {
        let request = self.request(question).await?;
        self.send(request).await
    }

    /// The request that [`post`](Self::post) sends.
    pub(crate) async fn request(&self, question: Question) -> Result<Request<Full<Bytes>>, Error> {
        let address = self.address().await?;
        Ok(request(address, question))
    }

    /// Sends a request that something may have been added to.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Error> {
        let started = SystemTime::now();
        let sent = Redactor::of_address(request.uri());
        let reply = self.transport.exchange(request).await;
        let reply = reply.map_err(|error| self.broken(error))?;
        if let Some(issuer) = self.url.issuer()
            && has_moved(reply.status())
        {
            issuer.doubt();
        }
        let answer = read(reply, started).await;
        let answer = answer.map(|answer| Answer { sent, ..answer });
        answer.map_err(|unread| match unread {
            Unread::Redirect(status) => {
                // Its target is not told: it may carry what was sent.
                let what = "is a redirect, which is not followed, for the client secret would go \
                            along; check the endpoint's address";
                unusable(&self.reply(), status, what)
            }
            Unread::TooLong(status) => {
                let what = format!("is longer than {} KiB", REPLY_LIMIT / 1024);
                unusable(&self.reply(), status, &what)
            }
            Unread::Broken(error) => self.broken(error),
        })
    }

    fn reply(&self) -> String {
        format!("{}'s reply", self.role.name())
    }

    fn broken(&self, error: BoxError) -> Error {
        let name = self.role.name();
        let message = format!("{name} could not be reached, or the connection broke");
        Error::new(Kind::Transport, message).with_source(error)
    }
}

/// Bounds whatever it takes to ask `who`.
pub(crate) async fn within<T>(
    limit: Duration,
    who: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    // Tokio's timer would panic.
    if tokio::runtime::Handle::try_current().is_err() {
        let message = "a token can only be fetched within a Tokio runtime";
        return Err(Error::new(Kind::Runtime, message));
    }
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!("{who} took longer than {limit:?}");
            Err(Error::new(Kind::Timeout, message))
        }
    }
}

fn request(address: Uri, question: Question) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::from_owner(question.body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = address;
    let headers = request.headers_mut();
    let content_type = HeaderValue::from_static(question.content_type);
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(authorization) = question.authorization {
        headers.insert(header::AUTHORIZATION, authorization);
    }
    if let Some(proof) = question.proof {
        headers.insert(PROOF, proof);
    }
    request
}

/// Whether there is nothing that takes a POST at this address, or not any more.
fn has_moved(status: StatusCode) -> bool {
    status.is_redirection() || matches!(status.as_u16(), 404 | 405 | 410)
}

/// Why an answer isn't read.
pub(crate) enum Unread {
    Redirect(StatusCode),
    TooLong(StatusCode),
    Broken(BoxError),
}

pub(crate) async fn read(reply: Reply, started: SystemTime) -> Result<Answer, Unread> {
    let (head, body) = reply.into_parts();
    let status = head.status;
    if status.is_redirection() {
        return Err(Unread::Redirect(status));
    }
    let body = match collect(status, body).await {
        Ok(body) => body,
        // The body of a refusal only explains it.
        Err(_) if !status.is_success() => Zeroizing::default(),
        Err(unread) => return Err(unread),
    };
    Ok(Answer {
        status,
        headers: head.headers,
        body,
        started,
        sent: Redactor::default(),
    })
}

/// Reads frame by frame, so that no more is ever held than is allowed.
async fn collect<B>(status: StatusCode, body: B) -> Result<Zeroizing<Vec<u8>>, Unread>
where
    B: Body<Data = Bytes, Error = BoxError>,
{
    let mut bytes = Zeroizing::new(Vec::with_capacity(ROOM));
    let mut body = std::pin::pin!(body);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Unread::Broken)?.into_data() else {
            continue;
        };
        if data.remaining() > REPLY_LIMIT - bytes.len() {
            return Err(Unread::TooLong(status));
        }
        let length = bytes.len() + data.remaining();
        if length > bytes.capacity() {
            // By hand, for what a buffer leaves behind that grows by itself isn't zeroized.
            let mut larger = Zeroizing::new(Vec::with_capacity(length.next_power_of_two()));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        bytes.extend_from_slice(&data);
        // The transport's own copy, if nobody shares it.
        if let Ok(mut data) = data.try_into_mut() {
            data.as_mut().zeroize();
        }
    }
    Ok(bytes)
}
