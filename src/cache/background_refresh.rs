//! A timer that has the token refreshed in time, even when nobody asks for it.
//!
//! It holds no handle to the token: when the last one is dropped, the channel that tells of changes
//! closes, and the timer's task ends.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::cache::cache_inner::Shared;
use crate::cache::fetch_task::{has_timer, launch};
use crate::cache::state_machine::Due;
use crate::cache::status::Status;

/// The longest sleep. The timer of a suspended machine stands still with it, and when that wakes up
/// the token may be long over.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Starts the timer, unless it runs or isn't wanted.
pub(crate) fn ensure(shared: &Arc<Shared>) {
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

async fn keep(shared: Weak<Shared>, mut changes: watch::Receiver<Status>) {
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

fn due(shared: &Shared) -> Due {
    let now = shared.now();
    shared.hub.look(|machine| machine.due(now))
}

/// Asks for a token if it is time to, as a caller would.
fn look_after(shared: &Arc<Shared>) {
    if due(shared) != Due::In(Duration::ZERO) {
        return;
    }
    let now = shared.now();
    let (_, take_off) = shared.transition(|machine| machine.ask(now));
    if let Some(take_off) = take_off {
        launch(shared, take_off);
    }
}
