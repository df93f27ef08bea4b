//! The state and settings that all handles to one cache share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

#[cfg(feature = "fleet")]
use super::fleet_coordinator::Coordinator;
use super::published_state::PublishedState;
use super::state_machine::machine::{Limits, StateMachine};
use super::status::Status;
use super::task_slot::TaskSlot;
use super::telemetry::Telemetry;
use crate::clock::{Clock, Moment};
use crate::sanitize::Message;
use crate::source::token_source::DynTokenSource;
use crate::token::place::Place;

tokio::task_local! {
    /// The cache that calls the source.
    static CALLER: Arc<CacheInner>;
}

/// Reports that a source doesn't use something that a server named. The cache that calls the source
/// logs the report.
pub(crate) fn shut_out(why: impl Into<Message>) {
    // Without a calling cache, the report is dropped, because each event names a cache.
    let reported = CALLER.try_with(|cache| cache.telemetry.shut_out(why));
    reported.unwrap_or_default();
}

pub(crate) struct CacheInner {
    pub(crate) source: Box<dyn DynTokenSource>,
    /// Shares the token with other processes; `None` if the token isn't shared.
    #[cfg(feature = "fleet")]
    pub(crate) coordinator: Option<Box<Coordinator>>,
    pub(crate) place: Place,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    /// The maximum number of attempts in one fetch.
    pub(crate) attempts: u32,
    pub(crate) close_timeout: Duration,
    pub(crate) keeps_fresh: bool,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) state: PublishedState,
    /// The channel for status changes. The channel is created for the first subscriber, because it
    /// needs as much memory as all other fields together.
    pub(crate) changes: OnceLock<watch::Sender<Status>>,
    /// The task of the latest fetch.
    pub(crate) fetch_task: TaskSlot,
    /// The task that refreshes the token in the background.
    pub(crate) refresh_timer: TaskSlot,
}

impl CacheInner {
    /// Lets the source [report](shut_out) to this cache while `call` runs.
    pub(crate) fn while_calling<T>(self: &Arc<Self>, call: impl FnOnce() -> T) -> T {
        CALLER.sync_scope(Arc::clone(self), call)
    }

    /// Lets the source [report](shut_out) to this cache while `fetch` runs.
    pub(crate) fn while_fetching<F>(self: &Arc<Self>, fetch: F) -> impl Future<Output = F::Output>
    where
        F: Future,
    {
        CALLER.scope(Arc::clone(self), fetch)
    }

    #[inline]
    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn status(&self) -> Status {
        let now = self.now();
        self.state.look(|machine| machine.status(now))
    }

    /// Returns whether other processes use the same token.
    pub(crate) fn is_shared_with_fleet(&self) -> bool {
        #[cfg(feature = "fleet")]
        return self.coordinator.is_some();
        #[cfg(not(feature = "fleet"))]
        return false;
    }

    /// Changes the state and notifies the subscribers.
    pub(crate) fn transition<R>(&self, change: impl FnOnce(&mut StateMachine) -> R) -> R {
        let (result, has_changed) = self.state.transition(change);
        if has_changed {
            self.publish();
        }
        result
    }

    /// Stops recording acceptances if there has been no refusal for a while.
    pub(crate) fn end_watch(&self, now: Moment) {
        if !self.state.is_watching() {
            return;
        }
        let end = self.transition(|machine| machine.end_watch(now));
        if end.is_some_and(|end| end.was_limited) {
            self.telemetry.refusals_ended();
        }
    }

    /// Subscribes to status changes. The first value in the channel may be outdated. The channel is
    /// updated only while there are subscribers.
    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        let changes = self
            .changes
            .get_or_init(|| watch::Sender::new(self.status()));
        changes.subscribe()
    }

    /// Sends the current status to the subscribers. Must be called without the state's lock,
    /// because sending wakes the subscribers.
    pub(crate) fn publish(&self) {
        self.update_gauges();
        if let Some(changes) = self.changes.get()
            && changes.receiver_count() > 0
        {
            send(changes, self.status());
        }
    }

    /// Updates the gauges of the current token. Without a token, the gauges are set to 0, because
    /// they would otherwise keep the values of the last token.
    #[cfg(feature = "metrics")]
    pub(crate) fn update_gauges(&self) {
        let now = self.now();
        let (age, remaining) = match self.state.current() {
            Some(cached) => {
                let age = now.ticks().saturating_sub(cached.requested().ticks());
                let remaining = cached.expires_at().map(|end| now.until(end));
                (Duration::from_nanos(age), remaining)
            }
            None => (Duration::ZERO, Some(Duration::ZERO)),
        };
        self.telemetry.token(age, remaining);
        self.telemetry
            .quotas(&self.state.look(StateMachine::quotas));
    }

    #[cfg(not(feature = "metrics"))]
    pub(crate) fn update_gauges(&self) {}
}

/// Sends a status, unless a later status was already sent.
///
/// If only time has passed, the version is the same. In this case, the status is replaced without
/// notifying subscribers.
fn send(changes: &watch::Sender<Status>, mut status: Status) {
    changes.send_if_modified(|sent| {
        let is_newer = status.version > sent.version;
        if status.version >= sent.version {
            std::mem::swap(sent, &mut status);
        }
        is_newer
    });
    // Drops the replaced status outside the channel's lock. The status may contain a user's error,
    // and dropping the error runs user code.
    drop(status);
}

/// This is a unit test because an integration test can't pause a thread between reading and sending
/// the status.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::expiry::ExpiryPolicy;
    use crate::cache::state_machine::request::Caller;
    use crate::cache::status::Phase;

    #[test]
    fn of_two_concurrent_changes_the_later_status_stays() {
        let mut machine = StateMachine::new(Limits {
            expiry_policy: ExpiryPolicy {
                refresh_before: None,
                expiry_margin: None,
                jitter: 0.0,
            },
            fetch_timeout: Duration::ZERO,
            attempt_floor: Duration::ZERO,
        });
        let first = machine.status(Moment::START);
        drop(machine.request(Caller::CannotReplay, Moment::START));
        let earlier = machine.status(Moment::START);
        machine.close();
        let later = machine.status(Moment::START);

        let (changes, mut subscriber) = watch::channel(first);
        send(&changes, later);
        assert!(
            subscriber
                .has_changed()
                .is_ok_and(|has_changed| has_changed)
        );
        send(&changes, earlier);
        assert_eq!(subscriber.borrow_and_update().phase(), Phase::Closing);
    }
}
