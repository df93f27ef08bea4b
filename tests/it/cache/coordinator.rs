//! All processes of a fleet share one token, even if one process fails.

use std::time::Duration;

use tower_auth::TokenCache;
use tower_auth_test::{Fetches, controlled_source};

use crate::support::breakable_store::BreakableStore;

mod clocks;
#[cfg(feature = "dpop")]
mod dpop;
mod outages;
mod process_deaths;
mod store_calls;
mod store_failures;
mod tokens;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Builds two processes. Returns each process with its fetches.
fn two(store: &BreakableStore) -> [(TokenCache, Fetches); 2] {
    [(); 2].map(|()| {
        let (source, fetches) = controlled_source();
        (store.process(source), fetches)
    })
}

async fn secret(cache: &TokenCache) -> String {
    cache.token().await.unwrap().secret().to_owned()
}
