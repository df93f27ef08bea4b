//! Encodes what the processes of a fleet share: a token and the failure of the last fetch. The
//! encoding contains everything that another process needs to use the token.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::failure::{EncodedFailure, SharedFailure, millis};
use crate::clock::Moment;
use crate::error::Error;
use crate::quota::Quota;
use crate::source::token_source::DynTokenSource;
use crate::token::extra_fields::ExtraFields;
use crate::token::issued_token::{Expiry, RefreshHint, StoredAs, Token};
use crate::token::json_reader;
use crate::token::secret_json;

/// The maximum length of an encoded record in bytes, without the token's ID token and extra fields.
/// This is several times the length of any token that fits in a header.
const LONGEST: usize = 64 * 1024;

/// The maximum length of an encoded record in bytes, with the token's ID token and extra fields.
const LONGEST_WITH_DETAILS: usize = 2 * LONGEST;

/// The JSON form of what a store keeps under one key.
///
/// All times are relative, in milliseconds, because the clocks of two processes may differ. The
/// time since the save is `kept` minus the time for which the store still keeps the record.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EncodedRecord<'a> {
    /// How long the store was asked to keep the record.
    kept: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    token: Option<EncodedToken<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    failure: Option<EncodedFailure<'a>>,
}

/// The JSON form of a token.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EncodedToken<'a> {
    #[serde(borrow)]
    form: StoredAs<'a>,
    secret: &'a str,
    /// The time from the start of the fetch until the save.
    age: u64,
    /// The whole lifetime of the token, counted from the start of the fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifetime: Option<u64>,
    /// When the source wants a refresh. `refresh_after` counts from the start of the fetch.
    /// `refresh_within` is the last part of the lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_after: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_within: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    scope: Option<Cow<'a, str>>,
    /// The quotas that the server reported with the token, for the other processes.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    quotas: Vec<EncodedQuota<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    id_token: Option<&'a str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extra: Option<Cow<'a, ExtraFields>>,
}

#[derive(Serialize, Deserialize)]
struct EncodedQuota<'a> {
    #[serde(borrow)]
    bucket: Cow<'a, str>,
    limit: Option<u64>,
    remaining: u64,
    /// The time from the save until the quota resets.
    resets_in: Option<u64>,
}

/// A token that a process of the fleet fetched, with the start of that fetch by the local clocks.
#[derive(Clone)]
pub(crate) struct SharedToken {
    pub(crate) token: Token,
    pub(crate) requested: Moment,
}

/// What the processes of a fleet share under one key.
#[derive(Clone, Default)]
pub(crate) struct SharedRecord {
    pub(crate) token: Option<SharedToken>,
    pub(crate) failure: Option<SharedFailure>,
}

/// How long a store keeps a token without an expiry.
const DEFAULT_TTL: Duration = Duration::from_secs(24 * 60 * 60);

impl SharedToken {
    /// Returns the whole lifetime, counted from the start of the fetch. Returns `None` if the token
    /// never expires.
    fn lifetime(&self) -> Option<Duration> {
        match self.token.expiry() {
            Expiry::Never => None,
            Expiry::In(lifetime) => Some(lifetime),
            Expiry::At(end) => {
                let requested = self.requested.wall();
                Some(end.duration_since(requested).unwrap_or_default())
            }
        }
    }

    /// Returns how long the token is still valid.
    fn left(&self, now: Moment) -> Duration {
        let lifetime = self.lifetime();
        let left = |lifetime: Duration| lifetime.saturating_sub(now.since(self.requested));
        lifetime.map_or(DEFAULT_TTL, left)
    }

    fn encode(&self, now: Moment) -> Option<EncodedToken<'_>> {
        let token = &self.token;
        let (refresh_after, refresh_within) = match token.refresh_hint() {
            Some(RefreshHint::After(after)) => (Some(millis(after)), None),
            Some(RefreshHint::WithinLast(left)) => (None, Some(millis(left))),
            None => (None, None),
        };
        let quotas = token.quotas().iter();
        Some(EncodedToken {
            form: token.stored_as()?,
            secret: token.secret(),
            age: millis(now.since(self.requested)),
            lifetime: self.lifetime().map(millis),
            refresh_after,
            refresh_within,
            scope: token.scope().map(Cow::from),
            quotas: quotas.map(|quota| encode_quota(quota, now)).collect(),
            id_token: None,
            extra: None,
        })
    }
}

/// A record in the form in which a store keeps it.
pub(crate) struct Encoded {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    /// How long the store has to keep the record.
    pub(crate) ttl: Duration,
}

