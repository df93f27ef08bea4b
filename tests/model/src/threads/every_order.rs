//! Threads of loom's, in every order.

use loom::model::Builder;

pub(crate) use loom::future::block_on;
pub(crate) use loom::thread::spawn;

/// Runs `scenario` once for each way in which its threads can meet.
pub(crate) fn in_every_order(scenario: impl Fn() + Send + Sync + 'static) {
    Builder::new().check(scenario);
}

/// The same, for one that has too many of them: those in which a thread that could go on is made to
/// wait for another at most `switches` times. Most races that are known of want one or two.
pub(crate) fn in_orders_of(switches: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let mut model = Builder::new();
    model.preemption_bound = Some(switches);
    model.check(scenario);
}
