//! Shares one token among many processes. This code runs before and after a fetch calls the source.
//!
//! ```text
//!   load ──a usable token──▶ use it
//!    │ none
//!    ▼
//!   lease ──granted──▶ load once more ──▶ call the source ──▶ save, release
//!    │ another process has it                  (renew the lease meanwhile)
//!    ▼
//!   wait briefly, load, and start again
//!    │ that process failed for a transient reason ──▶ fail with its error
//!    │ too long, or its token is about to expire  ──▶ call the source without the lease
//! ```
//!
//! This process calls the source without a lease if the store fails, if another process holds the
//! lease too long, or if two other processes failed. With a one-time grant, this process never calls
//! the source without a lease.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::expiry::{ExpiryPolicy, FetchedBy, FetchedToken, Freshness};
use super::observed_store::ObservedStore;
use super::telemetry::Telemetry;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::error::{BoxError, Error, Kind};
use crate::fleet::codec::{self, DecodeError, NotShareable, SharedRecord, SharedToken};
use crate::fleet::failure::SharedFailure;
use crate::fleet::held_lease::HeldLease;
use crate::fleet::settings::Fleet;
use crate::fleet::store::token_store::{DynTokenStore, LONGEST_LEASE};
use crate::sanitize::ServerText;
use crate::source::store_key::StoreKey;
use crate::source::token_source::{DynTokenSource, Reason};
use crate::token::issued_token::Token;
use crate::token::known_tokens::KnownTokens;

/// The shortest lease. A call to the store takes a few milliseconds.
const SHORTEST_LEASE: Duration = Duration::from_millis(500);

/// The time that a waiting process keeps for its own fetch before its token expires.
const LAST_FETCH: Duration = Duration::from_secs(1);

/// How many other processes may fail before this process fetches for itself. One failure may
/// concern only one process, for example a process with an old secret.
const MOST_FAILURES: u32 = 2;

/// Coordinates a cache with the other processes of its fleet.
pub(crate) struct Coordinator {
    fleet: Fleet,
    key: Arc<str>,
    /// The fleet's store, which logs each failed call.
    store: Arc<dyn DynTokenStore>,
    telemetry: Arc<Telemetry>,
    known: Mutex<KnownTokens>,
    /// The hash of the stored value that this process ignored last. Because of this hash, the
    /// process doesn't report the same value again after each load.
    ignored: AtomicU64,
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
    /// How long callers can still use the current token. `None` if there is no usable token.
    pub(crate) token_left: Option<Duration>,
}

/// Why this process can't fetch for the fleet. Each case was already logged.
enum NotCoordinated {
    /// A call to the store failed.
    StoreFailed,
    /// Another process held the lease too long.
    WaitedTooLong,
    /// The fetches of other processes failed with errors that may concern only these processes.
    FailedElsewhere,
}

/// What this fetch has already seen in the store.
struct KnownRecord {
    /// The id of the last failure.
    failure: Option<u64>,
    /// The token that this fetch must not return.
    unwanted: Option<Token>,
}

/// What another process has achieved since a fetch started.
enum Progress {
    /// The fetch ends with the token or the transient error of another process.
    Ended(Result<FetchedToken, Error>),
    /// Another process failed, but this process may succeed.
    FailedElsewhere,
    Nothing,
}

impl Coordinator {
    /// Creates the coordinator of a cache. `key` names the token in the store.
    pub(crate) fn new(fleet: Fleet, key: &StoreKey, telemetry: Arc<Telemetry>) -> Self {
        let store = ObservedStore::new(&fleet, Arc::clone(&telemetry));
        Self {
            fleet,
            key: key.to_text().into(),
            store: Arc::new(store),
            telemetry,
            known: Mutex::default(),
            ignored: AtomicU64::new(0),
        }
    }

    /// Returns a token that another process fetched. If there is no such token, this process
    /// fetches a token and shares the token.
    pub(crate) async fn fetch(&self, context: FetchContext<'_>) -> Result<FetchedToken, Error> {
        if context.reason == Reason::Refused {
            self.lock().record_refusal();
        }
        let fetched = match self.share(&context).await {
            Ok(fetched) => fetched,
            Err(_) if context.source.has_one_time_grant() => Err(no_lease()),
            Err(_) => context.fetch().await,
        }?;
        self.lock().record_latest(&fetched.token);
        Ok(fetched)
    }

