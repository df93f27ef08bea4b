//! A JSON document that a server publishes about itself (RFC 8414 §3.2, RFC 9728 §3.2). Fetching
//! the document needs no credential.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use serde_json::{Map, Value};

use crate::error::{Error, Reply};
use crate::http_client::bounded_response::{EndpointResponse, ReadError, unusable};
use crate::http_client::endpoint_url::sanitize_url;
use crate::http_client::huge_number;
use crate::http_client::retry_after;
use crate::http_client::transport::DynTransport;
use crate::token::redact::Redactor;

/// The lifetime if the server specifies no lifetime.
const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// The bounds for a lifetime that the server specifies: the shortest and the longest lifetime.
const SHORTEST: Duration = Duration::from_secs(5 * 60);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) struct Document {
    pub(crate) fields: Map<String, Value>,
    /// How long the document may be cached.
    pub(crate) lifetime: Duration,
}

impl Document {
    /// Returns the first document, and its location. A non-transient 4xx means that a location has no
    /// document. Some servers instead send a web page or a redirect for each unknown path. Only after
    /// such a response does this function try the next location. If no location has a document, the
    /// error is about the first unusable response. `nowhere` makes the error message if there was
    /// none.
    pub(crate) async fn find(
        transport: &DynTransport,
        mut locations: Vec<String>,
        nowhere: impl FnOnce() -> String,
    ) -> Result<(Self, Uri), Error> {
        let mut absent = None;
        let mut unusable = None;
        locations.dedup();
        let locations = locations.iter().filter_map(|it| it.parse().ok());
        for location in locations {
            match Self::get(transport, &location).await {
                Ok(document) => return Ok((document, location)),
                Err(error) if is_absent(&error) => absent = Some(error),
                Err(error) if error.is_reply() => unusable = unusable.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = unusable {
            return Err(error);
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
        let what = format!("the metadata at `{}`", sanitize_url(&uri.to_string()));
        let started = SystemTime::now();
        let response = match transport.send(get_request(uri)).await {
            Ok(response) => EndpointResponse::read(response, started).await,
            Err(error) => Err(ReadError::Broken(error)),
        };
        let not_followed = "is a redirect, which is not followed";
        let response = response.map_err(|error| error.into_error(&what, &what, not_followed))?;
        let status = response.status;
        if status.is_client_error() || status.is_server_error() {
            let reply = Reply {
                status: Some(status),
                retry_after: retry_after::parse(&response.headers, started),
                ..Reply::default()
            };
            return Err(Error::denied(format!("could not fetch {what}"), reply));
        }
        if status != StatusCode::OK {
            let why = "has a status that is neither 200 nor an error";
            return Err(unusable(&what, status, why));
        }
        let body = response.decoded().map_err(|undecoded| {
            let why = undecoded.what(&Redactor::of_address(uri));
            unusable(&what, status, &why)
        })?;
        let mut body = body.to_vec();
        huge_number::replace(&mut body);
        // Drops serde's error, because the error may show a part of the body.
        match serde_json::from_slice(&body) {
            Ok(Value::Object(fields)) => Ok(Self {
                fields,
                lifetime: lifetime(&response.headers),
            }),
            Ok(_) => Err(unusable(&what, status, "is JSON, but not an object")),
            Err(_) => Err(unusable(&what, status, "is not valid JSON")),
        }
    }

    /// Returns a field that is a string.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str()
    }
}

/// Returns whether the error is a 4xx that isn't transient.
fn is_absent(error: &Error) -> bool {
    error.is_denied() && !error.is_transient()
}

/// Makes a GET request without a credential.
pub(crate) fn get_request(uri: &Uri) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = uri.clone();
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::ACCEPT, json);
    request
}

/// Returns the scheme, host and port of an address, unchanged.
pub(crate) fn base(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    let host = uri.authority().map_or("", |authority| authority.as_str());
    format!("{scheme}://{host}")
}

/// Returns the lifetime from `Cache-Control` (RFC 9111 §5.2.2), within bounds.
fn lifetime(headers: &HeaderMap) -> Duration {
    let lines = headers.get_all(header::CACHE_CONTROL).iter();
    let directives = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .map(|directive| directive.split_once('=').unwrap_or((directive, "")));
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
