//! The tables of faults, of threats and of states in the documentation name a test for each: they are all there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::page::{rows, section};

const FAULTS: &str = include_str!("../../../src/docs/faults.md");
const THREATS: &str = include_str!("../../../src/docs/security.md");
const LIFE: &str = include_str!("../../../src/docs/how_it_works.md");

/// The tests in a folder and those below it, named as the test binary names them:
/// `folder::room::sentence`.
fn tests_in(folder: &Path, name: &str, tests: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{name}{}::", path.file_stem().unwrap().to_str().unwrap());
        if path.is_dir() {
            tests_in(&path, &name, tests);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests_of(&fs::read_to_string(&path).unwrap(), &name, tests);
        }
    }
}

fn tests_of(text: &str, room: &str, tests: &mut BTreeSet<String>) {
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let rest = line.strip_prefix("async ").unwrap_or(line);
        if let Some(rest) = rest.strip_prefix("fn ") {
            let sentence = rest.split(['(', '<']).next().unwrap();
            if std::mem::take(&mut is_test) {
                tests.insert(format!("{room}{sentence}"));
            }
        }
    }
}

/// The last cells of the tables' rows, if there is something in them.
fn named(page: &'static str) -> Vec<&'static str> {
    let cells = rows(page).into_iter().filter_map(|mut row| row.pop());
    let cells = cells.filter(|cell| !cell.is_empty());
    cells.map(|cell| cell.trim_matches('`')).collect()
}

fn are_there(named: &[&str]) {
    let mut tests = BTreeSet::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    tests_in(&folder, "", &mut tests);
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
