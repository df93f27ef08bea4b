//! Each row of the guide's tables of faults, threats and states has an existing test, which
//! `mapping.txt` names.

use std::collections::BTreeMap;

use super::page::{plain, rows, section};
use crate::support::test_names::tests_in;

const MAPPING: &str = include_str!("mapping.txt");
const FAULTS: &str = include_str!("../../../src/docs/faults.md");
const THREATS: &str = include_str!("../../../src/docs/security.md");
const LIFE: &str = include_str!("../../../src/docs/how_it_works.md");

/// How a row is shown to be true.
#[derive(Debug)]
enum Shown<'a> {
    ByTest(&'a str),
    /// No test can show it, for this reason.
    ByNone(&'a str),
}

/// Returns the rows of each page, in the order of the page.
fn mapping() -> BTreeMap<&'static str, Vec<(&'static str, Shown<'static>)>> {
    let mut pages: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut page = None;
    let mut lines = MAPPING
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix('[') {
            page = Some(name.strip_suffix(']').unwrap());
            continue;
        }
        let below = lines.next().and_then(|line| line.strip_prefix("    "));
        let below = below.unwrap_or_else(|| panic!("no test is below `{line}`"));
        let shown = match below.strip_prefix("- ") {
            Some(why) => Shown::ByNone(why),
            None => Shown::ByTest(below),
        };
        let rows: &mut Vec<_> = pages.entry(page.unwrap()).or_default();
        rows.push((line, shown));
    }
    pages
}

/// Returns the tests of a page. Its rows are identified by this number of first cells.
fn tests_of(page: &str, text: &str, cells: usize) -> Vec<&'static str> {
    let rows = rows(text);
    let rows: Vec<_> = rows
        .iter()
        .map(|row| plain(&row[..cells].join(": ")))
        .collect();
    let mapped = mapping().remove(page).unwrap();
    let named: Vec<_> = mapped.iter().map(|(row, _)| *row).collect();
    for (row, named) in rows.iter().zip(&named) {
        assert_eq!(row, named, "of {page}.md, and of mapping.txt");
    }
    assert_eq!(
        rows.len(),
        named.len(),
        "rows of {page}.md, and of mapping.txt"
    );
    let tests = mapped.into_iter().filter_map(|(_, shown)| match shown {
        Shown::ByTest(name) => Some(name),
        Shown::ByNone(_) => None,
    });
    let tests: Vec<_> = tests.collect();
    let known = tests_in("tests/it");
    let missing: Vec<_> = tests
        .iter()
        .filter(|name| !known.contains(**name))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
    tests
}

#[test]
fn every_fault_in_the_documentation_has_a_test() {
    let tests = tests_of("faults", FAULTS, 1);
    assert!(tests.len() > 40, "{tests:?}");
    assert_eq!(tests.len(), rows(FAULTS).len(), "a fault without a test");
}

#[test]
fn every_threat_in_the_documentation_has_a_test_or_a_reason_to_have_none() {
    let tests = tests_of("security", THREATS, 1);
    assert!(tests.len() > 25, "{tests:?}");
    for (row, shown) in &mapping()["security"] {
        if let Shown::ByNone(why) = shown {
            assert!(why.split(' ').count() > 2, "{row}: why is there no test?");
        }
    }
}

#[test]
fn every_step_from_state_to_state_in_the_documentation_has_a_test() {
    let states = section(LIFE, "# The states of a token");
    let tests = tests_of("how_it_works", states, 2);
    assert!(tests.len() > 10, "{tests:?}");
    assert_eq!(tests.len(), rows(states).len(), "a step without a test");
}

#[test]
fn no_test_is_named_to_users_and_every_page_of_the_mapping_is_held() {
    let pages: Vec<_> = mapping().into_keys().collect();
    assert_eq!(pages, ["faults", "how_it_works", "security"]);
    for page in [FAULTS, THREATS, LIFE] {
        for row in rows(page) {
            assert!(row.len() <= 3, "too wide for a phone: {row:?}");
            assert!(!row.concat().contains("`tests/"), "{row:?}");
            let named = mapping().into_values().flatten();
            let mut named = named.filter_map(|(_, shown)| match shown {
                Shown::ByTest(name) => Some(name),
                Shown::ByNone(_) => None,
            });
            assert!(named.all(|name| !row.concat().contains(name)), "{row:?}");
        }
    }
}
