//! What all handles to one token share.

use std::mem;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, Id};

#[cfg(feature = "fleet")]
use super::coordinator::Coordinator;
use super::published_state::PublishedState;
use super::state_machine::{Limits, StateMachine};
use super::status::Status;
use super::telemetry::Telemetry;
use crate::clock::{Clock, Moment};
use crate::source::token_source::DynTokenSource;
use crate::token::place::Place;

pub(crate) struct CacheInner {
    pub(crate) source: Box<dyn DynTokenSource>,
    /// What it shares with other processes, if it does.
    #[cfg(feature = "fleet")]
    pub(crate) coordinator: Option<Box<Coordinator>>,
    pub(crate) place: Place,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    /// The most attempts of one flight.
    pub(crate) attempts: u32,
    pub(crate) close_timeout: Duration,
    pub(crate) keeps_fresh: bool,
    pub(crate) telemetry: Telemetry,
    pub(crate) state: PublishedState,
    /// Made for whoever is the first to watch: it takes as much memory as all the rest.
    pub(crate) changes: OnceLock<watch::Sender<Status>>,
    /// The task of the latest flight, and that of the timer.
    pub(crate) flight: TaskSlot,
    pub(crate) keeper: TaskSlot,
}

/// A task that others may end.
#[derive(Default)]
pub(crate) struct TaskSlot {
    latest: Mutex<SlotState>,
}

/// What is known of the latest task. A handle holds on to the memory of its task, which is more than
/// that of a token, and a cache may be idle for hours: it is let go as soon as there is nothing to end.
#[derive(Default)]
enum SlotState {
    #[default]
    Empty,
    Running(AbortHandle),
    /// It was done before whoever started it could say so.
    Done(Id),
}

impl CacheInner {
    #[inline]
    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn status(&self) -> Status {
        let now = self.now();
        self.state.look(|machine| machine.status(now))
    }

    /// Whether other processes use the same token.
    pub(crate) fn is_of_a_fleet(&self) -> bool {
        #[cfg(feature = "fleet")]
        return self.coordinator.is_some();
        #[cfg(not(feature = "fleet"))]
        return false;
    }

    /// Changes the state, and tells those who watch.
    pub(crate) fn transition<R>(&self, change: impl FnOnce(&mut StateMachine) -> R) -> R {
        let (result, has_changed) = self.state.transition(change);
        if has_changed {
            self.publish();
        }
        result
    }

    /// A channel that tells of changes. It holds what it was told last, which is as old as the last time
    /// that anybody watched.
    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        let changes = self
            .changes
            .get_or_init(|| watch::Sender::new(self.status()));
        changes.subscribe()
    }

    /// Shows the state as it is. Not under its lock: whoever watches is woken here.
    pub(crate) fn publish(&self) {
        self.gauge();
        if let Some(changes) = self.changes.get()
            && changes.receiver_count() > 0
        {
            show(changes, self.status());
        }
    }

    /// Sets the gauges of the token in hand. Without one they are 0: those of the last token would
    /// tell of one that nobody has.
    #[cfg(feature = "metrics")]
    pub(crate) fn gauge(&self) {
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
    pub(crate) fn gauge(&self) {}
}

/// Of two that are shown at once the later state stays. The same one is shown anew, since time has
/// passed, but wakes nobody.
fn show(changes: &watch::Sender<Status>, mut status: Status) {
    changes.send_if_modified(|shown| {
        let is_news = status.version > shown.version;
        if status.version >= shown.version {
            std::mem::swap(shown, &mut status);
        }
        is_news
    });
    // Outside of the channel's lock: in what was shown before there may be an error of a user's.
    drop(status);
}

impl TaskSlot {
    /// Remembers a task in the place of the one before, which goes on.
    pub(crate) fn set(&self, handle: AbortHandle) {
        let mut latest = self.lock();
        let next = match &*latest {
            SlotState::Done(id) if *id == handle.id() => SlotState::Empty,
            _ => SlotState::Running(handle),
        };
        let before = mem::replace(&mut *latest, next);
        drop(latest);
        drop(before);
    }

    /// Says that a task has nothing left to be ended for. One that is older than the latest says
    /// nothing of that.
    pub(crate) fn done(&self, id: Id) {
        let mut latest = self.lock();
        let before = match &*latest {
            SlotState::Running(handle) if handle.id() != id => return,
            SlotState::Running(_) => mem::take(&mut *latest),
            SlotState::Empty | SlotState::Done(_) => {
                mem::replace(&mut *latest, SlotState::Done(id))
            }
        };
        drop(latest);
        drop(before);
    }

    /// Starts a task unless one is running. Under the lock, so that two who see to it at once start
    /// one: a task whose end takes this lock must not be started here.
    pub(crate) fn ensure(&self, start: impl FnOnce() -> AbortHandle) {
        let mut latest = self.lock();
        let runs = matches!(&*latest, SlotState::Running(handle) if !handle.is_finished());
        if !runs {
            *latest = SlotState::Running(start());
        }
    }

    pub(crate) fn abort(&self) {
        let latest = mem::take(&mut *self.lock());
        if let SlotState::Running(handle) = latest {
            handle.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Inside, because no test can hold a thread between its look at the state and what it shows of it.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::expiry::ExpiryPolicy;
    use crate::cache::status::Phase;

    #[test]
    fn of_two_changes_at_once_the_later_state_stays() {
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
        drop(machine.request(Moment::START));
        let earlier = machine.status(Moment::START);
        machine.close();
        let later = machine.status(Moment::START);

        let (changes, mut watcher) = watch::channel(first);
        show(&changes, later);
        assert!(watcher.has_changed().is_ok_and(|has_changed| has_changed));
        show(&changes, earlier);
        assert_eq!(watcher.borrow_and_update().phase(), Phase::Closed);
    }
    /// Whoever starts a task learns of it only when it runs, and it may be done by then.
    #[tokio::test]
    async fn a_task_that_is_done_is_let_go_whenever_it_says_so() {
        let tasks = TaskSlot::default();
        let [first, second] = [0; 2].map(|_| tokio::spawn(std::future::ready(())).abort_handle());
        let holds = |handle: &AbortHandle| match &*tasks.lock() {
            SlotState::Running(cached) => cached.id() == handle.id(),
            SlotState::Empty | SlotState::Done(_) => false,
        };
        tasks.set(first.clone());
        assert!(holds(&first));
        tasks.done(first.id());
        assert!(!holds(&first));

        tasks.done(second.id());
        tasks.set(second.clone());
        assert!(!holds(&second));

        // An older one that is done at last says nothing of the latest.
        tasks.set(second.clone());
        tasks.done(first.id());
        assert!(holds(&second));
    }
}
