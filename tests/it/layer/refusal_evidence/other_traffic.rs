//! The limits on fetches also hold for other request rates and other mixes of requests.

use http::{Method, Request, Response};
use tower_auth::AuthLayer;

use super::simulated_api::{Api, Issuer, Payload};
use super::{
    DAY, HOUR, MINUTE, ROW_1, SECOND, Simulation, TEN_MINUTES, all_accepted, by_turns, get,
    layer_from, paused,
};

/// Simulates an API that refuses `/admin` and everything below it.
fn refusing_admin() -> Simulation {
    Simulation::new(|asked| !asked.path.starts_with("/admin"))
}

/// Revokes the token. Asserts that the revocation costs one fetch, and that no request to `/`
/// fails.
async fn notices_a_revocation(
    simulation: &mut Simulation,
    rate: u32,
    request: impl Fn(usize) -> Request<Payload>,
) {
    let idle = 2 * SECOND..4 * MINUTE;
    simulation.drive_until_idle(rate, idle, &request).await;
    let (revoked, before) = (simulation.elapsed(), simulation.issuer.count());
    simulation.issuer.revoke_all();
    simulation.drive(rate, 3 * SECOND, &request).await;
    simulation.finish().await;
    assert_eq!(simulation.issuer.count() - before, 1);
    all_accepted(&simulation.calls_since(revoked, "/"));
}

/// Sends 20 requests per second for ten minutes. Asserts the usual limits on fetches, and that no
/// request to `/` fails or waits.
async fn within_limits(simulation: &mut Simulation, request: impl Fn(usize) -> Request<Payload>) {
    simulation.drive(20, 10 * MINUTE, request).await;
    simulation.finish().await;
    simulation.costs_at_most(TEN_MINUTES);
    simulation.is_undisturbed("/");
}

/// Asserts the limits, and that a revocation is noticed afterwards.
async fn keeps_the_limits(
    simulation: &mut Simulation,
    request: impl Fn(usize) -> Request<Payload>,
) {
    within_limits(simulation, &request).await;
    notices_a_revocation(simulation, 20, request).await;
}

#[tokio::test(start_paused = true)]
async fn one_request_a_second() {
    let mut simulation = refusing_admin();
    simulation.drive(1, HOUR, by_turns).await;
    simulation.finish().await;
    simulation.costs_at_most(ROW_1);
    simulation.is_undisturbed("/");
    notices_a_revocation(&mut simulation, 1, by_turns).await;
}

#[tokio::test(start_paused = true)]
async fn two_hundred_requests_a_second_of_ten_callers() {
    let issuer = Issuer::lasting(DAY);
    let api = Api::new(&issuer, |asked| asked.path != "/admin");
    let layer = layer_from(paused(issuer).build());
    let mut simulation = Simulation::of(&api, vec![layer; 10]);
    // Each caller sends requests to both resources.
    let request = |n: usize| by_turns(n / 10);
    simulation.drive(200, 2 * MINUTE, request).await;
    simulation.finish().await;
    simulation.costs_at_most(TEN_MINUTES);
    simulation.is_undisturbed("/");
    notices_a_revocation(&mut simulation, 200, request).await;
}

#[tokio::test(start_paused = true)]
async fn nineteen_refused_requests_for_one_that_is_accepted() {
    let mut simulation = refusing_admin();
    let request = |n: usize| get(if n.is_multiple_of(20) { "/" } else { "/admin" });
    keeps_the_limits(&mut simulation, request).await;
}

#[tokio::test(start_paused = true)]
async fn nineteen_accepted_requests_for_one_that_is_refused() {
    let mut simulation = refusing_admin();
    let request = |n: usize| get(if n % 20 == 1 { "/admin" } else { "/" });
    keeps_the_limits(&mut simulation, request).await;
}

/// A resource is an origin and a path, whatever the method and the query are.
#[tokio::test(start_paused = true)]
async fn many_methods_and_queries_of_one_resource() {
    let mut simulation = refusing_admin();
    let methods = [Method::GET, Method::PUT, Method::DELETE, Method::PATCH];
    let request = |n: usize| {
        if n.is_multiple_of(20) {
            return get("/");
        }
        let mut request = get(&format!("/admin?page={n}"));
        *request.method_mut() = methods[n % 4].clone();
        request
    };
    keeps_the_limits(&mut simulation, request).await;
}

