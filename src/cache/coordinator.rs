//! One token for many processes: what a flight does before it asks the source, and after.
//!
//! ```text
//!   load ──a token that will do──▶ use it
//!    │ none
//!    ▼
//!   lease ──granted──▶ load once more ──▶ ask the source ──▶ save, release
//!    │ another process has it
//!    ▼
//!   wait a little, and begin anew; after a while ask the source all the same
//! ```
//!
//! Whatever the store does wrong, the process asks the source by itself, as if there was no store.

use std::collections::VecDeque;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::expiry::{ExpiryPolicy, FetchedBy, FetchedToken, Freshness};
use super::telemetry::{StoreOutcome, Telemetry};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::error::{BoxError, Error};
use crate::fleet::codec::{self, DecodeError, SavedToken};
use crate::fleet::sharing::Fleet;
use crate::fleet::store::token_store::Lease;
use crate::source::token_source::{DynTokenSource, Reason};
use crate::token::issued_token::Token;

/// How long one waits who waits for another process, between two looks: most tokens are issued within
/// a second.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LONGEST_LOOK: Duration = Duration::from_millis(320);

/// For how long a token is kept that doesn't say when it ends.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How many refused tokens are remembered: whatever is in a store is one of the last few.
const REFUSED: usize = 4;

/// A cache as one of the processes of a fleet.
#[derive(Debug)]
pub(crate) struct Coordinator {
    fleet: Fleet,
    key: String,
    memory: Mutex<Memory>,
}

/// What this process knows of the tokens that it had.
#[derive(Debug, Default)]
struct Memory {
    latest: Option<Token>,
    /// Those that a server refused, the last one at the end.
    refused: VecDeque<Token>,
    /// Which value was ignored last: looked at again and again, it is told once.
    ignored: Option<u64>,
}

/// What a flight of this process brings along.
#[derive(Clone, Copy)]
pub(crate) struct FetchContext<'a> {
    pub(crate) source: &'a dyn DynTokenSource,
    pub(crate) reason: Reason,
    pub(crate) clock: &'a Clock,
    pub(crate) expiry_policy: &'a ExpiryPolicy,
    /// What the flight may take in all.
    pub(crate) limit: Duration,
    pub(crate) telemetry: &'a Telemetry,
}

/// The store has failed, which was told: the process goes on by itself.
struct StoreUnavailable;

impl Coordinator {
    /// A process of the fleet, with this source.
    pub(crate) fn new(fleet: Fleet, source: &dyn DynTokenSource) -> Result<Self, Error> {
        Ok(Self {
            key: fleet.key_of(source)?.to_text(),
            fleet,
            memory: Mutex::default(),
        })
    }

    /// A token for this process: another's, or one that is asked for and shared.
    pub(crate) async fn fetch(&self, context: FetchContext<'_>) -> Result<FetchedToken, Error> {
        if context.reason == Reason::Refused {
            self.lock().note_refusal();
        }
        let fetched = match self.share(&context).await {
            Ok(fetched) => fetched,
            Err(StoreUnavailable) => context.ask().await,
        }?;
        self.lock().latest = Some(fetched.token.clone());
        Ok(fetched)
    }

    async fn share(
        &self,
        context: &FetchContext<'_>,
    ) -> Result<Result<FetchedToken, Error>, StoreUnavailable> {
        let lease_time = self.fleet.lease_time.min(context.limit / 3);
        let patience = lease_time.mul_f32(1.5);
        let since = Instant::now();
        let mut looks = Backoff::new(FIRST_LOOK, LONGEST_LOOK, context.expiry_policy.has_jitter());
        let seen = self.load(context).await?;
        // Who wants a new one wants none that was there before.
        let unwanted = seen
            .as_ref()
            .filter(|_| context.reason == Reason::Forced)
            .map(|saved| saved.token.clone());
        let will_do = |saved: &SavedToken| self.will_do(saved, unwanted.as_ref(), context);
        if let Some(saved) = seen.filter(will_do) {
            return Ok(Ok(context.take(saved)));
        }
        loop {
            if let Some(lease) = self.lease(lease_time, context).await? {
                // It may have been saved between the look and the lease.
                return match self.load(context).await?.filter(will_do) {
                    Some(saved) => {
                        self.release(lease, context).await;
                        Ok(Ok(context.take(saved)))
                    }
                    None => Ok(self.fetch_for_all(lease, context).await),
                };
            }
            let pause = looks.next();
            if since.elapsed() + pause > patience {
                context.telemetry.gave_up_waiting(patience);
                return Err(StoreUnavailable);
            }
            tokio::time::sleep(pause).await;
            if let Some(saved) = self.load(context).await?.filter(will_do) {
                return Ok(Ok(context.take(saved)));
            }
        }
    }

