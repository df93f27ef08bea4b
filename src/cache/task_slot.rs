//! Keeps a handle to the latest task of one kind, so that other code can abort the task.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::{AbortHandle, Id};

/// Contains the handle of the latest task.
#[derive(Default)]
pub(crate) struct TaskSlot {
    state: Mutex<SlotState>,
}

/// The handle is dropped when there is nothing left to abort. A handle keeps the memory of its
/// task, which is larger than a token, and a cache may be idle for hours.
#[derive(Default)]
enum SlotState {
    #[default]
    Empty,
    Running(AbortHandle),
    /// The task finished before its handle was set.
    Done(Id),
}

impl TaskSlot {
    /// Stores the handle of a task. The previous task keeps running.
    pub(crate) fn set(&self, handle: AbortHandle) {
        let mut state = self.lock();
        let next = match &*state {
            SlotState::Done(id) if *id == handle.id() => SlotState::Empty,
            _ => SlotState::Running(handle),
        };
        let before = mem::replace(&mut *state, next);
        drop(state);
        drop(before);
    }

    /// Records that a task has nothing left to abort. Has no effect if a later task has replaced
    /// this task.
    pub(crate) fn done(&self, id: Id) {
        let mut state = self.lock();
        let before = match &*state {
            SlotState::Running(handle) if handle.id() != id => return,
            SlotState::Running(_) => mem::take(&mut *state),
            SlotState::Empty | SlotState::Done(_) => mem::replace(&mut *state, SlotState::Done(id)),
        };
        drop(state);
        drop(before);
    }

    /// Starts a task if no task is running. `start` runs under the lock, so two concurrent callers
    /// start only one task.
    ///
    /// The task must not take the lock of this slot when the task ends.
    pub(crate) fn ensure_running(&self, start: impl FnOnce() -> AbortHandle) {
        let mut state = self.lock();
        let is_running = matches!(&*state, SlotState::Running(handle) if !handle.is_finished());
        if !is_running {
            *state = SlotState::Running(start());
        }
    }

    pub(crate) fn abort(&self) {
        let state = mem::take(&mut *self.lock());
        if let SlotState::Running(handle) = state {
            handle.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This is a unit test because an integration test can't see whether the handle is kept.
#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_handle_of_a_task_that_is_done_is_dropped_even_if_it_is_set_later() {
        let tasks = TaskSlot::default();
        let [first, second] = [0; 2].map(|_| tokio::spawn(std::future::ready(())).abort_handle());
        let has_handle = |handle: &AbortHandle| match &*tasks.lock() {
            SlotState::Running(running) => running.id() == handle.id(),
            SlotState::Empty | SlotState::Done(_) => false,
        };
        tasks.set(first.clone());
        assert!(has_handle(&first));
        tasks.done(first.id());
        assert!(!has_handle(&first));

        tasks.done(second.id());
        tasks.set(second.clone());
        assert!(!has_handle(&second));

        // When the older task ends, the slot keeps the handle of the newer task.
        tasks.set(second.clone());
        tasks.done(first.id());
        assert!(has_handle(&second));
    }
}
