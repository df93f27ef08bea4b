//! A property test of the cache against a model. The model predicts the result of any sequence of
//! events. After each step, the test also checks the rules.
//!
//! The test polls each caller by hand, and only after the caller was woken. The test also moves
//! both clocks and Tokio's timers. Only the steps are random, so the model can be exact. The
//! model predicts:
//! - each caller's result,
//! - when and why each fetch starts,
//! - each request to the API,
//! - the number of tasks,
//! - the whole `Status`.

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

    /// A fetch makes two attempts, not three. Before a third, it would pause for 400 ms and some
    /// nanoseconds, because the pause is doubled as a fraction. The model counts in milliseconds.
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
