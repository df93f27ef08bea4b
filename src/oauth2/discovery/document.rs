//! A JSON document that a server publishes of itself (RFC 8414 §3.2, RFC 9728 §3.2): asked for
//! without a credential.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Reply};
use crate::http_client::exchange::{REPLY_LIMIT, Unread, read};
use crate::http_client::retry_after;
use crate::http_client::token_response::unusable;
use crate::http_client::transport::DynTransport;

/// How long a document is good about which the server says nothing.
const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// No server has itself asked more often, or is believed for longer.
const SHORTEST: Duration = Duration::from_secs(5 * 60);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) struct Document {
    pub(crate) members: Map<String, Value>,
    /// How long it may be kept.
    pub(crate) lifetime: Duration,
}

impl Document {
    /// The first that there is, and where. The next place is asked only if a server has answered
    /// that there is nothing at the one before; `nowhere` says that there is none at all.
    pub(crate) async fn find(
        transport: &DynTransport,
        places: Vec<Uri>,
        nowhere: impl FnOnce() -> String,
    ) -> Result<(Self, Uri), Error> {
        let mut absent = None;
        for place in places {
            match Self::get(transport, &place).await {
                Ok(document) => return Ok((document, place)),
                Err(error) if is_absent(&error) => absent = Some(error),
                Err(error) => return Err(error),
            }
        }
        let reply = Reply {
            status: absent.as_ref().and_then(Error::status),
            ..Reply::default()
        };
        let error = Error::denied(nowhere(), reply);
        Err(match absent {
            Some(absent) => error.with_source(absent),
            None => error,
        })
    }

    async fn get(transport: &DynTransport, uri: &Uri) -> Result<Self, Error> {
        let what = format!("the metadata at `{}`", without_query(uri));
        let started = SystemTime::now();
        let answer = match transport.exchange(question(uri)).await {
            Ok(reply) => read(reply, started).await,
            Err(error) => Err(Unread::Broken(error)),
        };
        let answer = answer.map_err(|unread| match unread {
            Unread::Redirect(status) => {
                unusable(&what, status, "is a redirect, which is not followed")
            }
            Unread::TooLong(status) => {
                let why = format!("is longer than {} KiB", REPLY_LIMIT / 1024);
                unusable(&what, status, &why)
            }
            Unread::Broken(error) => {
                let message = format!("{what} could not be reached, or the connection broke");
                Error::new(Kind::Transport, message).with_source(error)
            }
        })?;
        let status = answer.status;
        if status.is_client_error() || status.is_server_error() {
            let reply = Reply {
                status: Some(status),
                retry_after: retry_after::parse(&answer.headers, started),
                ..Reply::default()
            };
            return Err(Error::denied(format!("{what} can't be had"), reply));
        }
        if status != StatusCode::OK {
            return Err(unusable(&what, status, "has a status that is no answer"));
        }
        // serde's own error stops here: it may quote the body.
        match serde_json::from_slice(&answer.body) {
            Ok(Value::Object(members)) => Ok(Self {
                members,
                lifetime: lifetime(&answer.headers),
            }),
            Ok(_) => Err(unusable(&what, status, "is JSON, but not an object")),
            Err(_) => Err(unusable(&what, status, "is not valid JSON")),
        }
    }

    /// A member that is a text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name)?.as_str()
    }
}

/// A 4xx that won't pass by itself.
fn is_absent(error: &Error) -> bool {
    error.is_denied() && !error.is_transient()
}

/// A question without a credential.
pub(crate) fn question(uri: &Uri) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = uri.clone();
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::ACCEPT, json);
    request
}

/// A query may hold a key.
fn without_query(uri: &Uri) -> String {
    let text = uri.to_string();
    match text.split_once('?') {
        Some((address, _)) => format!("{address}?…"),
        None => text,
    }
}

/// As `Cache-Control` says (RFC 9111 §5.2.2), within bounds.
fn lifetime(headers: &HeaderMap) -> Duration {
    let lines = headers.get_all(header::CACHE_CONTROL).iter();
    let directives = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|directive| {
            directive
                .trim()
                .split_once('=')
                .unwrap_or((directive.trim(), ""))
        });
    let mut said = None;
    for (name, value) in directives {
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return SHORTEST;
        }
        if name.eq_ignore_ascii_case("max-age") {
            said = value.trim_matches('"').parse().ok();
        }
    }
    said.map_or(LIFETIME, Duration::from_secs)
        .clamp(SHORTEST, LONGEST)
}
