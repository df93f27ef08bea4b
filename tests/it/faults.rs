//! The table of faults in the documentation names a test for each: they are all there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const TABLE: &str = include_str!("../../src/docs/faults.md");

/// `module::name` of every test in this folder.
fn tests() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let mut names = BTreeSet::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim_start) {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let rest = line.strip_prefix("async ").unwrap_or(line);
            if let Some(rest) = rest.strip_prefix("fn ") {
                let name = rest.split(['(', '<']).next().unwrap();
                if std::mem::take(&mut is_test) {
                    names.insert(format!("{module}::{name}"));
                }
            }
        }
    }
    names
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
