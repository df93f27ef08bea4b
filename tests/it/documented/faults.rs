//! The table of faults in the documentation names a test for each: they are all there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const TABLE: &str = include_str!("../../../src/docs/faults.md");

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
    let mut tests = BTreeSet::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    tests_in(&folder, "", &mut tests);
    let named = named();
    assert!(named.len() > 40, "{named:?}");
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !tests.contains(**name))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
}
