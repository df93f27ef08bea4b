//! Loom's threads, in every interleaving.

use loom::model::Builder;

pub(crate) use loom::future::block_on;
pub(crate) use loom::thread::spawn;

/// Runs `scenario` once for each interleaving of its threads.
pub(crate) fn in_every_order(scenario: impl Fn() + Send + Sync + 'static) {
    Builder::new().check(scenario);
}

/// The same for a scenario with too many interleavings: only those in which a running thread is preempted
/// at most `switches` times. Most known races need one or two.
pub(crate) fn in_orders_of(switches: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let mut model = Builder::new();
    model.preemption_bound = Some(switches);
    model.check(scenario);
}
