//! The fields of a credentials file, with errors that name the file and the field.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Error, Kind};
use crate::http_client::body_value::{BodyValue, inside};
use crate::token::header_value::sensitive;

/// An object of a credentials file. A field that is null or an empty string counts as absent.
#[derive(Clone)]
pub(crate) struct FileFields<'a> {
    value: &'a BodyValue,
    /// The path of the file.
    file: &'a str,
    /// The names of the outer objects, each with a dot.
    outer: String,
}

impl<'a> FileFields<'a> {
    pub(crate) fn new(value: &'a BodyValue, file: &'a str) -> Self {
        Self {
            value,
            file,
            outer: String::new(),
        }
    }

    fn get(&self, name: &str) -> Result<Option<&'a BodyValue>, Error> {
        match *self.value.at(&inside("", name)) {
            [] | [BodyValue::Null] => Ok(None),
            [value] if value.text() == Some("") => Ok(None),
            [value] => Ok(Some(value)),
            _ => Err(self.wrong(name, "occurs twice")),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, Error> {
        let Some(value) = self.get(name)? else {
            return Ok(None);
        };
        let text = value.text();
        text.map(Some)
            .ok_or_else(|| self.wrong(name, "isn't a string"))
    }

    pub(crate) fn required(&self, name: &str) -> Result<&'a str, Error> {
        let text = self.text(name)?;
        text.ok_or_else(|| self.wrong(name, "is missing or empty"))
    }

    /// Returns a number, which may be written as a string.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        let Some(value) = self.get(name)? else {
            return Ok(None);
        };
        let number = value.scalar().and_then(|text| text.parse().ok());
        number
            .map(Some)
            .ok_or_else(|| self.wrong(name, "isn't a whole number"))
    }

    /// Returns the strings of an array.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<String>, Error> {
        let wrong = || self.wrong(name, "isn't an array of strings");
        let texts = |values: &[BodyValue]| {
            let texts = values.iter().map(|value| value.text().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>()
        };
        match self.get(name)? {
            None => Ok(Vec::new()),
            Some(BodyValue::Array(values)) => texts(values).ok_or_else(wrong),
            Some(_) => Err(wrong()),
        }
    }

    /// Returns the strings of an object as headers. Their values may be secrets.
    pub(crate) fn headers(&self, name: &str) -> Result<HeaderMap, Error> {
        let wrong = || self.wrong(name, "isn't an object of headers");
        let header = |(name, value): &(String, BodyValue)| {
            let value = value.text()?.as_bytes().to_vec();
            let name: HeaderName = name.parse().ok()?;
            Some((name, sensitive(value.into())?))
        };
        match self.get(name)? {
            None => Ok(HeaderMap::new()),
            Some(BodyValue::Object(members)) => {
                let headers: Option<HeaderMap<HeaderValue>> = members.iter().map(header).collect();
                headers.ok_or_else(wrong)
            }
            Some(_) => Err(wrong()),
        }
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Self>, Error> {
        match self.get(name)? {
            None => Ok(None),
            Some(value @ BodyValue::Object(_)) => Ok(Some(Self {
                value,
                file: self.file,
                outer: format!("{}{name}.", self.outer),
            })),
            Some(_) => Err(self.wrong(name, "isn't an object")),
        }
    }

    pub(crate) fn required_object(&self, name: &str) -> Result<Self, Error> {
        let object = self.object(name)?;
        object.ok_or_else(|| self.wrong(name, "is missing"))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        !self.value.at(&inside("", name)).is_empty()
    }

    /// Returns the name of a field for messages.
    pub(crate) fn name_of(&self, name: &str) -> String {
        format!(
            "`{}{name}` in the credentials file {}",
            self.outer, self.file
        )
    }

    /// Makes the error for a field.
    pub(crate) fn wrong(&self, name: &str, what: &str) -> Error {
        Error::new(Kind::Config, format!("{} {what}", self.name_of(name)))
    }

    /// Makes the error for the whole file.
    pub(crate) fn objection(&self, what: &str) -> Error {
        let message = format!("the credentials file {} {what}", self.file);
        Error::new(Kind::Config, message)
    }
}
