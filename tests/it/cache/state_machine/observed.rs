//! The cache's observed status, converted to the types of the model.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Response;
use proptest::sample::Index;
use tower_auth::cache::Status;
use tower_auth::{BoxError, Error, NotReplayed, Origin, Token};

use super::model::{ExpectedStatus, Failure, Fault, Kind, Outcome, Why};

pub(super) fn pick(which: Index, among: usize) -> Option<usize> {
    (among > 0).then(|| which.index(among))
}

pub(super) fn millis(span: i64) -> Duration {
    Duration::from_millis(span.try_into().unwrap())
}

pub(super) fn since_epoch(time: SystemTime) -> i64 {
    // With a margin of zero, a token is served until 1 ns before its expiry, and a wait ends then.
    let time = time + Duration::from_nanos(1);
    let since = time.duration_since(UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}

pub(super) fn at(wall: i64) -> SystemTime {
    UNIX_EPOCH + millis(wall)
}

/// Returns the only permanent error that a test can create without a server.
pub(super) fn permanent() -> Error {
    "no origin".parse::<Origin>().unwrap_err()
}

pub(super) fn number(secret: &str) -> usize {
    secret.strip_prefix("token-").unwrap().parse().unwrap()
}

pub(super) fn outcome(result: Result<Token, Error>) -> Outcome {
    match result {
        Ok(token) => Outcome::Token(number(token.secret())),
        Err(error) => Outcome::Fault(fault(&error)),
    }
}

pub(super) fn request_outcome(result: Result<Response<()>, BoxError>) -> Outcome {
    match result {
        Err(error) => Outcome::Fault(fault(error.downcast_ref().unwrap())),
        Ok(response) => {
            let why = response.extensions().get().map(|why| match why {
                NotReplayed::RefusalBudget => Why::RefusalBudget,
                NotReplayed::Resource => Why::Resource,
                NotReplayed::Fetch(error) => Why::Fetch(fault(error)),
                NotReplayed::SameToken => Why::SameToken,
                NotReplayed::Again => Why::Again,
                other => panic!("{other}"),
            });
            Outcome::Response(response.status().as_u16(), why)
        }
    }
}

pub(super) fn fault(error: &Error) -> Fault {
    if error.is_timeout() {
        return Fault::Timeout;
    } else if error.is_panic() {
        return Fault::Panic;
    } else if error.is_expired() {
        return Fault::Expired;
    } else if error.is_closed() {
        return Fault::Closed;
    } else if error.is_runtime() {
        return Fault::Runtime;
    }
    let source = std::error::Error::source(error);
    Fault::Source(Failure {
        nth: source.map_or(0, |source| source.to_string().parse().unwrap()),
        kind: match (error.is_transient(), error.is_permanent()) {
            (true, false) => Kind::Transient,
            (false, true) => Kind::Permanent,
            (false, false) => Kind::Unknown,
            (true, true) => panic!("it passes, and it doesn't: {error}"),
        },
        retry_after: error
            .retry_after()
            .map(|wait| wait.as_millis().try_into().unwrap()),
    })
}

pub(super) fn observed_status(status: &Status) -> ExpectedStatus {
    ExpectedStatus {
        phase: status.phase(),
        fetching: status.fetching(),
        waiting: status.waiting(),
        requested_at: status.requested_at().map(since_epoch),
        refresh_at: status.refresh_at().map(since_epoch),
        expires_at: status.expires_at().map(since_epoch),
        is_accepted: status.is_accepted(),
        last_error: status.last_error().map(fault),
        failures: status.failures(),
        next_attempt_at: status.next_attempt_at().map(since_epoch),
        refusals_limited_until: status.refusals_limited_until().map(since_epoch),
    }
}
