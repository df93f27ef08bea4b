//! A request that a fake server received.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use serde_json::Value;
use tokio::time::Instant;

/// A request that a fake server received, and what became of it.
///
/// `Display` shows one line, such as `GET /notes Bearer token-1 -> 200`: the method, the path with
/// the query, the `Authorization` header or `-`, the `grant_type` if the body has one, and the
/// status. Instead of the status, `…` means that the server hasn't responded, and `reset` that it
/// has reset the connection. If the client gives up first, the `…` stays. A response whose body was
/// cut has its status. If the response's headers have a `grpc-status`, it follows:
/// `-> 200 grpc-status 16`. Of `Basic`, only the scheme is shown. A token is shown as it is, so use
/// no real ones.
///
/// # Example
///
/// A token request:
///
/// ```
/// use tower_auth::TokenCache;
/// use tower_auth::oauth2::ClientCredentials;
/// use tower_auth_test::AuthorizationServer;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
/// let server = AuthorizationServer::new();
/// let client = server.client()?.basic_auth();
/// TokenCache::new(ClientCredentials::with_client(client).scope("read")).token().await?;
///
/// let request = &server.requests()[0];
/// assert_eq!(request.to_string(), "POST /oauth/token Basic client_credentials -> 200");
/// assert_eq!(request.basic(), Some(("my-service".into(), "a-secret".into())));
/// assert_eq!(request.param("scope").as_deref(), Some("read"));
/// assert_eq!(request.params().len(), 2);
/// assert_eq!(request.form()[0], ("grant_type".into(), "client_credentials".into()));
/// # Ok(()) }
/// ```
///
/// A request to an API:
///
/// ```
/// use http::Request;
/// use tokio::time::Instant;
/// use tower::Layer;
/// use tower_auth::AuthLayer;
/// use tower_auth_test::{Api, ScriptedSource};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
/// let api = Api::accepting(["token-1"]);
/// let client = AuthLayer::new(ScriptedSource::default()).any_https().layer(api.clone());
/// let request = Request::post("https://api.example.com/notes?draft=1");
/// client.send(request.body(String::from("hello"))?).await?;
///
/// let request = &api.requests()[0];
/// assert_eq!((request.method().as_str(), request.path()), ("POST", "/notes"));
/// assert_eq!(request.uri().query(), Some("draft=1"));
/// assert_eq!(request.origin().as_deref(), Some("https://api.example.com"));
/// assert_eq!(request.token(), Some("token-1"));
/// assert_eq!(request.header("authorization"), Some("Bearer token-1"));
/// assert_eq!(request.headers().len(), 1);
/// assert_eq!(request.text().as_bytes(), request.body());
/// assert_eq!(request.status().map(|status| status.as_u16()), Some(200));
/// assert_eq!(request.number(), 1);
/// assert!(request.received_at() <= Instant::now());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    number: usize,
    received_at: Instant,
    head: Head,
    body: Bytes,
    outcome: Outcome,
}

#[derive(Clone, Debug)]
struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

/// What the server has done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    NoResponse,
    Responded {
        status: StatusCode,
        /// The `grpc-status` of the headers.
        grpc_status: Option<u16>,
    },
    Reset,
}

impl Outcome {
    /// Describes a response.
    pub(crate) fn of<B>(response: &Response<B>) -> Self {
        let grpc_status = response.headers().get("grpc-status");
        let grpc_status = grpc_status.and_then(|value| value.to_str().ok()?.parse().ok());
        Self::Responded {
            status: response.status(),
            grpc_status,
        }
    }
}

impl RecordedRequest {
    pub(crate) fn new(head: Parts, body: Bytes) -> Self {
        Self {
            number: 0,
            received_at: Instant::now(),
            head: Head {
                method: head.method,
                uri: head.uri,
                headers: head.headers,
            },
            body,
            outcome: Outcome::NoResponse,
        }
    }

    pub(crate) fn set_number(&mut self, number: usize) {
        self.number = number;
    }

    pub(crate) fn set_outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Returns the number of this request: 1 for the first one that the server received.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Returns when the request arrived, by Tokio's clock.
    pub fn received_at(&self) -> Instant {
        self.received_at
    }

    /// Returns the method.
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// Returns the address as it was sent: only a path if the server is on loopback.
    pub fn uri(&self) -> &Uri {
        &self.head.uri
    }

