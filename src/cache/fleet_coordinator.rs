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

use std::collections::VecDeque;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use super::expiry::{ExpiryPolicy, FetchedBy, FetchedToken, Freshness};
use super::telemetry::Telemetry;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::error::{BoxError, Error, Kind};
use crate::fleet::codec::{self, DecodeError, NotShareable, SharedRecord, SharedToken};
use crate::fleet::failure::SharedFailure;
use crate::fleet::settings::Fleet;
use crate::fleet::store::token_store::{LONGEST_LEASE, Lease};
use crate::sanitize::ServerText;
use crate::source::token_source::{DynTokenSource, Reason};
use crate::token::issued_token::Token;

/// The first pause between two loads while another process fetches. Most tokens are issued within 1
/// s.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// How long a lease lasts without a renewal. If a process dies, the other processes wait for at
/// most this time.
const LEASE_TTL: Duration = Duration::from_secs(3);

/// The shortest lease. A call to the store takes a few milliseconds.
const SHORTEST_LEASE: Duration = Duration::from_millis(500);

/// The time that a waiting process keeps for its own fetch before its token expires.
const LAST_FETCH: Duration = Duration::from_secs(1);

/// How many other processes may fail before this process fetches for itself. One failure may
/// concern only one process, for example a process with an old secret.
const MOST_FAILURES: u32 = 2;

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
    /// How long callers can still use the current token. `None` if there is no usable token.
    pub(crate) token_left: Option<Duration>,
    pub(crate) telemetry: &'a Telemetry,
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

