//! The parameters of one request and their two encodings.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use zeroize::Zeroizing;

#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::token::secret_json;

/// Borrowed names and values in the order in which they are sent.
#[derive(Clone, Default)]
pub(crate) struct Params<'a> {
    list: Vec<Param<'a>>,
}

#[derive(Clone, Copy)]
struct Param<'a> {
    name: &'a str,
    value: &'a str,
    /// Whether errors must not show the value.
    is_secret: bool,
}

/// The encoding of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BodyFormat {
    /// `application/x-www-form-urlencoded`, as RFC 6749 requires.
    #[default]
    FormUrlEncoded,
    /// JSON, a format that Auth0 accepts.
    Json,
}

impl BodyFormat {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::FormUrlEncoded => "application/x-www-form-urlencoded",
            Self::Json => "application/json",
        }
    }
}

impl<'a> Params<'a> {
    pub(crate) fn push(&mut self, name: &'a str, value: &'a str) {
        self.add(name, value, false);
    }

    pub(crate) fn push_secret(&mut self, name: &'a str, value: &'a str) {
        self.add(name, value, true);
    }

    /// Skips a parameter without a value, because servers ignore such a parameter (RFC 6749 §3.2).
    fn add(&mut self, name: &'a str, value: &'a str, is_secret: bool) {
        if !value.is_empty() {
            self.list.push(Param {
                name,
                value,
                is_secret,
            });
        }
    }

    #[cfg(feature = "authorization-code")]
    pub(crate) fn has(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    /// Adds the parameters to a store key, because a token depends on them. The order of a scope's
    /// words doesn't change the key (RFC 6749 §3.3). The order of a repeated parameter's values
    /// doesn't change the key either.
    #[cfg(feature = "fleet")]
    pub(crate) fn add_to_key(&self, key: StoreKey) -> StoreKey {
        self.list.iter().fold(key, |key, param| {
            let name = format!("param {}", param.name);
            match param.name {
                "scope" => key.with_words(name, param.value),
                _ => key.with(name, param.value),
            }
        })
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.list.iter().map(|param| (param.name, param.value))
    }

    pub(crate) fn secrets(&self) -> impl Iterator<Item = &'a str> {
        let secret = self.list.iter().filter(|param| param.is_secret);
        secret.map(|param| param.value)
    }

    /// Encodes the body. Returns `None` if JSON encoding fails, which is impossible with strings.
    pub(crate) fn encode(&self, format: BodyFormat) -> Option<Zeroizing<Vec<u8>>> {
        match format {
            BodyFormat::FormUrlEncoded => Some(self.to_form()),
            BodyFormat::Json => secret_json::encode(self).ok(),
        }
    }

    fn to_form(&self) -> Zeroizing<Vec<u8>> {
        // Escaping turns one byte into at most three (`%00`). Each pair adds `=` and `&`.
        // So the buffer never grows. A buffer that grows would free memory without zeroizing it.
        let pair = |param: &Param<'_>| 3 * (param.name.len() + param.value.len()) + 2;
        let mut text = String::with_capacity(self.list.iter().map(pair).sum());
        form_urlencoded::Serializer::new(&mut text).extend_pairs(self.pairs());
        Zeroizing::new(text.into_bytes())
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let same = self.list.iter().filter(move |param| param.name == name);
        same.map(|param| param.value)
    }
}

/// Serializes the parameters as an object. A repeated parameter, such as `resource`, becomes an
/// array.
impl Serialize for Params<'_> {
    fn serialize<S>(&self, serializer: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
    {
        let mut object = serializer.serialize_map(None)?;
        for (at, param) in self.list.iter().enumerate() {
            if self.list[..at].iter().any(|seen| seen.name == param.name) {
                continue;
            }
            let values: Vec<&str> = self.named(param.name).collect();
            match values.as_slice() {
                [value] => object.serialize_entry(param.name, value)?,
                values => object.serialize_entry(param.name, values)?,
            }
        }
        object.end()
    }
}
