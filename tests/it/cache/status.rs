//! What `status` shows of a cache, and which changes wake its watchers.

use std::time::SystemTime;

use tower_auth::cache::{ManualClock, Phase, Status};
use tower_auth::{Error, Reason, TokenCache};
use tower_auth_test::{Fetches, controlled_source};

use crate::support::{clock_start, clocked, manual_clock};

mod phases;
mod subscriptions;

fn set_up() -> (TokenCache, Fetches, ManualClock) {
    let (source, fetches) = controlled_source();
    let clock = manual_clock();
    let cache = clocked(source, &clock).build();
    (cache, fetches, clock)
}

/// The whole content of a status. Times are in seconds since the start of the test.
#[derive(Debug, PartialEq)]
struct Said {
    phase: Phase,
    is_ready: bool,
    fetching: Option<Reason>,
    waiting: usize,
    requested_at: Option<u64>,
    refresh_at: Option<u64>,
    expires_at: Option<u64>,
    scope: Option<String>,
    is_accepted: bool,
    last_error: Option<String>,
    failures: u32,
    next_attempt_at: Option<u64>,
    refusals_limited_until: Option<u64>,
}

const EMPTY: Said = Said {
    phase: Phase::Empty,
    is_ready: false,
    fetching: None,
    waiting: 0,
    requested_at: None,
    refresh_at: None,
    expires_at: None,
    scope: None,
    is_accepted: false,
    last_error: None,
    failures: 0,
    next_attempt_at: None,
    refusals_limited_until: None,
};

/// The status of a token that lasts an hour and was fetched at the start.
const FRESH: Said = Said {
    phase: Phase::Fresh,
    is_ready: true,
    requested_at: Some(0),
    refresh_at: Some(3300),
    expires_at: Some(3600),
    ..EMPTY
};

fn said(status: &Status) -> Said {
    let since = |time: SystemTime| time.duration_since(clock_start()).unwrap().as_secs();
    Said {
        phase: status.phase(),
        is_ready: status.is_ready(),
        fetching: status.fetching(),
        waiting: status.waiting(),
        requested_at: status.requested_at().map(since),
        refresh_at: status.refresh_at().map(since),
        expires_at: status.expires_at().map(since),
        scope: status.scope().map(str::to_owned),
        is_accepted: status.is_accepted(),
        last_error: status.last_error().map(Error::to_string),
        failures: status.failures(),
        next_attempt_at: status.next_attempt_at().map(since),
        refusals_limited_until: status.refusals_limited_until().map(since),
    }
}

fn now(cache: &TokenCache) -> Said {
    said(&cache.status())
}