    async fn share(
        &self,
        context: &FetchContext<'_>,
    ) -> Result<Result<FetchedToken, Error>, NotCoordinated> {
        let longest_wait = self.longest_wait(context);
        let since = Instant::now();
        let mut pauses = Backoff::between_looks(context.expiry_policy.has_jitter());
        let first = self.load(context).await?;
        let mut failed_elsewhere = 0;
        let mut known = KnownRecord {
            failure: first.failure.as_ref().map(|failure| failure.id),
            // After a forced refresh, the token that was already in the store isn't usable.
            unwanted: match context.reason {
                Reason::Forced => first.token.as_ref().map(|shared| shared.token.clone()),
                _ => None,
            },
        };
        if let Some(shared) = first.token
            && self.is_usable(&shared, &known, context)
        {
            return Ok(Ok(shared.into()));
        }
        // A forced refresh ignores this process's own backoff. So the refresh also ignores a pause
        // that a server asked another process for. Operators force a refresh after they have fixed
        // the cause.
        if context.reason != Reason::Forced
            && let Some(error) = first.failure.as_ref().and_then(SharedFailure::must_wait)
        {
            return Ok(Err(error));
        }
        loop {
            if let Some(held) = self.lease(context).await? {
                // Another process may have saved a token between the last load and the lease.
                let found = self.load(context).await?;
                if let Progress::Ended(result) = self.progress(&found, &known, context) {
                    self.release(held).await;
                    return Ok(result);
                }
                if self.confirm(&held, context).await? {
                    return Ok(self.fetch_for_all(held, found.token, context).await);
                }
            }
            let pause = pauses.next();
            if since.elapsed() + pause > longest_wait {
                self.telemetry.gave_up_waiting(longest_wait);
                return Err(NotCoordinated::WaitedTooLong);
            }
            tokio::time::sleep(pause).await;
            let found = self.load(context).await?;
            match self.progress(&found, &known, context) {
                Progress::Ended(result) => return Ok(result),
                Progress::FailedElsewhere => {
                    known.failure = found.failure.map(|failure| failure.id);
                    failed_elsewhere += 1;
                    if failed_elsewhere == MOST_FAILURES && !context.source.has_one_time_grant() {
                        return Err(NotCoordinated::FailedElsewhere);
                    }
                }
                Progress::Nothing => {}
            }
        }
    }

    /// Returns what another process has achieved since this fetch started.
    fn progress(
        &self,
        found: &SharedRecord,
        known: &KnownRecord,
        context: &FetchContext<'_>,
    ) -> Progress {
        if let Some(shared) = &found.token
            && self.is_usable(shared, known, context)
        {
            return Progress::Ended(Ok(shared.clone().into()));
        }
        let new = found.failure.as_ref();
        match new.filter(|failure| known.failure != Some(failure.id)) {
            Some(failure) => match &failure.error {
                Some(error) => Progress::Ended(Err(error.clone())),
                None => Progress::FailedElsewhere,
            },
            None => Progress::Nothing,
        }
    }

    /// Returns whether this process can use another process's token.
    fn is_usable(
        &self,
        shared: &SharedToken,
        known: &KnownRecord,
        context: &FetchContext<'_>,
    ) -> bool {
        let now = context.clock.now();
        let is_unwanted = known
            .unwanted
            .as_ref()
            .is_some_and(|unwanted| unwanted.is_same_credential(&shared.token));
        let tokens = self.lock();
        if is_unwanted || tokens.is_refused(&shared.token) {
            return false;
        }
        let cached = context.expiry_policy.cache(shared.clone().into(), now);
        let is_latest = tokens.is_latest(&shared.token);
        match context.reason {
            Reason::Stale | Reason::Forced => {
                cached.freshness(now) == Freshness::Fresh && !is_latest
            }
            // A token that the store still has may have expired by the clock of this process. Then
            // this process fetches another token.
            Reason::Expired => cached.freshness(now) != Freshness::Expired && !is_latest,
            Reason::First | Reason::Refused => cached.freshness(now) != Freshness::Expired,
        }
    }

