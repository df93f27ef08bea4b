//! The budget of fetches after refusals. The tests check its waits and its reset.

use std::time::Duration;

use http::Request;

use super::simulated_api::{FETCH, Payload};
use super::{HOUR, MINUTE, SECOND, Simulation, TEN_MINUTES, all_accepted, by_turns, get};

/// Alternates between `/` and this path.
fn with(path: &'static str) -> impl Fn(usize) -> Request<Payload> {
    move |n| get(["/", path][n % 2])
}

#[tokio::test(start_paused = true)]
async fn the_wait_after_refusals_of_one_resource_doubles_to_five_minutes() {
    let mut simulation = Simulation::new(|asked| asked.path != "/admin");
    simulation.drive_for_an_hour(by_turns).await;
    let asked = simulation.issuer.asked();
    assert!(asked[1] < SECOND, "{asked:?}");
    let waits = asked[1..].windows(2).map(|pair| pair[1] - pair[0]);
    let waits: Vec<Duration> = waits.collect();
    let expected = [5, 10, 20, 40, 80, 160, 300, 300, 300].map(Duration::from_secs);
    for (wait, expected) in waits.iter().zip(expected) {
        let is_it = expected..expected + 2 * SECOND;
        assert!(is_it.contains(wait), "{waits:?}");
    }
    assert!(waits.len() >= expected.len(), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn jitter_only_lengthens_the_waits() {
    for _ in 0..3 {
        let mut simulation = Simulation::with(
            |asked| asked.path != "/admin",
            |cache| cache.jitter(0.1),
            |layer| layer,
        );
        simulation.drive(20, 10 * MINUTE, by_turns).await;
        simulation.finish().await;
        simulation.costs_at_most(TEN_MINUTES);
        simulation.is_undisturbed("/");
        // Each wait is at most twice as long as the one before, so ten minutes have at least six
        // fetches.
        assert!(
            simulation.issuer.count() >= 6,
            "{}",
            simulation.issuer.count()
        );
    }
}

/// Simulates an API whose `/admin` refuses the first five tokens. Its `/other` refuses all tokens.
fn with_a_second_resource() -> Simulation {
    Simulation::new(|asked| match asked.path {
        "/admin" => asked.token > 5,
        "/other" => false,
        _ => true,
    })
}

/// Causes five fetches in a minute, so that the next wait is 40 s. Nobody refuses the token of the
/// fetch after that.
async fn until_a_token_is_unrefused(simulation: &mut Simulation) {
    simulation.drive(20, MINUTE, with("/admin")).await;
    assert_eq!(simulation.issuer.count(), 5);
    simulation.drive(20, 40 * SECOND, |_| get("/")).await;
    simulation.drive(20, 40 * SECOND, with("/admin")).await;
    assert_eq!(simulation.issuer.count(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_lasts_unrefused_for_the_wait_resets_the_budget() {
    let mut simulation = with_a_second_resource();
    until_a_token_is_unrefused(&mut simulation).await;
    simulation.drive(20, 3 * MINUTE, |_| get("/")).await;
    let before = simulation.issuer.count();
    let from = simulation.elapsed();
    simulation.drive(20, MINUTE, with("/other")).await;
    let after = |span| simulation.issuer.count_in(from..from + span);
    // One fetch starts immediately, and one each after 5, 15 and 35 s.
    assert_eq!(after(SECOND), 1);
    assert_eq!(after(MINUTE), 4);
    assert_eq!(before, 6);
    simulation.is_undisturbed("/");
}

#[tokio::test(start_paused = true)]
async fn neither_a_replay_that_succeeds_nor_an_acceptance_elsewhere_resets_it() {
    let mut simulation = with_a_second_resource();
    until_a_token_is_unrefused(&mut simulation).await;
    // The wait is now 80 s, of which 40 s have passed.
    simulation.drive(20, 30 * SECOND, with("/other")).await;
    assert_eq!(simulation.issuer.count(), 6);
    simulation.is_undisturbed("/");
}

/// The API accepts each token for a short time only. A server that allows only one login at a time
/// does this.
#[tokio::test(start_paused = true)]
async fn tokens_that_are_revoked_as_soon_as_they_are_used_have_a_budget_too() {
    let mut simulation = Simulation::new(|asked| asked.age < Duration::from_millis(300));
    simulation.drive_for_an_hour(|_| get("/")).await;
    simulation.finish().await;
    // After a proven revocation, the first fetch starts at once. The next ones wait for 1, 2, 4, … s.
    // Refusals that prove nothing have their own budget.
    simulation.costs_at_most([(MINUTE, 12), (HOUR, 42)]);
    assert!(simulation.issuer.count_in(Duration::ZERO..MINUTE) >= 4);
}

/// Twelve revocations in two hours. Two revocations are at least five minutes apart.
#[tokio::test(start_paused = true)]
async fn revocations_far_apart_cost_one_fetch_each_in_the_midst_of_refusals() {
    let mut simulation = Simulation::new(|asked| asked.path != "/admin");
    let issuer = simulation.issuer.clone();
    for _ in 0..12 {
        simulation.drive(4, 10 * MINUTE, by_turns).await;
        // The token is revoked only while no other fetch is due.
        let idle = 2 * SECOND..4 * MINUTE;
        simulation.drive_until_idle(4, idle, by_turns).await;
        let (from, before) = (simulation.elapsed(), issuer.count());
        issuer.revoke_all();
        simulation.drive(4, 3 * SECOND, by_turns).await;
        assert_eq!(issuer.count() - before, 1, "{from:?}");
        let calls = simulation.calls_since(from, "/");
        all_accepted(&calls);
        assert!(calls.iter().all(|call| call.took < 2 * FETCH), "{calls:?}");
    }
}
