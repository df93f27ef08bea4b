//! Several servers are behind one URL. One server refuses tokens that the other servers accept.

use std::time::Duration;

use fastrand::Rng;

use super::{DAY, MINUTE, ROW_1, SECOND, Simulation, TEN_MINUTES, all_accepted, get};

/// How the balancer chooses one of three servers for a request.
#[derive(Clone, Copy, Debug)]
enum Balancer {
    RoundRobin,
    /// The choice is random, with a fixed seed so that each run is the same.
    Random(u64),
}

impl Balancer {
    fn server(self, request: usize) -> usize {
        match self {
            Self::RoundRobin => request % 3,
            Self::Random(seed) => {
                let request = u64::try_from(request).unwrap();
                Rng::with_seed(seed ^ (request << 16)).usize(0..3)
            }
        }
    }
}

const BALANCERS: [Balancer; 5] = [
    Balancer::RoundRobin,
    Balancer::Random(1),
    Balancer::Random(2),
    Balancer::Random(3),
    Balancer::Random(4),
];

/// The clock of one server lags by one second.
#[tokio::test(start_paused = true)]
async fn one_of_three_servers_that_refuses_young_tokens_costs_three_fetches_and_no_caller_notices()
{
    for balancer in BALANCERS {
        for lagging in 0..3 {
            let mut simulation = Simulation::new(move |asked| {
                balancer.server(asked.number) != lagging || asked.age >= SECOND
            });
            simulation.drive(10, MINUTE, |_| get("/things")).await;
            simulation.finish().await;
            let issuer = &simulation.issuer;
            let (early, late) = (
                issuer.count_in(Duration::ZERO..5 * SECOND),
                issuer.count_in(5 * SECOND..DAY),
            );
            assert!(early <= 3, "{balancer:?}, {lagging}: {early} fetches");
            assert_eq!(late, 0, "{balancer:?}, {lagging}");
            all_accepted(&simulation.calls_to("/things"));
        }
    }
}

/// One replica has outdated keys.
#[tokio::test(start_paused = true)]
async fn one_of_three_replicas_that_refuses_everything_costs_no_more_than_a_resource() {
    for balancer in [Balancer::RoundRobin, Balancer::Random(5)] {
        let mut simulation = Simulation::new(move |asked| balancer.server(asked.number) != 2);
        simulation.drive_for_an_hour(|_| get("/things")).await;
        simulation.finish().await;
        simulation.costs_at_most(ROW_1);
        let calls = simulation.calls_to("/things");
        let refused = calls.iter().filter(|call| call.status == Ok(401)).count();
        // Two thirds of the requests reach a working replica. A replay may also reach a working
        // replica.
        assert!(
            refused * 5 < calls.len() * 2,
            "{refused} of {}",
            calls.len()
        );
        assert!(calls.iter().all(|call| call.status.is_ok()));
    }
}

/// One replica refuses everything. In addition, all replicas refuse one resource.
#[tokio::test(start_paused = true)]
async fn a_replica_and_a_resource_that_refuse_everything_cost_no_more_together() {
    let mut simulation = Simulation::new(|asked| {
        asked.path == "/" || asked.path == "/things" && asked.number % 3 != 2
    });
    let request = |n: usize| get(["/", "/things", "/admin", "/things", "/things"][n % 5]);
    simulation.drive(20, 10 * MINUTE, request).await;
    simulation.finish().await;
    simulation.costs_at_most(TEN_MINUTES);
    simulation.is_undisturbed("/");
}
