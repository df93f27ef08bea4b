//! The body of a response as a tree of values, in JSON or as a form.
//!
//! The tree keeps all values of a repeated member, so that the caller can reject an ambiguous
//! value. If a body has an error, the tree contains the part before the error. serde's own errors
//! are dropped, because they may show a part of the body.

use std::borrow::Cow;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::content_coding::Undecoded;
use super::json_pointer;
use crate::token::form;
use crate::token::redact::Redactor;
use crate::token::secret_json::SecretJson;

/// A value of a body. Every string is stored as a secret, because any string may be a token.
#[derive(Default)]
pub(crate) enum BodyValue {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    Text(SecretString),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// The reason why a body contains no fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// The body could not be decoded.
    Undecoded(Undecoded),
    Empty,
    NotJson,
    /// The JSON is valid, but ends too early.
    CutOff,
    NotAnObject,
    NotAForm,
}

impl Malformed {
    /// Describes what is wrong with the response.
    pub(crate) fn what(&self, redactor: &Redactor) -> Cow<'static, str> {
        match self {
            Self::Undecoded(undecoded) => undecoded.what(redactor).into(),
            Self::Empty => "has no body".into(),
            Self::NotJson | Self::CutOff => "is not valid JSON".into(),
            Self::NotAnObject => "is JSON, but not an object".into(),
            Self::NotAForm => "is not a form".into(),
        }
    }
}

/// A parsed body, and its error, if any.
pub(crate) struct ParsedBody {
    pub(crate) value: BodyValue,
    pub(crate) malformed: Option<Malformed>,
}

/// The maximum depth of nested values. The contents of deeper values are skipped: `serde_json`
/// limits the depth of values that it reads, but not of values that it skips.
const DEEPEST: usize = 32;

/// Skips byte order marks, as RFC 8259 §8.1 allows. Some servers send one for each of their source
/// files.
pub(crate) fn without_marks(body: &[u8]) -> &[u8] {
    let mut body = body.trim_ascii_start();
    while let Some(rest) = body.strip_prefix(b"\xef\xbb\xbf") {
        body = rest.trim_ascii_start();
    }
    body
}

/// Reads JSON.
pub(crate) fn parse_json(body: &[u8]) -> ParsedBody {
    let body = without_marks(body);
    let mut value = BodyValue::Null;
    let mut json = serde_json::Deserializer::from_slice(body);
    let place = Place {
        value: &mut value,
        depth: DEEPEST,
    };
    let read = place.deserialize(&mut json).and_then(|()| json.end());
    let malformed = match read {
        _ if body.trim_ascii().is_empty() => Some(Malformed::Empty),
        Err(error) if error.is_eof() => Some(Malformed::CutOff),
        Err(_) => Some(Malformed::NotJson),
        Ok(()) if matches!(value, BodyValue::Object(_)) => None,
        Ok(()) => Some(Malformed::NotAnObject),
    };
    ParsedBody { value, malformed }
}

/// Reads a form. If the form isn't complete, skips the last pair, which may be cut off.
pub(crate) fn parse_form(body: &[u8], is_complete: bool) -> ParsedBody {
    let body = without_marks(body).trim_ascii();
    let end = match is_complete {
        true => Some(body.len()),
        false => body.iter().rposition(|&b| b == b'&'),
    };
    let pairs = form::parse(body.get(..end.unwrap_or_default()).unwrap_or_default());
    let fields = pairs.map(|(name, value)| (name, BodyValue::Text(value)));
    // Excludes other text, such as HTML or JSON.
    let is_plain = |b: &u8| !b.is_ascii_control() && !b"<>{}\"".contains(b);
    let malformed = if body.is_empty() {
        Some(Malformed::Empty)
    } else if body.contains(&b'=') && body.iter().all(is_plain) {
        None
    } else {
        Some(Malformed::NotAForm)
    };
    ParsedBody {
        value: match malformed {
            None => BodyValue::Object(fields.collect()),
            Some(_) => BodyValue::Null,
        },
        malformed,
    }
}

impl BodyValue {
    /// Returns the values at a JSON pointer, in the order of the body. There are several values if
    /// the body repeats a name of the pointer.
    pub(crate) fn at(&self, pointer: &str) -> Vec<&Self> {
        json_pointer::names(pointer).fold(vec![self], |values, name| {
            let inner = values.into_iter().map(|value| value.members(&name));
            inner.flatten().collect()
        })
    }

