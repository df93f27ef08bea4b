//! Decides what refusals and acceptances show: the token was revoked, or a resource refuses a valid
//! token.
//!
//! A resource is an origin and a path. Only a keyed hash of the resource is remembered, because
//! paths may contain secrets and an attacker may choose paths. Requests are ordered by the time of
//! sending, because responses can arrive in another order.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use lru::LruCache;

use crate::clock::Moment;
use crate::origin::OriginDigest;

/// The maximum number of remembered resources. Above this number, the least recently used resource
/// is dropped.
const CAPACITY: usize = 256;
/// If this number of resources refuse an accepted token, the token is revoked. An acceptance
/// between the refusals resets the count.
const SEVERAL: usize = 3;
/// This number of refusals in a row proves a revocation, even if the resource accepts and refuses a
/// token by turns. If two of three servers refuse every token, the chance of so many refusals in a
/// row is 1 in 650.
const LONG_ROW: u32 = 16;

/// A keyed hash of an origin and a path, without the method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Resource(u64);

impl Resource {
    /// The resource of all requests whose path the cache doesn't know.
    pub(crate) const UNKNOWN: Self = Self(0);

    pub(crate) fn new(origin: OriginDigest, path: &str) -> Self {
        /// The key is random in each process, so an attacker can't choose a path with the same hash
        /// as another path.
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(KEY.hash_one((origin, path)).max(1))
    }
}

/// The resource of a request, and the time at which the request was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentRequest {
    pub(crate) resource: Resource,
    pub(crate) at: Moment,
}

/// The evidence collected since refusals began.
pub(crate) struct Evidence {
    resources: LruCache<Resource, ResourceRecord>,
    /// The requests that were refused since the last acceptance of the current token: one request
    /// per resource, at most [`SEVERAL`].
    refusing: Vec<SentRequest>,
    /// The generation of the last accepted token.
    accepted: Option<u64>,
}

/// The last acceptance and refusal by one resource.
#[derive(Default)]
struct ResourceRecord {
    accepted: Option<TokenUse>,
    refused: Option<TokenUse>,
    /// How many times in a row the resource refused a token.
    refusals_in_row: u32,
    /// Whether the resource accepted a token after refusing it.
    goes_by_turns: bool,
    /// Whether the resource refused a token that was old enough to be valid.
    refuses_aged_tokens: bool,
}

/// The token of a request, and the time at which the request was sent.
struct TokenUse {
    generation: u64,
    at: Moment,
}

/// The facts about the current token that matter for a refusal.
#[derive(Clone, Copy)]
pub(crate) struct RefusedToken {
    pub(crate) generation: u64,
    /// Whether any resource has accepted the token.
    pub(crate) is_accepted: bool,
    /// Whether the token is old enough to be valid for a server whose clock lags.
    pub(crate) is_aged: bool,
    /// Whether the request was a replay. Replays that waited for the same fetch are refused at the
    /// same time. No acceptance can arrive between such refusals.
    pub(crate) is_replay: bool,
}

/// What a refusal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Whether the token was revoked.
    pub(crate) is_revoked: bool,
    /// Whether servers accept the token for requests to other resources.
    pub(crate) is_accepted_otherwise: bool,
    /// Whether the resource refuses even tokens that are old enough to be valid.
    pub(crate) refuses_aged_tokens: bool,
}

impl Evidence {
    pub(crate) fn new() -> Self {
        Self {
            // An unbounded map allocates memory only when resources are added. `record` enforces
            // the capacity.
            resources: LruCache::unbounded(),
            refusing: Vec::new(),
            accepted: None,
        }
    }

    /// Records that a new token became current.
    pub(crate) fn token_arrived(&mut self) {
        self.refusing.clear();
    }

    /// Records that a resource accepted the current token.
    pub(crate) fn accepted(&mut self, generation: u64, sent: SentRequest) {
        self.accepted = Some(generation);
        // Keeps refusals of requests that were sent later than the accepted request. They may be
        // the first refusals after a revocation.
        self.refusing
            .retain(|refused| refused.at.ticks() > sent.at.ticks());
        let record = self.record(sent.resource);
        let was_refused_before = |refused: &TokenUse| {
            refused.generation == generation && sent.at.ticks() > refused.at.ticks()
        };
        record.goes_by_turns |= record.refused.as_ref().is_some_and(was_refused_before);
        record.refusals_in_row = 0;
        record.refuses_aged_tokens = false;
        let at = sent.at;
        record.accepted = Some(TokenUse { generation, at });
    }

    /// Records a refusal of the current token by a resource, and returns what the refusal shows.
    pub(crate) fn refused(&mut self, token: RefusedToken, sent: SentRequest) -> Shown {
        let is_counted = |refused: &SentRequest| refused.resource == sent.resource;
        if !token.is_replay
            && self.refusing.len() < SEVERAL
            && !self.refusing.iter().any(is_counted)
        {
            self.refusing.push(sent);
        }
        let is_refused_by_several = token.is_accepted && self.refusing.len() == SEVERAL;
        let record = self.record(sent.resource);
        record.refusals_in_row = record.refusals_in_row.saturating_add(1);
        record.refuses_aged_tokens |= token.is_aged;
        let generation = token.generation;
        let was_accepted_before = |accepted: &TokenUse| {
            accepted.generation == generation && sent.at.ticks() >= accepted.at.ticks()
        };
        let accepted_before = record.accepted.as_ref().is_some_and(was_accepted_before);
        let is_by_turns = record.goes_by_turns && record.refusals_in_row < LONG_ROW;
        let at = sent.at;
        record.refused = Some(TokenUse { generation, at });
        let is_revoked = is_refused_by_several || (accepted_before && !is_by_turns);
        Shown {
            is_revoked,
            refuses_aged_tokens: record.refuses_aged_tokens,
            is_accepted_otherwise: !is_revoked && self.accepted == Some(generation),
        }
    }

    fn record(&mut self, resource: Resource) -> &mut ResourceRecord {
        if self.resources.len() == CAPACITY && !self.resources.contains(&resource) {
            self.resources.pop_lru();
        }
        self.resources
            .get_or_insert_mut(resource, ResourceRecord::default)
    }
}
