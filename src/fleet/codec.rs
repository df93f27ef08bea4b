//! Encodes a token for a store. The encoding contains everything that another process needs to use
//! the token.

use std::borrow::Cow;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::quota::Quota;
use crate::source::token_source::DynTokenSource;
use crate::token::extra_fields::ExtraFields;
use crate::token::issued_token::{Expiry, RefreshHint, StoredAs, Token};

/// The maximum length of an encoded token, in bytes, without the fields that no request needs. It is
/// several times the length of any token that fits in a header.
const LONGEST: usize = 64 * 1024;

/// The maximum length with these fields: the ID token and the extra fields of the response.
const LONGEST_WITH_DETAILS: usize = 2 * LONGEST;

/// The JSON form in which a token is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EncodedToken<'a> {
    #[serde(borrow)]
    form: StoredAs<'a>,
    /// The secret is borrowed from the decrypted bytes, so no copy is left in memory. Only a secret
    /// with a quotation mark or a backslash is copied. RFC 6750 allows neither character in a
    /// header.
    #[serde(borrow)]
    secret: Cow<'a, str>,
    /// The start of the fetch and the expiry of the token (`end`), in milliseconds since the Unix
    /// epoch.
    requested: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<u64>,
    /// When the source wants a refresh: at a time (`refresh_at`), or within the last part of the
    /// lifetime (`refresh_within`). Both are in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_within: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    scope: Option<Cow<'a, str>>,
    /// The quotas that the server reported with the token, for the other processes.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    quotas: Vec<EncodedQuota<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    id_token: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extra: Option<Cow<'a, ExtraFields>>,
}

#[derive(Serialize, Deserialize)]
struct EncodedQuota<'a> {
    #[serde(borrow)]
    bucket: Cow<'a, str>,
    limit: Option<u64>,
    remaining: u64,
    resets: Option<u64>,
}

/// A decoded token.
#[derive(Clone)]
pub(crate) struct SavedToken {
    pub(crate) token: Token,
    pub(crate) requested: SystemTime,
}

/// Encodes the token. Returns `None` if no other process could use the token.
pub(crate) fn encode(token: &Token, requested: SystemTime) -> Option<Zeroizing<Vec<u8>>> {
    let (refresh_at, refresh_within) = match token.refresh_hint() {
        Some(RefreshHint::After(after)) => (Some(millis(requested + after)), None),
        Some(RefreshHint::WithinLast(left)) => (None, u64::try_from(left.as_millis()).ok()),
        None => (None, None),
    };
    let mut encoded = EncodedToken {
        form: token.stored_as()?,
        secret: token.secret().into(),
        requested: millis(requested),
        end: expires_at(token, requested).map(millis),
        refresh_at,
        refresh_within,
        scope: token.scope().map(Cow::from),
        quotas: token.quotas().iter().map(encode_quota).collect(),
        id_token: None,
        extra: None,
    };
    if length(&encoded)? > LONGEST {
        return None;
    }
    encoded.id_token = token.id_token().map(Cow::from);
    encoded.extra = token.extra_fields().map(Cow::Borrowed);
    let length = length(&encoded)?;
    if length > LONGEST_WITH_DETAILS {
        return None;
    }
    // A buffer that grows leaves copies in memory that aren't zeroized.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    serde_json::to_writer(&mut *bytes, &encoded).ok()?;
    Some(bytes)
}

/// Returns the length of the JSON, without making it.
fn length(encoded: &EncodedToken<'_>) -> Option<usize> {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, encoded).ok()?;
    Some(length.0)
}

/// Counts the bytes that are written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the expiry of a token whose fetch started at `requested`.
pub(crate) fn expires_at(token: &Token, requested: SystemTime) -> Option<SystemTime> {
    match token.expiry() {
        Expiry::Never => None,
        Expiry::In(lifetime) => Some(requested + lifetime),
        Expiry::At(end) => Some(end),
    }
}

/// Why this process can't use a stored value.
pub(crate) enum DecodeError {
    /// [`encode`] can't have written the value.
    Malformed,
    /// The token is bound to a key that this process doesn't have.
    Unbound(Error),
}

/// Decodes a token. The source restores a bound token, because the source has the key.
pub(crate) fn decode(bytes: &[u8], source: &dyn DynTokenSource) -> Result<SavedToken, DecodeError> {
    let encoded: EncodedToken<'_> =
        serde_json::from_slice(bytes).map_err(|_| DecodeError::Malformed)?;
    let requested = time(encoded.requested).ok_or(DecodeError::Malformed)?;
    let secret = encoded.secret.as_ref();
    let token = match &encoded.form {
        StoredAs::Header { name, scheme } => Token::restore_in_header(name, scheme, secret),
        StoredAs::Query { name } => Token::query(name.as_ref(), secret),
        StoredAs::Bound { to } => {
            let token = source
                .bind(to, secret.into())
                .map_err(DecodeError::Unbound)?;
            Ok(token)
        }
    };
    let mut token = token.map_err(|_| DecodeError::Malformed)?;
    if let Some(end) = encoded.end {
        token = token.expires_at(time(end).ok_or(DecodeError::Malformed)?);
    }
    if let Some(at) = encoded.refresh_at {
        let at = time(at).ok_or(DecodeError::Malformed)?;
        token = token.refresh_in(at.duration_since(requested).unwrap_or_default());
    }
    if let Some(left) = encoded.refresh_within {
        token = token.refresh_within_last(Duration::from_millis(left));
    }
    if let Some(scope) = encoded.scope {
        token = token.with_scope(scope.as_ref());
    }
    if let Some(id_token) = encoded.id_token {
        token = token.with_id_token(id_token.as_ref());
    }
    if let Some(extra) = encoded.extra {
        token = token.with_extra_fields(extra.into_owned());
    }
    let token = token.with_quotas(encoded.quotas.iter().map(decode_quota));
    Ok(SavedToken { token, requested })
}

fn encode_quota(quota: &Quota) -> EncodedQuota<'_> {
    EncodedQuota {
        bucket: quota.bucket().into(),
        limit: quota.limit(),
        remaining: quota.remaining(),
        resets: quota.resets_at().map(millis),
    }
}

fn decode_quota(encoded: &EncodedQuota<'_>) -> Quota {
    let quota = Quota::new(&encoded.bucket, encoded.remaining);
    let quota = encoded.limit.into_iter().fold(quota, Quota::of);
    let resets_at = encoded.resets.and_then(time);
    resets_at.into_iter().fold(quota, Quota::until)
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}