#[tokio::test(start_paused = true)]
async fn a_grpc_method_that_is_always_unauthenticated() {
    let issuer = Issuer::lasting(DAY);
    let api = Api::new(&issuer, |asked| asked.path != "/pets.Pets/Feed");
    let api = api.refusing_with(|| {
        let response = Response::builder().header("content-type", "application/grpc");
        response.header("grpc-status", "16").body("").unwrap()
    });
    let mut simulation = Simulation::of(&api, [layer_from(paused(issuer).build())]);
    let request = |n: usize| {
        let mut request = get(["/", "/pets.Pets/Feed"][n % 2]);
        *request.method_mut() = Method::POST;
        request
    };
    within_limits(&mut simulation, request).await;
    for call in simulation.calls_to("/pets.Pets/Feed") {
        assert_eq!(call.status, Ok(401), "{call:?}");
    }
    notices_a_revocation(&mut simulation, 20, request).await;
}

/// These URIs have no origin: the client below the layer decides where the requests go.
#[tokio::test(start_paused = true)]
async fn requests_whose_uri_is_only_a_path() {
    let mut simulation = refusing_admin();
    let request = |n: usize| {
        let request = Request::get(["/", "/admin"][n % 2]);
        request.body(Payload::Whole).unwrap()
    };
    keeps_the_limits(&mut simulation, request).await;
}

/// Several APIs are behind one layer. One of the APIs requires tokens from another issuer.
#[tokio::test(start_paused = true)]
async fn an_origin_that_refuses_every_token() {
    let mut simulation = Simulation::new(|asked| !asked.path.starts_with("/of-another"));
    let request = |n: usize| match n % 2 {
        0 => get("/"),
        _ => {
            let uri = format!("https://other.example.com/of-another/{}", n / 2 % 7);
            Request::get(uri).body(Payload::Whole).unwrap()
        }
    };
    keeps_the_limits(&mut simulation, request).await;
}

/// Traffic like a browser's: many requests at once, and then a pause.
#[tokio::test(start_paused = true)]
async fn bursts_of_twenty_requests() {
    let mut simulation = refusing_admin();
    for _ in 0..120 {
        for n in 0..20 {
            simulation.send(by_turns(n));
        }
        simulation.drive(1, 5 * SECOND, |_| get("/")).await;
    }
    simulation.finish().await;
    simulation.costs_at_most(TEN_MINUTES);
    simulation.is_undisturbed("/");
}

/// This traffic is like a scanner's. Refusals by many resources look like a revocation, but
/// revocations have a budget too.
#[tokio::test(start_paused = true)]
async fn nineteen_refused_resources_for_one_request_that_is_accepted() {
    let mut simulation = refusing_admin();
    let request = |n: usize| match n % 20 {
        0 => get("/"),
        _ => get(&format!("/admin/{n}")),
    };
    simulation.drive(20, 10 * MINUTE, request).await;
    simulation.finish().await;
    simulation.costs_at_most([(MINUTE, 12), (10 * MINUTE, 20)]);
    simulation.is_undisturbed("/");
}

/// Jitter only lengthens waits.
#[tokio::test(start_paused = true)]
async fn the_same_with_jitter() {
    let mixes: [fn(usize) -> Request<Payload>; 3] = [
        by_turns,
        |n| get(if n.is_multiple_of(20) { "/" } else { "/admin" }),
        |n| match n % 2 {
            0 => get("/"),
            _ => get(&format!("/admin/{}", n / 2 % 1_000)),
        },
    ];
    let layers: [fn(AuthLayer) -> AuthLayer; 2] = [|layer| layer, |layer| layer.retry(false)];
    for request in mixes {
        for layer in layers {
            let mut simulation = Simulation::with(
                |asked| !asked.path.starts_with("/admin"),
                |cache| cache.jitter(0.1),
                layer,
            );
            within_limits(&mut simulation, request).await;
        }
    }
}