    fn members(&self, name: &str) -> Vec<&Self> {
        match self {
            Self::Object(members) => {
                let named = members.iter().filter(|(other, _)| other == name);
                named.map(|(_, value)| value).collect()
            }
            Self::Array(values) => {
                let index = name.parse::<usize>().ok();
                index.and_then(|at| values.get(at)).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.expose_secret()),
            _ => None,
        }
    }

    /// Returns the text of a string, a number or a boolean.
    pub(crate) fn scalar(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(text.expose_secret().into()),
            Self::Number(number) => Some(number.to_string().into()),
            Self::Bool(value) => Some(value.to_string().into()),
            Self::Null | Self::Array(_) | Self::Object(_) => None,
        }
    }

    /// Returns the members of an object as JSON, except those that `is_left_out` selects.
    /// `is_left_out` gets the pointer and the value of each member, at any depth.
    pub(crate) fn members_as_json(
        &self,
        is_left_out: &dyn Fn(&str, &Self) -> bool,
    ) -> Vec<(String, SecretJson)> {
        let Self::Object(members) = self else {
            return Vec::new();
        };
        let members = members.iter().filter_map(|(name, value)| {
            let json = value.to_json(&inside("", name), is_left_out)?;
            Some((name.clone(), json.into()))
        });
        members.collect()
    }

    fn to_json(&self, at: &str, is_left_out: &dyn Fn(&str, &Self) -> bool) -> Option<Value> {
        if is_left_out(at, self) {
            return None;
        }
        Some(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::from(text.expose_secret()),
            Self::Array(values) => {
                let values = values.iter().enumerate().filter_map(|(index, value)| {
                    value.to_json(&format!("{at}/{index}"), is_left_out)
                });
                Value::Array(values.collect())
            }
            Self::Object(members) => {
                let mut object = Map::new();
                for (name, value) in members {
                    if let Some(json) = value.to_json(&inside(at, name), is_left_out) {
                        object.insert(name.clone(), json);
                    }
                }
                Value::Object(object)
            }
        })
    }
}

/// Returns the pointer to a member of the object at `outer`.
pub(crate) fn inside(outer: &str, name: &str) -> String {
    format!("{outer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The place where a value is stored. If the value has an error, the part before the error is
/// stored.
struct Place<'a> {
    value: &'a mut BodyValue,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D>(self, deserializer: D) -> Result<(), D::Error>
    where
        D: Deserializer<'de>,
    {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        *self.value = BodyValue::Null;
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        *self.value = BodyValue::Bool(value);
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        *self.value = BodyValue::Number(number.into());
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        *self.value = BodyValue::Number(number.into());
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        let number = Number::from_f64(number);
        *self.value = number.map_or(BodyValue::Null, BodyValue::Number);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        *self.value = BodyValue::Text(SecretString::from(text));
        Ok(())
    }

    fn visit_string<E>(self, text: String) -> Result<(), E> {
        *self.value = BodyValue::Text(SecretString::from(text));
        Ok(())
    }

    fn visit_seq<A>(self, mut seq: A) -> Result<(), A::Error>
    where
        A: SeqAccess<'de>,
    {
        let mut values = Vec::new();
        let read = loop {
            let mut value = BodyValue::Null;
            let read = match self.depth {
                0 => seq.next_element::<IgnoredAny>().map(|it| it.map(|_| ())),
                depth => seq.next_element_seed(Place {
                    value: &mut value,
                    depth: depth - 1,
                }),
            };
            match read {
                Ok(Some(())) => values.push(value),
                Ok(None) => break Ok(()),
                Err(error) => {
                    values.push(value);
                    break Err(error);
                }
            }
        };
        *self.value = BodyValue::Array(values);
        read
    }

    fn visit_map<A>(self, mut map: A) -> Result<(), A::Error>
    where
        A: MapAccess<'de>,
    {
        let mut members = Vec::new();
        let read = loop {
            let name = match map.next_key::<String>() {
                Ok(Some(name)) => name,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            let mut value = BodyValue::Null;
            let read = match self.depth {
                0 => map.next_value::<IgnoredAny>().map(|_| ()),
                depth => map.next_value_seed(Place {
                    value: &mut value,
                    depth: depth - 1,
                }),
            };
            // With serde_json's feature `arbitrary_precision`, a number arrives as a map that
            // contains one string. Any crate in the program may enable that feature.
            if name == "$serde_json::private::Number" {
                let number = value.text().and_then(|text| text.parse().ok());
                *self.value = number.map_or(BodyValue::Null, BodyValue::Number);
                return read;
            }
            members.push((name, value));
            if let Err(error) = read {
                break Err(error);
            }
        };
        *self.value = BodyValue::Object(members);
        read
    }
}
