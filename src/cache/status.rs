//! The status of a cache and its token, for health checks and people.

use std::sync::Arc;
use std::time::SystemTime;

use crate::error::Error;
use crate::quota::Quota;
use crate::source::token_source::Reason;

/// The status of a [`TokenCache`](crate::TokenCache) at one moment:
/// [`TokenCache::status`](crate::TokenCache::status) and
/// [`TokenCache::subscribe`](crate::TokenCache::subscribe).
///
/// Times are the wall clock's. It holds no secret, and may be logged and shown.
///
/// # Example
///
/// ```
/// use tower_auth::cache::Phase;
/// use tower_auth::{Token, TokenCache};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
/// let cache = TokenCache::new(|_| async { Token::bearer("secret") });
/// assert_eq!(cache.status().phase(), Phase::Empty);
/// cache.token().await?;
/// assert!(cache.status().is_ready());
/// assert_eq!(cache.status().expires_at(), None);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Status {
    /// Orders statuses: the later a change, the greater.
    pub(crate) version: u64,
    pub(crate) phase: Phase,
    pub(crate) fetching: Option<Reason>,
    pub(crate) waiting: usize,
    pub(crate) token: Option<CachedTokenStatus>,
    pub(crate) cached_error: Option<Error>,
    pub(crate) failures: u32,
    pub(crate) next_attempt_at: Option<SystemTime>,
    pub(crate) refusals_limited_until: Option<SystemTime>,
    /// Whether callers wait for the successor of the current token.
    pub(crate) is_withdrawn: bool,
    pub(crate) quotas: Arc<[Quota]>,
    pub(crate) is_closed: bool,
}

/// The current token, without its secret.
#[derive(Clone, Debug)]
pub(crate) struct CachedTokenStatus {
    pub(crate) requested_at: SystemTime,
    pub(crate) refresh_at: Option<SystemTime>,
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) scope: Option<Arc<str>>,
    pub(crate) is_accepted: bool,
}

/// What a cache has, in one word.
///
/// What leads from one to another is in [`docs::how_it_works`](crate::docs::how_it_works).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// No token, and no fetch: at the start, or because the runtime of the first fetch has ended. A refusal
    /// doesn't lead here: the refused token stays until its successor arrives.
    Empty,
    /// No token yet; a fetch is running, and all callers wait for it.
    Fetching,
    /// A token that is good.
    Fresh,
    /// A token that is good and is to be refreshed: a background refresh is running, or is delayed
    /// after one that failed.
    Stale,
    /// A token that isn't sent any more. The next request starts a fetch.
    Expired,
    /// An error, which all callers get until the next attempt.
    Failed,
    /// The cache is closed, or closing.
    Closed,
}

impl Phase {
    /// The phase as one word in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Fetching => "fetching",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Status {
    /// What there is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether there is a token that has not expired, and refusals aren't
    /// [limited](Self::refusals_limited_until). For readiness probes.
    ///
    /// If a server accepts the token for other requests, limited refusals don't count: they are about a
    /// resource. A token that the server has ended or the user has rejected doesn't count as good.
    pub fn is_ready(&self) -> bool {
        // A token that is accepted elsewhere is good: the refusals are about a resource.
        let is_refused = self.refusals_limited_until.is_some() && !self.is_accepted();
        matches!(self.phase, Phase::Fresh | Phase::Stale) && !self.is_withdrawn && !is_refused
    }

    /// Whether the cache is closed and its shutdown finished.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Why a token is being fetched, if one is.
    pub fn fetching(&self) -> Option<Reason> {
        self.fetching
    }

    /// How many callers wait for that fetch.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// When the fetch of the current token started; its age counts from here.
    pub fn requested_at(&self) -> Option<SystemTime> {
        self.token.as_ref().map(|token| token.requested_at)
    }

    /// From when the current token is refreshed; `None` if it never expires.
    pub fn refresh_at(&self) -> Option<SystemTime> {
        self.token.as_ref()?.refresh_at
    }

    /// When the current token expires, its [margin](crate::cache::TokenCacheBuilder::expiry_margin) not
    /// subtracted; `None` if it never does.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.token.as_ref()?.expires_at
    }

    /// The scope granted with the current token, if the server said it.
    pub fn scope(&self) -> Option<&str> {
        self.token.as_ref()?.scope.as_deref()
    }

    /// Whether a server has accepted the current token.
    pub fn is_accepted(&self) -> bool {
        self.token.as_ref().is_some_and(|token| token.is_accepted)
    }

    /// The error of the last fetch, if none has succeeded since and the next one is delayed because of
    /// it.
    pub fn last_error(&self) -> Option<&Error> {
        self.cached_error.as_ref()
    }

    /// How many fetches in a row have failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Until when the next fetch is delayed after a failure.
    pub fn next_attempt_at(&self) -> Option<SystemTime> {
        self.next_attempt_at
    }

    /// What the token endpoint last said is left of its quotas, 8 buckets at most; none if it said
    /// nothing.
    pub fn quotas(&self) -> &[Quota] {
        &self.quotas
    }

    /// Until when refusals cause no fetch, unless they prove a revocation. `None` if a fetch is allowed, or
    /// if no server has refused the current token.
    ///
    /// There was a fetch after a refusal just before, so another would most likely not help. The current
    /// token stays in use, for all requests.
    pub fn refusals_limited_until(&self) -> Option<SystemTime> {
        self.refusals_limited_until
    }
}