    /// Returns the maximum time of one process's fetch before another process may fetch.
    fn lease_time(&self, context: &FetchContext<'_>) -> Duration {
        self.fleet
            .lease_time
            .min(context.limit / 3)
            .min(LONGEST_LEASE)
    }

    /// Returns how long a lease lasts without a renewal.
    fn short_ttl(&self) -> Duration {
        HeldLease::ttl(Duration::ZERO, self.fleet.store_timeout)
    }

    /// Returns how long the lease lasts without a renewal, except while this process may send a
    /// one-time grant. If this process dies, another process can then fetch before the current
    /// token expires.
    fn lease_ttl(&self, context: &FetchContext<'_>) -> Duration {
        let ttl = self.lease_time(context).min(self.short_ttl());
        match context.token_left {
            Some(left) => ttl.min((left / 2).max(SHORTEST_LEASE)),
            None => ttl,
        }
    }

    /// Returns how long the lease lasts without a renewal while this process may send a one-time
    /// grant. If this process stalls during its fetch, no other process may send the grant again.
    fn one_time_ttl(&self, context: &FetchContext<'_>) -> Duration {
        HeldLease::ttl(self.lease_time(context), self.fleet.store_timeout)
    }

    /// Returns how long this process waits for the lease of another process. The wait ends shortly
    /// before the current token expires, except with a one-time grant.
    fn longest_wait(&self, context: &FetchContext<'_>) -> Duration {
        let wait = self.lease_time(context).mul_f32(1.5);
        match context.token_left {
            Some(left) if !context.source.has_one_time_grant() => {
                wait.min(left.saturating_sub((left / 4).min(LAST_FETCH)))
            }
            _ => wait,
        }
    }

    /// Calls the source under the lease, and shares the token or the failure. `old` is the token in
    /// the store.
    async fn fetch_for_all(
        &self,
        held: HeldLease,
        old: Option<SharedToken>,
        context: &FetchContext<'_>,
    ) -> Result<FetchedToken, Error> {
        let fetched = AssertUnwindSafe(context.fetch()).catch_unwind().await;
        let record = match &fetched {
            Ok(Ok(fetched)) => SharedRecord {
                token: Some(SharedToken {
                    token: fetched.token.clone(),
                    requested: fetched.requested,
                }),
                failure: None,
            },
            Ok(Err(error)) => SharedRecord {
                token: old,
                failure: Some(SharedFailure::new(Some(error))),
            },
            Err(_panic) => SharedRecord {
                token: old,
                failure: Some(SharedFailure::new(None)),
            },
        };
        if self.save(&record, &held, context).await.is_ok() {
            self.release(held).await;
        }
        fetched.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Deletes the shared token, so that no process loads it again. A running fetch of another
    /// process may delay the deletion.
    pub(crate) async fn forget(&self) -> Result<(), Error> {
        let longest_wait = self.fleet.lease_time.min(LONGEST_LEASE).mul_f32(1.5);
        let since = Instant::now();
        let mut pauses = Backoff::between_looks(true);
        let store_failed = |_| not_forgotten("the store failed; see the log");
        let held = loop {
            let lease = HeldLease::take(&self.store, &self.key, self.short_ttl(), None);
            if let Some(held) = lease.await.map_err(store_failed)? {
                break held;
            }
            let pause = pauses.next();
            if since.elapsed() + pause > longest_wait {
                return Err(not_forgotten("another process has the lease; try again"));
            }
            tokio::time::sleep(pause).await;
        };
        let deleted = held.delete().await;
        // If the release fails, the lease ends by itself.
        drop(held.release().await);
        deleted.map(drop).map_err(store_failed)
    }

    async fn load(&self, context: &FetchContext<'_>) -> Result<SharedRecord, NotCoordinated> {
        // Reads the clock before the call, so that the token never counts as newer than it is.
        let now = context.clock.now();
        let Some(value) = self.store.load(&self.key).await? else {
            self.telemetry.store("load", "miss");
            return Ok(SharedRecord::default());
        };
        let ignored = |value: &[u8], why: &'static str, detail: Option<ServerText>| {
            self.telemetry.store("load", "ignored");
            if self.is_news(value) {
                self.telemetry.value_ignored(&self.key, why, detail);
            }
            Ok(SharedRecord::default())
        };
        let (sealed, remaining) = match value.sealed() {
            Ok(sealed) => sealed,
            Err(what) => return ignored(what.as_bytes(), "foreign", Some(ServerText::new(what))),
        };
        let opened = match self.fleet.sealing.open(&self.key, sealed) {
            Ok(opened) => opened,
            Err(error) => return ignored(sealed, error.as_str(), None),
        };
        match codec::decode(&opened, remaining, now, context.source) {
            Ok(record) => {
                self.telemetry.store("load", "hit");
                Ok(record)
            }
            Err(DecodeError::Malformed) => ignored(sealed, "corrupt", None),
            Err(DecodeError::Unbound(error)) => {
                ignored(sealed, "unbound", Some(ServerText::new(&error.to_string())))
            }
        }
    }

