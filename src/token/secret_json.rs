//! JSON that contains secrets.

use std::ops::{Deref, DerefMut};
use std::{fmt, io, mem};

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use zeroize::{Zeroize, Zeroizing};

/// A JSON value. Any of its strings may be a secret, so the strings are zeroized on drop.
#[derive(Clone, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct SecretJson(Value);

impl From<Value> for SecretJson {
    fn from(json: Value) -> Self {
        Self(json)
    }
}

impl Deref for SecretJson {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl DerefMut for SecretJson {
    fn deref_mut(&mut self) -> &mut Value {
        &mut self.0
    }
}

impl Drop for SecretJson {
    fn drop(&mut self) {
        zeroize(&mut self.0);
    }
}

fn zeroize(json: &mut Value) {
    match json {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(zeroize),
        Value::Object(fields) => fields.values_mut().for_each(zeroize),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Parses a JSON text. Returns `None` if the text isn't JSON, or if an object contains a name twice.
pub(crate) fn parse(text: &[u8]) -> Option<SecretJson> {
    serde_json::from_slice(text).ok()
}

/// If the text has an error, the part before the error is zeroized too. `Value` doesn't zeroize.
impl<'de> Deserialize<'de> for SecretJson {
    fn deserialize<D>(deserializer: D) -> Result<Self, D::Error>
    where
        D: Deserializer<'de>,
    {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = SecretJson;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<SecretJson, E> {
        Ok(SecretJson::default())
    }

    fn visit_bool<E>(self, value: bool) -> Result<SecretJson, E> {
        Ok(SecretJson(value.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<SecretJson, E> {
        Ok(SecretJson(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<SecretJson, E> {
        Ok(SecretJson(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<SecretJson, E> {
        Ok(SecretJson(number.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<SecretJson, E> {
        Ok(SecretJson(text.into()))
    }

    fn visit_seq<A>(self, mut seq: A) -> Result<SecretJson, A::Error>
    where
        A: SeqAccess<'de>,
    {
        let mut array = SecretJson(Value::Array(Vec::new()));
        while let Some(mut value) = seq.next_element::<SecretJson>()? {
            if let Value::Array(values) = &mut array.0 {
                values.push(mem::take(&mut value.0));
            }
        }
        Ok(array)
    }

    fn visit_map<A>(self, mut map: A) -> Result<SecretJson, A::Error>
    where
        A: MapAccess<'de>,
    {
        let mut object = SecretJson(Value::Object(Map::new()));
        while let Some((name, mut value)) = map.next_entry::<String, SecretJson>()? {
            // With serde_json's feature `arbitrary_precision`, a number arrives as a map that
            // contains one string. Any crate in the program may enable that feature.
            if name == "$serde_json::private::Number" {
                let number = value.as_str().and_then(|text| text.parse::<Number>().ok());
                return Ok(SecretJson(number.map_or(Value::Null, Value::Number)));
            }
            if let Value::Object(fields) = &mut object.0
                && let Some(replaced) = fields.insert(name, mem::take(&mut value.0))
            {
                drop(SecretJson(replaced));
                return Err(Error::custom("a name occurs twice"));
            }
        }
        Ok(object)
    }
}

/// Encodes a value. The buffer never grows, because a buffer that grows frees memory without
/// zeroizing it.
pub(crate) fn encode(value: &impl Serialize) -> serde_json::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(length(value)?));
    serde_json::to_writer(&mut *bytes, value)?;
    Ok(bytes)
}

/// Returns the length of the encoded value in bytes, without storing the JSON.
pub(crate) fn length(value: &impl Serialize) -> serde_json::Result<usize> {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, value)?;
    Ok(length.0)
}

/// A writer that only counts the bytes.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
