//! The names of all tests, for checking the tables that name tests.

use std::collections::BTreeSet;

use super::tree::rust_files;

/// Returns every test below a folder, named as its test binary does: `folder::room::sentence`.
pub(crate) fn tests_in(folder: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for (file, text) in rust_files(folder) {
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
