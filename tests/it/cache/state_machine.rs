//! Whatever happens to a cache, in whatever order: a plain model says what has to come of it, and
//! the rules hold after each step.
//!
//! The callers are polled by hand, and only when they were woken; the clocks and Tokio's timers are
//! moved by hand. So nothing is left to chance but the steps, and the model can be exact: what each
//! caller is told, when each fetch starts and why, what reaches the API, how many tasks there are,
//! and all that `Status` says.

use proptest::prelude::*;
use tokio::runtime::Builder;

use self::model::Rules;
use self::steps::{Step, any_rules, any_steps};
use self::trial::Trial;

mod model;
mod observed;
mod source_and_api;
mod steps;
mod transitions;
mod trial;

proptest! {
    #[test]
    fn whatever_happens_in_whatever_order_the_rules_hold(
        rules in any_rules(1),
        steps in any_steps(),
    ) {
        follow(rules, &steps);
    }

    /// Two, and not three: the pause before a third is 400 ms and some nanoseconds, for it is doubled
    /// as a fraction, and the model counts in milliseconds.
    #[test]
    fn with_two_attempts_per_fetch_they_hold_as_well(
        rules in any_rules(2),
        steps in any_steps(),
    ) {
        follow(rules, &steps);
    }
}

fn follow(rules: Rules, steps: &[Step]) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut trial = Trial::new(rules);
        for (nth, step) in steps.iter().enumerate() {
            trial.doing = format!("at step {nth}, {step:?}");
            trial.take(step).await;
            trial.run_until_idle().await;
        }
        trial.end().await;
    });
}
