//! The members of a token endpoint's JSON (RFC 6749 §5.1 and §5.2), read without judgement.
//!
//! Written by hand rather than derived, because serde's errors quote the value they dislike, and
//! that may be the token: here no value is disliked, and what it means is decided above.

use std::borrow::Cow;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use zeroize::Zeroize;

use super::response_paths::Places;

/// What the members hold. Each is read as whatever it is.
#[derive(Default)]
pub(crate) struct Members {
    pub(crate) access_token: Member,
    pub(crate) token_type: Member,
    pub(crate) expires_in: Member,
    pub(crate) scope: Member,
    pub(crate) refresh_token: Member,
    pub(crate) issued_token_type: Member,
    pub(crate) error: Member,
    pub(crate) error_description: Member,
    /// Whether one of them stands twice: which of the two is meant, nobody can say.
    pub(crate) stands_twice: bool,
}

/// One value. Every text is kept as a secret, for any may be one.
#[derive(Default)]
pub(crate) enum Member {
    #[default]
    Absent,
    Null,
    Text(SecretString),
    Number(f64),
    /// A boolean, an object or an array.
    Other,
}

impl Member {
    /// Whether it is as good as left out.
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

/// Why there are no members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    Empty,
    NotJson,
    NotAnObject,
}

impl Malformed {
    /// What is wrong with the reply.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Empty => "has no body",
            Self::NotJson => "is not valid JSON",
            Self::NotAnObject => "is JSON, but not an object",
        }
    }
}

/// Reads the members. A byte order mark is skipped (RFC 8259 §8.1), unknown members are ignored.
pub(crate) fn parse(body: &[u8]) -> Result<Members, Malformed> {
    let body = body
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(body)
        .trim_ascii();
    if body.is_empty() {
        return Err(Malformed::Empty);
    }
    // serde's own error stops here: it may quote the body.
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Malformed::NotAnObject,
        _ => Malformed::NotJson,
    })
}

/// The same with the members where `places` says. A member that stands twice is read as its last.
pub(crate) fn parse_at(body: &[u8], places: &Places) -> Result<Members, Malformed> {
    // The syntax first, and the same judgement of what is no object.
    parse(body)?;
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut json: Value = serde_json::from_slice(body).map_err(|_| Malformed::NotJson)?;
    let at = |pointer: &str| json.pointer(pointer).map_or(Member::Absent, member);
    let members = Members {
        access_token: at(&places.access_token),
        token_type: at(&places.token_type),
        expires_in: at(&places.expires_in),
        refresh_token: at(&places.refresh_token),
        error: at(&places.error),
        error_description: at(&places.error_description),
        ..Members::default()
    };
    wipe(&mut json);
    Ok(members)
}

fn member(value: &Value) -> Member {
    match value {
        Value::Null => Member::Null,
        Value::String(text) => Member::Text(SecretString::from(text.as_str())),
        Value::Number(number) => number.as_f64().map_or(Member::Other, Member::Number),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Member::Other,
    }
}

/// Overwrites every text: any may be a secret.
pub(crate) fn wipe(json: &mut Value) {
    match json {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Name {
    AccessToken,
    TokenType,
    ExpiresIn,
    Scope,
    RefreshToken,
    IssuedTokenType,
    Error,
    ErrorDescription,
    #[serde(other)]
    Unknown,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D>(deserializer: D) -> Result<Self, D::Error>
    where
        D: Deserializer<'de>,
    {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A>(self, mut map: A) -> Result<Members, A::Error>
    where
        A: MapAccess<'de>,
    {
        let mut members = Members::default();
        while let Some(name) = map.next_key()? {
            let place = match name {
                Name::AccessToken => &mut members.access_token,
                Name::TokenType => &mut members.token_type,
                Name::ExpiresIn => &mut members.expires_in,
                Name::Scope => &mut members.scope,
                Name::RefreshToken => &mut members.refresh_token,
                Name::IssuedTokenType => &mut members.issued_token_type,
                Name::Error => &mut members.error,
                Name::ErrorDescription => &mut members.error_description,
                Name::Unknown => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let is_second = !matches!(place, Member::Absent);
            *place = map.next_value()?;
            members.stands_twice |= is_second;
        }
        Ok(members)
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D>(deserializer: D) -> Result<Self, D::Error>
    where
        D: Deserializer<'de>,
    {
        deserializer.deserialize_any(MemberVisitor)
    }
}

struct MemberVisitor;

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Member, E> {
        Ok(Member::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
        Ok(Member::Other)
    }

    // Only lifetimes are read as numbers, and where an `f64` gets coarse they're long past the
    // longest that is used.
    fn visit_i64<E>(self, number: i64) -> Result<Member, E> {
        Ok(Member::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Member, E> {
        Ok(Member::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Member, E> {
        Ok(Member::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Member, E> {
        Ok(Member::Text(SecretString::from(text)))
    }

    fn visit_string<E>(self, text: String) -> Result<Member, E> {
        Ok(Member::Text(SecretString::from(text)))
    }

    fn visit_seq<A>(self, mut seq: A) -> Result<Member, A::Error>
    where
        A: SeqAccess<'de>,
    {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }

    fn visit_map<A>(self, mut map: A) -> Result<Member, A::Error>
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
        Ok(number.map_or(Member::Other, Member::Number))
    }
}
