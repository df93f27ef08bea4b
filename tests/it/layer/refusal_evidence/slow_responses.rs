//! Responses that are on their way during a revocation. The server decided before the revocation,
//! and the response arrives after refusals of the same token.

use std::time::Duration;

use http::{Method, Request};
use tokio::time::sleep;

use super::simulated_api::{Api, FETCH, Issuer, Payload};
use super::{DAY, MINUTE, SECOND, Simulation, all_accepted, by_turns, get, layer_from, paused};

/// Builds a slow request to the same resource as `get("/")`.
fn slow() -> Request<Payload> {
    let mut request = get("/");
    *request.method_mut() = Method::POST;
    request
}

/// Simulates an API whose POSTs take this long, and whose `/admin` refuses every token.
fn with_slow_posts(takes: Duration) -> Simulation {
    let issuer = Issuer::lasting(DAY);
    let api = Api::new(&issuer, |asked| asked.path != "/admin");
    let api = api.taking(move |asked| match *asked.method {
        Method::POST => takes,
        _ => Duration::ZERO,
    });
    Simulation::of(&api, [layer_from(paused(issuer).build())])
}

/// Response times. A response arrives during the fetch of the successor, at the end of that fetch,
/// or long after.
const SPANS: [Duration; 5] = [
    Duration::from_millis(75),
    Duration::from_millis(150),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// A late acceptance must not count as current. Otherwise the resource would seem to accept and
/// refuse by turns, which proves nothing.
#[tokio::test(start_paused = true)]
async fn a_late_acceptance_of_a_revoked_token_does_not_hide_the_next_revocation() {
    for takes in SPANS {
        for slow_ones in [1, 5] {
            let mut simulation = with_slow_posts(takes);
            let issuer = simulation.issuer.clone();
            simulation.drive(20, 17 * SECOND, by_turns).await;
            for revocation in 1..=3 {
                (0..slow_ones).for_each(|_| simulation.send(slow()));
                let (from, before) = (simulation.elapsed(), issuer.count());
                issuer.revoke_all();
                simulation.drive(20, 5 * SECOND, by_turns).await;
                let cost = issuer.count() - before;
                assert_eq!(cost, 1, "{takes:?}, {slow_ones}, {revocation}");
                all_accepted(&simulation.calls_since(from, "/"));
            }
        }
    }
}

/// Each `/things/{n}` is a resource that is requested only once. They refuse the revoked token, and
/// the late acceptances of the slow requests arrive in between.
#[tokio::test(start_paused = true)]
async fn a_late_acceptance_does_not_hide_a_revocation_that_several_resources_prove() {
    let request = |n: usize| match n % 2 {
        0 => get(&format!("/things/{n}")),
        _ => get("/admin"),
    };
    let mut simulation = with_slow_posts(3 * SECOND);
    simulation.drive(20, 17 * SECOND, request).await;
    // The responses to these slow requests arrive one by one in the following three seconds.
    for _ in 0..30 {
        simulation.send(slow());
        simulation.drive(20, SECOND / 10, request).await;
    }
    let revoked = simulation.elapsed();
    simulation.issuer.revoke_all();
    simulation.drive(20, 4 * SECOND, request).await;
    simulation.finish().await;
    let cost = simulation.issuer.count_in(revoked..revoked + 2 * SECOND);
    assert!((1..=2).contains(&cost), "{cost}");
    let calls = simulation.calls_to("/things/");
    let late = calls.iter().filter(|call| call.at >= revoked + 2 * SECOND);
    all_accepted(&late.cloned().collect::<Vec<_>>());
}

/// Each of three resources refuses the second token after the slow request was sent. The first of
/// them has also refused the first token, which must not count for the second.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_an_earlier_token_does_not_hide_a_revocation() {
    let issuer = Issuer::lasting(DAY);
    let api = Api::new(&issuer, |asked| asked.path == "/slow");
    let api = api.taking(|asked| match asked.path {
        "/slow" => SECOND,
        _ => Duration::ZERO,
    });
    let mut simulation = Simulation::of(&api, [layer_from(paused(issuer.clone()).build())]);
    simulation.send(get("/1"));
    sleep(2 * FETCH + SECOND).await;
    assert_eq!(issuer.count(), 2);
    simulation.send(get("/slow"));
    sleep(SECOND / 10).await;
    simulation.send(get("/1"));
    sleep(SECOND).await;
    simulation.send(get("/2"));
    simulation.send(get("/3"));
    sleep(SECOND).await;
    assert_eq!(issuer.count(), 3);
    simulation.finish().await;
}

/// The refusal is about the token that the request was sent with, which another caller has already
/// replaced.
#[tokio::test(start_paused = true)]
async fn a_late_refusal_of_a_revoked_token_costs_no_fetch_and_is_answered() {
    for takes in SPANS {
        let mut simulation = with_slow_posts(takes);
        let issuer = simulation.issuer.clone();
        simulation.drive(20, 17 * SECOND, by_turns).await;
        let (from, before) = (simulation.elapsed(), issuer.count());
        issuer.revoke_all();
        (0..5).for_each(|_| simulation.send(slow()));
        simulation.drive(20, 5 * SECOND, by_turns).await;
        simulation.finish().await;
        assert_eq!(issuer.count() - before, 1, "{takes:?}");
        all_accepted(&simulation.calls_since(from, "/"));
    }
}

/// One resource is slow and one refuses, but nothing is revoked.
#[tokio::test(start_paused = true)]
async fn slow_acceptances_among_refusals_cost_nothing() {
    for takes in SPANS {
        let mut simulation = with_slow_posts(takes);
        let request = |n: usize| match n % 4 {
            0 => slow(),
            2 => get("/"),
            _ => get("/admin"),
        };
        simulation.drive(20, MINUTE, request).await;
        simulation.finish().await;
        simulation.costs_at_most([(SECOND, 2), (MINUTE, 5)]);
        let calls = simulation.calls_since(simulation.issuer.first_issued(), "/");
        all_accepted(&calls);
        assert!(calls.iter().all(|call| call.took < takes + FETCH / 4));
    }
}
