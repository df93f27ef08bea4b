//! What refusals and acceptances show: whether the token was revoked, or a resource refuses it.
//!
//! A resource is an origin and a path. It is remembered by a keyed hash, since paths may hold secrets and
//! strangers may choose them. Requests are ordered by when they were sent: a response that was sent
//! before a revocation may arrive after it.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use lru::LruCache;

use crate::clock::Moment;
use crate::origin::OriginDigest;

/// The most resources that are remembered. The least recently used is dropped.
const CAPACITY: usize = 256;
/// So many resources that refuse an accepted token, with no acceptance in between, prove a revocation.
const SEVERAL: usize = 3;
/// So many refusals in a row prove a revocation even by a resource that accepts and refuses one token by
/// turns. With two of three servers refusing every token, such a row is one in 650.
const LONG_ROW: u32 = 16;

/// A keyed hash of an origin and a path, without the method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Resource(u64);

impl Resource {
    /// All requests count as one resource if nothing was kept of their path.
    pub(crate) const UNKNOWN: Self = Self(0);

    pub(crate) fn new(origin: OriginDigest, path: &str) -> Self {
        /// Random in each process, so that nobody can choose a path with the hash of another.
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(KEY.hash_one((origin, path)).max(1))
    }
}

/// What a request was sent to, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentRequest {
    pub(crate) resource: Resource,
    pub(crate) at: Moment,
}

/// The evidence since refusals began.
pub(crate) struct Evidence {
    resources: LruCache<Resource, ResourceRecord>,
    /// The resources that have refused the current token since its last acceptance; at most [`SEVERAL`].
    refusing: Vec<SentRequest>,
    /// The last token that was accepted.
    accepted: Option<u64>,
}

/// What one resource did last.
#[derive(Default)]
struct ResourceRecord {
    accepted: Option<TokenUse>,
    refused: Option<TokenUse>,
    /// How many refusals there were in a row.
    row: u32,
    /// Whether it refused a token and accepted it afterwards.
    goes_by_turns: bool,
    /// Whether it refused a token that was old enough to be valid.
    refuses_aged_tokens: bool,
}

/// Which token a request had, and when it was sent.
struct TokenUse {
    generation: u64,
    at: Moment,
}

/// The current token, as far as a refusal of it is concerned.
#[derive(Clone, Copy)]
pub(crate) struct RefusedToken {
    pub(crate) generation: u64,
    /// Whether any resource has accepted it.
    pub(crate) is_accepted: bool,
    /// Whether it is old enough to be valid for a server whose clock lags.
    pub(crate) is_aged: bool,
    /// Whether the request was sent again. Such refusals come together, and so without an acceptance in
    /// between, when the requests have waited for the same fetch.
    pub(crate) is_sent_again: bool,
}

/// What a refusal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The token was revoked.
    pub(crate) is_revoked: bool,
    /// Other requests are accepted with the token.
    pub(crate) is_accepted_otherwise: bool,
    /// The resource refuses tokens of any age.
    pub(crate) refuses_aged_tokens: bool,
}

impl Evidence {
    pub(crate) fn new() -> Self {
        Self {
            // Grows with the resources that there are.
            resources: LruCache::unbounded(),
            refusing: Vec::new(),
            accepted: None,
        }
    }

    /// There is another current token.
    pub(crate) fn token_arrived(&mut self) {
        self.refusing.clear();
    }

    /// A resource accepted the current token.
    pub(crate) fn accepted(&mut self, generation: u64, sent: SentRequest) {
        self.accepted = Some(generation);
        // Refusals of requests that were sent later may be the first after a revocation.
        self.refusing
            .retain(|refused| refused.at.ticks() > sent.at.ticks());
        let record = self.record(sent.resource);
        let was_refused_before = |refused: &TokenUse| {
            refused.generation == generation && sent.at.ticks() > refused.at.ticks()
        };
        record.goes_by_turns |= record.refused.as_ref().is_some_and(was_refused_before);
        record.row = 0;
        record.refuses_aged_tokens = false;
        let at = sent.at;
        record.accepted = Some(TokenUse { generation, at });
    }

    /// A resource refused the current token.
    pub(crate) fn refused(&mut self, token: RefusedToken, sent: SentRequest) -> Shown {
        let is_counted = |refused: &SentRequest| refused.resource == sent.resource;
        if !token.is_sent_again
            && self.refusing.len() < SEVERAL
            && !self.refusing.iter().any(is_counted)
        {
            self.refusing.push(sent);
        }
        let is_refused_by_several = token.is_accepted && self.refusing.len() == SEVERAL;
        let record = self.record(sent.resource);
        record.row = record.row.saturating_add(1);
        record.refuses_aged_tokens |= token.is_aged;
        let generation = token.generation;
        let was_accepted_before = |accepted: &TokenUse| {
            accepted.generation == generation && sent.at.ticks() >= accepted.at.ticks()
        };
        let accepted_before = record.accepted.as_ref().is_some_and(was_accepted_before);
        let is_by_turns = record.goes_by_turns && record.row < LONG_ROW;
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
