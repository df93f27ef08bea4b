//! How often the authorization server may be asked at most, worked out from the schedule and from
//! what the cache was told.
//!
//! - While all is well every call brings a token, and the next call comes no earlier than that
//!   token is stale. A healthy spell sees one call when it begins, and one more each time a token
//!   could have become stale.
//! - While nothing is well every fetch fails, after its attempts, and the next waits for its turn:
//!   for the floor at least, and longer each time if the cache backs off. A faulty spell sees one
//!   fetch when it begins, one more each time that wait may have passed, and one when the token in
//!   hand ends, which waits for nothing.
//! - A refusal has a new token fetched at once, whatever the time. A revocation is refused once. A
//!   rotation may be twice: of the token in hand, and of one signed before it but on its way.

use crate::pace::Pace;
use crate::schedule::{Fault, Schedule, Spell};

pub(crate) struct Bound {
    pub(crate) total: usize,
    /// How it was worked out, a line for each term.
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
            "{calls:4}  in {} faulty ones: 1 when it begins, 1 when the token ends, 1 after every \
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
