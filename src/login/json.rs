//! Builds JSON objects from JSON pointers (RFC 6901) and values.

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::error::{Error, Kind};
use crate::http_client::json_pointer;
use crate::token::extra_fields::wipe;

/// Encodes an object with these fields, and zeroizes all copies of their values.
pub(super) fn object(fields: Vec<(String, Value)>) -> Result<Zeroizing<Vec<u8>>, Error> {
    let unwritable = || {
        let message = "could not encode the login; one of its fields is inside another";
        Error::new(Kind::Config, message)
    };
    let mut object = Value::Object(Map::new());
    let placed = fields
        .into_iter()
        .try_for_each(|(pointer, value)| place(&mut object, &pointer, value));
    let body = placed.and_then(|()| {
        // The buffer has its final capacity, because a buffer that grows frees memory without
        // zeroizing it.
        let mut body = Zeroizing::new(Vec::with_capacity(6 * length(&object)));
        serde_json::to_writer(&mut *body, &object).ok()?;
        Some(body)
    });
    wipe(&mut object);
    body.ok_or_else(unwritable)
}

/// Inserts a value at the pointer, and creates missing objects along the pointer.
fn place(object: &mut Value, pointer: &str, value: Value) -> Option<()> {
    let mut place = object;
    for name in json_pointer::names(pointer) {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        place = place.as_object_mut()?.entry(name).or_insert(Value::Null);
    }
    place.is_null().then(|| *place = value)
}

/// Returns all strings in a value.
pub(super) fn texts(json: &Value) -> Vec<&str> {
    match json {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Object(members) => members.values().flat_map(texts).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

fn length(json: &Value) -> usize {
    // Space for quotes, a colon and a comma, or for a number or a literal.
    const MARKS: usize = 32;
    MARKS
        + match json {
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(length).sum(),
            Value::Object(members) => members
                .iter()
                .map(|(name, of)| name.len() + length(of))
                .sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}
