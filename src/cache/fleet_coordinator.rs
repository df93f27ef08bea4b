//! Shares one token among many processes. This code runs before and after a fetch calls the source.
//!
//! ```text
//!   load ──a usable token──▶ use it
//!    │ none
//!    ▼
//!   lease ──granted──▶ load once more ──▶ call the source ──▶ save, release
//!    │ another process has it
//!    ▼
//!   wait briefly and start again; after 1.5 lease times, call the source without the lease
//! ```
//!
//! This process calls the source without a lease if the store fails or another process holds the
//! lease too long. With a one-time grant, the fetch fails instead.

use std::collections::VecDeque;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::expiry::{ExpiryPolicy, FetchedBy, FetchedToken, Freshness};
use super::telemetry::Telemetry;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::error::{BoxError, Error, Kind};
use crate::fleet::codec::{self, DecodeError, SavedToken};
use crate::fleet::settings::Fleet;
use crate::fleet::store::token_store::Lease;
use crate::source::token_source::{DynTokenSource, Reason};
use crate::token::issued_token::Token;

/// The first pause between two loads while another process fetches. Most tokens are issued within 1
/// s.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// How long a store keeps a token without an expiry.
const DEFAULT_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The maximum number of remembered refused tokens. The store can contain only a recently refused
/// token.
const MOST_REFUSED: usize = 4;

/// Coordinates a cache with the other processes of its fleet.
#[derive(Debug)]
pub(crate) struct Coordinator {
    fleet: Fleet,
    key: String,
    known: Mutex<KnownTokens>,
}

/// The tokens that this process has used.
#[derive(Debug, Default)]
struct KnownTokens {
    latest: Option<Token>,
    /// The tokens that servers refused, oldest first.
    refused: VecDeque<Token>,
    /// The hash of the stored value that this process ignored last. Because of this hash, the
    /// process doesn't report the same value again after each load.
    ignored: Option<u64>,
}

/// What a fetch in this process needs.
#[derive(Clone, Copy)]
pub(crate) struct FetchContext<'a> {
    pub(crate) source: &'a dyn DynTokenSource,
    pub(crate) reason: Reason,
    pub(crate) clock: &'a Clock,
    pub(crate) expiry_policy: &'a ExpiryPolicy,
    /// The maximum time of the whole fetch.
    pub(crate) limit: Duration,
    pub(crate) telemetry: &'a Telemetry,
}

/// The store failed, or another process held the lease too long. Both cases were already logged.
struct StoreUnavailable;

impl Coordinator {
    /// Creates the coordinator of a process that fetches from `source`.
    pub(crate) fn new(fleet: Fleet, source: &dyn DynTokenSource) -> Result<Self, Error> {
        Ok(Self {
            key: fleet.key_of(source)?.to_text(),
            fleet,
            known: Mutex::default(),
        })
    }

    /// Returns a token that another process fetched. If there is no such token, this process
    /// fetches a token and shares the token.
    pub(crate) async fn fetch(&self, context: FetchContext<'_>) -> Result<FetchedToken, Error> {
        if context.reason == Reason::Refused {
            self.lock().record_refusal();
        }
        let fetched = match self.share(&context).await {
            Ok(fetched) => fetched,
            Err(StoreUnavailable) if context.source.has_one_time_grant() => Err(no_lease()),
            Err(StoreUnavailable) => context.fetch().await,
        }?;
        self.lock().latest = Some(fetched.token.clone());
        Ok(fetched)
    }

    async fn share(
        &self,
        context: &FetchContext<'_>,
    ) -> Result<Result<FetchedToken, Error>, StoreUnavailable> {
        let lease_time = self.fleet.lease_time.min(context.limit / 3);
        let longest_wait = lease_time.mul_f32(1.5);
        let since = Instant::now();
        let mut pauses = Backoff::new(
            FIRST_PAUSE,
            LONGEST_PAUSE,
            context.expiry_policy.has_jitter(),
        );
        let found = self.load(context).await?;
        // After a forced refresh, the token that was already in the store isn't usable.
        let unwanted = found
            .as_ref()
            .filter(|_| context.reason == Reason::Forced)
            .map(|saved| saved.token.clone());
        let is_usable = |saved: &SavedToken| self.is_usable(saved, unwanted.as_ref(), context);
        if let Some(saved) = found.filter(is_usable) {
            return Ok(Ok(context.fetched(saved)));
        }
        loop {
            if let Some(lease) = self.lease(lease_time, context).await? {
                // Another process may have saved a token between the last load and the lease.
                return match self.load(context).await?.filter(is_usable) {
                    Some(saved) => {
                        self.release(lease, context).await;
                        Ok(Ok(context.fetched(saved)))
                    }
                    None => Ok(self.fetch_for_all(lease, context).await),
                };
            }
            let pause = pauses.next();
            if since.elapsed() + pause > longest_wait {
                context.telemetry.gave_up_waiting(longest_wait);
                return Err(StoreUnavailable);
            }
            tokio::time::sleep(pause).await;
            if let Some(saved) = self.load(context).await?.filter(is_usable) {
                return Ok(Ok(context.fetched(saved)));
            }
        }
    }

