//! What several targets need: responses as text, a server that sends them, and what no error may
//! show.

use std::collections::VecDeque;
use std::error::Error as _;
use std::fmt::{self, Write as _};
use std::future::Future;
use std::sync::Mutex;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use tower_auth::Error;
use tower_auth_test::{ScriptedResponse, ScriptedServer};

/// Marks a secret of the test. No text of the crate contains this word.
const PLANTED: &str = "planted-";

pub const CLIENT_SECRET: &str = "planted-client/secret+of mine";

/// A line that separates two responses.
const SEPARATOR: &[u8] = b"\n---\n";

/// Parses responses of the form `STATUS`, lines `name: value`, an empty line, and the body.
pub fn responses(text: &[u8]) -> Option<Vec<Response<Bytes>>> {
    split(text, SEPARATOR).into_iter().map(response).collect()
}

pub fn response(text: &[u8]) -> Option<Response<Bytes>> {
    let (head, body) = split_once(text, b"\n\n").unwrap_or((text, b""));
    let mut lines = head.split(|byte| *byte == b'\n');
    let status = std::str::from_utf8(lines.next()?).ok()?.parse().ok()?;
    let status = StatusCode::from_u16(status).ok()?;
    if status.is_informational() {
        return None;
    }
    let mut response = Response::new(Bytes::copy_from_slice(body));
    *response.status_mut() = status;
    for line in lines {
        let (name, value) = split_once(line, b":")?;
        let name = HeaderName::from_bytes(name).ok()?;
        let value = HeaderValue::from_bytes(value.trim_ascii()).ok()?;
        response.headers_mut().append(name, value);
    }
    Some(response)
}

/// Makes a server that sends these responses in order, and then 503.
pub fn server(responses: impl IntoIterator<Item = Response<Bytes>>) -> ScriptedServer {
    let responses: VecDeque<_> = responses.into_iter().collect();
    let responses = Mutex::new(responses);
    ScriptedServer::new(move |_| {
        let next = responses.lock().unwrap().pop_front();
        next.map_or_else(|| ScriptedResponse::new(503), ScriptedResponse::from)
    })
}

/// Runs a future. Its timers don't wait.
pub fn run<F: Future>(future: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(future)
}

/// Returns the text of a field of a JSON object. If the field occurs more than once, returns the last
/// text. Unlike `Value`, accepts any number in the other fields, as the crate does.
pub fn text_in(body: &[u8], name: &str) -> Option<String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    json.deserialize_map(Field { name }).ok().flatten()
}

struct Field<'a> {
    name: &'a str,
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == self.name {
                found = map.next_value::<Value>()?.as_str().map(str::to_owned);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Returns the texts of these fields of a JSON object.
pub fn secrets_in(body: &[u8], fields: &[&str]) -> Vec<String> {
    let texts = fields.iter().filter_map(|field| text_in(body, field));
    texts.collect()
}

/// Checks that an error shows none of the planted secrets among these, and no text that harms a
/// terminal.
pub fn assert_harmless<S: AsRef<str>>(error: &Error, secrets: &[S]) {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        write!(text, " {cause} {cause:?}").unwrap();
        source = cause.source();
    }
    let mut secrets = secrets.iter().map(AsRef::as_ref);
    let is_shown = |secret: &str| secret.contains(PLANTED) && text.contains(secret);
    assert!(!secrets.any(is_shown), "{text}");
    assert!(!text.contains(is_harmful), "{text:?}");
    for sent in [error.code(), error.description()].into_iter().flatten() {
        assert!(sent.len() <= 256, "{sent}");
    }
}

/// Returns whether the character changes how a terminal shows other text.
pub fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns whether HTTP transports the text unchanged in a header (RFC 9110 §5.5).
pub fn is_field_value(text: &str) -> bool {
    let is_field_char = |byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    text.trim() == text && text.bytes().all(is_field_char)
}

pub fn split_once<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let start = text.windows(at.len()).position(|window| window == at)?;
    Some((&text[..start], &text[start + at.len()..]))
}

pub fn split<'a>(mut text: &'a [u8], at: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some((part, rest)) = split_once(text, at) {
        parts.push(part);
        text = rest;
    }
    parts.push(text);
    parts
}
