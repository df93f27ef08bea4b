//! Builds JSON objects from JSON pointers (RFC 6901) and values.

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::error::{Error, Kind};
use crate::http_client::json_pointer;
use crate::token::secret_json::{self, SecretJson};

/// Encodes an object with these fields.
pub(super) fn object(fields: Vec<(String, SecretJson)>) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut object = SecretJson::from(Value::Object(Map::new()));
    let placed = fields
        .into_iter()
        .try_for_each(|(pointer, value)| place(&mut object, &pointer, value));
    let body = placed.and_then(|()| secret_json::encode(&object).ok());
    body.ok_or_else(|| {
        let message = "could not encode the login; one of its fields is inside another";
        Error::new(Kind::Config, message)
    })
}

/// Inserts a value at the pointer, and creates missing objects along the pointer.
fn place(object: &mut Value, pointer: &str, mut value: SecretJson) -> Option<()> {
    let mut place = object;
    for name in json_pointer::names(pointer) {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        place = place.as_object_mut()?.entry(name).or_insert(Value::Null);
    }
    place.is_null().then(|| *place = value.take())
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
