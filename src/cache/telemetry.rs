//! Emits all [`tracing`] events and metrics of the crate. [`docs::watching`](crate::docs::watching)
//! lists them.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::Span;
use tracing::field::Empty;

use super::expiry::FetchedBy;
use super::quota_tracker::LowQuota;
#[cfg(feature = "fleet")]
use crate::error::BoxError;
use crate::error::Error;
use crate::sanitize::{Message, ServerText};
use crate::source::token_source::Reason;
use crate::sync::ArcSwapOption;
use crate::token::issued_token::Token;

/// The maximum number of remembered reports. Without a limit, a server that names something new
/// each time would fill the memory and the log.
const MOST_REPORTS: usize = 64;

/// The name of the cache. Every event and metric contains this name.
#[derive(Debug)]
pub(crate) struct Telemetry {
    cache: Arc<str>,
    /// What is unusual about the last fetched token: in the lowest bit, whether its lifetime was a
    /// date; in the other bits, a [digest] of its missing scopes.
    findings: AtomicU64,
    /// Hashes of the messages that [`shut_out`](Self::shut_out) has reported.
    reported: ArcSwapOption<BTreeSet<u64>>,
}

/// The reported result of a fetch.
pub(crate) struct FetchSummary<'a> {
    /// The span that [`Telemetry::fetch`] created for this fetch.
    pub(crate) span: &'a Span,
    pub(crate) reason: Reason,
    pub(crate) duration: Duration,
    pub(crate) attempts: u32,
    pub(crate) by: FetchedBy,
    pub(crate) waiters: usize,
    /// The token's remaining lifetime (`None` if it never expires), or the error.
    pub(crate) outcome: Result<Option<Duration>, &'a Error>,
    /// How long until the next attempt, after an error.
    pub(crate) retry_in: Option<Duration>,
}

impl Telemetry {
    pub(crate) fn new(cache: Arc<str>) -> Self {
        Self {
            cache,
            findings: AtomicU64::new(0),
            reported: ArcSwapOption::empty(),
        }
    }

    pub(crate) fn cache(&self) -> &str {
        &self.cache
    }

    /// Creates the span of a fetch. The span's parent is the span of the request that started the
    /// fetch. The empty fields are set only if the fetch fails.
    pub(crate) fn fetch(&self, reason: Reason) -> Span {
        tracing::debug_span!(
            "token fetch",
            tower_auth.cache = &*self.cache,
            tower_auth.fetch.reason = reason.as_str(),
            "error.type" = Empty,
            otel.status_code = Empty,
            otel.status_description = Empty,
        )
    }

    pub(crate) fn attempt_failed(&self, reason: Reason, error: &Error, retry_in: Duration) {
        tracing::debug!(
            tower_auth.cache = &*self.cache,
            tower_auth.fetch.reason = reason.as_str(),
            tower_auth.fetch.retry_in = ?retry_in,
            "error.type" = error.type_name(),
            error.message = %error,
            http.response.status_code = error.status().map(|status| status.as_u16()),
            "could not fetch a token; another attempt follows",
        );
        #[cfg(feature = "metrics")]
        self.count_failed_attempt(reason, error);
    }

    pub(crate) fn fetch_completed(&self, summary: &FetchSummary<'_>) {
        match summary.outcome {
            Ok(lifetime) if summary.by == FetchedBy::AnotherProcess => tracing::debug!(
                tower_auth.cache = &*self.cache,
                tower_auth.fetch.reason = summary.reason.as_str(),
                tower_auth.fetch.duration = ?summary.duration,
                tower_auth.fetch.attempts = summary.attempts,
                tower_auth.fetch.waiters = summary.waiters,
                tower_auth.token.lifetime = lifetime.map(tracing::field::debug),
                "a token was taken from the shared store",
            ),
            Ok(lifetime) => tracing::debug!(
                tower_auth.cache = &*self.cache,
                tower_auth.fetch.reason = summary.reason.as_str(),
                tower_auth.fetch.duration = ?summary.duration,
                tower_auth.fetch.attempts = summary.attempts,
                tower_auth.fetch.waiters = summary.waiters,
                tower_auth.token.lifetime = lifetime.map(tracing::field::debug),
                "a token was fetched",
            ),
            Err(error) => {
                mark_failed(summary.span, error);
                tracing::warn!(
                    tower_auth.cache = &*self.cache,
                    tower_auth.fetch.reason = summary.reason.as_str(),
                    tower_auth.fetch.duration = ?summary.duration,
                    tower_auth.fetch.attempts = summary.attempts,
                    tower_auth.fetch.waiters = summary.waiters,
                    tower_auth.fetch.retry_in = summary.retry_in.map(tracing::field::debug),
                    "error.type" = error.type_name(),
                    error.message = %error,
                    http.response.status_code = error.status().map(|status| status.as_u16()),
                    "could not fetch a token",
                );
            }
        }
        #[cfg(feature = "metrics")]
        self.record_fetch(summary);
    }

