//! What is kept of a token: all that another process needs to use it as its own.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::quota::Quota;
use crate::source::token_source::DynTokenSource;
use crate::token::issued_token::{Expiry, StoredAs, Token};

/// Longer than any token that fits in a header, several times over.
const LONGEST: usize = 64 * 1024;

/// A token as it is written down, in JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EncodedToken<'a> {
    #[serde(borrow)]
    form: EncodedForm<'a>,
    /// Borrowed from what was decrypted, so that nothing is left behind of it; unless it holds a
    /// quotation mark or a backslash, which no token does that goes in a header as RFC 6750 has it.
    #[serde(borrow)]
    secret: Cow<'a, str>,
    /// When its fetch was started, and its end: milliseconds since the Unix epoch.
    requested: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    scope: Option<Cow<'a, str>>,
    /// What was left as it was issued, which others should heed as well.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    quotas: Vec<EncodedQuota<'a>>,
}

#[derive(Serialize, Deserialize)]
struct EncodedQuota<'a> {
    #[serde(borrow)]
    bucket: Cow<'a, str>,
    limit: Option<u64>,
    remaining: u64,
    resets: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EncodedForm<'a> {
    Header {
        #[serde(borrow)]
        name: Cow<'a, str>,
        #[serde(borrow)]
        scheme: Cow<'a, str>,
    },
    Query {
        #[serde(borrow)]
        name: Cow<'a, str>,
    },
    Bound {
        #[serde(borrow)]
        to: Cow<'a, str>,
    },
}

/// A token that was read back.
#[derive(Clone)]
pub(crate) struct SavedToken {
    pub(crate) token: Token,
    pub(crate) requested: SystemTime,
}

/// The token in writing; `None` of one that no other process could use.
pub(crate) fn encode(token: &Token, requested: SystemTime) -> Option<Zeroizing<Vec<u8>>> {
    let form = match token.stored_as()? {
        StoredAs::Header(name, scheme) => EncodedForm::Header {
            name: name.as_str().into(),
            scheme: scheme.into(),
        },
        StoredAs::Query(name) => EncodedForm::Query { name: name.into() },
        StoredAs::Bound(to) => EncodedForm::Bound { to: to.into() },
    };
    let written = EncodedToken {
        form,
        secret: token.secret().into(),
        requested: millis(requested),
        end: end(token, requested).map(millis),
        scope: token.scope().map(Cow::from),
        quotas: token.quotas().iter().map(encode_quota).collect(),
    };
    // As long as it can get: each byte takes at most six (`\u0000`). What a growing buffer leaves
    // behind isn't zeroized.
    let texts = token.secret().len() + token.scope().map_or(0, str::len);
    let room = 6 * texts + 512 * token.quotas().len() + 1024;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *bytes, &written).ok()?;
    (bytes.len() <= LONGEST).then_some(bytes)
}

/// When a token ends whose fetch was started then.
pub(crate) fn end(token: &Token, requested: SystemTime) -> Option<SystemTime> {
    match token.expiry() {
        Expiry::Never => None,
        Expiry::In(lifetime) => Some(requested + lifetime),
        Expiry::At(end) => Some(end),
    }
}

/// Why what was written is no token to this process.
pub(crate) enum DecodeError {
    /// It isn't what [`write`] writes.
    Malformed,
    /// It is bound to something that this process doesn't have.
    Unbound(Error),
}

/// The token again. One that is bound is made by the source, who knows to what.
pub(crate) fn decode(
    written: &[u8],
    source: &dyn DynTokenSource,
) -> Result<SavedToken, DecodeError> {
    let written: EncodedToken<'_> =
        serde_json::from_slice(written).map_err(|_| DecodeError::Malformed)?;
    let requested = time(written.requested).ok_or(DecodeError::Malformed)?;
    let secret = written.secret.as_ref();
    let token = match &written.form {
        EncodedForm::Header { name, scheme } => Token::restore_in_header(name, scheme, secret),
        EncodedForm::Query { name } => Token::query(name.as_ref(), secret),
        EncodedForm::Bound { to } => {
            let token = source
                .bind(to, secret.into())
                .map_err(DecodeError::Unbound)?;
            Ok(token)
        }
    };
    let mut token = token.map_err(|_| DecodeError::Malformed)?;
    if let Some(end) = written.end {
        token = token.expires_at(time(end).ok_or(DecodeError::Malformed)?);
    }
    if let Some(scope) = written.scope {
        token = token.with_scope(scope.as_ref());
    }
    let token = token.with_quotas(written.quotas.iter().map(decode_quota));
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

fn decode_quota(written: &EncodedQuota<'_>) -> Quota {
    let quota = Quota::new(&written.bucket, written.remaining);
    let quota = written.limit.into_iter().fold(quota, Quota::of);
    let resets_at = written.resets.and_then(time);
    resets_at.into_iter().fold(quota, Quota::until)
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}
