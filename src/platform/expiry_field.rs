//! The field of a response that contains the time at which the token expires.

use crate::error::Error;
use crate::http_client::body_value::BodyValue;
use crate::http_client::bounded_response::{EndpointResponse, unusable};
use crate::http_client::token_response::server_time;
use crate::platform::timestamp;
use crate::token::issued_token::Expiry;

/// Reads the field at `pointer`. Returns `None` if the response has no such field. The time is a
/// time by the server's clock. So the lifetime counts from the server's `Date`, if the response has
/// one.
pub(crate) fn read(response: &EndpointResponse, pointer: &str) -> Result<Option<Expiry>, Error> {
    let fields = response.fields().unwrap_or_default();
    let value = match *fields.body.at(pointer) {
        [] | [BodyValue::Null] => return Ok(None),
        [value] => Some(value),
        _ => None,
    };
    let end = value.and_then(timestamp::parse).ok_or_else(|| {
        let reply = format!("{}'s reply", response.endpoint);
        let what = format!("has a `{pointer}` that isn't a time in RFC 3339");
        unusable(&reply, response.status, &what)
    })?;
    Ok(Some(match server_time(&response.headers) {
        Some(sent_at) => Expiry::In(end.duration_since(sent_at).unwrap_or_default()),
        None => Expiry::At(end),
    }))
}
