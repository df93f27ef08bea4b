//! The table of faults in the documentation names a test for each: they are all there.

use crate::test_names::tests_in;

const TABLE: &str = include_str!("../../src/docs/faults.md");

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
    let tests = tests_in("it");
    let named = named();
    assert!(named.len() > 40, "{named:?}");
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !tests.contains(**name))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}
