//! The fields of a configuration. An error names the field, but shows no value, because a value may
//! be a secret in the wrong place.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Error, Kind};
use crate::sanitize::ServerText;

/// All fields of a table, with any names and values. `None` if the configuration isn't a table.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct ConfigFields {
    values: Option<BTreeMap<String, Value>>,
}

/// The value of a field.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Value {
    Unset(()),
    Flag(bool),
    Number(u64),
    Text(String),
    List(Vec<String>),
    Other(IgnoredAny),
}

/// The minimum similarity of an unknown name and the name that an error suggests.
const SIMILAR: f64 = 0.85;

impl ConfigFields {
    pub(crate) fn without_table() -> Self {
        Self { values: None }
    }

    /// Fails if the configuration isn't a table, or if a field isn't one of `known`.
    pub(crate) fn check_names(&self, known: &[&str]) -> Result<(), Error> {
        let Some(values) = &self.values else {
            let message = "the configuration isn't a table of fields";
            return Err(Error::new(Kind::Config, message));
        };
        let mut names = values.keys();
        let Some(unknown) = names.find(|name| !known.contains(&name.as_str())) else {
            return Ok(());
        };
        let unknown = ServerText::new(unknown);
        let what = match nearest(unknown.as_str(), known) {
            Some(nearest) => format!("there is no such field; did you mean `{nearest}`?"),
            None => format!(
                "there is no such field; the fields are {}",
                known.join(", ")
            ),
        };
        Err(wrong(unknown.as_str(), what))
    }

    pub(crate) fn text(&self, field: &str) -> Result<Option<String>, Error> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(wrong(field, "the value isn't a text")),
        }
    }

    pub(crate) fn list(&self, field: &str) -> Result<Option<Vec<String>>, Error> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::Text(text)) => {
                Ok(Some(text.split_whitespace().map(str::to_owned).collect()))
            }
            Some(Value::List(items)) => Ok(Some(items.clone())),
            Some(_) => Err(wrong(
                field,
                "the value is neither a list of texts nor a text",
            )),
        }
    }

    pub(crate) fn flag(&self, field: &str) -> Result<Option<bool>, Error> {
        let flag = match self.value(field) {
            None => return Ok(None),
            Some(Value::Flag(flag)) => Some(*flag),
            Some(Value::Text(text)) => text.parse().ok(),
            Some(_) => None,
        };
        let what = "the value is neither `true` nor `false`";
        flag.map(Some).ok_or_else(|| wrong(field, what))
    }

    pub(crate) fn number(&self, field: &str) -> Result<Option<usize>, Error> {
        let number = match self.value(field) {
            None => return Ok(None),
            Some(Value::Number(number)) => usize::try_from(*number).ok(),
            Some(Value::Text(text)) => text.parse().ok(),
            Some(_) => None,
        };
        let what = "the value isn't a number of bytes";
        number.map(Some).ok_or_else(|| wrong(field, what))
    }

    /// Returns the value of a field, or `None` if the field is unset.
    fn value(&self, field: &str) -> Option<&Value> {
        let value = self.values.as_ref()?.get(field)?;
        let is_set = match value {
            Value::Unset(()) => false,
            Value::Text(text) => !text.trim().is_empty(),
            _ => true,
        };
        is_set.then_some(value)
    }
}

/// Returns the field that the user probably means. Its name contains the unknown name, is a part of
/// the unknown name, or is similar. Case, hyphens and underscores don't matter.
fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let letters = |name: &str| -> String {
        let letters = name.chars().filter(|letter| letter.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    let unknown = letters(unknown);
    let known = known.iter().map(|field| (letters(field), *field));
    let parts = known.clone().filter(|(field, _)| {
        unknown.len() > 1 && (field.contains(&unknown) || unknown.contains(field))
    });
    let part = parts.min_by_key(|(field, _)| field.len().abs_diff(unknown.len()));
    let scored = known.map(|(field, name)| (strsim::jaro_winkler(&unknown, &field), name));
    let similar = scored.max_by(|(one, _), (other, _)| one.total_cmp(other));
    let similar = similar.filter(|(score, _)| *score >= SIMILAR);
    part.map(|(_, name)| name).or(similar.map(|(_, name)| name))
}

/// Makes an error that names the field.
pub(crate) fn wrong(field: &str, what: impl fmt::Display) -> Error {
    let message = format!("could not read `{field}` from the configuration: {what}");
    Error::new(Kind::Config, message)
}

/// Adds the field's name to an error.
pub(crate) fn inside(field: &str) -> impl Fn(Error) -> Error {
    move |error| wrong(field, error)
}

/// Shows only the names, because a value may be a secret.
impl fmt::Debug for ConfigFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.values.iter().flat_map(BTreeMap::keys);
        f.debug_set().entries(names).finish()
    }
}
