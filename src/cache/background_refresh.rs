//! A timer that has the token refreshed in time, even when nobody asks for it.
//!
//! It holds no handle to the token: when the last one is dropped, the channel that tells of changes
//! closes, and the timer's task ends.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::cache_inner::CacheInner;
use super::fetch_task::{has_timer, launch};
use super::state_machine::Due;
use super::status::Status;

/// The longest sleep. The timer of a suspended machine stands still with it, and when that wakes up
/// the token may be long over.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Starts the timer, unless it runs or isn't wanted.
pub(crate) fn ensure(shared: &Arc<CacheInner>) {
    if !shared.keeps_fresh {
        return;
    }
    if let Ok(runtime) = Handle::try_current() {
        shared.keeper.ensure(|| {
            let keeper = keep(Arc::downgrade(shared), shared.watch());
            runtime.spawn(keeper).abort_handle()
        });
    }
}

async fn keep(shared: Weak<CacheInner>, mut changes: watch::Receiver<Status>) {
    // The flight that started this one says so to whoever waits.
    if !has_timer() {
        return;
    }
    loop {
        changes.mark_unchanged();
        let Some(due) = shared.upgrade().map(|shared| due(&shared)) else {
            return;
        };
        let sleep = match due {
            Due::Never => return,
            Due::OnChange => LONGEST_SLEEP,
            Due::In(wait) => wait.min(LONGEST_SLEEP),
        };
        let (sleep, change) = (tokio::time::sleep(sleep), changes.changed());
        match select(std::pin::pin!(sleep), std::pin::pin!(change)).await {
            // Something has changed, or the last handle is gone.
            Either::Right(_) => {}
            Either::Left(_) => match shared.upgrade() {
                Some(shared) => look_after(&shared),
                None => return,
            },
        }
    }
}

fn due(shared: &CacheInner) -> Due {
    let now = shared.now();
    shared.state.look(|machine| machine.due(now))
}

/// Asks for a token if it is time to, as a caller would.
fn look_after(shared: &Arc<CacheInner>) {
    if due(shared) != Due::In(Duration::ZERO) {
        return;
    }
    let now = shared.now();
    let (_, start) = shared.transition(|machine| machine.request(now));
    if let Some(start) = start {
        launch(shared, start);
    }
}
