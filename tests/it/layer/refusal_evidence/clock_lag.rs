//! Servers whose clock lags. Such a server refuses a new token as not yet valid. It accepts the
//! same token a moment later.

use std::time::Duration;

use super::simulated_api::{Api, Issuer};
use super::{HOUR, MINUTE, SECOND, Simulation, all_accepted, get, layer_from, paused};

/// How far the clocks of all servers lag.
const LAGS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(800),
    Duration::from_millis(950),
];

/// Simulates hourly refreshes. A refresh comes five minutes before the token expires.
fn refreshed_hourly(lag: Duration, keeps_fresh: bool) -> Simulation {
    let issuer = Issuer::lasting(HOUR + 5 * MINUTE);
    let api = Api::new(&issuer, move |asked| asked.age >= lag);
    let cache = match keeps_fresh {
        true => paused(issuer).keep_fresh(),
        false => paused(issuer),
    };
    Simulation::of(&api, [layer_from(cache.build())])
}

#[tokio::test(start_paused = true)]
async fn tokens_that_are_not_valid_yet_everywhere_cost_no_fetch_beyond_the_refreshes() {
    for lag in LAGS {
        for keeps_fresh in [false, true] {
            let mut simulation = refreshed_hourly(lag, keeps_fresh);
            let span = 3 * HOUR + 10 * MINUTE;
            let request = |n: usize| get(&format!("/things/{}", n % 5));
            simulation.drive(2, span, request).await;
            simulation.finish().await;
            let issuer = &simulation.issuer;
            let early = issuer.count_in(Duration::ZERO..HOUR / 2);
            assert!(early <= 3, "{lag:?}: {early} fetches");
            let refreshes = issuer.count_in(HOUR / 2..span);
            assert_eq!(refreshes, 3, "{lag:?}, {:?}", issuer.asked());
            let calls = simulation.calls_to("/things/");
            all_accepted(&calls);
            let longest = calls.iter().map(|call| call.took).max().unwrap();
            assert!(longest < 2 * SECOND, "{longest:?}");
        }
    }
}

/// Many requests arrive when the token changes. The server refuses each request once.
#[tokio::test(start_paused = true)]
async fn a_burst_of_requests_after_a_refresh_waits_once_and_is_accepted() {
    let mut simulation = refreshed_hourly(Duration::from_millis(800), true);
    simulation.drive(1, HOUR - SECOND, |_| get("/things")).await;
    let before = simulation.issuer.count();
    simulation.drive(200, 3 * SECOND, |_| get("/things")).await;
    simulation.finish().await;
    assert_eq!(simulation.issuer.count() - before, 1);
    let calls = simulation.calls_to("/things");
    all_accepted(&calls);
    let waited = |call: &&super::Call| call.at > MINUTE && call.took > SECOND / 2;
    let waiting = calls.iter().filter(waited).count();
    // These requests came within 0.8 s after the refresh.
    assert!((100..=170).contains(&waiting), "{waiting}");
}

/// The clock lags by more than the pause. Every server accepts the token in the end.
#[tokio::test(start_paused = true)]
async fn a_clock_that_lags_by_two_seconds_costs_a_few_fetches_and_then_only_refreshes() {
    let mut simulation = refreshed_hourly(2 * SECOND, false);
    let span = 3 * HOUR + 10 * MINUTE;
    simulation.drive(2, span, |_| get("/things")).await;
    simulation.finish().await;
    let issuer = &simulation.issuer;
    let (minute, later) = (
        issuer.count_in(Duration::ZERO..MINUTE),
        issuer.count_in(MINUTE..span),
    );
    assert!(minute <= 3, "{minute}");
    // Each of the three refreshes takes one or two fetches.
    assert!((3..=6).contains(&later), "{later}");
    let calls = simulation.calls_to("/things");
    let refused = calls.iter().filter(|call| call.status != Ok(200)).count();
    assert!(refused <= 60, "{refused}");
}

/// No server ever accepts the token. The request is sent with it twice, and not more often.
#[tokio::test(start_paused = true)]
async fn a_request_pauses_once_however_often_it_is_refused() {
    let issuer = Issuer::lasting(super::DAY);
    let api = Api::new(&issuer, |_| false);
    let mut simulation = Simulation::of(&api, [layer_from(paused(issuer).build())]);
    simulation.send(get("/things"));
    simulation.finish().await;
    let calls = simulation.calls_to("/things");
    assert_eq!(calls[0].status, Ok(401));
    assert!(calls[0].took < 2 * SECOND, "{calls:?}");
    // The request is sent with the first token, with the second, and after a pause with the second
    // again.
    assert_eq!(api.requests(), 3);
    assert_eq!(simulation.issuer.count(), 2);
}
