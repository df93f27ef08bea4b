//! Eight processes that share their tokens, and a resource that refuses every token.

use std::time::Duration;

use tower_auth::AuthLayer;
use tower_auth::fleet::{Fleet, MemoryStore};

use super::simulated_api::{Api, Issuer};
use super::{
    DAY, HOUR, MINUTE, NO_WAIT, ROW_1, SECOND, Simulation, all_accepted, by_turns, layer_from,
    paused,
};
use crate::support::breakable_store::{key, keyring};

const PROCESSES: usize = 8;

/// Builds one layer per process.
fn processes(issuer: &Issuer, store: Option<&MemoryStore>) -> Vec<AuthLayer> {
    let cache = |_| {
        let cache = paused(issuer.clone());
        let cache = match store {
            Some(store) => {
                let fleet = Fleet::new(store.clone(), keyring()).key(key());
                cache.fleet(fleet).unwrap()
            }
            None => cache,
        };
        layer_from(cache.build())
    };
    (0..PROCESSES).map(cache).collect()
}

fn fleet(store: Option<&MemoryStore>) -> Simulation {
    fleet_refused_at("/admin", store)
}

/// Simulates a fleet for which one resource refuses every token.
fn fleet_refused_at(path: &'static str, store: Option<&MemoryStore>) -> Simulation {
    let issuer = Issuer::lasting(DAY);
    let api = Api::new(&issuer, move |asked| asked.path != path);
    Simulation::of(&api, processes(&issuer, store))
}

/// Makes each process send requests to both resources.
fn request(n: usize) -> http::Request<super::Payload> {
    by_turns(n / PROCESSES)
}

/// Returns the number of fetches in the first second, minute and hour.
async fn count_with(store: Option<&MemoryStore>) -> [usize; 3] {
    let mut simulation = fleet(store);
    simulation.drive(8 * 20, MINUTE, request).await;
    // An hour at the full rate would take too long to simulate.
    simulation.drive(8, HOUR - MINUTE, request).await;
    simulation.finish().await;
    simulation.costs_at_most(ROW_1.map(|(span, most)| (span, PROCESSES * most)));
    // After the first second, every process has a token, so no call waits.
    let calls = simulation.calls_since(SECOND, "/");
    all_accepted(&calls);
    assert!(calls.iter().all(|call| call.took < NO_WAIT));
    ROW_1.map(|(span, _)| simulation.issuer.count_in(Duration::ZERO..span))
}

#[tokio::test(start_paused = true)]
async fn a_fleet_fetches_no_more_for_a_refused_resource_than_its_processes_would_alone() {
    let alone = count_with(None).await;
    let shared = count_with(Some(&MemoryStore::new())).await;
    for (shared, alone) in shared.into_iter().zip(alone) {
        assert!(shared <= alone, "{shared} with a store, {alone} without");
    }
}

/// This is the baseline for the other tests.
#[tokio::test(start_paused = true)]
async fn a_fleet_without_refusals_fetches_once_and_each_of_its_processes_alone() {
    for (store, fetches) in [(Some(MemoryStore::new()), 1), (None, PROCESSES)] {
        let mut simulation = fleet_refused_at("/nowhere", store.as_ref());
        simulation.drive(8 * 20, MINUTE, request).await;
        simulation.finish().await;
        assert_eq!(simulation.issuer.count(), fetches);
        let calls = simulation.calls_since(SECOND, "/");
        all_accepted(&calls);
        assert!(calls.iter().all(|call| call.took < NO_WAIT));
    }
}

#[tokio::test(start_paused = true)]
async fn a_fleet_notices_a_revocation_among_refusals() {
    let mut simulation = fleet(Some(&MemoryStore::new()));
    simulation.drive(8 * 20, 20 * SECOND, request).await;
    let idle = 2 * SECOND..4 * MINUTE;
    simulation.drive_until_idle(8 * 20, idle, request).await;
    let (revoked, before) = (simulation.elapsed(), simulation.issuer.count());
    simulation.issuer.revoke_all();
    simulation.drive(8 * 20, 2 * SECOND, request).await;
    simulation.finish().await;
    // One process fetches, and the others load its token from the store.
    let cost = simulation.issuer.count() - before;
    assert!((1..=2).contains(&cost), "{cost}");
    all_accepted(&simulation.calls_since(revoked, "/"));
}
