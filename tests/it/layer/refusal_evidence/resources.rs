//! One resource refuses every token, while the rest of the API accepts them. Its refusals cost a
//! limited number of fetches. Requests to other resources notice nothing.

use allocation_counter::measure;
use http::Response;
use tower::{Layer, service_fn};
use tower_auth::cache::Clock;
use tower_auth_test::ScriptedSource;

use super::simulated_api::Api;
use super::{
    Call, DAY, HOUR, Issuer, MINUTE, ROW_1, SECOND, Simulation, TEN_MINUTES, by_turns, get,
    layer_from, paused,
};
use crate::support::{call, clocked, request};

#[track_caller]
fn all_refused(calls: &[Call]) {
    assert!(!calls.is_empty());
    for call in calls {
        assert_eq!(call.status, Ok(401), "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_refuses_every_token_costs_few_fetches_and_no_other_request_notices() {
    let mut simulation = Simulation::new(|asked| asked.path != "/admin");
    simulation.drive(20, HOUR, by_turns).await;
    simulation.finish().await;
    simulation.costs_at_most(ROW_1);
    simulation.is_undisturbed("/");
    all_refused(&simulation.calls_to("/admin"));
}

/// No request has been accepted yet when the resource refuses the token.
#[tokio::test(start_paused = true)]
async fn it_costs_no_more_if_the_first_request_is_the_refused_one() {
    let mut simulation = Simulation::new(|asked| asked.path != "/admin");
    simulation.drive(20, 10 * MINUTE, |n| by_turns(n + 1)).await;
    simulation.finish().await;
    simulation.costs_at_most(TEN_MINUTES);
    simulation.is_undisturbed("/");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_resources_that_refuse_every_token_cost_no_more_than_one() {
    let mut simulation = Simulation::new(|asked| !asked.path.starts_with("/admin"));
    let path_of = |n: usize| format!("/admin/{}", n / 2 % 1_000);
    let request = |n| match n % 2 {
        0 => get("/"),
        _ => get(&path_of(n)),
    };
    simulation.drive(20, HOUR, request).await;
    simulation.finish().await;
    simulation.costs_at_most(ROW_1);
    simulation.is_undisturbed("/");
    all_refused(&simulation.calls_to("/admin/"));
}

#[tokio::test(start_paused = true)]
async fn one_forbidden_resource_costs_no_more_where_a_403_is_a_refusal() {
    let issuer = Issuer::lasting(DAY);
    let api = Api::new(&issuer, |asked| asked.path != "/admin");
    let api = api.refusing_with(|| Response::builder().status(403).body("no").unwrap());
    let layer = layer_from(paused(issuer).build()).refused_if(|status, _| status == 403);
    let mut simulation = Simulation::of(&api, [layer]);
    simulation.drive(20, HOUR, by_turns).await;
    simulation.finish().await;
    simulation.costs_at_most(ROW_1);
    simulation.is_undisturbed("/");
    for call in simulation.calls_to("/admin") {
        assert_eq!(call.status, Ok(403), "{call:?}");
    }
}

/// By default a 403 is not a refusal. The layer in this test has no rule about it.
#[tokio::test(start_paused = true)]
async fn a_forbidden_resource_costs_nothing_by_default() {
    let issuer = Issuer::lasting(DAY);
    let api = Api::new(&issuer, |asked| asked.path != "/admin");
    let api = api.refusing_with(|| Response::builder().status(403).body("no").unwrap());
    let mut simulation = Simulation::of(&api, [layer_from(paused(issuer).build())]);
    simulation.drive(20, MINUTE, by_turns).await;
    simulation.finish().await;
    assert_eq!(simulation.issuer.count(), 1);
    simulation.is_undisturbed("/");
}

/// The memory for resources is bounded, even if thousands of resources refuse a token.
#[test]
fn the_memory_for_refusals_does_not_grow_with_the_resources() {
    // The runtime needs timers, because a request may pause until its token is valid.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let clock = Clock::manual();
    let cache = clocked(ScriptedSource::expiring(DAY), &clock).build();
    let api = service_fn(async |request: http::Request<_>| {
        let is_root = request.uri().path() == "/";
        let status = if is_root { 200 } else { 401 };
        Ok::<_, std::convert::Infallible>(Response::builder().status(status).body(()).unwrap())
    });
    let mut client = layer_from(cache).layer(api);
    let mut drive = |resources: std::ops::Range<u32>| {
        runtime.block_on(async {
            for n in resources {
                for path in [String::from("/"), format!("/{n}")] {
                    let mut request = request("");
                    *request.uri_mut() = format!("https://api.example.com{path}").parse().unwrap();
                    call(&mut client, request).await.unwrap();
                }
                // A refusal of a younger token could mean that the token isn't valid yet.
                clock.advance(3 * SECOND);
            }
        });
    };
    drive(0..2_000);
    let growth = measure(|| drive(2_000..12_000));
    assert!(growth.bytes_current < 16 * 1024, "{growth:?}");
}
