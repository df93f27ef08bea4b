//! What happens after a failed fetch. The tests check who gets the error, for how long, and when
//! the next fetch starts.

use std::time::Duration;

use tower_auth::cache::{Clock, ManualClock};
use tower_auth::{Error, TokenCache};
use tower_auth_test::{Fetches, controlled_source};

use crate::support::{clocked, token_server};

mod attempt_floor;
mod attempts;
mod backoff;
mod jitter;
mod refresh_now;
mod token_endpoint_outages;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn set_up() -> (TokenCache, Fetches, ManualClock) {
    let (source, fetches) = controlled_source();
    let clock = Clock::manual();
    let cache = clocked(source, &clock).build();
    (cache, fetches, clock)
}

async fn fails(cache: &TokenCache, fetches: &mut Fetches, error: Error) {
    let caller = tokio::spawn(cache.token());
    fetches.next().await.complete(Err(error));
    caller.await.unwrap().unwrap_err();
}

async fn denied(status: u16, code: &str) -> Error {
    let body = match code {
        "" => String::new(),
        code => format!(r#"{{"error":"{code}"}}"#),
    };
    token_server::fetch(status, body).await.unwrap_err()
}
