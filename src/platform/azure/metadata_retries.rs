//! The retries that Microsoft recommends for the metadata server of virtual machines.
//!
//! Source: "How to use managed identities for Azure resources on an Azure VM to acquire an access
//! token", sections "Error handling" and "Retry guidance" (version of 27 February 2025).
//!
//! Microsoft recommends five retries: the first without a pause, and the others about 2, 6, 14 and
//! 30 s after the start. But a client has to wait for at least 1 s after a 5xx. So this source
//! leaves out the retry without a pause, and sends a fifth retry 62 s after the start.

use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::error::Error;

/// The number of retries, the first pause and the longest pause.
const RETRIES: usize = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The time after which no retry starts. A server that is being updated (410) is available again
/// within 70 s.
pub(crate) const LIMIT: Duration = Duration::from_secs(72);

/// The minimum pause of the cache after the last retry. Without a pause, the cache would start all
/// retries again within the same fetch, and the server would limit the rate.
const PAUSE_AFTER_LAST: Duration = Duration::from_secs(30);

/// Calls `attempt`, and calls it again after each error that may pass by itself, until the retries
/// are used up.
pub(crate) async fn retrying<T, F>(attempt: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let start = Instant::now();
    let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, false);
    let mut retries = 0;
    loop {
        let error = match attempt().await {
            Err(error) if is_passing(&error) => error,
            done => return done,
        };
        let left = LIMIT.saturating_sub(start.elapsed());
        let is_updating = error.status() == Some(StatusCode::GONE);
        let wanted = error.retry_after().unwrap_or_default();
        if left.is_zero() || wanted > left || (retries >= RETRIES && !is_updating) {
            let pause = wanted.max(PAUSE_AFTER_LAST);
            return Err(error.passing().with_retry_after(pause));
        }
        // After the last retry, waits the rest of the time for a server that is being updated.
        let pause = match retries < RETRIES {
            true => pauses.next().max(wanted).min(left),
            false => left,
        };
        retries += 1;
        sleep(pause).await;
    }
}

/// Returns whether Microsoft recommends a retry after this error.
fn is_passing(error: &Error) -> bool {
    let passes =
        |status: StatusCode| matches!(status.as_u16(), 404 | 410 | 429) || status.is_server_error();
    error.is_timeout() || error.status().is_some_and(passes)
}