    pub(crate) fn replayed(&self) {
        tracing::debug!(
            tower_auth.cache = &*self.cache,
            http.request.resend_count = 1,
            "a refused request is sent again",
        );
        #[cfg(feature = "metrics")]
        self.count_replay("sent");
    }

    pub(crate) fn not_replayed(&self, why: &'static str) {
        tracing::debug!(
            tower_auth.cache = &*self.cache,
            tower_auth.not_replayed = why,
            "a refused request is not replayed",
        );
        #[cfg(feature = "metrics")]
        self.count_replay(why);
    }

    /// Reports that one resource refuses a token that other resources accept.
    pub(crate) fn resource_refuses(&self, method: Option<&str>, origin: Option<&ServerText>) {
        tracing::warn!(
            tower_auth.cache = &*self.cache,
            http.request.method = method,
            tower_auth.request.origin = origin.map(ServerText::as_str),
            "a resource refuses a token that the API accepts for other requests, so its refusals \
             cause fewer fetches; check which permission this resource requires, and whether one \
             replica of the API has wrong keys or a wrong clock",
        );
        #[cfg(feature = "metrics")]
        self.count_limited_refusals();
    }

    pub(crate) fn refusals_limited(
        &self,
        refused: u32,
        retry_in: Duration,
        scope: Option<&ServerText>,
    ) {
        tracing::warn!(
            tower_auth.cache = &*self.cache,
            tower_auth.refusals.count = refused,
            tower_auth.refusals.retry_in = ?retry_in,
            tower_auth.token.scope = scope.map(ServerText::as_str),
            "new tokens are refused again and again, so fetches are paused for a while; the likely \
             cause is an audience, an issuer or a scope that this API doesn't expect: compare \
             what the token source requests with the API's documentation",
        );
        #[cfg(feature = "metrics")]
        self.count_limited_refusals();
    }

    pub(crate) fn quota_low(&self, low: &LowQuota) {
        tracing::warn!(
            tower_auth.cache = &*self.cache,
            tower_auth.quota.bucket = low.quota.bucket(),
            tower_auth.quota.limit = low.quota.limit(),
            tower_auth.quota.remaining = low.quota.remaining(),
            tower_auth.quota.resets_in = low.resets_in.map(tracing::field::debug),
            tower_auth.quota.fetches = %low.fetches,
            "the token endpoint's quota is low, so refreshes are delayed as long as possible; \
             check the number of fetches by reason: many fetches after refusals indicate a wrong \
             audience or an API that accepts no tokens; small numbers indicate that other clients \
             use the same quota, and then sharing one token in a fleet saves fetches",
        );
    }

    /// Warns of missing scopes, of a lifetime that was sent as a date, and of an access token that
    /// couldn't be saved. Doesn't repeat a warning that the last token already caused. `lifetime`
    /// is the token's remaining lifetime.
    pub(crate) fn token_issued(&self, token: &Token, lifetime: Option<Duration>) {
        let (missing, is_date) = (token.missing_scope(), token.is_expiry_read_as_date());
        let not_saved = token.not_saved();
        let scopes = missing.map_or(0, digest);
        let findings = scopes | u64::from(is_date) | (u64::from(not_saved.is_some()) << 1);
        let before = self.findings.swap(findings, Ordering::Relaxed);
        let (was_date, is_known) = (before & 1 == 1, before & !3 == scopes);
        let was_saved = before & 2 == 0;
        if is_date && !was_date {
            tracing::warn!(
                tower_auth.cache = &*self.cache,
                tower_auth.token.lifetime = lifetime.map(tracing::field::debug),
                "a token's lifetime was sent as a date, because its `expires_in` exceeds ten years; tell \
                 the server's operator that `expires_in` is a number of seconds (RFC 6749 §5.1)",
            );
        }
        if let Some(why) = not_saved.filter(|_| was_saved) {
            tracing::warn!(
                tower_auth.cache = &*self.cache,
                error.message = why.as_str(),
                "could not save the access token of a login, so each process that shares the login \
                 fetches its own",
            );
        }
        let Some(missing) = missing.filter(|_| !is_known) else {
            return;
        };
        tracing::warn!(
            tower_auth.cache = &*self.cache,
            tower_auth.scope.missing = %bounded_list(missing),
            "the authorization server granted less scope than was requested, so the API may refuse requests \
             with a 403; allow the missing scopes for this client, or stop requesting them",
        );
    }

