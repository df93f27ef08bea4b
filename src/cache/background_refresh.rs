//! Refreshes the token before its expiry, even when no caller needs the token.
//!
//! The task has no handle to the cache. When the last handle is dropped, the status channel closes
//! and the task ends.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::cache_inner::CacheInner;
use super::fetch_task::has_timer;
use super::state_machine::request::Caller;
use super::state_machine::snapshot::Due;
use super::status::Status;

/// The longest sleep. Timers stop while a machine is suspended, and the token may expire meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

impl CacheInner {
    /// Starts the refresh task if `keep_fresh` is set and no such task is running.
    pub(crate) fn ensure_background_refresh(self: &Arc<Self>) {
        if !self.keeps_fresh {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            self.refresh_timer.ensure_running(|| {
                let task = refresh_in_background(Arc::downgrade(self), self.watch());
                runtime.spawn(task).abort_handle()
            });
        }
    }

    fn due(&self) -> Due {
        let now = self.now();
        self.state.look(|machine| machine.due(now))
    }

    /// If a fetch is due, requests a token as any caller does.
    fn refresh_if_due(self: &Arc<Self>) {
        if self.due() != Due::In(Duration::ZERO) {
            return;
        }
        let now = self.now();
        let (_, start) = self.transition(|machine| machine.request(Caller::CanReplay, now));
        if let Some(start) = start {
            self.start_fetch(start);
        }
    }
}

async fn refresh_in_background(cache: Weak<CacheInner>, mut changes: watch::Receiver<Status>) {
    // The task ends silently without a timer. The fetch that started this task also needs a timer
    // and reports the error.
    if !has_timer() {
        return;
    }
    loop {
        changes.mark_unchanged();
        let Some(due) = cache.upgrade().map(|inner| inner.due()) else {
            return;
        };
        let sleep = match due {
            Due::Never => return,
            Due::OnChange => LONGEST_SLEEP,
            Due::In(wait) => wait.min(LONGEST_SLEEP),
        };
        let (sleep, change) = (tokio::time::sleep(sleep), changes.changed());
        match select(pin!(sleep), pin!(change)).await {
            // Either the state changed or the last handle was dropped. The next iteration checks
            // which.
            Either::Right(_) => {}
            Either::Left(_) => match cache.upgrade() {
                Some(inner) => inner.refresh_if_due(),
                None => return,
            },
        }
    }
}
