//! Runs scenarios on loom's threads, in every interleaving.

use loom::model::Builder;

pub(crate) use loom::future::block_on;
pub(crate) use loom::thread::spawn;

/// Runs `scenario` once for each interleaving of its threads.
pub(crate) fn in_every_order(scenario: impl Fn() + Send + Sync + 'static) {
    Builder::new().check(scenario);
}

/// Runs only the interleavings that preempt a running thread at most `switches` times. This bound
/// is for scenarios with too many interleavings. Most known races need one or two preemptions.
pub(crate) fn in_orders_of(switches: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let mut model = Builder::new();
    model.preemption_bound = Some(switches);
    model.check(scenario);
}