    /// Returns the path, without the query.
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// Returns the origin that the request was sent to, such as `https://api.example.com`.
    /// `None` if the request has neither an absolute address nor a `Host` header.
    pub fn origin(&self) -> Option<String> {
        let uri = &self.head.uri;
        if let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) {
            return Some(format!("{scheme}://{authority}"));
        }
        let host = self.head.headers.get(HOST)?.to_str().ok()?;
        Some(format!("http://{host}"))
    }

    /// Returns the headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Returns a header, or `None` if the request doesn't have it or it isn't text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// Returns the body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the body as text. Bytes that aren't UTF-8 are replaced by `�`.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the token of an `Authorization` header with the scheme `Bearer` or `DPoP`.
    pub fn token(&self) -> Option<&str> {
        let value = self.header(AUTHORIZATION.as_str())?;
        let (_, token) = value.split_once(' ')?;
        (is_scheme(value, "Bearer") || is_scheme(value, "DPoP")).then_some(token)
    }

    /// Returns whether the `Authorization` header has this scheme.
    #[cfg(feature = "dpop")]
    pub(crate) fn has_scheme(&self, scheme: &str) -> bool {
        let value = self.header(AUTHORIZATION.as_str());
        value.is_some_and(|value| is_scheme(value, scheme))
    }

    /// Returns the client's id and secret from an `Authorization` header with the scheme `Basic`,
    /// decoded as a client of an authorization server encodes them (RFC 6749 §2.3.1).
    pub fn basic(&self) -> Option<(String, String)> {
        let value = self.header(AUTHORIZATION.as_str())?;
        if !is_scheme(value, "Basic") {
            return None;
        }
        let (_, encoded) = value.split_once(' ')?;
        let pair = STANDARD.decode(encoded).ok()?;
        let (id, secret) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
        Some((form_decode(id), form_decode(secret)))
    }

    /// Returns the parameters of the body, which is a form or a JSON object, by name. Returns the
    /// last value of a parameter that was sent twice. In JSON, a value that isn't a string is
    /// returned as JSON text.
    pub fn params(&self) -> BTreeMap<String, String> {
        let kind = self.header(CONTENT_TYPE.as_str()).unwrap_or_default();
        if !kind.starts_with("application/json") {
            return form_urlencoded::parse(&self.body).into_owned().collect();
        }
        let Ok(Value::Object(fields)) = serde_json::from_slice(&self.body) else {
            return BTreeMap::new();
        };
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let fields = fields.into_iter();
        fields.map(|(name, value)| (name, text(value))).collect()
    }

    /// Returns the parameters of the body, which is a form, in the order in which they were sent.
    pub fn form(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(&self.body).into_owned().collect()
    }

    /// Returns one parameter of the body: see [`params`](Self::params).
    pub fn param(&self, name: &str) -> Option<String> {
        self.params().remove(name)
    }

    /// Returns the status of the response, or `None` if there was no response.
    pub fn status(&self) -> Option<StatusCode> {
        match self.outcome {
            Outcome::Responded { status, .. } => Some(status),
            Outcome::NoResponse | Outcome::Reset => None,
        }
    }
}

impl fmt::Display for RecordedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.head.uri.path_and_query().map_or("/", |it| it.as_str());
        write!(f, "{} {target}", self.head.method)?;
        match self.head.headers.get(AUTHORIZATION) {
            None => f.write_str(" -")?,
            Some(value) => match String::from_utf8_lossy(value.as_bytes()) {
                value if is_scheme(&value, "Basic") => f.write_str(" Basic")?,
                value => write!(f, " {value}")?,
            },
        }
        if let Some(grant) = self.param("grant_type") {
            write!(f, " {grant}")?;
        }
        match self.outcome {
            Outcome::NoResponse => f.write_str(" -> …"),
            Outcome::Reset => f.write_str(" -> reset"),
            Outcome::Responded {
                status,
                grpc_status,
            } => {
                write!(f, " -> {}", status.as_u16())?;
                grpc_status.map_or(Ok(()), |code| write!(f, " grpc-status {code}"))
            }
        }
    }
}

/// Returns whether a header's value has this scheme. The case is ignored (RFC 9110 §11.1).
fn is_scheme(value: &str, scheme: &str) -> bool {
    let found = value.split(' ').next();
    found.is_some_and(|found| found.eq_ignore_ascii_case(scheme))
}

fn form_decode(text: &str) -> String {
    let pair = form_urlencoded::parse(text.as_bytes()).next();
    pair.map(|(text, _)| text.into_owned()).unwrap_or_default()
}
