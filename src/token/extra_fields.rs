//! The fields of a token response for which a token has no method of its own.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::secret_json::SecretJson;
use crate::sanitize::ServerText;

/// The fields by name.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ExtraFields {
    fields: BTreeMap<String, SecretJson>,
}

impl ExtraFields {
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).map(|value| &**value)
    }

    pub(crate) fn insert(&mut self, name: String, value: SecretJson) {
        self.fields.insert(name, value);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// The maximum number of names that `Debug` shows.
const MOST_SHOWN: usize = 16;

/// Shows only the first names, because a value may be a secret.
impl fmt::Debug for ExtraFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        let names = self.fields.keys().map(|name| ServerText::new(name));
        list.entries(names.take(MOST_SHOWN));
        match self.fields.len() > MOST_SHOWN {
            true => list.finish_non_exhaustive(),
            false => list.finish(),
        }
    }
}
