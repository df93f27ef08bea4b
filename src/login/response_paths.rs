//! The locations of the fields in a login's response, as JSON pointers (RFC 6901).

use secrecy::SecretString;
use serde_json::Value;

use crate::http_client::response_fields::{
    self, FieldValue, Malformed, ResponseFields, wipe, without_byte_order_mark,
};

/// The location of each field. The default locations are the fields of RFC 6749 §5.1 and §5.2.
#[derive(Clone, Debug)]
pub(super) struct ResponsePaths {
    pub(super) access_token: String,
    token_type: String,
    pub(super) expires_in: String,
    pub(super) refresh_token: String,
    error: String,
    pub(super) error_description: String,
}

impl ResponsePaths {
    /// Reads the fields from a body. If a field occurs twice, the last value counts.
    pub(super) fn read(&self, body: &[u8]) -> Result<ResponseFields, Malformed> {
        // This call only checks the body, so that errors are the same as for token endpoints.
        response_fields::parse(body)?;
        let body = without_byte_order_mark(body);
        let mut json: Value = serde_json::from_slice(body).map_err(|_| Malformed::NotJson)?;
        let at = |pointer: &str| json.pointer(pointer).map_or(FieldValue::Absent, field);
        let fields = ResponseFields {
            access_token: at(&self.access_token),
            token_type: at(&self.token_type),
            expires_in: at(&self.expires_in),
            refresh_token: at(&self.refresh_token),
            error: at(&self.error),
            error_description: at(&self.error_description),
            ..ResponseFields::default()
        };
        wipe(&mut json);
        Ok(fields)
    }
}

fn field(value: &Value) -> FieldValue {
    match value {
        Value::Null => FieldValue::Null,
        Value::String(text) => FieldValue::Text(SecretString::from(text.as_str())),
        Value::Number(number) => number
            .as_f64()
            .map_or(FieldValue::Other, FieldValue::Number),
        Value::Bool(value) => FieldValue::without_text(!value),
        Value::Array(values) => FieldValue::without_text(values.is_empty()),
        Value::Object(fields) => FieldValue::without_text(fields.is_empty()),
    }
}

impl Default for ResponsePaths {
    fn default() -> Self {
        Self {
            access_token: String::from("/access_token"),
            token_type: String::from("/token_type"),
            expires_in: String::from("/expires_in"),
            refresh_token: String::from("/refresh_token"),
            error: String::from("/error"),
            error_description: String::from("/error_description"),
        }
    }
}
