//! A token is revoked while some resources refuse every token. The layer notices the revocation at
//! once.

use std::time::Duration;

use http::Request;

use super::simulated_api::{FETCH, Payload};
use super::{Call, HOUR, MINUTE, SECOND, Simulation, TEN_MINUTES, all_accepted, by_turns, get};

/// Drives the simulation for this time, and then until the last fetch is some time ago and none is
/// due.
async fn drive_past_the_last_fetch(
    simulation: &mut Simulation,
    least: Duration,
    request: impl Fn(usize) -> Request<Payload> + Copy,
) {
    simulation.drive(20, least, request).await;
    let idle = FETCH + SECOND..HOUR;
    simulation.drive_until_idle(20, idle, request).await;
}

/// Moments soon after the start, and between later fetches. `/admin` causes these after 5, 15, 35,
/// … s.
const MOMENTS: [Duration; 7] = [
    Duration::from_millis(1_250),
    Duration::from_secs(3),
    Duration::from_secs(8),
    Duration::from_secs(20),
    Duration::from_secs(50),
    Duration::from_secs(100),
    Duration::from_secs(400),
];

/// Revokes every token at this moment. Returns the number of later fetches, and the later calls to
/// `/`.
async fn revoke_at(moment: Duration, request: fn(usize) -> Request<Payload>) -> (usize, Vec<Call>) {
    let mut simulation = Simulation::new(|asked| !asked.path.starts_with("/admin"));
    drive_past_the_last_fetch(&mut simulation, moment, request).await;
    let (revoked, before) = (simulation.elapsed(), simulation.issuer.count());
    simulation.issuer.revoke_all();
    simulation.drive(20, SECOND * 3 / 2, request).await;
    let cost = simulation.issuer.count() - before;
    simulation.finish().await;
    (cost, simulation.calls_since(revoked, "/"))
}

#[tokio::test(start_paused = true)]
async fn a_revocation_among_refusals_costs_one_fetch_and_every_request_is_answered() {
    for moment in MOMENTS {
        let (cost, calls) = revoke_at(moment, by_turns).await;
        assert_eq!(cost, 1, "{moment:?}");
        all_accepted(&calls);
        assert!(calls.iter().all(|call| call.took < 2 * FETCH), "{calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_among_refusals_of_a_thousand_resources() {
    let request = |n: usize| match n % 2 {
        0 => get("/"),
        _ => get(&format!("/admin/{}", n / 2 % 1_000)),
    };
    for moment in MOMENTS {
        let (cost, calls) = revoke_at(moment, request).await;
        assert_eq!(cost, 1, "{moment:?}");
        all_accepted(&calls);
    }
}

/// The first refusal proves nothing, because it comes from a resource that always refuses.
#[tokio::test(start_paused = true)]
async fn the_same_if_a_resource_that_always_refuses_is_the_first_to_refuse_the_revoked_token() {
    for moment in MOMENTS {
        let (cost, calls) = revoke_at(moment, |n| by_turns(n + 1)).await;
        assert_eq!(cost, 1, "{moment:?}");
        all_accepted(&calls);
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_adds_one_fetch_to_those_of_an_hour() {
    let mut simulation = Simulation::new(|asked| asked.path != "/admin");
    drive_past_the_last_fetch(&mut simulation, 20 * SECOND, by_turns).await;
    simulation.issuer.revoke_all();
    simulation.drive_for_an_hour(by_turns).await;
    simulation.finish().await;
    simulation.costs_at_most([(SECOND, 2), (MINUTE, 6), (HOUR, 21)]);
    let calls = simulation.calls_since(simulation.issuer.first_issued(), "/");
    all_accepted(&calls);
    // Only the calls to `/` during the fetch after the revocation waited.
    let waited = calls.iter().filter(|call| call.took > FETCH / 4).count();
    assert!((1..=4).contains(&waited), "{waited}");
}

/// No refusal came before the revocation.
#[tokio::test(start_paused = true)]
async fn a_revocation_out_of_the_blue_costs_one_fetch_and_every_request_is_answered() {
    for moment in MOMENTS {
        let (cost, calls) = revoke_at(moment, |_| get("/")).await;
        assert_eq!(cost, 1, "{moment:?}");
        all_accepted(&calls);
    }
}

/// None of the refusing resources has accepted the token before.
#[tokio::test(start_paused = true)]
async fn refusals_of_several_resources_prove_a_revocation_where_each_is_asked_once() {
    let request = |n: usize| match n % 2 {
        0 => get(&format!("/things/{n}")),
        _ => get("/admin"),
    };
    for moment in MOMENTS {
        let mut simulation = Simulation::new(|asked| asked.path != "/admin");
        drive_past_the_last_fetch(&mut simulation, moment, request).await;
        let revoked = simulation.elapsed();
        simulation.issuer.revoke_all();
        simulation.drive(20, 5 * SECOND, request).await;
        simulation.finish().await;
        let cost = simulation.issuer.count_in(revoked..revoked + 2 * SECOND);
        assert!((1..=2).contains(&cost), "{moment:?}: {cost}");
        let calls = simulation.calls_to("/things/");
        let settled = revoked + 2 * SECOND;
        let late: Vec<Call> = calls.into_iter().filter(|it| it.at >= settled).collect();
        all_accepted(&late);
    }
}

/// Refusals by two resources since the last acceptance don't prove a revocation.
#[tokio::test(start_paused = true)]
async fn refusals_of_two_resources_prove_nothing_while_a_third_accepts_the_token() {
    let mut simulation = Simulation::new(|asked| !asked.path.starts_with("/admin"));
    let request = |n: usize| get(["/", "/admin/1", "/admin/2"][n % 3]);
    simulation.drive(20, 10 * MINUTE, request).await;
    simulation.finish().await;
    simulation.costs_at_most(TEN_MINUTES);
    simulation.is_undisturbed("/");
}
