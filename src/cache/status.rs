//! A snapshot of a cache and its token, for health checks and people.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::Error;
use crate::quota::Quota;
use crate::sanitize::ServerText;
use crate::source::token_source::Reason;

/// A snapshot of a [`TokenCache`](crate::TokenCache), returned by
/// [`TokenCache::status`](crate::TokenCache::status) and
/// [`TokenCache::subscribe`](crate::TokenCache::subscribe).
///
/// All times are wall-clock times. A status contains no secret, so it may be logged and shown.
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
///
/// A page for operators:
///
/// ```
/// use std::time::SystemTime;
///
/// use serde_json::{Value, json};
/// use tower_auth::Reason;
/// use tower_auth::cache::{Quota, Status};
///
/// fn page(status: &Status) -> Value {
///     let at = |time: Option<SystemTime>| time.map(httpdate::fmt_http_date);
///     let left = |quota: &Quota| (quota.bucket().to_owned(), quota.remaining());
///     json!({
///         "phase": status.phase().as_str(),
///         "requested": at(status.requested_at()),
///         "becomes stale": at(status.refresh_at()),
///         "expires": at(status.expires_at()),
///         "scope": status.scope(),
///         "accepted": status.is_accepted(),
///         "refusals limited until": at(status.refusals_limited_until()),
///         "fetching because": status.fetching().map(Reason::as_str),
///         "waiting callers": status.waiting(),
///         "failures": status.failures(),
///         "last error": status.last_error().map(ToString::to_string),
///         "next attempt": at(status.next_attempt_at()),
///         "quotas": status.quotas().iter().map(left).collect::<Vec<_>>(),
///     })
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Status {
    /// Increases with each change, to show which of two statuses is newer.
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
}

/// Describes the current token without its secret.
#[derive(Clone)]
pub(crate) struct CachedTokenStatus {
    pub(crate) requested_at: SystemTime,
    pub(crate) refresh_at: Option<SystemTime>,
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) scope: Option<Arc<str>>,
    pub(crate) is_accepted: bool,
}

impl fmt::Debug for CachedTokenStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedTokenStatus")
            .field("requested_at", &self.requested_at)
            .field("refresh_at", &self.refresh_at)
            .field("expires_at", &self.expires_at)
            .field("scope", &self.scope.as_deref().map(ServerText::new))
            .field("is_accepted", &self.is_accepted)
            .finish()
    }
}

/// The state of a cache in one word.
///
/// [`docs::how_it_works`](crate::docs::how_it_works) explains the transitions between phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// There is no token and no running fetch. This is the phase at the start, and after the
    /// runtime of the last fetch shut down. A refusal doesn't lead to this phase, because the
    /// refused token stays until its successor arrives.
    Empty,
    /// There is no token yet. A fetch is running, and all callers wait for the fetch.
    Fetching,
    /// The token is valid and needs no refresh.
    Fresh,
    /// The token is valid and due for a refresh. A background refresh is running, starts with the
    /// next request, or is delayed after a failure.
    Stale,
    /// The token is no longer sent. The next request starts a fetch.
    Expired,
    /// The last fetch failed. All callers get the error of that fetch until the next attempt
    /// starts.
    Failed,
    /// The cache gives out no more tokens. [`close`](crate::TokenCache::close) waits for the
    /// running fetch or for the source.
    Closing,
    /// The cache is closed, and none of its tasks is running.
    Closed,
}

impl Phase {
    /// Returns the phase as one lower-case word.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::cache::Phase;
    ///
    /// assert_eq!(Phase::Fresh.as_str(), "fresh");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Fetching => "fetching",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Closing => "closing",
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
    /// Returns the phase of the cache.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns whether the cache has an unexpired token and the budget for fetches after refusals
    /// isn't [used up](Self::refusals_limited_until). This method starts no fetch, so use
    /// [`TokenCache::ready`](crate::TokenCache::ready) in a readiness probe.
    ///
    /// If a server accepts the token for other requests, the refusals are about a resource. In this
    /// case, a used-up budget doesn't count. The cache isn't ready if the server has ended the
    /// token or the user has rejected it.
    pub fn is_ready(&self) -> bool {
        let is_refused = self.refusals_limited_until.is_some() && !self.is_accepted();
        matches!(self.phase, Phase::Fresh | Phase::Stale) && !self.is_withdrawn && !is_refused
    }

    /// Returns whether the cache is closed and its shutdown has finished.
    pub(crate) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Returns why a token is being fetched, if a fetch is running.
    pub fn fetching(&self) -> Option<Reason> {
        self.fetching
    }

    /// Returns how many callers wait for the running fetch.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns when the fetch of the current token started. The token's age counts from this time.
    pub fn requested_at(&self) -> Option<SystemTime> {
        self.token.as_ref().map(|token| token.requested_at)
    }

    /// Returns when the current token becomes stale; `None` if it never expires.
    pub fn refresh_at(&self) -> Option<SystemTime> {
        self.token.as_ref()?.refresh_at
    }

    /// Returns when the current token expires, without subtracting the [expiry
    /// margin](crate::cache::TokenCacheBuilder::expiry_margin); `None` if it never expires.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.token.as_ref()?.expires_at
    }

    /// Returns the scope of the current token, if the server stated the scope.
    pub fn scope(&self) -> Option<&str> {
        self.token.as_ref()?.scope.as_deref()
    }

    /// Returns whether a server has accepted the current token.
    pub fn is_accepted(&self) -> bool {
        self.token.as_ref().is_some_and(|token| token.is_accepted)
    }

    /// Returns the error of the last fetch, until the next attempt is allowed.
    pub fn last_error(&self) -> Option<&Error> {
        self.cached_error.as_ref()
    }

    /// Returns how many fetches in a row have failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns when the next fetch may start after a failure.
    pub fn next_attempt_at(&self) -> Option<SystemTime> {
        self.next_attempt_at
    }

    /// Returns the remaining quotas that the token endpoint last reported: at most 8 buckets, or
    /// none.
    pub fn quotas(&self) -> &[Quota] {
        &self.quotas
    }

    /// Returns when refusals may cause a fetch again. Refusals that prove a revocation may cause a
    /// fetch earlier.
    ///
    /// Until then, all requests use the current token, because servers would probably refuse
    /// another new token too. `None` if a fetch is allowed or no server has refused the current
    /// token.
    pub fn refusals_limited_until(&self) -> Option<SystemTime> {
        self.refusals_limited_until
    }
}
