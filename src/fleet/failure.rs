//! The failure of a fetch, shared with the processes that wait for this fetch.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Reply};
use crate::sanitize::ServerText;

/// How long a failure is kept for the processes that wait. They look at least once in 640 ms.
const VALID_FOR: Duration = Duration::from_secs(2);

/// The longest `Retry-After` that is shared. A cache without a fleet has the same limit.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// A fetch that failed.
#[derive(Clone)]
pub(crate) struct SharedFailure {
    /// Distinguishes this failure from earlier failures.
    pub(crate) id: u64,
    /// The error, if it is transient. Other errors may concern only one process, for example a
    /// process with an old secret.
    pub(crate) error: Option<Error>,
    /// How long the record is kept from the save on.
    pub(super) valid_for: Duration,
}

/// The JSON form of a failure.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EncodedFailure<'a> {
    id: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    error: Option<EncodedError<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EncodedError<'a> {
    kind: EncodedKind,
    #[serde(borrow)]
    message: Cow<'a, str>,
    status: Option<u16>,
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    description: Option<Cow<'a, str>>,
    /// The `Retry-After` in milliseconds, from the save on.
    retry_after: Option<u64>,
}

/// The kinds of transient errors.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EncodedKind {
    Denied,
    Timeout,
    Transport,
    Source,
}

impl SharedFailure {
    /// Makes the failure that this process shares. `error` is `None` if the source panicked.
    pub(crate) fn new(error: Option<&Error>) -> Self {
        let error = error.filter(|error| error.is_transient()).cloned();
        let retry_after = error.as_ref().and_then(Error::retry_after);
        let retry_after = retry_after.unwrap_or_default().min(LONGEST_WAIT);
        Self {
            id: fastrand::u64(..),
            error,
            valid_for: VALID_FOR.max(retry_after),
        }
    }

    /// Returns the error if the server asked for a pause that hasn't ended.
    pub(crate) fn must_wait(&self) -> Option<Error> {
        let error = self.error.as_ref()?;
        let wait = error.retry_after()?;
        (!wait.is_zero()).then(|| error.clone())
    }

    pub(super) fn encode(&self) -> EncodedFailure<'_> {
        EncodedFailure {
            id: self.id,
            error: self.error.as_ref().map(encode),
        }
    }

    /// Returns the failure that was saved `since_save` ago.
    pub(super) fn decode(encoded: &EncodedFailure<'_>, since_save: Duration) -> Option<Self> {
        let error = match &encoded.error {
            Some(error) => Some(decode(error, since_save)?),
            None => None,
        };
        let retry_after = error.as_ref().and_then(Error::retry_after);
        let left = VALID_FOR.saturating_sub(since_save);
        Some(Self {
            id: encoded.id,
            error,
            valid_for: left.max(retry_after.unwrap_or_default()),
        })
    }
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn encode(error: &Error) -> EncodedError<'_> {
    let kind = match (error.status(), error.code()) {
        (None, None) if error.is_timeout() => EncodedKind::Timeout,
        (None, None) if error.is_transport() => EncodedKind::Transport,
        (None, None) => EncodedKind::Source,
        _ => EncodedKind::Denied,
    };
    let retry_after = error.retry_after().map(|wait| wait.min(LONGEST_WAIT));
    EncodedError {
        kind,
        message: error.message().into(),
        status: error.status().map(|status| status.as_u16()),
        code: error.code().map(Cow::from),
        description: error.description().map(Cow::from),
        retry_after: retry_after.map(millis),
    }
}

fn decode(encoded: &EncodedError<'_>, since_save: Duration) -> Option<Error> {
    let kind = match encoded.kind {
        EncodedKind::Denied => Kind::Denied,
        EncodedKind::Timeout => Kind::Timeout,
        EncodedKind::Transport => Kind::Transport,
        EncodedKind::Source => Kind::Transient,
    };
    let retry_after = encoded.retry_after.map(Duration::from_millis);
    let retry_after = retry_after.map(|wait| wait.saturating_sub(since_save));
    let error = Error::new(kind, encoded.message.clone().into_owned());
    let error = match kind {
        Kind::Denied => error.with_reply(Reply {
            status: match encoded.status {
                Some(status) => Some(StatusCode::from_u16(status).ok()?),
                None => None,
            },
            code: encoded.code.as_deref().map(ServerText::new),
            description: encoded.description.as_deref().map(ServerText::new),
            retry_after,
            // A failure contains only transient errors.
            is_passing: true,
            ..Reply::default()
        }),
        _ => retry_after.into_iter().fold(error, Error::with_retry_after),
    };
    Some(error.with_source("another process of the fleet got this error"))
}
