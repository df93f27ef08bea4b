//! New tokens, which some of GitHub's servers refuse for up to 5 s.

use std::time::Duration;

use tokio::time::{Instant, advance};
use tower_auth::platform::github::Installation;
use tower_auth::{Reason, TokenSource};

use super::github;
use crate::support::github_server::INSTALLATION;

async fn fetch_takes(source: &Installation, reason: Reason) -> Duration {
    let start = Instant::now();
    source.fetch(reason).await.unwrap();
    start.elapsed()
}

const LAG: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_token_for_which_somebody_waits_is_used_immediately() {
    let (_, app) = github();
    let source = app.installation(INSTALLATION);
    for reason in [Reason::First, Reason::Expired, Reason::Forced] {
        assert!(fetch_takes(&source, reason).await < LAG, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_successor_of_a_valid_token_is_used_when_all_of_github_knows_it() {
    let (_, app) = github();
    let source = app.installation(INSTALLATION);
    let takes = fetch_takes(&source, Reason::Stale).await;
    assert!(takes >= LAG && takes < 2 * LAG, "{takes:?}");
}

#[tokio::test(start_paused = true)]
async fn only_the_successor_of_a_new_token_that_was_refused_waits() {
    let (_, app) = github();
    let source = app.installation(INSTALLATION);
    assert!(fetch_takes(&source, Reason::Refused).await < LAG);
    advance(Duration::from_secs(1)).await;
    let takes = fetch_takes(&source, Reason::Refused).await;
    assert!(takes >= LAG && takes < 2 * LAG, "{takes:?}");
    advance(LAG).await;
    assert!(fetch_takes(&source, Reason::Refused).await < LAG);
}