    /// Whether a token of another process is what this one needs.
    fn will_do(
        &self,
        saved: &SavedToken,
        unwanted: Option<&Token>,
        context: &FetchContext<'_>,
    ) -> bool {
        let now = context.clock.now();
        let is = |other: &Token| other.is_same_credential(&saved.token);
        let memory = self.lock();
        if unwanted.is_some_and(is) || memory.refused.iter().any(is) {
            return false;
        }
        let cached = context
            .expiry_policy
            .cache(context.take(saved.clone()), now);
        match context.reason {
            Reason::Stale | Reason::Forced => {
                cached.freshness(now) == Freshness::Fresh && !memory.latest.as_ref().is_some_and(is)
            }
            Reason::First | Reason::Expired | Reason::Refused => {
                cached.freshness(now) != Freshness::Expired
            }
        }
    }

    /// Asks the source, with the right to do so, and shares what it issues.
    async fn fetch_for_all(
        &self,
        lease: Lease,
        context: &FetchContext<'_>,
    ) -> Result<FetchedToken, Error> {
        let fetched = context.ask().await;
        let is_kept = match &fetched {
            Ok(fetched) => self.save(fetched, &lease, context).await,
            Err(_) => Ok(()),
        };
        if is_kept.is_ok() {
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
            context.telemetry.store("load", StoreOutcome::Miss);
            return Ok(None);
        };
        let ignored = |why: &'static str, error: Option<&Error>| {
            context.telemetry.store("load", StoreOutcome::Ignored);
            if self.lock().is_news(&sealed) {
                context.telemetry.value_ignored(why, error);
            }
            Ok(None)
        };
        let opened = match self.fleet.sealing.open(&self.key, &sealed) {
            Ok(opened) => opened,
            Err(unopened) => return ignored(unopened.as_str(), None),
        };
        match codec::decode(&opened, context.source) {
            Ok(saved) => {
                context.telemetry.store("load", StoreOutcome::Hit);
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
            Some(_) => StoreOutcome::Granted,
            None => StoreOutcome::Taken,
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
        let written = codec::encode(&fetched.token, requested);
        let sealed = written.and_then(|written| self.fleet.sealing.seal(&self.key, &written));
        let Some(sealed) = sealed else {
            context.telemetry.not_shared();
            return Ok(());
        };
        let left = codec::end(&fetched.token, requested).map(|end| {
            let now = context.clock.now().wall();
            end.duration_since(now).unwrap_or_default()
        });
        let store = &self.fleet.store;
        let save = store.save(&self.key, &sealed, left.unwrap_or(KEPT), lease);
        let is_kept = self.call("save", save, context).await?;
        if is_kept {
            context.telemetry.store("save", StoreOutcome::Kept);
        } else {
            context.telemetry.lease_lost("save");
        }
        Ok(())
    }

    async fn release(&self, lease: Lease, context: &FetchContext<'_>) {
        let release = self.fleet.store.release(&self.key, lease);
        match self.call("release", release, context).await {
            Ok(true) => context.telemetry.store("release", StoreOutcome::Released),
            Ok(false) => context.telemetry.lease_lost("release"),
            // It ends by itself.
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
            Err(_) => context.telemetry.store_late(operation, limit),
        }
        Err(StoreUnavailable)
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Whether another value was ignored the last time.
    fn is_news(&mut self, ignored: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        ignored.hash(&mut hasher);
        let hash = Some(hasher.finish());
        std::mem::replace(&mut self.ignored, hash) != hash
    }

    /// What this process had last is what was refused.
    fn note_refusal(&mut self) {
        let Some(token) = self.latest.take() else {
            return;
        };
        if self.refused.len() == REFUSED {
            self.refused.pop_front();
        }
        self.refused.push_back(token);
    }
}

impl FetchContext<'_> {
    async fn ask(&self) -> Result<FetchedToken, Error> {
        FetchedToken::by_asking(self.source, self.reason, self.clock).await
    }

    fn take(&self, saved: SavedToken) -> FetchedToken {
        FetchedToken {
            requested: self.clock.now().back_to(saved.requested),
            token: saved.token,
            by: FetchedBy::AnotherProcess,
        }
    }
}
