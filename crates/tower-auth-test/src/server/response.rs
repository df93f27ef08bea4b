//! A response of a fake server, with its faults.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::body::{Rest, ScriptedBody};

/// How a fake server responds to one request: with a response, with a part of one, or not at all.
///
/// # Example
///
/// An authorization server that fails in many ways, is slow, and then works again:
///
/// ```
/// use std::time::Duration;
/// use tower_auth_test::{AuthorizationServer, ScriptedResponse};
///
/// let server = AuthorizationServer::new();
/// server.respond_next(ScriptedResponse::new(503).header("retry-after", "1"));
/// server.respond_next(ScriptedResponse::json(400, r#"{"error":"invalid_client"}"#));
/// server.respond_next(ScriptedResponse::reset());
/// server.respond_next(ScriptedResponse::stall());
/// server.respond_next(ScriptedResponse::as_usual().after(Duration::from_secs(5)));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a scripted response does nothing until a server sends it"]
pub struct ScriptedResponse {
    delay: Duration,
    kind: Kind,
    headers: HeaderMap,
    /// After how many bytes the body stops, and how.
    cut: Option<(usize, Rest)>,
}

#[derive(Clone, Debug)]
enum Kind {
    Respond { status: StatusCode, body: Bytes },
    AsUsual,
    Stall,
    Reset,
}

/// What a server does after the delay.
pub(crate) enum Action {
    Respond(Response<ScriptedBody>),
    Stall,
    Reset,
}

impl ScriptedResponse {
    /// Makes a response with this status, no headers and an empty body.
    ///
    /// # Panics
    ///
    /// If `status` is not between 200 and 999.
    #[track_caller]
    pub fn new(status: u16) -> Self {
        let valid = StatusCode::from_u16(status).ok();
        let Some(status) = valid.filter(|status| !status.is_informational()) else {
            panic!("{status} is not the status of a final response; use a number from 200 to 999");
        };
        Self::of(Kind::Respond {
            status,
            body: Bytes::new(),
        })
    }

    /// Makes a response with this status and a JSON body: text that is JSON, or a
    /// `serde_json::Value`. The text is not checked, so it can also be broken JSON.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[track_caller]
    pub fn json(status: u16, body: impl Display) -> Self {
        Self::new(status)
            .header(CONTENT_TYPE.as_str(), "application/json")
            .body(body.to_string())
    }

    /// Responds as the server does without a script. With it, a test delays or cuts the usual
    /// response, or adds headers.
    ///
    /// The server processes the request when it arrives. So `as_usual().reset_after(0)` is a token
    /// request that the server granted and whose response was lost.
    ///
    /// Only [`respond_next`], [`respond_always`] and [`Api::respond_with`] accept it. In other places
    /// the server panics when it responds.
    ///
    /// [`respond_next`]: crate::ScriptedServer::respond_next
    /// [`respond_always`]: crate::ScriptedServer::respond_always
    /// [`Api::respond_with`]: crate::Api::respond_with
    pub fn as_usual() -> Self {
        Self::of(Kind::AsUsual)
    }

    /// Never responds. The client's timeout has to end the request.
    pub fn stall() -> Self {
        Self::of(Kind::Stall)
    }

    /// Ends the request without a response. In memory, the service returns an [`io::Error`] of the
    /// kind [`ConnectionReset`]. On loopback, HTTP/1 closes the connection, and HTTP/2 resets the
    /// stream.
    ///
    /// [`io::Error`]: std::io::Error
    /// [`ConnectionReset`]: std::io::ErrorKind::ConnectionReset
    pub fn reset() -> Self {
        Self::of(Kind::Reset)
    }

    /// Waits by Tokio's clock before the server responds.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Appends a header. A `Content-Length` is sent as it is, even if the body has another length.
    ///
    /// # Panics
    ///
    /// If the name or the value can't be in a header, and for a response without headers:
    /// [`stall`](Self::stall) and [`reset`](Self::reset).
    #[track_caller]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            panic!("{name:?} can't be the name of a header");
        };
        let Ok(value) = HeaderValue::from_bytes(value.as_ref()) else {
            panic!("the value can't be in the header {name:?}");
        };
        assert!(
            self.is_response(),
            "there is no response to add {name:?} to"
        );
        self.headers.append(header, value);
        self
    }

    /// Sets the body.
    ///
    /// # Panics
    ///
    /// For a response without a body of its own: [`stall`](Self::stall), [`reset`](Self::reset) and
    /// [`as_usual`](Self::as_usual).
    #[track_caller]
    pub fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        match &mut self.kind {
            Kind::Respond { body, .. } => *body = bytes.into(),
            Kind::AsUsual => panic!("the server makes the body of its usual response"),
            Kind::Stall | Kind::Reset => panic!("there is no response to add a body to"),
        }
        self
    }

    /// Sends only the first bytes of the body, and then nothing more. The connection stays open.
    ///
    /// # Panics
    ///
    /// For a response without a body: [`stall`](Self::stall) and [`reset`](Self::reset).
    #[track_caller]
    pub fn stall_after(self, bytes: usize) -> Self {
        self.cut_after(bytes, Rest::Stall)
    }

    /// Sends only the first bytes of the body, and then [resets](Self::reset) the connection.
    ///
    /// # Panics
    ///
    /// As [`stall_after`](Self::stall_after).
    #[track_caller]
    pub fn reset_after(self, bytes: usize) -> Self {
        self.cut_after(bytes, Rest::Reset)
    }

    #[track_caller]
    fn cut_after(self, bytes: usize, rest: Rest) -> Self {
        assert!(self.is_response(), "there is no body to cut");
        Self {
            cut: Some((bytes, rest)),
            ..self
        }
    }

    /// Returns whether the server responds.
    pub(crate) fn is_response(&self) -> bool {
        matches!(self.kind, Kind::Respond { .. } | Kind::AsUsual)
    }

    fn of(kind: Kind) -> Self {
        Self {
            delay: Duration::ZERO,
            kind,
            headers: HeaderMap::new(),
            cut: None,
        }
    }

    /// Replaces [`as_usual`](Self::as_usual) by the usual response.
    pub(crate) fn or_as_usual(self, usual: impl FnOnce() -> Self) -> Self {
        if !matches!(self.kind, Kind::AsUsual) {
            return self;
        }
        let mut usual = usual();
        usual.delay = usual.delay.saturating_add(self.delay);
        for (name, value) in &self.headers {
            usual.headers.append(name, value.clone());
        }
        usual.cut = self.cut.or(usual.cut);
        usual
    }

    /// Waits for the delay, and returns what the server does then.
    pub(crate) async fn run(self) -> Action {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        match self.kind {
            Kind::Stall => Action::Stall,
            Kind::Reset => Action::Reset,
            Kind::AsUsual => panic!("`as_usual()` can't be the usual response of a server"),
            Kind::Respond { status, body } => {
                let (sent, rest) = self.cut.unwrap_or((body.len(), Rest::End));
                // A body that announced another length than the header would make hyper panic.
                let announces_length = !self.headers.contains_key(CONTENT_LENGTH);
                let body = ScriptedBody::new(&body, sent, rest, announces_length);
                let mut response = Response::new(body);
                *response.status_mut() = status;
                *response.headers_mut() = self.headers;
                Action::Respond(response)
            }
        }
    }
}

impl<B> From<Response<B>> for ScriptedResponse
where
    B: Into<Bytes>,
{
    fn from(response: Response<B>) -> Self {
        let (head, body) = response.into_parts();
        Self {
            headers: head.headers,
            ..Self::of(Kind::Respond {
                status: head.status,
                body: body.into(),
            })
        }
    }
}
