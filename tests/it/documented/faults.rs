//! The table of faults in the documentation names a test for each: they are all there.

use std::collections::BTreeSet;

use crate::support::tree::rust_files;

const TABLE: &str = include_str!("../../../src/docs/faults.md");

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

/// The last cell of each row of a table.
fn named() -> Vec<&'static str> {
    let rows = TABLE.lines().filter(|line| line.starts_with("| "));
    let last = rows.filter_map(|row| row.trim_end_matches(['|', ' ']).rsplit("| ").next());
    last.filter(|cell| !cell.starts_with("---") && *cell != "test")
        .map(|cell| cell.trim_matches('`'))
        .collect()
}

#[test]
fn every_fault_in_the_documentation_has_the_test_that_it_names() {
    let tests = tests();
    let named = named();
    assert!(named.len() > 40, "{named:?}");
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !tests.contains(**name))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}