    async fn lease(&self, context: &FetchContext<'_>) -> Result<Option<HeldLease>, NotCoordinated> {
        let latest_end = match context.source.has_one_time_grant() {
            true => None,
            false => Some(Instant::now() + self.lease_time(context)),
        };
        let ttl = self.lease_ttl(context);
        Ok(HeldLease::take(&self.store, &self.key, ttl, latest_end).await?)
    }

    /// Returns whether this process still has the lease. Asks the store only if a second fetch does
    /// harm, or if the lease may have ended.
    async fn confirm(
        &self,
        held: &HeldLease,
        context: &FetchContext<'_>,
    ) -> Result<bool, NotCoordinated> {
        let ttl = match context.source.has_one_time_grant() {
            true => self.one_time_ttl(context),
            false if held.may_have_ended() => self.lease_ttl(context),
            false => return Ok(true),
        };
        let is_held = held.extend(ttl).await?;
        if !is_held {
            self.telemetry.lease_lost("renew", held.is_in_time());
        }
        Ok(is_held)
    }

    async fn save(
        &self,
        record: &SharedRecord,
        held: &HeldLease,
        context: &FetchContext<'_>,
    ) -> Result<(), NotCoordinated> {
        let encoded = match codec::encode(record, context.clock.now()) {
            Ok(Some(encoded)) => encoded,
            Ok(None) => return Ok(()),
            Err(NotShareable) => {
                self.telemetry.not_shared();
                return Ok(());
            }
        };
        let Some(sealed) = self.fleet.sealing.seal(&self.key, &encoded.bytes) else {
            self.telemetry.not_shared();
            return Ok(());
        };
        if !held.save(&sealed, encoded.ttl).await? {
            self.telemetry.lease_lost("save", held.is_in_time());
        }
        Ok(())
    }

    async fn release(&self, held: HeldLease) {
        let is_in_time = held.is_in_time();
        // After a failed release, the lease expires by itself.
        if let Ok(false) = held.release().await {
            self.telemetry.lease_lost("release", is_in_time);
        }
    }

    /// Returns whether the value differs from the last ignored value, and remembers the value.
    fn is_news(&self, ignored: &[u8]) -> bool {
        let mut hasher = DefaultHasher::new();
        ignored.hash(&mut hasher);
        let hash = hasher.finish();
        self.ignored.swap(hash, Ordering::Relaxed) != hash
    }

    fn lock(&self) -> MutexGuard<'_, KnownTokens> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cold]
fn not_forgotten(why: &str) -> Error {
    let message = format!("could not delete the shared token: {why}");
    Error::new(Kind::Transient, message)
}

#[cold]
fn no_lease() -> Error {
    let message = "the fleet's store granted no lease, so another process could use the same one-time \
                   grant; see the log for the store's error";
    Error::new(Kind::Transient, message)
}

impl FetchContext<'_> {
    async fn fetch(&self) -> Result<FetchedToken, Error> {
        FetchedToken::fetch_from(self.source, self.reason, self.clock).await
    }
}

/// The store has already logged the failure.
impl From<BoxError> for NotCoordinated {
    fn from(_: BoxError) -> Self {
        Self::StoreFailed
    }
}

impl From<SharedToken> for FetchedToken {
    fn from(shared: SharedToken) -> Self {
        Self {
            requested: shared.requested,
            token: shared.token,
            by: FetchedBy::AnotherProcess,
        }
    }
}
