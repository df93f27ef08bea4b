//! The fields of a token endpoint's response (RFC 6749 §5.1 and §5.2), each of any type.

use secrecy::{ExposeSecret, SecretString};

use super::body_value::BodyValue;

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
    pub(crate) id_token: FieldValue,
    pub(crate) issued_token_type: FieldValue,
    pub(crate) error: FieldValue,
    pub(crate) error_description: FieldValue,
    /// Whether a field occurs twice. The value of such a field is ambiguous.
    pub(crate) has_duplicate: bool,
    /// Whether the field that `success_value` names shows a failure.
    pub(crate) says_failure: bool,
    /// Whether the response reports an error, whatever its status.
    pub(crate) reports_error: bool,
    /// The whole body.
    pub(crate) body: BodyValue,
}

/// The value of one field. Every string is stored as a secret, because any string may be a token.
#[derive(Clone, Default)]
pub(crate) enum FieldValue {
    #[default]
    Absent,
    Null,
    Text(SecretString),
    /// Numbers are used only as lifetimes. Up to the longest accepted lifetime, an `f64` is exact.
    Number(f64),
    /// The value is `false`, an empty object or an empty array.
    Empty,
    /// The value is `true`, or an object or an array with contents.
    Other,
}

impl FieldValue {
    fn without_text(is_empty: bool) -> Self {
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

impl From<&BodyValue> for FieldValue {
    fn from(value: &BodyValue) -> Self {
        match value {
            BodyValue::Null => Self::Null,
            // `false` counts as empty.
            BodyValue::Bool(value) => Self::without_text(!value),
            BodyValue::Number(number) => number.as_f64().map_or(Self::Other, Self::Number),
            BodyValue::Text(text) => Self::Text(text.clone()),
            BodyValue::Array(values) => Self::without_text(values.is_empty()),
            BodyValue::Object(members) => Self::without_text(members.is_empty()),
        }
    }
}

/// Returns whether one of these RFCs registers the code: RFC 6749 §5.2 and §4.1.2.1, RFC 8628 §3.5,
/// RFC 8707 §2, RFC 9449 §5 and §8.
pub(crate) fn is_registered(code: &str) -> bool {
    matches!(
        code,
        "invalid_request"
            | "invalid_client"
            | "invalid_grant"
            | "unauthorized_client"
            | "unsupported_grant_type"
            | "invalid_scope"
            | "invalid_target"
            | "access_denied"
            | "server_error"
            | "temporarily_unavailable"
            | "authorization_pending"
            | "slow_down"
            | "expired_token"
            | "invalid_dpop_proof"
            | "use_dpop_nonce"
    )
}
