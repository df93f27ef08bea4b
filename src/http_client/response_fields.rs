//! The fields of a token endpoint's JSON (RFC 6749 §5.1 and §5.2), each of any type.
//!
//! `Deserialize` is implemented manually, because serde's errors show a rejected value, for example
//! the token. This implementation accepts every value, and the caller decides what the value means.

use std::borrow::Cow;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use zeroize::Zeroize;

use super::content_coding::Undecoded;
use super::redact::Redactor;

#[derive(Default)]
pub(crate) struct ResponseFields {
    pub(crate) access_token: FieldValue,
    pub(crate) token_type: FieldValue,
    pub(crate) expires_in: FieldValue,
    /// The number of seconds after which the client should refresh the token. No RFC defines this
    /// field, but Microsoft sends it.
    pub(crate) refresh_in: FieldValue,
    pub(crate) scope: FieldValue,
    pub(crate) refresh_token: FieldValue,
    pub(crate) issued_token_type: FieldValue,
    pub(crate) error: FieldValue,
    pub(crate) error_description: FieldValue,
    /// Whether a field occurs twice. The value of such a field is ambiguous.
    pub(crate) has_duplicate: bool,
}

/// The value of one field. Every string is stored as a secret, because any string may be a token.
#[derive(Default)]
pub(crate) enum FieldValue {
    #[default]
    Absent,
    Null,
    Text(SecretString),
    Number(f64),
    /// The value is `false`, an empty object or an empty array.
    Empty,
    /// The value is `true`, or an object or an array with contents.
    Other,
}

impl FieldValue {
    /// Returns the value of a boolean, an object or an array. `false` counts as empty.
    pub(crate) fn without_text(is_empty: bool) -> Self {
        if is_empty { Self::Empty } else { Self::Other }
    }

    /// Returns whether the field has no value: it is absent or null.
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Self::Absent | Self::Null)
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.expose_secret()),
            _ => None,
        }
    }

    /// Returns whether this value of `error` reports an error. A server may send a token with an
    /// `error` that is null, `""`, `false`, `0`, `[]` or `{}`.
    pub(crate) fn is_error(&self) -> bool {
        match self {
            Self::Absent | Self::Null | Self::Empty => false,
            Self::Text(text) => !text.expose_secret().trim().is_empty(),
            Self::Number(number) => *number != 0.0,
            Self::Other => true,
        }
    }
}

/// The reason why a body contains no fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// The body could not be decoded.
    Undecoded(Undecoded),
    Empty,
    NotJson,
    NotAnObject,
}

impl Malformed {
    /// Describes what is wrong with the response.
    pub(crate) fn what(&self, redactor: &Redactor) -> Cow<'static, str> {
        match self {
            Self::Undecoded(undecoded) => undecoded.what(redactor).into(),
            Self::Empty => "has no body".into(),
            Self::NotJson => "is not valid JSON".into(),
            Self::NotAnObject => "is JSON, but not an object".into(),
        }
    }
}

/// Skips a byte order mark, as RFC 8259 §8.1 allows.
pub(crate) fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Reads the fields of RFC 6749. Unknown fields are ignored.
pub(crate) fn parse(body: &[u8]) -> Result<ResponseFields, Malformed> {
    let body = without_byte_order_mark(body).trim_ascii();
    if body.is_empty() {
        return Err(Malformed::Empty);
    }
    // Drops serde's error, because the error may show a part of the body.
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Malformed::NotAnObject,
        _ => Malformed::NotJson,
    })
}

/// Finds the refresh token in a body that isn't complete, or that [`parse`] can't read. The server
/// may have revoked the previous refresh token when it sent this body.
///
/// The body may be malformed JSON. It may also be a form, which some servers send instead of JSON.
pub(crate) fn find_refresh_token(body: &[u8], is_complete: bool) -> Option<SecretString> {
    find_in_json(body).or_else(|| find_in_form(body, is_complete))
}

fn find_in_json(body: &[u8]) -> Option<SecretString> {
    const NAME: &[u8] = br#""refresh_token""#;
    let ends = (NAME.len()..body.len()).rev();
    let mut values = ends.filter_map(|end| {
        let (before, after) = body.split_at_checked(end)?;
        // Compares the name first. Otherwise, a body of spaces would take quadratic time.
        let after = before.ends_with(NAME).then(|| after.trim_ascii_start());
        after?.strip_prefix(b":")
    });
    values.find_map(|value| {
        let mut json = serde_json::Deserializer::from_slice(value);
        // The closing quote shows that the string is complete.
        let text = String::deserialize(&mut json).ok()?;
        (!text.is_empty()).then(|| SecretString::from(text))
    })
}

fn find_in_form(body: &[u8], is_complete: bool) -> Option<SecretString> {
    let mut form = body.trim_ascii();
    if !is_complete {
        // The last value may be cut off.
        let end = form.iter().rposition(|&b| b == b'&')?;
        form = form.get(..end)?;
    }
    // Excludes other text, such as a page that contains a link with a query.
    let is_plain = |b: &u8| b.is_ascii_graphic() && !b"<>{}\"".contains(b);
    if !form.iter().all(is_plain) {
        return None;
    }
    let pairs = form_urlencoded::parse(form);
    let values = pairs.filter(|(name, value)| name == "refresh_token" && !value.is_empty());
    let (_, value) = values.last()?;
    Some(SecretString::from(value.into_owned()))
}

/// Overwrites every string of a JSON value, because any string may be a secret.
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
            let value = map.next_value()?;
            // A value without text doesn't replace an earlier refresh token. The server may accept
            // only that token.
            if name != "refresh_token" || !is_second || matches!(value, FieldValue::Text(_)) {
                *field = value;
            }
            // A duplicate `refresh_in` is no error, because this field is only a hint.
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

    fn visit_bool<E>(self, value: bool) -> Result<FieldValue, E> {
        Ok(FieldValue::without_text(!value))
    }

    // Numbers are used only as lifetimes. Up to the longest accepted lifetime, an `f64` is exact.
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
        let mut is_empty = true;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            is_empty = false;
        }
        Ok(FieldValue::without_text(is_empty))
    }

    fn visit_map<A>(self, mut map: A) -> Result<FieldValue, A::Error>
    where
        A: MapAccess<'de>,
    {
        // With serde_json's feature `arbitrary_precision`, a number arrives as a map that contains
        // one string. Any crate in the program may enable that feature.
        let (mut number, mut is_empty) = (None, true);
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            is_empty = false;
            if key == "$serde_json::private::Number" {
                number = map.next_value::<Cow<'de, str>>()?.parse().ok();
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        let without_number = FieldValue::without_text(is_empty);
        Ok(number.map_or(without_number, FieldValue::Number))
    }
}
