//! The servers in this process. The servers leave no copy of a secret in memory. The reader of a
//! body owns its bytes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use secrecy::zeroize::Zeroizing;
use tower_auth_freed::{look_for, unwatched};
use tower_service::Service;

use crate::planted::PLANTED;
use crate::responses::{Answer, Respond, Sent, metadata, tokens};

/// A server for every request of one source. One of its responses is unusual.
#[derive(Clone)]
pub(crate) struct Server {
    unusual: Respond,
    /// The number of the token request that gets the unusual response.
    at: usize,
    asked: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn new(unusual: Respond, at: usize) -> Self {
        let asked = Arc::default();
        Self { unusual, at, asked }
    }

    fn respond(&self, is_dpop: bool, secrets: String) -> Response<Frames> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        let respond = if number == self.at {
            self.unusual
        } else {
            tokens
        };
        into_response(respond(&Sent {
            number,
            is_dpop,
            secrets,
        }))
    }
}

impl Service<Request<Full<Bytes>>> for Server {
    type Response = Response<Frames>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Frames>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        if request.method() == Method::GET && request.uri().path() != "/msi/token" {
            return ready(Ok(unwatched(|| into_response(metadata()))));
        }
        let is_dpop = request.headers().contains_key("dpop");
        // Dropping the request is watched, because it contains this crate's own bytes.
        let secrets = secrets(request);
        ready(Ok(unwatched(|| self.respond(is_dpop, secrets))))
    }
}

/// An API that refuses the second request, and the fifth and sixth requests. Each response repeats
/// the request's secrets.
#[derive(Clone, Default)]
pub(crate) struct Api {
    asked: Arc<AtomicUsize>,
}

impl Service<Request<Full<Bytes>>> for Api {
    type Response = Response<Frames>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Frames>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        let sent = secrets(request);
        ready(Ok(unwatched(|| {
            let is_refusal = matches!(number, 1 | 4 | 5);
            let challenge =
                format!(r#"Bearer error="invalid_token", error_description="sent: \"{sent}\"""#);
            let cookie = format!("sid={}", crate::planted::text("renewed"));
            into_response(Answer {
                status: if is_refusal { 401 } else { 200 },
                headers: vec![("www-authenticate", challenge), ("set-cookie", cookie)],
                frames: vec![Some(sent.into_bytes())],
            })
        })))
    }
}

/// Returns the secrets of a request, separated by spaces.
fn secrets(request: Request<Full<Bytes>>) -> String {
    let (head, body) = request.into_parts();
    let body = body.collect().now_or_never().unwrap().unwrap().to_bytes();
    unwatched(|| {
        for (name, value) in form_urlencoded::parse(&body) {
            // A verifier is random (RFC 7636 §4.1).
            if name == "code_verifier" {
                look_for(value.as_bytes());
            }
        }
        // A proof contains a random value (RFC 9449 §4.2).
        if let Some(proof) = head.headers.get("dpop") {
            look_for(proof.as_bytes());
        }
        let mut texts = vec![
            head.uri.to_string(),
            String::from_utf8_lossy(&body).into_owned(),
        ];
        for value in head.headers.values() {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let decoded = value
                .strip_prefix("Basic ")
                .map(|pair| STANDARD.decode(pair).unwrap());
            texts.extend(decoded.map(|pair| String::from_utf8(pair).unwrap()));
            texts.push(value);
        }
        let is_in_secret = |c: char| c.is_ascii_alphanumeric() || ".-_~+/%".contains(c);
        let texts = texts
            .iter()
            .flat_map(|text| text.split(|c| !is_in_secret(c)));
        let secrets = texts.filter(|text| text.contains(PLANTED));
        let decoded = secrets.map(|text| {
            let bytes = percent_encoding::percent_decode_str(text);
            bytes.decode_utf8().unwrap().into_owned()
        });
        decoded.collect::<Vec<_>>().join(" ")
    })
}

fn into_response(answer: Answer) -> Response<Frames> {
    let frames = answer
        .frames
        .into_iter()
        .map(|frame| frame.map(Zeroizing::new));
    let mut response = Response::new(Frames(frames.collect()));
    *response.status_mut() = answer.status.try_into().unwrap();
    for (name, value) in answer.headers {
        let value = Bytes::from_owner(Zeroizing::new(value.into_bytes()));
        if let Ok(value) = HeaderValue::from_maybe_shared(value) {
            response
                .headers_mut()
                .append(HeaderName::from_static(name), value);
        }
    }
    response
}

/// A body. The reader of a frame owns the frame's only copy.
pub(crate) struct Frames(VecDeque<Option<Zeroizing<Vec<u8>>>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Some(frame) = self.0.pop_front() else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(match frame {
            Some(bytes) => Ok(Frame::data(unwatched(|| Bytes::from(bytes.to_vec())))),
            None => Err(io::Error::other("the connection broke")),
        }))
    }
}

/// Returns a request to the API.
pub(crate) fn request() -> Request<Full<Bytes>> {
    let request = Request::post("https://api.example.com/things").body(Full::from("body"));
    let request = request.unwrap();
    assert!(!request.headers().contains_key(AUTHORIZATION));
    request
}
