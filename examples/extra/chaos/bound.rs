//! The maximum number of requests to the authorization server, calculated from the schedule and the
//! cache's settings. In a spell, the server is either healthy or has one fault.
//!
//! - In a healthy spell, every request returns a token. The next request comes only when that token
//!   is stale. So a healthy spell gets one request when it begins. It gets one more request each
//!   time that a token could have become stale.
//! - In a faulty spell, every fetch fails after its attempts. After a failure, the cache waits at
//!   least for the floor. If the cache backs off, each wait is longer than the previous wait. A
//!   faulty spell gets one fetch when it begins, and one fetch after each wait. It gets one more
//!   fetch when the current token expires, because that fetch doesn't wait.
//! - A refusal causes a fetch at once. A revocation causes one fetch. A rotation may cause two
//!   fetches: one for the current token, and one for a token that was in flight during the
//!   rotation.

use crate::pace::Pace;
use crate::schedule::{Fault, Schedule, Spell};

pub(crate) struct Bound {
    pub(crate) total: usize,
    /// How the maximum was calculated, with one line for each term.
    pub(crate) derivation: Vec<String>,
}

impl Bound {
    pub(crate) fn of(schedule: &Schedule, pace: &Pace) -> Self {
        let (healthy, faulty): (Vec<&Spell>, Vec<&Spell>) = schedule
            .spells
            .iter()
            .partition(|spell| spell.fault.is_none());

        let calls: usize = healthy.iter().map(|spell| healthy_calls(spell, pace)).sum();
        let mut derivation = vec![format!(
            "{calls:4}  in {} healthy spells: 1, and 1 for every {:?} that a token is fresh",
            healthy.len(),
            pace.fresh_for(),
        )];
        let mut total = calls;

        let calls: usize = faulty.iter().map(|spell| faulty_calls(spell, pace)).sum();
        derivation.push(format!(
            "{calls:4}  in {} faulty spells: 1 when it begins, 1 when the token expires, 1 after every \
             wait of {:?}{}; each of up to {}",
            faulty.len(),
            pace.wait_after(1, false),
            if pace.backoff.doubles {
                ", doubled"
            } else {
                ""
            },
            attempts(pace.backoff.attempts),
        ));
        total += calls;

        let (revocations, rotations) = (schedule.revocations.len(), schedule.rotations.len());
        let calls = (revocations + 2 * rotations) * pace.backoff.attempts;
        derivation.push(format!(
            "{calls:4}  for {revocations} revocations and, twice, {rotations} rotations; each of \
             up to {}",
            attempts(pace.backoff.attempts),
        ));
        total += calls;
        Self { total, derivation }
    }
}

fn healthy_calls(spell: &Spell, pace: &Pace) -> usize {
    let mut calls = 1;
    let mut passed = pace.fresh_for();
    while passed <= spell.length() {
        calls += 1;
        passed += pace.fresh_for();
    }
    calls
}

fn faulty_calls(spell: &Spell, pace: &Pace) -> usize {
    let server_asks = spell.fault.is_some_and(Fault::has_retry_after);
    let mut fetches = 2;
    let mut failures = 1;
    let mut passed = pace.wait_after(failures, server_asks);
    while passed <= spell.length() {
        fetches += 1;
        failures += 1;
        passed += pace.wait_after(failures, server_asks);
    }
    let is_tried_again = spell.fault.is_some_and(Fault::is_transient);
    fetches
        * if is_tried_again {
            pace.backoff.attempts
        } else {
            1
        }
}

fn attempts(most: usize) -> String {
    format!("{most} attempt{}", if most == 1 { "" } else { "s" })
}
