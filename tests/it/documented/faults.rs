//! The tables of faults, of threats and of states in the documentation name a test for each: they are all there.

use std::collections::BTreeSet;

use super::page::{rows, section};
use crate::support::tree::rust_files;

const FAULTS: &str = include_str!("../../../src/docs/faults.md");
const THREATS: &str = include_str!("../../../src/docs/security.md");
const LIFE: &str = include_str!("../../../src/docs/how_it_works.md");

/// Every test, as the test binary names it: `folder::room::sentence`.
fn tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for (file, text) in rust_files("tests/it") {
        let room = file.trim_end_matches(".rs").replace('/', "::");
        let mut is_test = false;
        for line in text.lines().map(str::trim_start) {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let rest = line.strip_prefix("async ").unwrap_or(line);
            if let Some(rest) = rest.strip_prefix("fn ") {
                let sentence = rest.split(['(', '<']).next().unwrap();
                if std::mem::take(&mut is_test) {
                    tests.insert(format!("{room}::{sentence}"));
                }
            }
        }
    }
    tests
}

/// The last cells of the tables' rows, if there is something in them.
fn named(page: &'static str) -> Vec<&'static str> {
    let cells = rows(page).into_iter().filter_map(|mut row| row.pop());
    let cells = cells.filter(|cell| !cell.is_empty());
    cells.map(|cell| cell.trim_matches('`')).collect()
}

fn are_there(named: &[&str]) {
    let tests = tests();
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