    /// Returns whether this process can use another process's token.
    fn is_usable(
        &self,
        saved: &SavedToken,
        unwanted: Option<&Token>,
        context: &FetchContext<'_>,
    ) -> bool {
        let now = context.clock.now();
        let is = |other: &Token| other.is_same_credential(&saved.token);
        let known = self.lock();
        if unwanted.is_some_and(is) || known.refused.iter().any(is) {
            return false;
        }
        let cached = context
            .expiry_policy
            .cache(context.fetched(saved.clone()), now);
        match context.reason {
            Reason::Stale | Reason::Forced => {
                cached.freshness(now) == Freshness::Fresh && !known.latest.as_ref().is_some_and(is)
            }
            Reason::First | Reason::Expired | Reason::Refused => {
                cached.freshness(now) != Freshness::Expired
            }
        }
    }

    /// Calls the source under the lease, and shares the token.
    async fn fetch_for_all(
        &self,
        lease: Lease,
        context: &FetchContext<'_>,
    ) -> Result<FetchedToken, Error> {
        let fetched = context.fetch().await;
        let is_saved = match &fetched {
            Ok(fetched) => self.save(fetched, &lease, context).await,
            Err(_) => Ok(()),
        };
        if is_saved.is_ok() {
            self.release(lease, context).await;
        }
        fetched
    }

    async fn load(
        &self,
        context: &FetchContext<'_>,
    ) -> Result<Option<SavedToken>, StoreUnavailable> {
        let load = self.fleet.store.load(&self.key);
        let Some(sealed) = self.call("load", load, context).await? else {
            context.telemetry.store("load", "miss");
            return Ok(None);
        };
        let ignored = |why: &'static str, error: Option<&Error>| {
            context.telemetry.store("load", "ignored");
            if self.lock().is_news(&sealed) {
                context.telemetry.value_ignored(why, error);
            }
            Ok(None)
        };
        let opened = match self.fleet.sealing.open(&self.key, &sealed) {
            Ok(opened) => opened,
            Err(error) => return ignored(error.as_str(), None),
        };
        match codec::decode(&opened, context.source) {
            Ok(saved) => {
                context.telemetry.store("load", "hit");
                Ok(Some(saved))
            }
            Err(DecodeError::Malformed) => ignored("corrupt", None),
            Err(DecodeError::Unbound(error)) => ignored("unbound", Some(&error)),
        }
    }

    async fn lease(
        &self,
        time: Duration,
        context: &FetchContext<'_>,
    ) -> Result<Option<Lease>, StoreUnavailable> {
        let lease = self.fleet.store.lease(&self.key, time);
        let lease = self.call("lease", lease, context).await?;
        let outcome = match &lease {
            Some(_) => "granted",
            None => "taken",
        };
        context.telemetry.store("lease", outcome);
        Ok(lease)
    }

    async fn save(
        &self,
        fetched: &FetchedToken,
        lease: &Lease,
        context: &FetchContext<'_>,
    ) -> Result<(), StoreUnavailable> {
        let requested = fetched.requested.wall();
        let encoded = codec::encode(&fetched.token, requested);
        let sealed = encoded.and_then(|encoded| self.fleet.sealing.seal(&self.key, &encoded));
        let Some(sealed) = sealed else {
            context.telemetry.not_shared();
            return Ok(());
        };
        let left = codec::expires_at(&fetched.token, requested).map(|end| {
            let now = context.clock.now().wall();
            end.duration_since(now).unwrap_or_default()
        });
        let store = &self.fleet.store;
        let save = store.save(&self.key, &sealed, left.unwrap_or(DEFAULT_TTL), lease);
        let is_saved = self.call("save", save, context).await?;
        if is_saved {
            context.telemetry.store("save", "saved");
        } else {
            context.telemetry.lease_lost("save");
        }
        Ok(())
    }

    async fn release(&self, lease: Lease, context: &FetchContext<'_>) {
        let release = self.fleet.store.release(&self.key, lease);
        match self.call("release", release, context).await {
            Ok(true) => context.telemetry.store("release", "released"),
            Ok(false) => context.telemetry.lease_lost("release"),
            // After a failed release, the lease expires by itself.
            Err(StoreUnavailable) => {}
        }
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, BoxError>>,
        context: &FetchContext<'_>,
    ) -> Result<T, StoreUnavailable> {
        let limit = self.fleet.store_timeout;
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => context.telemetry.store_failed(operation, &error),
            Err(_) => context.telemetry.store_timed_out(operation, limit),
        }
        Err(StoreUnavailable)
    }

    fn lock(&self) -> MutexGuard<'_, KnownTokens> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cold]
fn no_lease() -> Error {
    let message = "the fleet's store granted no lease, so another process could use the same one-time \
                   grant; see the log for the store's error";
    Error::new(Kind::Transient, message)
}

impl KnownTokens {
    /// Returns whether the value differs from the last ignored value, and remembers the value.
    fn is_news(&mut self, ignored: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        ignored.hash(&mut hasher);
        let hash = Some(hasher.finish());
        std::mem::replace(&mut self.ignored, hash) != hash
    }

    /// Remembers the last token of this process as refused.
    fn record_refusal(&mut self) {
        let Some(token) = self.latest.take() else {
            return;
        };
        if self.refused.len() == MOST_REFUSED {
            self.refused.pop_front();
        }
        self.refused.push_back(token);
    }
}

impl FetchContext<'_> {
    async fn fetch(&self) -> Result<FetchedToken, Error> {
        FetchedToken::fetch_from(self.source, self.reason, self.clock).await
    }

    fn fetched(&self, saved: SavedToken) -> FetchedToken {
        FetchedToken {
            requested: self.clock.now().back_to(saved.requested),
            token: saved.token,
            by: FetchedBy::AnotherProcess,
        }
    }
}
