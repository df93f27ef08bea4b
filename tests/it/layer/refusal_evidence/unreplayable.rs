//! Requests that can't be sent again, during refusals and after a revocation.

use std::time::Duration;

use http::Request;
use tokio::time::sleep;

use super::simulated_api::{FETCH, Payload};
use super::{
    Call, HOUR, MINUTE, NO_WAIT, SECOND, Simulation, TEN_MINUTES, all_accepted, by_turns, get,
};

const TEN_SECONDS: Duration = Duration::from_secs(10);

/// Alternates between `/` and `/admin`, with this body.
fn with(payload: Payload) -> impl Fn(usize) -> Request<Payload> + Copy {
    move |n| by_turns(n).map(|_| payload)
}

#[tokio::test(start_paused = true)]
async fn requests_that_cannot_be_sent_again_cost_no_more_fetches_and_never_wait_for_one() {
    for payload in [Payload::Stream, Payload::TooLong] {
        let mut simulation = Simulation::new(|asked| asked.path != "/admin");
        simulation.drive(20, 10 * MINUTE, with(payload)).await;
        simulation.finish().await;
        simulation.costs_at_most(TEN_MINUTES);
        simulation.is_undisturbed("/");
        let issued = simulation.issuer.first_issued();
        for call in simulation.calls_since(issued, "/admin") {
            assert_eq!(call.status, Ok(401), "{call:?}");
            assert!(call.took < NO_WAIT, "{call:?}");
            assert!(call.reason.is_some(), "{call:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_replays_switched_off_a_resource_that_refuses_costs_no_more_fetches() {
    let mut simulation = without_replays();
    simulation.drive(20, 10 * MINUTE, by_turns).await;
    simulation.finish().await;
    simulation.costs_at_most(TEN_MINUTES);
    simulation.is_undisturbed("/");
    for call in simulation.calls_to("/admin") {
        assert_eq!(call.reason.as_deref(), Some("Off"), "{call:?}");
    }
}

/// Nothing is replayed, so only the next request shows that the new token is refused too. That
/// request comes after the wait.
#[tokio::test(start_paused = true)]
async fn without_replays_slow_requests_that_are_all_refused_back_off_too() {
    let mut simulation = Simulation::with(|_| false, |cache| cache, |layer| layer.retry(false));
    for _ in 0..HOUR.as_secs() / TEN_SECONDS.as_secs() {
        simulation.drive(1, SECOND, |_| get("/")).await;
        sleep(TEN_SECONDS - SECOND).await;
    }
    simulation.finish().await;
    assert!(simulation.issuer.count_in(Duration::ZERO..MINUTE) <= 5);
    let count = simulation.issuer.count();
    assert!((10..=20).contains(&count), "{count}");
}

fn without_replays() -> Simulation {
    let accepts = |asked: &super::Asked<'_>| asked.path != "/admin";
    Simulation::with(accepts, |cache| cache, |layer| layer.retry(false))
}

/// Revokes the token amid refusals, and returns the later calls to `/`. Asserts that the revocation
/// costs one fetch.
async fn revoke(
    simulation: &mut Simulation,
    request: impl Fn(usize) -> Request<Payload>,
) -> Vec<Call> {
    simulation.drive(20, 17 * SECOND, &request).await;
    let (revoked, before) = (simulation.elapsed(), simulation.issuer.count());
    simulation.issuer.revoke_all();
    simulation.drive(20, 5 * SECOND, request).await;
    assert_eq!(simulation.issuer.count() - before, 1);
    simulation.calls_since(revoked, "/")
}

/// The first request is refused and proves the revocation.
#[tokio::test(start_paused = true)]
async fn requests_that_cannot_be_sent_again_wait_for_the_successor_of_a_revoked_token() {
    let mut streams = Simulation::new(|asked| asked.path != "/admin");
    let of_streams = revoke(&mut streams, with(Payload::Stream)).await;
    let mut without_replays = without_replays();
    let of_others = revoke(&mut without_replays, by_turns).await;
    for calls in [of_streams, of_others] {
        assert_eq!(calls[0].status, Ok(401), "{:?}", calls[0]);
        assert!(calls[0].reason.is_some());
        all_accepted(&calls[1..]);
        assert!(calls.iter().all(|call| call.took < FETCH + NO_WAIT));
        let waited = calls.iter().filter(|call| call.took > NO_WAIT).count();
        assert!((1..=3).contains(&waited), "{waited}");
    }
}

/// The layer learns too late that these requests can't be sent again, so it doesn't make them wait.
/// The requests of the next 200 ms are refused.
#[tokio::test(start_paused = true)]
async fn requests_that_turn_out_to_be_too_long_see_a_revocation_while_the_successor_is_fetched() {
    let mut simulation = Simulation::new(|asked| asked.path != "/admin");
    let calls = revoke(&mut simulation, with(Payload::TooLong)).await;
    let refused = calls.iter().filter(|call| call.status == Ok(401));
    let refused = refused.count();
    assert!((1..=3).contains(&refused), "{refused}");
    all_accepted(&calls[refused..]);
}

/// The first request to notice the revocation can be sent again.
#[tokio::test(start_paused = true)]
async fn requests_that_cannot_be_sent_again_notice_nothing_if_another_has_proved_the_revocation() {
    let mut simulation = Simulation::new(|asked| asked.path != "/admin");
    let request = |n: usize| match n % 4 {
        0 => get("/"),
        2 => get("/").map(|_| Payload::Stream),
        _ => get("/admin"),
    };
    let calls = revoke(&mut simulation, request).await;
    // The 17 s before the revocation have 340 requests. The next one goes to `/` and can be
    // replayed.
    all_accepted(&calls);
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_for_a_successor_are_sent_with_the_old_token_if_its_fetch_fails() {
    let mut simulation = Simulation::new(|asked| asked.path != "/admin");
    simulation
        .drive(20, 17 * SECOND, with(Payload::Stream))
        .await;
    let revoked = simulation.elapsed();
    simulation.issuer.revoke_all();
    simulation.issuer.set_down(true);
    simulation.drive(20, MINUTE, with(Payload::Stream)).await;
    simulation.finish().await;
    let calls = simulation.calls_since(revoked, "/");
    for call in &calls {
        assert_eq!(call.status, Ok(401), "{call:?}");
        assert!(call.reason.is_some(), "{call:?}");
    }
    // Some callers waited for an attempt, but most called while none was running.
    let waited = calls.iter().filter(|call| call.took > NO_WAIT).count();
    assert!((1..calls.len() / 3).contains(&waited), "{waited}");
}
