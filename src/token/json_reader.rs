//! Reads values from JSON that contains secrets. If a value has the wrong type, an error of
//! `serde_json` would contain the value, and would leave a copy of it in memory.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserialize, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use super::secret_json::SecretJson;

/// Returns `None` if the JSON isn't a `T`.
pub(crate) fn read<'a, T>(json: &'a SecretJson) -> Option<T>
where
    T: Deserialize<'a>,
{
    T::deserialize(Reader(json)).ok()
}

/// Does the same as serde's deserializer for `&Value`, but its error contains no text.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a Value);

/// The JSON doesn't fit the type.
#[derive(Debug)]
struct OtherType;

impl de::Error for OtherType {
    fn custom<T>(_: T) -> Self {
        Self
    }
}

impl fmt::Display for OtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the JSON has another type")
    }
}

impl std::error::Error for OtherType {}

impl<'de> IntoDeserializer<'de, OtherType> for Reader<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = OtherType;

    fn deserialize_any<V>(self, visitor: V) -> Result<V::Value, OtherType>
    where
        V: Visitor<'de>,
    {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (_, _, Some(number)) => visitor.visit_f64(number),
                _ => Err(OtherType),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(values) => {
                visitor.visit_seq(SeqDeserializer::new(values.iter().map(Reader)))
            }
            Value::Object(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, value)| (name.as_str(), Reader(value)));
                visitor.visit_map(MapDeserializer::new(fields))
            }
        }
    }

    fn deserialize_option<V>(self, visitor: V) -> Result<V::Value, OtherType>
    where
        V: Visitor<'de>,
    {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, OtherType>
    where
        V: Visitor<'de>,
    {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, OtherType>
    where
        V: Visitor<'de>,
    {
        match self.0 {
            Value::String(variant) => visitor.visit_enum(variant.as_str().into_deserializer()),
            Value::Object(fields) if fields.len() == 1 => {
                let fields = fields
                    .iter()
                    .map(|(name, value)| (name.as_str(), Reader(value)));
                visitor.visit_enum(MapAccessDeserializer::new(MapDeserializer::new(fields)))
            }
            _ => Err(OtherType),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
