//! A response of a fake server, with its faults.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::body::{Rest, ScriptedBody};

/// How a fake server responds to one request: with a response, with a part of one, or not at all.
///
/// # Example
///
/// An authorization server that is down, then slow, and then works again:
///
/// ```
/// use std::time::Duration;
/// use tower_auth_test::{AuthorizationServer, ScriptedResponse};
///
/// let server = AuthorizationServer::new();
/// server.respond_next(ScriptedResponse::new(503).header("retry-after", "1"));
/// server.respond_next(
///     ScriptedResponse::json(200, r#"{"access_token":"slow","token_type":"Bearer"}"#)
///         .after(Duration::from_secs(5)),
/// );
/// ```
#[derive(Clone, Debug)]
#[must_use = "a scripted response does nothing until a server sends it"]
pub struct ScriptedResponse {
    delay: Duration,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Respond {
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
        /// After how many bytes the body stops, and how.
        cut: Option<(usize, Rest)>,
    },
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
    /// If `status` is not between 100 and 999.
    #[track_caller]
    pub fn new(status: u16) -> Self {
        let Ok(status) = StatusCode::from_u16(status) else {
            panic!("{status} is no HTTP status; use a number from 100 to 999");
        };
        Self::of(Kind::Respond {
            status,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            cut: None,
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

    /// Never responds. The client's timeout has to end the request.
    pub fn stall() -> Self {
        Self::of(Kind::Stall)
    }

    /// Resets the connection without a response. In memory, the service returns an error.
    pub fn reset() -> Self {
        Self::of(Kind::Reset)
    }

    /// Waits by Tokio's clock before the server responds.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Appends a header.
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
        match &mut self.kind {
            Kind::Respond { headers, .. } => drop(headers.append(header, value)),
            Kind::Stall | Kind::Reset => panic!("there is no response to add {name:?} to"),
        }
        self
    }

    /// Sets the body.
    ///
    /// # Panics
    ///
    /// For a response without a body: [`stall`](Self::stall) and [`reset`](Self::reset).
    #[track_caller]
    pub fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        match &mut self.kind {
            Kind::Respond { body, .. } => *body = bytes.into(),
            Kind::Stall | Kind::Reset => panic!("there is no response to add a body to"),
        }
        self
    }

    /// Sends only the first bytes of the body, and then nothing more. The connection stays open.
    ///
    /// # Panics
    ///
    /// As [`body`](Self::body).
    #[track_caller]
    pub fn stall_after(self, bytes: usize) -> Self {
        self.cut_after(bytes, Rest::Stall)
    }

    /// Sends only the first bytes of the body, and then resets the connection.
    ///
    /// # Panics
    ///
    /// As [`body`](Self::body).
    #[track_caller]
    pub fn reset_after(self, bytes: usize) -> Self {
        self.cut_after(bytes, Rest::Reset)
    }

    #[track_caller]
    fn cut_after(mut self, bytes: usize, rest: Rest) -> Self {
        match &mut self.kind {
            Kind::Respond { cut, .. } => *cut = Some((bytes, rest)),
            Kind::Stall | Kind::Reset => panic!("there is no body to cut"),
        }
        self
    }

    fn of(kind: Kind) -> Self {
        Self {
            delay: Duration::ZERO,
            kind,
        }
    }

    /// Waits for the delay, and returns what the server does then.
    pub(crate) async fn run(self) -> Action {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        match self.kind {
            Kind::Stall => Action::Stall,
            Kind::Reset => Action::Reset,
            Kind::Respond {
                status,
                headers,
                body,
                cut,
            } => {
                let (sent, rest) = cut.unwrap_or((body.len(), Rest::End));
                let mut response = Response::new(ScriptedBody::new(&body, sent, rest));
                *response.status_mut() = status;
                *response.headers_mut() = headers;
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
        Self::of(Kind::Respond {
            status: head.status,
            headers: head.headers,
            body: body.into(),
            cut: None,
        })
    }
}