    /// Warns once about an origin, an issuer or a scope that a server named but the source doesn't
    /// use.
    pub(crate) fn shut_out(&self, why: impl Into<Message>) {
        let why = why.into();
        let mut hasher = DefaultHasher::new();
        why.as_str().hash(&mut hasher);
        let mut is_news = false;
        self.reported.rcu(|reported| {
            let mut reported = reported.as_deref().cloned().unwrap_or_default();
            is_news = reported.len() < MOST_REPORTS && reported.insert(hasher.finish());
            Some(Arc::new(reported))
        });
        if !is_news {
            return;
        }
        tracing::warn!(
            tower_auth.cache = &*self.cache,
            error.message = why.as_str(),
            "an origin, an issuer or a scope that a server named is not used",
        );
    }

    pub(crate) fn refusals_ended(&self) {
        tracing::info!(
            tower_auth.cache = &*self.cache,
            "no token was refused for a while, so refusals are no longer limited",
        );
    }

    pub(crate) fn close_failed(&self, error: &Error) {
        tracing::warn!(
            tower_auth.cache = &*self.cache,
            "error.type" = error.type_name(),
            error.message = %error,
            "could not close the token source",
        );
    }

    /// Counts the result of a call to the shared store.
    #[cfg(feature = "fleet")]
    #[cfg_attr(
        not(feature = "metrics"),
        expect(unused_variables, clippy::unused_self)
    )]
    pub(crate) fn store(&self, operation: &'static str, outcome: &'static str) {
        #[cfg(feature = "metrics")]
        self.count_store_call(operation, outcome);
    }

    #[cfg(feature = "fleet")]
    pub(crate) fn store_failed(&self, operation: &'static str, error: &BoxError) {
        tracing::warn!(
            tower_auth.cache = &*self.cache,
            tower_auth.store.operation = operation,
            error.message = %ServerText::new(&error.to_string()),
            "the shared store failed",
        );
        self.store(operation, "failed");
    }

    #[cfg(feature = "fleet")]
    pub(crate) fn store_timed_out(&self, operation: &'static str, limit: Duration) {
        tracing::warn!(
            tower_auth.cache = &*self.cache,
            tower_auth.store.operation = operation,
            tower_auth.store.timeout = ?limit,
            "the shared store didn't answer in time",
        );
        self.store(operation, "timed_out");
    }

    #[cfg(feature = "fleet")]
    pub(crate) fn value_ignored(&self, key: &str, why: &'static str, detail: Option<ServerText>) {
        tracing::warn!(
            tower_auth.cache = &*self.cache,
            tower_auth.store.key = key,
            tower_auth.store.ignored = why,
            error.message = detail.map(tracing::field::display),
            "ignored a value in the shared store that this process can't use as a token",
        );
    }

    #[cfg(feature = "fleet")]
    pub(crate) fn foreign_lease(&self, what: &ServerText) {
        tracing::warn!(
            tower_auth.cache = &*self.cache,
            error.message = %what,
            "replaced a lease in the shared store that no process of a fleet wrote",
        );
    }

    #[cfg(feature = "fleet")]
    pub(crate) fn lease_lost(&self, operation: &'static str, is_in_time: bool) {
        match is_in_time {
            true => tracing::warn!(
                tower_auth.cache = &*self.cache,
                "the store lost the lease before its time, for example because it was flushed; \
                 another process may have fetched a token too",
            ),
            false => tracing::warn!(
                tower_auth.cache = &*self.cache,
                "the lease expired during the fetch, so another process may have fetched a token \
                 too; if this process doesn't stall, set a longer lease time",
            ),
        }
        self.store(operation, "lease_lost");
    }

    #[cfg(feature = "fleet")]
    pub(crate) fn gave_up_waiting(&self, wait: Duration) {
        tracing::warn!(
            tower_auth.cache = &*self.cache,
            tower_auth.store.waited = ?wait,
            "no other process saved a token in time",
        );
    }

    #[cfg(feature = "fleet")]
    pub(crate) fn not_shared(&self) {
        tracing::warn!(
            tower_auth.cache = &*self.cache,
            "a token of this kind can't be shared, so only this process uses it",
        );
    }
}

