//! How the token stands, for health checks and people.

use std::sync::Arc;
use std::time::SystemTime;

use crate::error::Error;
use crate::quota::Quota;
use crate::source::token_source::Reason;

/// How the token of a [`TokenCache`](crate::TokenCache) stood at one moment:
/// [`TokenCache::status`](crate::TokenCache::status) and
/// [`TokenCache::subscribe`](crate::TokenCache::subscribe).
///
/// Times are the wall clock's. It holds no secret, and may be logged and shown.
///
/// # Example
///
/// ```
/// use tower_auth::{Phase, Token, TokenCache};
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
    /// Orders what is published: the later a change, the greater.
    pub(crate) version: u64,
    pub(crate) phase: Phase,
    pub(crate) fetching: Option<Reason>,
    pub(crate) waiting: usize,
    pub(crate) token: Option<CachedTokenStatus>,
    pub(crate) cached_error: Option<Error>,
    pub(crate) failures: u32,
    pub(crate) next_attempt_at: Option<SystemTime>,
    pub(crate) latched_until: Option<SystemTime>,
    pub(crate) quotas: Arc<[Quota]>,
    pub(crate) is_closed: bool,
}

/// The token in hand, without its secret.
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
    /// Nothing, and nobody has asked for it: at the start, and after a refusal.
    Empty,
    /// Nothing yet; a fetch is in the air, and all who ask wait for it.
    Fetching,
    /// A token that is good.
    Fresh,
    /// A token that is good and is to be refreshed: a fetch behind it is in the air, or is put off
    /// after one that failed.
    Stale,
    /// A token that isn't sent any more. The next who asks starts a fetch.
    Expired,
    /// An error, which all who ask are told until the next attempt.
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

    /// Whether a request would be sent with no wait: there is a token that is good, and it isn't
    /// [latched](Self::latched_until). What a readiness probe asks.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Fresh | Phase::Stale) && self.latched_until.is_none()
    }

    /// Whether the cache is closed and all is done that closing takes.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Why a token is being fetched, if one is.
    pub fn fetching(&self) -> Option<Reason> {
        self.fetching
    }

    /// How many wait for that fetch.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// When the fetch of the token in hand was started; its age counts from here.
    pub fn requested_at(&self) -> Option<SystemTime> {
        self.token.as_ref().map(|token| token.requested_at)
    }

    /// From when the token in hand is refreshed; `None` if it never expires.
    pub fn refresh_at(&self) -> Option<SystemTime> {
        self.token.as_ref()?.refresh_at
    }

    /// When the token in hand ends, its [margin](crate::TokenCacheBuilder::expiry_margin) not taken
    /// off; `None` if it never does.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.token.as_ref()?.expires_at
    }

    /// The scope granted with the token in hand, if the server said it.
    pub fn scope(&self) -> Option<&str> {
        self.token.as_ref()?.scope.as_deref()
    }

    /// Whether a server has accepted the token in hand.
    pub fn is_accepted(&self) -> bool {
        self.token.as_ref().is_some_and(|token| token.is_accepted)
    }

    /// What the last fetch failed with, if none has succeeded since and the next one is put off for
    /// it.
    pub fn last_error(&self) -> Option<&Error> {
        self.cached_error.as_ref()
    }

    /// How many flights in a row have failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Until when the next fetch is put off after a failure.
    pub fn next_attempt_at(&self) -> Option<SystemTime> {
        self.next_attempt_at
    }

    /// What the token endpoint last said is left of its quotas, 8 buckets at most; none if it said
    /// nothing.
    pub fn quotas(&self) -> &[Quota] {
        &self.quotas
    }

    /// Until when the token in hand is kept though it is refused: so were those before it, as soon
    /// as they were issued.
    pub fn latched_until(&self) -> Option<SystemTime> {
        self.latched_until
    }
}