/// The lease of this process.
struct HeldLease {
    lease: Lease,
    /// How long the lease lasts without a renewal.
    ttl: Duration,
    /// When this process stops renewing the lease. `None` with a one-time grant.
    latest_end: Option<Instant>,
    /// When this process requested the lease or its last renewal. The store counts from a later
    /// time.
    extended: Instant,
    is_lost: bool,
}

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
            Err(_) if context.source.has_one_time_grant() => Err(no_lease()),
            Err(_) => context.fetch().await,
        }?;
        self.lock().latest = Some(fetched.token.clone());
        Ok(fetched)
    }

    async fn share(
        &self,
        context: &FetchContext<'_>,
    ) -> Result<Result<FetchedToken, Error>, NotCoordinated> {
        let longest_wait = self.longest_wait(context);
        let since = Instant::now();
        let mut pauses = Backoff::new(
            FIRST_PAUSE,
            LONGEST_PAUSE,
            context.expiry_policy.has_jitter(),
        );
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
        if let Some(error) = first.failure.as_ref().and_then(SharedFailure::must_wait) {
            return Ok(Err(error));
        }
        loop {
            if let Some(held) = self.lease(context).await? {
                // Another process may have saved a token between the last load and the lease.
                let found = self.load(context).await?;
                if let Progress::Ended(result) = self.progress(&found, &known, context) {
                    self.release(held, context).await;
                    return Ok(result);
                }
                if self.confirm(&held, context).await? {
                    return Ok(self.fetch_for_all(held, found.token, context).await);
                }
            }
            let pause = pauses.next();
            if since.elapsed() + pause > longest_wait {
                context.telemetry.gave_up_waiting(longest_wait);
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
        let is = |other: &Token| other.is_same_credential(&shared.token);
        let tokens = self.lock();
        if known.unwanted.as_ref().is_some_and(is) || tokens.refused.iter().any(is) {
            return false;
        }
        let cached = context.expiry_policy.cache(shared.clone().into(), now);
        let is_latest = tokens.latest.as_ref().is_some_and(is);
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

    /// Returns how long the lease lasts without a renewal. If this process dies, another process can
    /// then fetch before the current token expires. With a one-time grant, the lease must also
    /// outlast a process that stalls during its fetch.
    fn lease_ttl(&self, context: &FetchContext<'_>) -> Duration {
        let time = self.lease_time(context);
        match context.token_left {
            _ if context.source.has_one_time_grant() => time,
            Some(left) => time.min(LEASE_TTL).min((left / 2).max(SHORTEST_LEASE)),
            None => time.min(LEASE_TTL),
        }
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
        mut held: HeldLease,
        old: Option<SharedToken>,
        context: &FetchContext<'_>,
    ) -> Result<FetchedToken, Error> {
        let mut fetch = pin!(AssertUnwindSafe(context.fetch()).catch_unwind());
        let fetched = loop {
            match timeout(held.ttl / 3, &mut fetch).await {
                Ok(fetched) => break fetched,
                Err(_) => self.renew(&mut held, context).await,
            }
        };
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
                failure: Some(SharedFailure::new(error)),
            },
            Err(_panic) => SharedRecord {
                token: old,
                failure: Some(SharedFailure::of_this_process()),
            },
        };
        if self.save(&record, &held, context).await.is_ok() {
            self.release(held, context).await;
        }
        fetched.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Deletes the shared token, so that no process loads it again. A running fetch of another
    /// process may delay the deletion.
    pub(crate) async fn forget(&self, telemetry: &Telemetry) -> Result<(), Error> {
        let longest_wait = self.fleet.lease_time.min(LONGEST_LEASE).mul_f32(1.5);
        let since = Instant::now();
        let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, true);
        let lease = loop {
            let lease = self.fleet.store.lease(&self.key, LEASE_TTL);
            match self.call("lease", lease, telemetry).await {
                Ok(Some(lease)) => break lease,
                Ok(None) => {}
                Err(_) => return Err(not_forgotten("the store failed; see the log")),
            }
            let pause = pauses.next();
            if since.elapsed() + pause > longest_wait {
                return Err(not_forgotten("another process has the lease; try again"));
            }
            tokio::time::sleep(pause).await;
        };
        let delete = self.fleet.store.delete(&self.key, &lease);
        let deleted = self.call("delete", delete, telemetry).await;
        if let Ok(is_deleted) = deleted {
            telemetry.store("delete", if is_deleted { "deleted" } else { "miss" });
        }
        let release = self.fleet.store.release(&self.key, lease);
        // If the release fails, the lease ends by itself.
        drop(self.call("release", release, telemetry).await);
        deleted
            .map(drop)
            .map_err(|_| not_forgotten("the store failed; see the log"))
    }

    async fn load(&self, context: &FetchContext<'_>) -> Result<SharedRecord, NotCoordinated> {
        // Reads the clock before the call, so that the token never counts as newer than it is.
        let now = context.clock.now();
        let load = self.fleet.store.load(&self.key);
        let Some(value) = self.call("load", load, context.telemetry).await? else {
            context.telemetry.store("load", "miss");
            return Ok(SharedRecord::default());
        };
        let ignored = |value: &[u8], why: &'static str, detail: Option<ServerText>| {
            context.telemetry.store("load", "ignored");
            if self.lock().is_news(value) {
                context.telemetry.value_ignored(&self.key, why, detail);
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
                context.telemetry.store("load", "hit");
                Ok(record)
            }
            Err(DecodeError::Malformed) => ignored(sealed, "corrupt", None),
            Err(DecodeError::Unbound(error)) => {
                ignored(sealed, "unbound", Some(ServerText::new(&error.to_string())))
            }
        }
    }

    async fn lease(&self, context: &FetchContext<'_>) -> Result<Option<HeldLease>, NotCoordinated> {
        let (ttl, requested) = (self.lease_ttl(context), Instant::now());
        let lease = self.fleet.store.lease(&self.key, ttl);
        let lease = self.call("lease", lease, context.telemetry).await?;
        if let Some(what) = lease.as_ref().and_then(Lease::replaced) {
            context.telemetry.foreign_lease(&ServerText::new(what));
        }
        let outcome = match &lease {
            Some(_) => "granted",
            None => "taken",
        };
        context.telemetry.store("lease", outcome);
        Ok(lease.map(|lease| HeldLease {
            lease,
            ttl,
            latest_end: match context.source.has_one_time_grant() {
                true => None,
                false => Some(requested + self.lease_time(context)),
            },
            extended: requested,
            is_lost: false,
        }))
    }

    /// Returns whether this process still has the lease. Asks the store only if a second fetch does
    /// harm, or if the lease may have ended.
    async fn confirm(
        &self,
        held: &HeldLease,
        context: &FetchContext<'_>,
    ) -> Result<bool, NotCoordinated> {
        let may_have_ended = held.extended.elapsed() > held.ttl / 2;
        if !may_have_ended && !context.source.has_one_time_grant() {
            return Ok(true);
        }
        let renew = self.fleet.store.renew(&self.key, &held.lease, held.ttl);
        let is_held = self.call("renew", renew, context.telemetry).await?;
        if is_held {
            context.telemetry.store("renew", "renewed");
        } else {
            context.telemetry.lease_lost("renew", held.is_in_time());
        }
        Ok(is_held)
    }

    /// Extends the lease during a fetch, but not beyond the lease time. If the lease has ended, the
    /// fetch continues.
    async fn renew(&self, held: &mut HeldLease, context: &FetchContext<'_>) {
        let now = Instant::now();
        let left = held
            .latest_end
            .map(|end| end.saturating_duration_since(now));
        let ttl = left.map_or(held.ttl, |left| left.min(held.ttl));
        if held.is_lost || ttl.is_zero() {
            return;
        }
        let renew = self.fleet.store.renew(&self.key, &held.lease, ttl);
        match self.call("renew", renew, context.telemetry).await {
            Ok(true) => {
                held.extended = now;
                context.telemetry.store("renew", "renewed");
            }
            Ok(false) => held.is_lost = true,
            // The store may answer the next renewal.
            Err(_) => {}
        }
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
                context.telemetry.not_shared();
                return Ok(());
            }
        };
        let Some(sealed) = self.fleet.sealing.seal(&self.key, &encoded.bytes) else {
            context.telemetry.not_shared();
            return Ok(());
        };
        let store = &self.fleet.store;
        let save = store.save(&self.key, &sealed, encoded.ttl, &held.lease);
        let is_saved = self.call("save", save, context.telemetry).await?;
        if is_saved {
            context.telemetry.store("save", "saved");
        } else {
            context.telemetry.lease_lost("save", held.is_in_time());
        }
        Ok(())
    }

    async fn release(&self, held: HeldLease, context: &FetchContext<'_>) {
        let is_in_time = held.is_in_time();
        let release = self.fleet.store.release(&self.key, held.lease);
        match self.call("release", release, context.telemetry).await {
            Ok(true) => context.telemetry.store("release", "released"),
            Ok(false) => context.telemetry.lease_lost("release", is_in_time),
            // After a failed release, the lease expires by itself.
            Err(_) => {}
        }
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, BoxError>>,
        telemetry: &Telemetry,
    ) -> Result<T, NotCoordinated> {
        let limit = self.fleet.store_timeout;
        match timeout(limit, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => telemetry.store_failed(operation, &error),
            Err(_) => telemetry.store_timed_out(operation, limit),
        }
        Err(NotCoordinated::StoreFailed)
    }

    fn lock(&self) -> MutexGuard<'_, KnownTokens> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldLease {
    /// Returns whether the store should still have the lease. If the store has no such lease, the
    /// store lost the lease.
    fn is_in_time(&self) -> bool {
        self.extended.elapsed() < self.ttl && !self.has_ended()
    }

    /// Returns whether this process has given up its lease.
    fn has_ended(&self) -> bool {
        self.latest_end.is_some_and(|end| Instant::now() >= end)
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
