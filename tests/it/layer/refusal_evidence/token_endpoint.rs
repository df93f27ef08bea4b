//! Refusals by every resource, and refusals while the token endpoint is down.

use std::time::Duration;

use super::simulated_api::FETCH;
use super::{HOUR, MINUTE, NO_WAIT, SECOND, Simulation, all_accepted, by_turns, get};

/// A wrong audience or issuer makes every resource refuse.
#[tokio::test(start_paused = true)]
async fn every_resource_that_refuses_every_token_costs_two_fetches_at_once_and_five_a_minute() {
    for resources in [1, 3, 1_000] {
        let mut simulation = Simulation::new(|_| false);
        let request = |n: usize| get(&format!("/things/{}", n % resources));
        simulation.drive(20, 10 * MINUTE, request).await;
        simulation.finish().await;
        let issuer = &simulation.issuer;
        assert_eq!(
            issuer.count_in(Duration::ZERO..4 * SECOND),
            2,
            "{resources}"
        );
        assert_eq!(issuer.count_in(Duration::ZERO..MINUTE), 5, "{resources}");
        assert!(issuer.count() <= 8, "{resources}: {}", issuer.count());
        for call in simulation.calls_to("/things/") {
            assert_eq!(call.status, Ok(401), "{call:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_token_endpoint_is_down_no_request_fails_for_a_resource_that_refuses_its_token() {
    let mut simulation = Simulation::new(|asked| asked.path != "/admin");
    simulation.drive(20, SECOND, |_| get("/")).await;
    simulation.issuer.set_down(true);
    simulation.drive_for_an_hour(by_turns).await;
    // A fetch makes up to three attempts, and each attempt counts here.
    simulation.costs_at_most([(MINUTE, 3 * 5), (HOUR, 3 * 20)]);
    let failed = simulation.issuer.count();
    assert!(failed > 3, "{failed}");
    simulation.issuer.set_down(false);
    simulation.drive(20, 10 * MINUTE, by_turns).await;
    simulation.finish().await;
    assert!(simulation.issuer.issued() > 1);
    simulation.is_undisturbed("/");
    for call in simulation.calls_to("/admin") {
        assert_eq!(call.status, Ok(401), "{call:?}");
        assert!(call.took < 2 * (FETCH + SECOND), "{call:?}");
    }
}

/// While the endpoint is down, no caller has a good token. Callers get the server's refusal and no
/// error.
#[tokio::test(start_paused = true)]
async fn a_token_that_is_revoked_while_the_token_endpoint_is_down_is_replaced_once_it_is_up() {
    let mut simulation = Simulation::new(|asked| asked.path != "/admin");
    simulation.drive(20, 17 * SECOND, by_turns).await;
    simulation.issuer.set_down(true);
    simulation.issuer.revoke_all();
    let revoked = simulation.elapsed();
    simulation.drive(20, MINUTE, by_turns).await;
    let attempts = simulation.issuer.count_in(revoked..revoked + MINUTE);
    assert!((2..=3 * 12).contains(&attempts), "{attempts}");
    simulation.issuer.set_down(false);
    let up = simulation.elapsed();
    simulation.drive(20, 3 * MINUTE, by_turns).await;
    simulation.finish().await;
    let calls = simulation.calls_since(revoked, "/");
    assert!(calls.iter().all(|call| call.status.is_ok()));
    // Fewer than a fifth of the calls waited for a fetch attempt.
    let waiting = calls.iter().filter(|call| call.took > NO_WAIT).count();
    assert!(waiting * 5 < calls.len(), "{waiting} of {}", calls.len());
    all_accepted(&simulation.calls_since(up + 2 * MINUTE, "/"));
}