/// The error for a token that no other process could use, or that is too long to be stored.
pub(crate) struct NotShareable;

/// Encodes a record. Returns `None` if the record contains nothing that is still valid.
pub(crate) fn encode(record: &SharedRecord, now: Moment) -> Result<Option<Encoded>, NotShareable> {
    let token = record.token.as_ref();
    let token = token.filter(|token| !token.left(now).is_zero());
    let failure = record.failure.as_ref();
    let token_left = token.map(|token| token.left(now));
    let Some(ttl) = token_left.max(failure.map(|failure| failure.valid_for)) else {
        return Ok(None);
    };
    let mut encoded = EncodedRecord {
        kept: millis(ttl),
        token: match token {
            Some(token) => Some(token.encode(now).ok_or(NotShareable)?),
            None => None,
        },
        failure: failure.map(SharedFailure::encode),
    };
    let length = secret_json::length(&encoded).map_err(|_| NotShareable)?;
    if length > LONGEST {
        return Err(NotShareable);
    }
    if let (Some(SharedToken { token, .. }), Some(encoded)) = (token, &mut encoded.token) {
        encoded.id_token = token.id_token();
        encoded.extra = token.extra_fields().map(Cow::Borrowed);
    }
    let bytes = secret_json::encode(&encoded).map_err(|_| NotShareable)?;
    match bytes.len() {
        ..=LONGEST_WITH_DETAILS => Ok(Some(Encoded { bytes, ttl })),
        _ => Err(NotShareable),
    }
}

/// Why this process can't use a stored value.
pub(crate) enum DecodeError {
    /// [`encode`] can't have written the value.
    Malformed,
    /// The token is bound to a key that this process doesn't have.
    Unbound(Error),
}

/// Decodes a record that the store keeps for `remaining` from `now` on. The source restores a bound
/// token, because the source has the key.
pub(crate) fn decode(
    bytes: &[u8],
    remaining: Duration,
    now: Moment,
    source: &dyn DynTokenSource,
) -> Result<SharedRecord, DecodeError> {
    let json = secret_json::parse(bytes).ok_or(DecodeError::Malformed)?;
    let encoded: EncodedRecord<'_> = json_reader::read(&json).ok_or(DecodeError::Malformed)?;
    let since_save = Duration::from_millis(encoded.kept).saturating_sub(remaining);
    let failure = encoded.failure;
    Ok(SharedRecord {
        token: match encoded.token {
            Some(token) => Some(decode_token(&token, since_save, now, source)?),
            None => None,
        },
        failure: failure.and_then(|failure| SharedFailure::decode(&failure, since_save)),
    })
}

fn decode_token(
    encoded: &EncodedToken<'_>,
    since_save: Duration,
    now: Moment,
    source: &dyn DynTokenSource,
) -> Result<SharedToken, DecodeError> {
    let secret = encoded.secret;
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
    if let Some(lifetime) = encoded.lifetime {
        token = token.expires_in(Duration::from_millis(lifetime));
    }
    if let Some(after) = encoded.refresh_after {
        token = token.refresh_in(Duration::from_millis(after));
    }
    if let Some(left) = encoded.refresh_within {
        token = token.refresh_within_last(Duration::from_millis(left));
    }
    if let Some(scope) = &encoded.scope {
        token = token.with_scope(scope.as_ref());
    }
    if let Some(id_token) = encoded.id_token {
        token = token.with_id_token(id_token);
    }
    if let Some(extra) = &encoded.extra {
        token = token.with_extra_fields(extra.clone().into_owned());
    }
    let saved = now.minus(since_save);
    let quotas = encoded.quotas.iter();
    Ok(SharedToken {
        token: token.with_quotas(quotas.map(|quota| decode_quota(quota, saved))),
        requested: saved.minus(Duration::from_millis(encoded.age)),
    })
}

fn encode_quota(quota: &Quota, now: Moment) -> EncodedQuota<'_> {
    let until = |end: SystemTime| end.duration_since(now.wall()).unwrap_or_default();
    EncodedQuota {
        bucket: quota.bucket().into(),
        limit: quota.limit(),
        remaining: quota.remaining(),
        resets_in: quota.resets_at().map(until).map(millis),
    }
}

fn decode_quota(encoded: &EncodedQuota<'_>, saved: Moment) -> Quota {
    let quota = Quota::new(&encoded.bucket, encoded.remaining);
    let quota = encoded.limit.into_iter().fold(quota, Quota::of);
    let resets_at = encoded
        .resets_in
        .map(|after| saved.plus(Duration::from_millis(after)).wall());
    resets_at.into_iter().fold(quota, Quota::until)
}
