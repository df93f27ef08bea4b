//! The fields of a token endpoint's JSON (RFC 6749 §5.1 and §5.2), of whatever type each may be.
//!
//! `Deserialize` is written by hand, because serde's errors show the value that they refuse, which
//! may be the token. Here no value is refused; the caller decides what each one means.

use std::borrow::Cow;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use zeroize::Zeroize;

#[derive(Default)]
pub(crate) struct ResponseFields {
    pub(crate) access_token: FieldValue,
    pub(crate) token_type: FieldValue,
    pub(crate) expires_in: FieldValue,
    /// After how many seconds the server wants the token to be refreshed. In no RFC, but Microsoft sends
    /// this field.
    pub(crate) refresh_in: FieldValue,
    pub(crate) scope: FieldValue,
    pub(crate) refresh_token: FieldValue,
    pub(crate) issued_token_type: FieldValue,
    pub(crate) error: FieldValue,
    pub(crate) error_description: FieldValue,
    /// Whether a field is there twice, so that nobody can say which value is meant.
    pub(crate) has_duplicate: bool,
}

/// The value of one field. Every text is kept as a secret, because any text may be one.
#[derive(Default)]
pub(crate) enum FieldValue {
    #[default]
    Absent,
    Null,
    Text(SecretString),
    Number(f64),
    /// A boolean, an object or an array.
    Other,
}

impl FieldValue {
    /// Whether the field is absent or null, which mean the same.
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Self::Absent | Self::Null)
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.expose_secret()),
            _ => None,
        }
    }
}

/// Why a body has no fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    Empty,
    NotJson,
    NotAnObject,
}

impl Malformed {
    /// What is wrong with the response.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Empty => "has no body",
            Self::NotJson => "is not valid JSON",
            Self::NotAnObject => "is JSON, but not an object",
        }
    }
}

/// Skips a byte order mark, which a reader of JSON may ignore (RFC 8259 §8.1).
pub(crate) fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Reads the fields where RFC 6749 has them. Unknown fields are ignored.
pub(crate) fn parse(body: &[u8]) -> Result<ResponseFields, Malformed> {
    let body = without_byte_order_mark(body).trim_ascii();
    if body.is_empty() {
        return Err(Malformed::Empty);
    }
    // serde's own error is dropped: it may show a part of the body.
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Malformed::NotAnObject,
        _ => Malformed::NotJson,
    })
}

/// Overwrites every text of a JSON value, because any text may be a secret.
pub(crate) fn wipe(json: &mut Value) {
    match json {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl<'de> Deserialize<'de> for ResponseFields {
    fn deserialize<D>(deserializer: D) -> Result<Self, D::Error>
    where
        D: Deserializer<'de>,
    {
        deserializer.deserialize_map(ResponseFieldsVisitor)
    }
}

struct ResponseFieldsVisitor;

impl<'de> Visitor<'de> for ResponseFieldsVisitor {
    type Value = ResponseFields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A>(self, mut map: A) -> Result<ResponseFields, A::Error>
    where
        A: MapAccess<'de>,
    {
        let mut fields = ResponseFields::default();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let field = match &*name {
                "access_token" => &mut fields.access_token,
                "token_type" => &mut fields.token_type,
                "expires_in" => &mut fields.expires_in,
                "refresh_in" => &mut fields.refresh_in,
                "scope" => &mut fields.scope,
                "refresh_token" => &mut fields.refresh_token,
                "issued_token_type" => &mut fields.issued_token_type,
                "error" => &mut fields.error,
                "error_description" => &mut fields.error_description,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let is_second = !matches!(field, FieldValue::Absent);
            *field = map.next_value()?;
            // `refresh_in` is only a hint, so a duplicate doesn't make the response unusable.
            fields.has_duplicate |= is_second && name != "refresh_in";
        }
        Ok(fields)
    }
}

impl<'de> Deserialize<'de> for FieldValue {
    fn deserialize<D>(deserializer: D) -> Result<Self, D::Error>
    where
        D: Deserializer<'de>,
    {
        deserializer.deserialize_any(FieldValueVisitor)
    }
}

struct FieldValueVisitor;

impl<'de> Visitor<'de> for FieldValueVisitor {
    type Value = FieldValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<FieldValue, E> {
        Ok(FieldValue::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<FieldValue, E> {
        Ok(FieldValue::Other)
    }

    // Only lifetimes are read as numbers, and where an `f64` gets coarse they're long past the
    // longest that is used.
    fn visit_i64<E>(self, number: i64) -> Result<FieldValue, E> {
        Ok(FieldValue::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<FieldValue, E> {
        Ok(FieldValue::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<FieldValue, E> {
        Ok(FieldValue::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<FieldValue, E> {
        Ok(FieldValue::Text(SecretString::from(text)))
    }

    fn visit_string<E>(self, text: String) -> Result<FieldValue, E> {
        Ok(FieldValue::Text(SecretString::from(text)))
    }

    fn visit_seq<A>(self, mut seq: A) -> Result<FieldValue, A::Error>
    where
        A: SeqAccess<'de>,
    {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(FieldValue::Other)
    }

    fn visit_map<A>(self, mut map: A) -> Result<FieldValue, A::Error>
    where
        A: MapAccess<'de>,
    {
        // With serde_json's `arbitrary_precision`, which any crate of the program may turn on, a
        // number comes as a map of one text.
        let mut number = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == "$serde_json::private::Number" {
                number = map.next_value::<Cow<'de, str>>()?.parse().ok();
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(number.map_or(FieldValue::Other, FieldValue::Number))
    }
}