/// Records the error as OpenTelemetry's conventions require. `tracing-opentelemetry` derives the
/// span's status from the fields that start with `otel`.
fn mark_failed(span: &Span, error: &Error) {
    span.record("error.type", error.type_name());
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", tracing::field::display(error));
}

/// Returns a hash that is never 0, and whose two lowest bits are 0.
fn digest(scopes: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    scopes.hash(&mut hasher);
    hasher.finish().max(4) & !3
}

/// The maximum number of bytes of names that an event lists.
const LONGEST_LIST: usize = 200;

/// Lists the first names, and counts the others. The names may come from a server, because a
/// step-up requests the scope that the API wants.
fn bounded_list(names: &str) -> String {
    let mut list = String::new();
    let mut rest = names.split(' ').peekable();
    while let Some(name) =
        rest.next_if(|name| list.len() + name.len() <= LONGEST_LIST || list.is_empty())
    {
        if !list.is_empty() {
            list.push(' ');
        }
        list.push_str(ServerText::new(name).as_str());
    }
    match rest.count() {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

#[cfg(feature = "metrics")]
mod with_metrics {
    use std::sync::Arc;
    use std::time::Duration;

    use metrics::{Label, SharedString, counter, gauge, histogram};

    use super::{Error, FetchSummary, FetchedBy, Reason, Telemetry};
    use crate::quota::Quota;

    impl Telemetry {
        fn label(&self) -> SharedString {
            SharedString::from_shared(Arc::clone(&self.cache))
        }

        pub(super) fn count_failed_attempt(&self, reason: Reason, error: &Error) {
            let (reason, error) = (reason.as_str(), error.type_name());
            counter!("tower_auth.fetch.attempts.failed",
                "cache" => self.label(), "reason" => reason, "error.type" => error)
            .increment(1);
        }

        pub(super) fn record_fetch(&self, summary: &FetchSummary<'_>) {
            let reason = summary.reason.as_str();
            let outcome = match (summary.outcome, summary.by) {
                (Ok(_), FetchedBy::ThisProcess) => "ok",
                (Ok(_), FetchedBy::AnotherProcess) => "shared",
                (Err(error), _) => error.type_name(),
            };
            counter!("tower_auth.fetches",
                "cache" => self.label(), "reason" => reason, "outcome" => outcome)
            .increment(1);
            let mut labels = vec![
                Label::new("cache", self.label()),
                Label::from_static_parts("reason", reason),
            ];
            // OpenTelemetry's conventions allow this label only on failures.
            if let Err(error) = summary.outcome {
                labels.push(Label::from_static_parts("error.type", error.type_name()));
            }
            histogram!("tower_auth.fetch.duration", labels).record(summary.duration);
            histogram!("tower_auth.fetch.waiters", "cache" => self.label(), "reason" => reason)
                .record(summary.waiters as f64);
        }

        /// Sets the gauges of the current token's age and remaining lifetime.
        pub(crate) fn token(&self, age: Duration, remaining: Option<Duration>) {
            gauge!("tower_auth.token.age", "cache" => self.label()).set(age);
            let remaining = remaining.map_or(f64::INFINITY, |left| left.as_secs_f64());
            gauge!("tower_auth.token.remaining", "cache" => self.label()).set(remaining);
        }

        /// Sets the gauges of the quotas.
        pub(crate) fn quotas(&self, quotas: &[Quota]) {
            for quota in quotas {
                let bucket = SharedString::from_shared(Arc::clone(quota.shared_bucket()));
                gauge!("tower_auth.quota.remaining",
                    "cache" => self.label(), "bucket" => bucket.clone())
                .set(quota.remaining() as f64);
                if let Some(limit) = quota.limit() {
                    gauge!("tower_auth.quota.limit", "cache" => self.label(), "bucket" => bucket)
                        .set(limit as f64);
                }
            }
        }

        pub(super) fn count_replay(&self, outcome: &'static str) {
            counter!("tower_auth.replays", "cache" => self.label(), "outcome" => outcome)
                .increment(1);
        }

        #[cfg(feature = "fleet")]
        pub(super) fn count_store_call(&self, operation: &'static str, outcome: &'static str) {
            counter!("tower_auth.store.operations",
                "cache" => self.label(), "operation" => operation, "outcome" => outcome)
            .increment(1);
        }

        pub(super) fn count_limited_refusals(&self) {
            counter!("tower_auth.refusals.limited", "cache" => self.label()).increment(1);
        }
    }
}
