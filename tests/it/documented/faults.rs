//! The documentation's tables of faults, threats and states name a test in each row. All these
//! tests exist.

use super::page::{rows, section};
use crate::support::test_names::tests_in;

const FAULTS: &str = include_str!("../../../src/docs/faults.md");
const THREATS: &str = include_str!("../../../src/docs/security.md");
const LIFE: &str = include_str!("../../../src/docs/how_it_works.md");

/// Returns the last cell of each row, unless it is empty.
fn named(page: &'static str) -> Vec<&'static str> {
    let cells = rows(page).into_iter().filter_map(|mut row| row.pop());
    let cells = cells.filter(|cell| !cell.is_empty());
    cells.map(|cell| cell.trim_matches('`')).collect()
}

fn are_there(named: &[&str]) {
    let tests = tests_in("tests/it");
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !tests.contains(**name))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}

#[test]
fn every_fault_in_the_documentation_has_the_test_that_it_names() {
    let named = named(FAULTS);
    assert!(named.len() > 40, "{named:?}");
    assert_eq!(named.len(), rows(FAULTS).len(), "a fault without a test");
    are_there(&named);
}

#[test]
fn every_threat_in_the_documentation_has_the_test_that_it_names() {
    let named = named(THREATS);
    assert!(named.len() > 25, "{named:?}");
    are_there(&named);
}

#[test]
fn every_step_from_state_to_state_in_the_documentation_has_the_test_that_it_names() {
    let states = section(LIFE, "# The states of a token");
    let named = named(states);
    assert_eq!(named.len(), rows(states).len(), "a step without a test");
    assert!(named.len() > 10, "{named:?}");
    are_there(&named);
}
