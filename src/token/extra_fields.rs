//! The fields of a token response for which a token has no method of its own.

use std::fmt;

use serde_json::{Map, Value};
use zeroize::Zeroize;

/// The fields by name. Each string may be a secret, so the strings are zeroized on drop.
#[derive(Clone, Default)]
#[cfg_attr(feature = "fleet", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "fleet", serde(transparent))]
pub(crate) struct ExtraFields {
    fields: Map<String, Value>,
}

impl ExtraFields {
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    pub(crate) fn insert(&mut self, name: String, value: Value) {
        if let Some(mut previous) = self.fields.insert(name, value) {
            wipe(&mut previous);
        }
    }

    pub(crate) fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

impl From<Map<String, Value>> for ExtraFields {
    fn from(fields: Map<String, Value>) -> Self {
        Self { fields }
    }
}

impl Drop for ExtraFields {
    fn drop(&mut self) {
        self.fields.values_mut().for_each(wipe);
    }
}

/// Shows only the names, because a value may be a secret.
impl fmt::Debug for ExtraFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fields.keys()).finish()
    }
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
